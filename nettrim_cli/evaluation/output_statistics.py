"""What outputs are on some samples, in the dense and in the pruned network: numbers, constants."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.data.dataset import Batch
from nettrim_cli.data.engine import Engine
from nettrim_cli.data.values import parts
from nettrim_cli.graph.model import Model

STILL = 1e-6  # relative spread below which an output is constant
FEWEST = 2  # samples that can differ

Array = NDArray[np.floating[Any]]


@dataclass
class OutputSpread:
    """The least and the greatest value of each element of an output over the samples.

    Attributes
    ----------
    lowest, highest
        (M,) each, float64; None before the first sample, and where samples differ in shape.
    finite
        Whether all values are.
    """

    samples: int = 0
    lowest: NDArray[np.float64] | None = None
    highest: NDArray[np.float64] | None = None
    finite: bool = True
    alike: bool = True

    def add(self, values: Array, count: int) -> None:
        """Take in a batch of so many samples, (count, ...); of other arrays only finiteness."""
        self.finite = self.finite and bool(np.isfinite(values).all())
        if not values.ndim or len(values) != count or not values.size:
            self.alike = False
            return
        rows = values.reshape(count, -1).astype(np.float64)
        low, high = rows.min(axis=0), rows.max(axis=0)
        if self.lowest is not None and self.highest is not None:
            if low.shape != self.lowest.shape:
                self.alike = False
                return
            low, high = np.minimum(self.lowest, low), np.maximum(self.highest, high)
        self.samples, self.lowest, self.highest = self.samples + count, low, high

    @property
    def largest(self) -> float:
        """Greatest absolute value."""
        if self.lowest is None or self.highest is None:
            return 0.0
        return float(np.maximum(np.abs(self.lowest), np.abs(self.highest)).max())

    @property
    def constant(self) -> bool:
        """Whether all samples give the same, as far as can be told."""
        if not self.alike or not self.finite or self.samples < FEWEST:
            return False
        assert self.lowest is not None
        assert self.highest is not None
        return float((self.highest - self.lowest).max()) <= STILL * self.largest


@dataclass
class OutputStatistics:
    """One output of both networks.

    Attributes
    ----------
    values
        How many the dense one has.
    lost
        Those of them that are finite in the dense network alone.
    """

    dense: OutputSpread = field(default_factory=OutputSpread)
    pruned: OutputSpread = field(default_factory=OutputSpread)
    values: int = 0
    lost: int = 0


def output_statistics(
    dense: Model, pruned: Model, batches: Iterable[Batch], *, threads: int
) -> dict[str, OutputStatistics]:
    """Run both networks on some samples.

    Parameters
    ----------
    dense, pruned
        Models with the same outputs.
    batches
        Samples, run through both batch by batch; nothing but bounds of the outputs is kept.

    Returns
    -------
    dict
        Output, or place inside of a sequence -> what it is; without those that hold no floats.
    """
    engines = [Engine(each.runnable(), threads=threads, optimise=True) for each in (dense, pruned)]
    seen: dict[str, OutputStatistics] = {}
    for batch in batches:
        first, second = (_floats(engine, batch) for engine in engines)
        for name, values in first.items():
            output, other = seen.setdefault(name, OutputStatistics()), second.get(name)
            output.dense.add(values, batch.count)
            output.values += values.size
            if other is not None:
                output.pruned.add(other, batch.count)
                if other.shape == values.shape:
                    output.lost += int(np.sum(np.isfinite(values) & ~np.isfinite(other)))
    return seen


def _floats(engine: Engine, batch: Batch) -> dict[str, Array]:
    """What is to be told of a batch's outputs."""
    found: dict[str, Array] = {}
    for name, value in zip(engine.outputs, engine.run(batch.feeds), strict=True):
        for path, part in parts(name, value, batch.count).items():
            if part.array is not None and part.array.dtype.kind == "f":
                found[path] = part.array
    return found
