"""How many steps a refit takes: few where a sample costs much, so that runs end in time.

What a step costs is counted, not timed, so that a run gives the same network on every machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nettrim_cli.data.engine import Engine
from nettrim_cli.errors import EngineFailed
from nettrim_cli.graph.analysis.tensor_sizes import sizes
from nettrim_cli.graph.model import Model

FEWEST_STEPS, MOST_STEPS = 60, 300
PRODUCTS = 80e9  # of numbers, in all forward passes together


def steps_for(model: Model, feeds: Mapping[str, Any], threads: int) -> int:
    """Steps on batches like one that cost no more than they may."""
    work = max(1.0, products(model, feeds, threads))
    return int(min(max(PRODUCTS / work, FEWEST_STEPS), MOST_STEPS))


def products(model: Model, feeds: Mapping[str, Any], threads: int) -> float:
    """Products of numbers in all layers for a batch; infinite where they cannot be counted."""
    try:
        engine = Engine(sizes(model), threads=threads)
        counts = dict(zip(engine.outputs, engine.run(feeds), strict=True))
    except EngineFailed:
        return float("inf")
    return float(
        sum(
            layer.shape[0] * int(counts.get(f"{site.output}:size", 0))
            for layer in model.layers
            for site in layer.sites
        )
    )
