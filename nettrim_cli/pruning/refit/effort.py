"""How many samples and steps a refit takes: few where they cost much.

What they cost is counted, not timed, so that a run gives the same network on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nettrim_cli.data.engine import Engine
from nettrim_cli.data.sample_set import SampleSet
from nettrim_cli.errors import EngineFailed
from nettrim_cli.graph.analysis.tensor_sizes import sizes
from nettrim_cli.graph.model import Model

BATCH, SMALL_BATCH = 128, 64  # samples to a step, where they cost little, and where much
FEWEST_STEPS, MOST_STEPS = 60, 300
PRODUCTS = 80e9  # of numbers, in all forward passes together
ACTIVATION_BYTES = 512 << 20  # of what a batch makes on its way there and back, at most
KEPT = 2  # tensors that wait or are made on the way back, for one on the way there


@dataclass(frozen=True)
class Effort:
    """What a refit takes.

    Attributes
    ----------
    batch
        Samples that run at once.
    parts
        Batches to a step.
    steps
        Number of steps.
    """

    batch: int
    parts: int
    steps: int

    @classmethod
    def of(cls, model: Model, samples: SampleSet, threads: int) -> Effort:
        """For a network and its samples."""
        calibration = samples.calibration
        least = calibration.batch_size(1)
        (first,) = calibration.batches(samples.fitted[:least], least)
        try:
            engine = Engine(sizes(model), threads=threads)
            counts = dict(zip(engine.outputs, map(int, engine.run(first.feeds)), strict=True))
        except EngineFailed:
            return cls(least, max(1, SMALL_BATCH // least), FEWEST_STEPS)
        products = sum(
            layer.shape[0] * counts.get(f"{site.output}:size", 0)
            for layer in model.layers
            for site in layer.sites
        )
        cost = max(1.0, products / least)
        size = BATCH if PRODUCTS / (cost * BATCH) >= FEWEST_STEPS else SMALL_BATCH
        size = min(size, len(samples.fitted))
        room = ACTIVATION_BYTES * least // max(1, 4 * (1 + KEPT) * sum(counts.values()))
        batch = calibration.batch_size(min(size, room))
        parts = max(1, size // batch)
        work = cost * batch * parts
        return cls(batch, parts, int(np.clip(PRODUCTS / work, FEWEST_STEPS, MOST_STEPS)))
