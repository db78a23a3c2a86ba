"""Completion of the command line: what shells are offered, and where the scripts are written."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nettrim_cli.cli import run
from nettrim_cli.commands.completion import SHELLS, place
from tests.support.options import PATIENCE


@pytest.fixture
def home(tmp_path: Path, monkeypatch) -> Path:
    """A user's empty folder."""
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_is_printed_or_installed(home, capsys, shell) -> None:
    assert run(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "_NETTRIM_COMPLETE" in script
    for _ in range(2):  # an older one is replaced
        assert run(["completion", shell, "--install"]) == 0
    path = place(shell)
    assert path.is_relative_to(home)
    assert path.read_text("utf-8") == script
    assert str(path) in capsys.readouterr().out
    if shutil.which(shell):
        subprocess.run([shell, "-n", str(path)], check=True, timeout=PATIENCE)


def test_a_shell_that_is_not_known_is_wrong_usage(capsys) -> None:
    assert run(["completion", "csh"]) == 2
    assert "'bash', 'zsh', 'fish'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["pru"], ["prune"]),
        (["prune", "--max-"], ["--max-bytes", "--max-drop", "--max-error", "--max-memory"]),
        (["prune", "--structure", "sh"], ["shrink", "shrink+zeros"]),
        (["completion", ""], sorted(SHELLS)),
    ],
    ids=lambda each: " ".join(each),
)
def test_commands_options_and_choices_are_offered(home, words, offered) -> None:
    line = ["nettrim", *words]
    asked = {"_NETTRIM_COMPLETE": "zsh_complete", "COMP_WORDS": " ".join(line)}
    ended = subprocess.run(
        [sys.executable, "-m", "nettrim_cli"],
        env={**os.environ, **asked, "COMP_CWORD": str(len(line) - 1)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert sorted(ended.stdout.splitlines()[1::3]) == offered


def test_files_are_left_to_the_shell(home) -> None:
    asked = {"_NETTRIM_COMPLETE": "zsh_complete", "COMP_WORDS": "nettrim prune mod"}
    ended = subprocess.run(
        [sys.executable, "-m", "nettrim_cli"],
        env={**os.environ, **asked, "COMP_CWORD": "2"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert ended.stdout.splitlines()[0] == "file"
