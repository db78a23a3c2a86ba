"""docs/python.md runs from top to bottom."""

from __future__ import annotations

import importlib.util
import re
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest

from nettrim_cli import pipeline
from nettrim_cli.report.result import Report
from tests.support.networks import Files, initializers
from tests.support.options import PLAIN

PAGE = (Path(__file__).parents[2] / "docs" / "python.md").read_text("utf-8")
BLOCKS = re.findall(r"(?:^(?: {4}.*)?\n)*^ {4}.*\n", PAGE, re.MULTILINE)
FRAMEWORKS = ("torch",)


def installed(block: str) -> bool:
    """Whether a block needs no framework that is not there."""
    return all(
        importlib.util.find_spec(name) is not None
        for name in FRAMEWORKS
        if f"import {name}" in block
    )


@pytest.mark.slow
def test_the_page_runs(files: Files, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(files.folder)
    monkeypatch.setattr(pipeline, "prune", quickly)
    names: dict[str, Any] = {}
    assert len(BLOCKS) >= 8
    for block in filter(installed, BLOCKS):
        exec(textwrap.dedent(block), names)
    assert names["report"].sparsity == pytest.approx(0.9, abs=0.01)
    assert {"small.onnx", "in_memory.onnx", "report.html", "comparison.md"} <= {*files.listing}
    small, dense = (initializers(onnx.load(name)) for name in ("small.onnx", "model.onnx"))
    assert sum(map(nonzeros, small.values())) < sum(map(nonzeros, dense.values()))
    printed = capsys.readouterr().out
    assert "Reached: 90.0 % zeros" in printed
    assert "<samples>: dataset 'x' is (120, 5)" in printed
    assert "meets max_error=1e-07;" in printed


def quickly(*words: Any, prune=pipeline.prune, **options: Any) -> Report:
    """The pipeline with quick options beside those of the page."""
    *files, settings = words
    return prune(*files, replace(settings, **PLAIN), **options)


def nonzeros(array) -> int:
    return int((array != 0).sum())
