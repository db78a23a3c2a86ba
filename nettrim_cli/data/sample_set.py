"""The samples of a run: those that layers are fitted to, and those held out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from itertools import chain

import numpy as np

from nettrim_cli.data.augmentation import Recipe, augmented
from nettrim_cli.data.dataset import Batch, Calibration
from nettrim_cli.data.formats.base import Array, Indices

AUGMENTED_SAMPLES = 1024  # fitted and made samples together, where fewer are fitted
AUGMENTED_TIMES = 8  # made samples to a fitted one, at most
AUGMENTED_BYTES = 256 << 20  # of these samples as fed, at most
PROBE_BYTES = 16 << 20  # of the samples on which the network runs for each layer
FEWEST_PROBED, PROBE_SAMPLES = 32, 128  # fewest and most of these samples
GRADIENT_SAMPLES = 256, 512  # fewest and most that tell what errors of two outputs do together,
GRADIENTS_PER_OUTPUT = 8  # so many to each output of the widest layer
GRADIENT_BATCH = 16  # samples whose tensors and gradients are all in memory at once,
GRADIENT_MEMORY = 8  # at most one to so many of a usual batch
PROBE_RUNS = 4  # all these runs together cost about so many runs on the fitted samples
JUDGING_SAMPLES = 96  # held-out samples and those made of them together


@dataclass(frozen=True)
class SampleSet:
    """Samples of an open file.

    Attributes
    ----------
    fitted, holdout
        Indices of the samples that layers are fitted to, and of those that judge.
    size
        Samples to a batch.
    rounds
        How many samples are made of each fitted one.
    seed
        Of the made samples.
    weigh
        Tells the weights of the columns of layers in a batch, by name; None where all are alike.
    """

    calibration: Calibration
    fitted: Indices
    holdout: Indices
    size: int
    rounds: int = 0
    seed: int = 0
    weigh: Callable[[Batch], Mapping[str, Array]] | None = None

    def __len__(self) -> int:
        """Number of samples of the file that are used."""
        return len(self.fitted) + len(self.holdout)

    def fit_batches(self) -> Iterator[Batch]:
        """The samples that are fitted to, as the file has them."""
        return self.calibration.batches(self.fitted, self.size)

    def holdout_batches(self, size: int | None = None) -> Iterator[Batch]:
        """The samples held out."""
        return self.calibration.batches(self.holdout, size or self.size)

    def call(self, size: int) -> Batch:
        """Held-out samples fed at once: so many, or as many as the model takes."""
        return next(iter(self.holdout_batches(self.calibration.batch_size(size))))

    def flagged_batches(self) -> Iterator[tuple[Batch, bool]]:
        """All samples, made ones behind the fitted, with a flag for those held out."""
        for batch in chain(self.fit_batches(), self._augmented_batches()):
            weights = {} if self.weigh is None else self.weigh(batch)
            yield replace(batch, weights=weights), False
        yield from ((batch, True) for batch in self.holdout_batches())

    def judging_batches(self) -> Iterator[Batch]:
        """The samples held out and, where they are few, others made of them, one by one."""
        return replace(self, size=1)._with_made(self.holdout)

    def probe_batches(self, layers: int, runs: int = 1) -> Iterator[Batch]:
        """Samples to judge by on the whole network, which runs so often for each of some layers."""
        chosen = few_of(self.holdout, self.calibration, layers, len(self.fitted))
        return self._with_made(chosen, max(FEWEST_PROBED, JUDGING_SAMPLES // runs))

    def unused(self, most: int) -> Indices:
        """So many samples of the file at most that are used for nothing, drawn."""
        used = np.union1d(self.fitted, self.holdout)
        unused = np.setdiff1d(np.arange(self.calibration.samples), used)
        batch = self.calibration.batch_size(1)
        count = min(most, len(unused)) // batch * batch
        drawn = np.random.default_rng([self.seed, 2]).choice(unused, count, replace=False)
        return np.sort(drawn).astype(np.int64)

    def gradient_batches(self, outputs: int | None = None) -> Iterator[Batch]:
        """Samples for gradients: any for layers of so many outputs, or those to judge by."""
        size = max(1, min(GRADIENT_BATCH, self.size // GRADIENT_MEMORY))
        indices, most = self.holdout, PROBE_SAMPLES
        if outputs is not None:
            indices = np.union1d(self.fitted, self.holdout)
            most = int(np.clip(GRADIENTS_PER_OUTPUT * outputs, *GRADIENT_SAMPLES))
        chosen = few_of(indices, self.calibration, 1, len(self.fitted), most)
        return replace(self, size=size)._with_made(chosen)

    def seen_batches(self) -> Iterator[Batch]:
        """Some of both kinds, to look at what the whole network makes of them."""
        for indices in (self.fitted, self.holdout):
            chosen = few_of(indices, self.calibration, 1, len(self.fitted))
            yield from self.calibration.batches(chosen, self.size)

    def augmented(self) -> SampleSet:
        """The same with made samples, where those of the file are few and can be mixed."""
        return self._made(AUGMENTED_SAMPLES, AUGMENTED_BYTES)

    def _made(self, samples: int, size: int) -> SampleSet:
        """The same with made samples, so many and so many bytes with the fitted ones at most."""
        if not self.calibration.sample_axes:
            return self
        total = min(samples, size // max(1, self.calibration.bytes_per_sample))
        rounds = max(0, min(AUGMENTED_TIMES, total // len(self.fitted) - 1))
        return replace(self, rounds=rounds)

    def _with_made(self, holdout: Indices, most: int = JUDGING_SAMPLES) -> Iterator[Batch]:
        """Some of the held-out samples, and where they are few others made of them.

        One that is in doubt decides less among more.
        """
        yield from self.calibration.batches(holdout, self.size)
        if self.few:
            judges = replace(self, fitted=holdout, rounds=0)._made(most, PROBE_BYTES)
            yield from judges._augmented_batches()

    @property
    def few(self) -> bool:
        """Whether choices that rest on the held-out samples are worth a second look."""
        return len(self.fitted) <= AUGMENTED_SAMPLES // 2

    def whole(self) -> SampleSet:
        """The same with the held-out samples among those that are fitted to."""
        return replace(self, fitted=np.union1d(self.fitted, self.holdout))

    def half(self) -> SampleSet:
        """The same with every second of the samples that are fitted to, whole batches of them."""
        batch = self.calibration.batch_size(1)
        groups = self.fitted[: len(self.fitted) // batch * batch].reshape(-1, batch)
        return replace(self, fitted=groups[::2].ravel())

    def _augmented_batches(self) -> Iterator[Batch]:
        """Batches made of two of the file's each."""
        random = np.random.default_rng([self.seed, 1])
        step = self.calibration.batch_size(self.size)
        chunks = [self.fitted[start : start + step] for start in range(0, len(self.fitted), step)]
        full = [chunk for chunk in chunks if len(chunk) == len(chunks[0])]

        def feeds_of(number: int) -> Mapping[str, Array]:
            """Inputs of a chunk."""
            (batch,) = self.calibration.batches(full[number], step)
            return batch.feeds

        if self.calibration.bytes_per_sample * len(self.fitted) <= PROBE_BYTES:
            feeds_of = cache(feeds_of)  # small samples are read once
        for _ in range(self.rounds):
            for number, chunk in enumerate(full):
                partner = int(random.integers(len(full)))
                recipe = Recipe.draw(len(chunk), random)
                axes = self.calibration.sample_axes
                feeds = augmented(feeds_of(number), feeds_of(partner), axes, recipe)
                yield Batch(feeds, len(chunk), None)


def few_of(
    indices: Indices,
    samples: Calibration,
    layers: int,
    run_on: int,
    most: int = PROBE_SAMPLES,
) -> Indices:
    """Some of the indices, evenly spaced as a file may be sorted by class.

    Parameters
    ----------
    indices
        (P,) of samples.
    samples
        Their file; fewer samples are chosen where they are large.
    layers
        The network runs on the chosen samples once for each layer.
    run_on
        All these runs together may cost a few runs on so many samples.
    most
        At most so many are chosen.
    """
    target = min(most, max(FEWEST_PROBED, PROBE_RUNS * run_on // layers))
    target = min(target, PROBE_BYTES // max(1, samples.bytes_per_sample))
    return spaced(indices, target, samples.batch_size(1))


def spaced(indices: Indices, count: int, batch: int) -> Indices:
    """So many of the indices (P,), in whole batches, evenly spaced."""
    count = min(len(indices), batch * max(1, count // batch))
    return indices[np.linspace(0, len(indices) - 1, count).round().astype(np.int64)]
