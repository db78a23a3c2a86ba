"""Statistics of the outputs of a dense and a pruned network on some samples."""

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
        Whether all values are finite.
    equal_shapes
        Whether every sample has a row of the same shape.
    """

    samples: int = 0
    lowest: NDArray[np.float64] | None = None
    highest: NDArray[np.float64] | None = None
    finite: bool = True
    equal_shapes: bool = True

    def add(self, values: Array, count: int) -> None:
        """Take in a batch of so many samples, (count, ...); of other arrays only finiteness."""
        self.finite = self.finite and bool(np.isfinite(values).all())
        if not values.ndim or len(values) != count or not values.size:
            self.equal_shapes = False
            return
        rows = values.reshape(count, -1).astype(np.float64)
        low, high = rows.min(axis=0), rows.max(axis=0)
        if self.lowest is not None and self.highest is not None:
            if low.shape != self.lowest.shape:
                self.equal_shapes = False
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
        """Whether the output is known to be the same for all samples."""
        if not self.equal_shapes or not self.finite or self.samples < FEWEST:
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
        Number of values in the dense network.
    lost_values
        Number of them that are finite in the dense network alone.
    """

    dense: OutputSpread = field(default_factory=OutputSpread)
    pruned: OutputSpread = field(default_factory=OutputSpread)
    values: int = 0
    lost_values: int = 0


def output_statistics(
    dense: Model, pruned: Model, batches: Iterable[Batch], *, threads: int
) -> dict[str, OutputStatistics]:
    """Run both networks on some samples and gather statistics of their outputs.

    Parameters
    ----------
    dense, pruned
        Models with the same outputs.
    batches
        Samples, run through both models batch by batch; only bounds of the outputs stay in memory.

    Returns
    -------
    dict
        Statistics by output, or by place inside of a sequence; only of floating-point outputs.
    """
    engines = [
        Engine(model.runnable(), threads=threads, optimise=True) for model in (dense, pruned)
    ]
    statistics: dict[str, OutputStatistics] = {}
    for batch in batches:
        dense_outputs, pruned_outputs = (_floats(engine, batch) for engine in engines)
        for name, values in dense_outputs.items():
            output, pruned_values = (
                statistics.setdefault(name, OutputStatistics()),
                pruned_outputs.get(name),
            )
            output.dense.add(values, batch.count)
            output.values += values.size
            if pruned_values is not None:
                output.pruned.add(pruned_values, batch.count)
                if pruned_values.shape == values.shape:
                    output.lost_values += int(
                        np.sum(np.isfinite(values) & ~np.isfinite(pruned_values))
                    )
    return statistics


def _floats(engine: Engine, batch: Batch) -> dict[str, Array]:
    """Floating-point outputs of a batch, by name."""
    values: dict[str, Array] = {}
    for name, value in zip(engine.outputs, engine.run(batch.feeds), strict=True):
        for path, part in parts(name, value, batch.count).items():
            if part.array is not None and part.array.dtype.kind == "f":
                values[path] = part.array
    return values
