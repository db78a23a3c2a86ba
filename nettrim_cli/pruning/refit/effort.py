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

SIZES = 128, 64, 32  # samples to a step: the most that leave FEWEST_STEPS
FEWEST_STEPS, ENOUGH_STEPS, MOST_STEPS = 40, 60, 300
PRODUCTS = {"auto": 20e9, "network": 80e9}
"""Of numbers, in all forward passes together, by what ``--refit`` says."""
ACTIVATION_BYTES = 512 << 20  # of what a batch makes on its way there and back, at most
RUN = 15e6  # products that take as long as to start a run of the network
KEPT = 2  # tensors that wait or are made on the way back, for one on the way there
MOST_EXCESS = 4.0  # with which there is a fit that was not asked for
MANY_TIMES = 6.0  # that a sample is used, from which on samples are mixed


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
    mixed
        Whether samples are used so often that they have to be mixed.
    excess
        What the fewest steps take, for one product that they may take.
    """

    batch: int
    parts: int
    steps: int
    mixed: bool = False
    excess: float = 1.0

    @classmethod
    def of(cls, model: Model, samples: SampleSet, threads: int, products: float) -> Effort:
        """For a network and its samples, within a number of products.

        Parameters
        ----------
        model, samples
            The network, and what it is fitted to.
        threads
            Of the engine.
        products
            Their number, about.
        """
        calibration = samples.calibration
        least = calibration.batch_size(1)
        (first,) = calibration.batches(samples.fitted[:least], least)
        try:
            engine = Engine(sizes(model), threads=threads)
            counts = dict(zip(engine.outputs, map(int, engine.run(first.feeds)), strict=True))
        except EngineFailed:
            return cls(least, max(1, SIZES[-1] // least), FEWEST_STEPS)
        cost = max(
            1.0,
            sum(
                layer.shape[0] * counts.get(f"{site.output}:size", 0)
                for layer in model.layers
                for site in layer.sites
            )
            / least,
        )
        cost = max(cost, RUN / calibration.batch_size(min(SIZES[0], len(samples.fitted))))
        enough = [size for size in SIZES if products / (cost * size) >= ENOUGH_STEPS]
        size = min([*enough, SIZES[-1]][0], len(samples.fitted))
        room = ACTIVATION_BYTES * least // max(1, 4 * (1 + KEPT) * sum(counts.values()))
        batch = calibration.batch_size(min(size, room))
        parts = max(1, size // batch)
        work = cost * batch * parts
        steps = int(np.clip(products / work, FEWEST_STEPS, MOST_STEPS))
        mixed = steps * batch * parts > MANY_TIMES * len(samples.fitted)
        return cls(batch, parts, steps, mixed, steps * work / products)
