"""How many samples make a batch: many small ones, few large ones."""

from __future__ import annotations

import numpy as np

from nettrim_cli.data.dataset import Calibration
from nettrim_cli.data.engine import Engine
from nettrim_cli.errors import EngineFailed
from nettrim_cli.graph.analysis.tensor_sizes import sizes
from nettrim_cli.graph.model import Model

BATCH_BYTES = 16 << 20
"""Bytes that are fed at once."""
TENSOR_BYTES = 16 << 20
"""Bytes of the largest tensor that a batch makes."""
BATCH_SAMPLES = 256


def batch_size(samples: Calibration, model: Model, threads: int) -> int:
    """Samples to a batch: many small ones, few large ones.

    A sample is as large as it is fed, or as the largest tensor on its way through the model.
    """
    largest = largest_bytes(samples, model, threads)
    if samples.fixed_batch:
        return samples.fixed_batch
    fed = max(1, samples.bytes_per_sample)
    return max(1, min(BATCH_SAMPLES, BATCH_BYTES // fed, TENSOR_BYTES // max(1, largest)))


def side_by_side(size: int) -> int:
    """Samples to a batch where three networks run at once, which a certificate takes."""
    return max(1, size // 4)


def largest_bytes(samples: Calibration, model: Model, threads: int) -> int:
    """Bytes of the largest tensor that one sample makes; 0 where it cannot be told.

    What follows may rely on it that the engine runs the model.

    Raises
    ------
    EngineFailed
        It does not.
    """
    (batch,) = samples.batches(np.arange(samples.batch_size(1)), 1)
    try:
        counts = Engine(sizes(model), threads=threads).run(batch.feeds)
    except EngineFailed:
        Engine(model.runnable(), threads=threads).run(batch.feeds)  # it may make sequences
        return 0
    return 4 * max(map(int, counts), default=0)
