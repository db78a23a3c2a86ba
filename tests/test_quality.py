"""Format, lint and types hold: what ``make check`` runs, as tests."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.options import PATIENCE

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    "command",
    ["ruff check .", "ruff format --check .", "mypy"],
    ids=["lint", "format", "types"],
)
def test_the_tools_find_nothing(command) -> None:
    tool, *rest = command.split()
    if importlib.util.find_spec(tool) is None:
        pytest.skip(f"{tool} is not installed (pip install -e '.[dev]')")
    if tool == "mypy" and not (ROOT / ".mypy_cache").exists():
        rest = ["--cache-dir", os.devnull]  # writing the cache takes a tenth of the time
    ended = subprocess.run(
        [sys.executable, "-m", tool, *rest],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
