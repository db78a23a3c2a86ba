"""The README's commands work, and it is short."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import textwrap
from pathlib import Path
from typing import Any

import pytest

from nettrim_cli import cli
from tests.support.options import QUICK, words

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_readme_is_short() -> None:
    assert len(README.split()) <= 900


def test_ci_runs_the_command_of_the_readme() -> None:
    assert "    make test " in README
    assert "exec make test\n" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_the_commands_of_the_demo(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    assert "    make demo " in README
    printed = subprocess.run(
        ["make", "--dry-run", "--no-print-directory", "demo"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    lines = printed.replace("\\\n", " ").splitlines()
    commands = [shlex.split(line) for line in lines if "/nettrim " in line]
    assert [each[1] for each in commands] == ["prune", "compare"]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").mkdir()
    (tmp_path / "sample_models").symlink_to(ROOT / "sample_models")
    for command in commands:
        fewer = (
            ["--samples", "40", "--include", "*fc3*", *words(QUICK | {"sparsity": 0.9})]
            if command[1] == "prune"
            else []
        )
        assert cli.run([*command[1:], *fewer]) == 0
    out = capsys.readouterr().out
    assert "90.0 % sparsity" in out
    shown = README.split("```")[1]
    for start in (" layer ", " non-zeros ", " file ", " gzipped ", " latency ", " accuracy "):
        assert f"\n{start}" in shown
        assert f"\n{start}" in out
    assert next(line.split() for line in shown.splitlines() if line.startswith(" layer ")) in [
        line.split() for line in out.splitlines()
    ]
    assert "to try next" in out
    assert "of 10,000" in out or "on 10,000 samples" in out


def test_the_python_of_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = README.split("From Python:")[1].split("\n[")[0]
    sample = ROOT / "sample_models" / "mlp"
    for name in ("model.onnx", "calib.h5"):
        (tmp_path / name).symlink_to(sample / name)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(textwrap.dedent(code).replace("0.9)", '0.9, samples=40, include="*fc4*")'), names)
    assert names["report"].sparsity == pytest.approx(0.9)
    assert (tmp_path / "small.onnx").is_file()
