"""Epsilon gains from .01 to .7, parallel and cascade, and magnitude at equal non-zeros."""

from __future__ import annotations

from functools import partial
from typing import Any

from benchmarks.paper.networks import Cells, Experiment, accuracy, experiment
from nettrim_cli.pruning.layerwise import PassResult

GAINS = (0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)  # the authors'
CASCADE_GAINS = (0.1, 0.3, 0.7, 0.02)  # each takes minutes
MODELS = ("mlp", "lenet")


def cells() -> Cells:
    """A network for each model, scheme and gain."""
    chosen = [("parallel", GAINS[5::2]), ("cascade", CASCADE_GAINS), ("parallel", GAINS)]
    return {
        f"sweep {model} {scheme} {gain:g}": partial(measured, model, scheme, gain)
        for scheme, gains in chosen
        for model in MODELS
        for gain in gains
    }


def measured(model: str, scheme: str, gain: float) -> dict[str, Any]:
    """One cell."""
    with experiment(model) as chosen:
        return row(chosen, scheme, gain)


def row(chosen: Experiment, scheme: str, gain: float) -> dict[str, Any]:
    """One network, and for the parallel scheme its rivals."""
    result = chosen.pruned(scheme, gain)
    facts = {
        "model": chosen.name,
        "scheme": scheme,
        "epsilon": gain,
        "zeros": zeros(result),
        "layers": [report.nonzeros_after for report in result.layers],
        "status": [report.status for report in result.layers],
        "seconds": sum(report.seconds or 0.0 for report in result.layers),
        "dense": accuracy(chosen.dense, chosen.test[1]),
        "net-trim": chosen.judged(result.model),
    }
    if scheme == "parallel":
        rival = chosen.magnitude(result)
        facts["magnitude"] = chosen.judged(rival.model)
        facts["net-trim, refitted"] = chosen.judged(chosen.refitted(result).model)
        facts["magnitude, refitted"] = chosen.judged(chosen.refitted(rival).model)
    return facts


def zeros(result: PassResult) -> float:
    """Share of the pruned layers' weights that are zero."""
    counts = [(report.nonzeros_before, report.nonzeros_after) for report in result.layers]
    before, after = map(sum, zip(*counts, strict=True))
    return 1 - after / before
