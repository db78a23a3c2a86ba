"""Epsilon gains from .01 to .7, and magnitude at equal non-zeros."""

from __future__ import annotations

from functools import partial
from typing import Any

from benchmarks.paper.networks import Cells, Experiment, accuracy, experiment
from nettrim_cli.pruning.layerwise import PassResult

GAINS = (0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)  # the authors'
MODELS = ("mlp", "lenet")


def cells() -> Cells:
    """A network for each model and gain, every second gain first."""
    gains = [*GAINS[5::2], *GAINS]
    return {
        f"sweep {model} parallel {gain:g}": partial(measured, model, gain)
        for gain in gains
        for model in MODELS
    }


def measured(model: str, gain: float) -> dict[str, Any]:
    """One cell."""
    with experiment(model) as chosen:
        return row(chosen, gain)


def row(chosen: Experiment, gain: float) -> dict[str, Any]:
    """One network and its rivals."""
    result, rows = chosen.pruned("parallel", gain), dict[str, dict[str, float]]()
    rival = chosen.magnitude(result)
    for name, network in (("net-trim", result), ("magnitude", rival)):
        rows[name] = chosen.judged(network.model)
        rows[f"{name}, refitted"] = chosen.judged(chosen.refitted(network).model)
    return {
        "model": chosen.name,
        "epsilon": gain,
        "zeros": zeros(result),
        "layers": [report.nonzeros_after for report in result.layers],
        "status": [report.status for report in result.layers],
        "seconds": sum(report.seconds or 0.0 for report in result.layers),
        "dense": accuracy(chosen.dense, chosen.test[1]),
        **rows,
    }


def zeros(result: PassResult) -> float:
    """Share of the pruned layers' weights that are zero."""
    counts = [(report.nonzeros_before, report.nonzeros_after) for report in result.layers]
    before, after = map(sum, zip(*counts, strict=True))
    return 1 - after / before
