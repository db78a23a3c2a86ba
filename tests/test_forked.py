"""Processes that tests fork are what ``subprocess`` would start."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from tests.support import forked
from tests.support.options import PATIENCE

pytestmark = pytest.mark.skipif(not forked.FORKS, reason="only Linux forks them")

TELL = """
import json, os, signal, sys
facts = {
    "arguments": sys.argv[1:],
    "folder": os.getcwd(),
    "variable": os.environ.get("NETTRIM_TOLD"),
    "others": sorted(set(os.environ) - {"PYTHONPATH"}),
    "stdin": sys.stdin.read(),
    "streams": [
        [each.encoding, each.errors, each.line_buffering, each.isatty()]
        for each in (sys.stdin, sys.stdout, sys.stderr)
    ],
    "signals": [str(signal.getsignal(n)) for n in (2, 10, 13, 15, 17, 25)],
    "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
    "files": len(os.listdir("/proc/self/fd")),
    "threads": len(os.listdir("/proc/self/task")),
    "parent": os.getppid(),
    "name": __name__,
}
print(json.dumps(facts))
print("told", file=sys.stderr)
sys.exit(7)
"""


def test_a_forked_process_is_like_one_that_was_started(tmp_path) -> None:
    (tmp_path / "in").write_text("read")
    told = []
    for start in (subprocess.run, forked.run):
        with open(tmp_path / "in") as stdin:
            ended = start(
                [sys.executable, "-c", TELL, "a b", b"\xff"],
                cwd=tmp_path,
                env={**os.environ, "NETTRIM_TOLD": "here"},
                stdin=stdin,
                capture_output=True,
                text=True,
                timeout=PATIENCE,
            )
        told.append((ended.returncode, ended.stderr, json.loads(ended.stdout)))
    assert told[0] == told[1]
    assert told[0][2]["parent"] == os.getpid()


@pytest.mark.parametrize("popen", [subprocess.Popen, forked.Popen])
def test_it_can_be_killed_and_does_not_hold_the_streams_of_others(popen) -> None:
    waits = [sys.executable, "-c", "print('up', flush=True); input()"]
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with popen(waits, **streams) as first, popen(waits, **streams) as second:
        assert first.stdout.readline() == second.stdout.readline() == b"up\n"
        first.send_signal(signal.SIGKILL)
        assert first.wait(timeout=PATIENCE) == -signal.SIGKILL
        assert first.stdout.read() == b""
        assert second.poll() is None
        second.communicate(b"\n", timeout=PATIENCE)
    assert second.returncode == 0


def test_what_is_wrong_is_told() -> None:
    with pytest.raises(subprocess.CalledProcessError):
        forked.run([sys.executable, "-c", "raise SystemExit(1)"], check=True, timeout=PATIENCE)
    with pytest.raises(subprocess.TimeoutExpired):
        forked.run([sys.executable, "-c", "import time; time.sleep(600)"], timeout=0.1)
