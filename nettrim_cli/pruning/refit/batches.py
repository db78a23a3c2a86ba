"""The samples of a refit with the dense network's answers, and others made of two of them.

Where every sample is used many times, mixtures keep the network from learning these samples alone.
Where it is used a few times, the samples themselves say more.  Where samples are so few that the
passes over the layers took shifted and joined ones, too, the refit does the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from nettrim_cli.data.augmentation import Recipe, augmented, mixtures
from nettrim_cli.data.formats.base import Array
from nettrim_cli.data.sample_set import SampleSet
from nettrim_cli.data.stream import MEMORY_BYTES, MemoryBudget, TensorStore, load
from nettrim_cli.pruning.refit.objective import Scores

LEAST_WEIGHT = 0.5  # of the first sample in a mixture


class FitBatch(NamedTuple):
    """Inputs of some samples, and what the dense network answers."""

    feeds: dict[str, Array]
    targets: list[Array]

    def stored(self, store: TensorStore) -> FitBatch:
        """The same, on disk where memory has no room."""
        feeds = {name: store.keep(value) for name, value in self.feeds.items()}
        return FitBatch(feeds, [store.keep(value) for value in self.targets])

    def loaded(self) -> FitBatch:
        """The same in memory."""
        return FitBatch(_loaded(self.feeds), [load(value) for value in self.targets])


class FitBatches:
    """Batches of the samples that are fitted to, beyond a budget of memory on disk.

    Parameters
    ----------
    samples
        Those that are fitted to.
    size
        Samples to a batch, at most.
    teacher
        The dense network.
    mixed
        Whether samples are mixed.
    """

    def __init__(self, samples: SampleSet, size: int, teacher: Scores, *, mixed: bool) -> None:
        calibration = samples.calibration
        self._teacher, self._axes = teacher, calibration.sample_axes
        self._made = samples.rounds > 0
        self._mixed = bool(self._axes) and (mixed or self._made)
        self._random = np.random.default_rng([samples.seed, 2])
        step = calibration.batch_size(min(size, len(samples.fitted)))
        order = self._random.permutation(samples.fitted)
        self._store = TensorStore(MemoryBudget(MEMORY_BYTES // 4))
        self._batches: list[dict[str, Array]] = []
        for start in range(0, len(order) // step * step, step):
            for batch in calibration.batches(order[start : start + step], step):
                kept = {name: self._store.keep(value) for name, value in batch.feeds.items()}
                self._batches.append(kept)
        self._answers: dict[int, list[Array]] = {}
        self._count = step

    def __iter__(self) -> Iterator[FitBatch]:
        """Batches without an end, made of two where samples are mixed."""
        while True:
            for number in self._random.permutation(len(self._batches)):
                feeds = _loaded(self._batches[number])
                if self._mixed:
                    partner = _loaded(self._batches[self._random.integers(len(self._batches))])
                    feeds = self._made_of(feeds, partner)
                    yield FitBatch(feeds, self._teacher.of(feeds))
                    continue
                if number not in self._answers:
                    answers = self._teacher.of(feeds)
                    self._answers[number] = [self._store.keep(answer) for answer in answers]
                yield FitBatch(feeds, [load(answer) for answer in self._answers[number]])

    def _made_of(self, feeds: dict[str, Array], partner: dict[str, Array]) -> dict[str, Array]:
        if self._made:
            recipe = Recipe.draw(self._count, self._random)
            return augmented(feeds, partner, self._axes, recipe)
        places = self._random.permutation(self._count)
        weights = self._random.uniform(LEAST_WEIGHT, 1, self._count)
        return mixtures(feeds, partner, self._axes, places, weights)


def _loaded(feeds: dict[str, Array]) -> dict[str, Array]:
    return {name: load(value) for name, value in feeds.items()}
