"""Samples of layers as a run records them."""

from __future__ import annotations

import numpy as np

from nettrim_cli.data.dataset import Batch
from nettrim_cli.graph.model import Model
from nettrim_cli.pruning.propagation import propagate, stages


def recorded(dense: Model, batches: list[np.ndarray], pruned: Model | None = None):
    """Samples of each prunable layer by name, one block each."""
    plan = stages([layer for layer in dense.layers if layer.prunable])
    flagged = [(Batch({"x": each}, len(each), None), False) for each in batches]
    return {
        layer.name: samples
        for stage in propagate(dense, pruned, plan, flagged, threads=1, seed=0)
        for layer, (samples,) in stage
    }
