"""The samples of a refit, read once, and others made of two of them each time.

Mixtures are as good as new samples.  Where samples are so few that the passes over the layers took
shifted and joined ones, too, the refit does the same.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nettrim_cli.data.augmentation import Recipe, augmented, mixtures
from nettrim_cli.data.formats.base import Array
from nettrim_cli.data.sample_set import SampleSet
from nettrim_cli.data.stream import MEMORY_BYTES, MemoryBudget, TensorStore, load

LEAST_WEIGHT = 0.5  # of the first sample in a mixture


class FitBatches:
    """Batches of the samples that are fitted to, beyond a budget of memory on disk.

    Parameters
    ----------
    samples
        Those that are fitted to.
    size
        Samples to a batch, at most.
    """

    def __init__(self, samples: SampleSet, size: int) -> None:
        calibration = samples.calibration
        self._axes, self._made = calibration.sample_axes, samples.rounds > 0
        self._random = np.random.default_rng([samples.seed, 2])
        step = calibration.batch_size(min(size, len(samples.fitted)))
        order = self._random.permutation(samples.fitted)
        store = TensorStore(MemoryBudget(MEMORY_BYTES // 4))
        self._batches: list[dict[str, Array]] = []
        for start in range(0, len(order) // step * step, step):
            for batch in calibration.batches(order[start : start + step], step):
                kept = {name: store.keep(value) for name, value in batch.feeds.items()}
                self._batches.append(kept)
        self._count = step

    def __iter__(self) -> Iterator[dict[str, Array]]:
        """Feeds of batches without an end, made of two where samples can be mixed."""
        while True:
            for number in self._random.permutation(len(self._batches)):
                feeds = _loaded(self._batches[number])
                if not self._axes:
                    yield feeds
                    continue
                partner = _loaded(self._batches[self._random.integers(len(self._batches))])
                yield self._made_of(feeds, partner)

    def _made_of(self, feeds: dict[str, Array], partner: dict[str, Array]) -> dict[str, Array]:
        if self._made:
            recipe = Recipe.draw(self._count, self._random)
            return augmented(feeds, partner, self._axes, recipe)
        places = self._random.permutation(self._count)
        weights = self._random.uniform(LEAST_WEIGHT, 1, self._count)
        return mixtures(feeds, partner, self._axes, places, weights)


def _loaded(feeds: dict[str, Array]) -> dict[str, Array]:
    return {name: load(value) for name, value in feeds.items()}
