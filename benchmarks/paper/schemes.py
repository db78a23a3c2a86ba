"""Cascade against parallel on fewer samples: a cascade's programs take many times as long."""

from __future__ import annotations

from functools import partial
from typing import Any

from benchmarks.paper.networks import Cells, experiment
from benchmarks.paper.sweep import MODELS, zeros

SAMPLES = 400
GAINS = (0.1, 0.05, 0.2)


def cells() -> Cells:
    """A network for each model, gain and scheme."""
    return {
        f"schemes {model} {scheme} {gain:g}": partial(measured, model, scheme, gain)
        for model in MODELS
        for gain in GAINS
        for scheme in ("parallel", "cascade")
    }


def measured(model: str, scheme: str, gain: float) -> dict[str, Any]:
    """One cell."""
    with experiment(model) as chosen:
        result = chosen.pruned(scheme, gain, SAMPLES)
        return {
            "model": model,
            "scheme": scheme,
            "epsilon": gain,
            "zeros": zeros(result),
            "layers": [report.nonzeros_after for report in result.layers],
            "status": [report.status for report in result.layers],
            **chosen.judged(result.model),
        }
