"""The page on quantising afterwards: its code runs, and zeros stay exactly zero."""

from __future__ import annotations

import logging
import re
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from nettrim_cli import prune
from tests.support.networks import Files, initializers
from tests.support.options import QUICK

PAGE = (Path(__file__).parents[1] / "docs" / "quantise.md").read_text("utf-8")
BLOCKS = re.findall(r"(?:^(?: {4}.*)?\n)*^ {4}.*\n", PAGE, re.MULTILINE)


def integers(path: str) -> dict[str, np.ndarray]:
    """Matrices of integers in a quantised model, by the shape that they have."""
    model = onnx.load(path)
    arrays = (numpy_helper.to_array(tensor) for tensor in model.graph.initializer)
    return {
        str(array.shape): array for array in arrays if array.ndim == 2 and array.dtype == np.int8
    }


@pytest.mark.filterwarnings("ignore")
@pytest.mark.slow
def test_zeros_stay_zero(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(files.folder)
    logging.disable(logging.WARNING)
    pruned = prune("model.onnx", "calib.h5", "small.onnx", **QUICK).model
    names: dict[str, Any] = {}
    for block in BLOCKS:
        exec(textwrap.dedent(block), names)
    logging.disable(logging.NOTSET)
    weights = [array for array in initializers(pruned).values() if array.ndim == 2]
    for path in ("small.int8.onnx", "small.static.onnx"):
        kept = integers(path)
        assert len(kept) == len(weights)
        for weight in weights:
            assert not kept[str(weight.shape)][weight == 0].any()
            assert (weight == 0).any()
