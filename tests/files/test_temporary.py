"""Outputs are held by one run at a time, and what dead runs leave goes with the next."""

from __future__ import annotations

import os
import subprocess
import sys

import onnx
import pytest

from nettrim_cli.cli import run
from nettrim_cli.errors import Busy
from nettrim_cli.files.temporary import hold, sweep, temporary_file
from tests.support import forked
from tests.support.options import FAST, PATIENCE

pytest.importorskip("fcntl", reason="locks are Unix's")

HOLD = """
import sys
from tests.support import forked
from tests.support.options import FAST, PATIENCE
from nettrim_cli.files.temporary import hold, temporary_file
from pathlib import Path
with hold(sys.argv[1]), temporary_file(Path(sys.argv[1]).parent):
    print("held", flush=True)
    sys.stdin.read()
"""


def holder(path) -> subprocess.Popen:
    process = forked.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    return process


def test_what_another_run_holds_cannot_be_held(tmp_path) -> None:
    link = tmp_path / "link"
    link.symlink_to("out")
    with holder(tmp_path / "out") as process:
        for path in (tmp_path / "out", link, tmp_path / "." / "out"):
            with pytest.raises(Busy, match="another run"), hold(path):
                pass
        with hold(tmp_path / "other"):
            pass
        process.communicate()
    with hold(tmp_path / "out"):
        pass
    assert os.listdir(tmp_path) == ["link"]


def test_what_a_killed_run_leaves_blocks_nobody_and_goes(tmp_path) -> None:
    with holder(tmp_path / "out") as process:
        process.kill()
        process.wait()
    assert len(os.listdir(tmp_path)) == 2
    (tmp_path / ".nettrim-0123456789abcdef.tmp").write_bytes(b"of an older version")
    with hold(tmp_path / "out"):
        assert len(os.listdir(tmp_path)) == 1
    assert os.listdir(tmp_path) == []


def test_what_is_in_use_stays(tmp_path) -> None:
    keeps = [tmp_path / ".nettrim-a.txt", tmp_path / "nettrim-a.tmp", tmp_path / ".nettrim-b.tmp"]
    for path in keeps[:2]:
        path.touch()
    keeps[2].mkdir()
    with temporary_file(tmp_path) as (path, _), holder(tmp_path / "out") as process:
        before = sorted(os.listdir(tmp_path))
        sweep(tmp_path)
        assert sorted(os.listdir(tmp_path)) == before
        assert path.name in before
        process.communicate()
    assert sorted(os.listdir(tmp_path)) == sorted(each.name for each in keeps)


def test_of_three_runs_at_once_one_writes_and_none_is_corrupt(files) -> None:
    """With external data, whose file each run would take for an old one's."""
    source = onnx.load(files.model)
    onnx.save(source, files.model, save_as_external_data=True, size_threshold=0, location="w.bin")
    words = ["prune", *map(str, (files.model, "--data", files.data)), *FAST, "--force", "-q"]
    assert run(words) == 0
    command = [sys.executable, "-m", "nettrim_cli", *words]
    runs = [forked.Popen(command, stderr=subprocess.PIPE) for _ in range(3)]
    ends = [(process.communicate(timeout=PATIENCE)[1], process.returncode) for process in runs]
    codes = sorted(code for _, code in ends)
    assert codes[0] == 0
    assert set(codes) <= {0, 75}, ends
    assert all(b"another run" in text for text, code in ends if code == 75)
    onnx.checker.check_model(onnx.load(files.output))
    left = [name for name in files.listing if name.startswith("model.pruned")]
    assert len(left) == 2
    assert not [name for name in files.listing if name.endswith(".tmp")]
