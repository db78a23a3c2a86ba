"""Zeros and test error of the pruned MLP against the number of samples that it is fitted to."""

from __future__ import annotations

from functools import partial
from typing import Any

from benchmarks.paper.networks import Cells, experiment
from benchmarks.paper.sweep import zeros

COUNTS = (200, 400, 800, 1600)
GAIN = 0.05


def cells() -> Cells:
    """A network for each number of samples."""
    return {f"samples {count}": partial(measured, count) for count in COUNTS}


def measured(count: int) -> dict[str, Any]:
    """One cell."""
    with experiment("mlp") as chosen:
        result = chosen.pruned("parallel", GAIN, count)
        layers = {report.name: report.sparsity_after for report in result.layers}
        judged = chosen.judged(result.model)
    return {"samples": count, "zeros": zeros(result), "layers": layers, **judged}
