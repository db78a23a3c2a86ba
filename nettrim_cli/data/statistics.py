"""What is kept of the samples of layers that read the same tensor.

Second moments C and B sum up all columns, whatever their number.  Where the inputs are more than
WIDEST, or twice the columns, these are not formed: the columns themselves are kept, all of
them or as many as memory allows, and the solvers work with those (``solve.wide``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.data.recorder import Place
from nettrim_cli.graph import ops
from nettrim_cli.graph.layer import Geometry
from nettrim_cli.solve.task import Samples

Array = NDArray[Any]
KEPT_BYTES = 256 << 20
KEPT_COLUMNS = 8192
UNFOLD_BYTES = 64 << 20
WIDEST = 12_000  # inputs beyond which no matrix is inputs x inputs
WIDE_BYTES = 512 << 20  # of the columns that stand for the sums where these are not formed,
WIDE_COLUMNS = 6144  # and their number, whose cube the factorisation's time is


class _Columns:
    """Columns collected so far, a share of those to come, and each layer's results on them."""

    def __init__(self, total: int, most: int, rows: int, outputs: Sequence[int]) -> None:
        self.share = min(1.0, most / total) if total else 1.0
        self.seen = self.taken = 0
        count = min(total, most)
        self.inputs = np.empty((rows, count), np.float32)
        self.results = [np.empty((each, count), np.float32) for each in outputs]

    def draw(self, random: np.random.Generator, columns: int) -> slice | Array:
        """Which of the next columns to keep, so that the share holds however few come at once."""
        if self.share >= 1:
            return slice(None)
        self.seen += columns
        room = self.inputs.shape[1] - self.taken
        count = min(columns, room, round(self.seen * self.share) - self.taken)
        return np.sort(random.choice(columns, count, replace=False))

    def keep(self, inputs: Array, results: Sequence[Array]) -> None:
        """Take columns that were drawn."""
        at = slice(self.taken, self.taken + inputs.shape[1])
        self.inputs[:, at] = inputs
        for kept, each in zip(self.results, results):
            kept[:, at] = each
        self.taken = at.stop

    def kept(self) -> tuple[Array, list[Array]]:
        """What was kept."""
        if self.taken == self.inputs.shape[1]:
            return self.inputs, self.results
        return self.inputs[:, : self.taken], [each[:, : self.taken] for each in self.results]


class _Sums:
    """C, and B of each layer where it is not C times the weights.

    Summed about the first batch's mean column instead of zero, so that what centring leaves of
    an input keeps float32's precision.
    """

    def __init__(self, rows: int, outputs: Sequence[int]) -> None:
        self.gram = np.zeros((rows, rows))
        self.cross = [np.zeros((rows, each)) for each in outputs]
        self.origin: Array | None = None

    def add(self, x: Array, results: Sequence[Array]) -> None:
        """Sum up some columns, the row of ones last."""
        if x.shape[1] == 0:
            return
        if self.origin is None:
            mean = x.mean(axis=1, keepdims=True)
            mean[-1] = 0
            self.origin = np.where(np.isfinite(mean), mean, 0)
        x = x - self.origin
        self.gram += x @ x.T
        for total, z in zip(self.cross, results):
            total += x @ z.T

    def about_zero(self) -> tuple[Array, list[Array]]:
        """C and B, in place: ``(x + o)(x + o)' = xx' + xo' + ox' + oo'``, summed."""
        if self.origin is not None:
            origin = self.origin[:, 0].astype(np.float64)
            sums = self.gram[-1].copy()
            there = sums + self.gram[-1, -1] * origin
            for row, offset, total in zip(self.gram, origin, sums):
                row += offset * there
                row += total * origin
            for cross in self.cross:
                cross += np.outer(origin, cross[-1])
            self.origin = None
        return self.gram, self.cross


@np.errstate(invalid="ignore", over="ignore")  # said once, by Samples.trouble
def collect(
    reached: Sequence[Place],
    dense: Sequence[Place],
    tensor: str,
    geometry: Geometry,
    weights: Sequence[Array],
    *,
    exact: bool,
    seed: int,
) -> list[Samples]:
    """Sum up the tensor that some layers read.

    Parameters
    ----------
    reached, dense
        The batches of the network pruned so far and of the dense one; the same where `exact`.
    weights
        (N+1, M) dense weights of each layer, bias (or zeros) in the last row.

    Returns
    -------
    list of Samples
        One a layer; what depends on the inputs alone is shared.
    """
    rows, outputs = len(weights[0]), [each.shape[1] for each in weights]
    random = np.random.default_rng(seed)
    total, held_total = (_count(reached, tensor, geometry, held) for held in (False, True))
    wide = is_wide(rows - 1, total)
    each = rows + sum(outputs)
    usual = max(1, min(KEPT_BYTES // (4 * each), max(KEPT_COLUMNS, 4 * each)))
    kept = _Columns(total, most_columns(rows - 1) if wide else usual, rows, outputs)
    held = _Columns(held_total, usual, rows, outputs)
    sums = None if wide else _Sums(rows, [] if exact else outputs)
    for mine, theirs in zip(reached, dense):
        for x, y in _unfolded(mine, theirs, tensor, geometry, rows, exact):
            into = held if mine.held_out else kept
            at = into.draw(random, x.shape[1])
            if sums is None or exact or mine.held_out:
                into.keep(x[:, at], [each.T @ y[:, at] for each in weights])
                results = []
            else:
                results = [each.T @ y for each in weights]
                into.keep(x[:, at], [z[:, at] for z in results])
            if sums is not None and not mine.held_out:
                sums.add(x, results)
    gram, cross = sums.about_zero() if sums is not None else (None, [None] * len(weights))
    if gram is not None and exact:
        cross = [gram @ each for each in weights]
    inputs, kept_results = kept.kept()
    held_inputs, held_results = held.kept()
    shared: dict[Any, Any] = {}
    return [
        Samples(gram, total, inputs, kept_z, held_inputs, held_z, exact, shared)
        for total, kept_z, held_z in zip(cross, kept_results, held_results)
    ]


def is_wide(inputs: int, columns: int) -> bool:
    """Whether columns stand for the sums: where C may not be formed or costs more by far."""
    return inputs > WIDEST or columns <= min(inputs // 2, most_columns(inputs))


def most_columns(inputs: int) -> int:
    """How many columns may stand for the sums."""
    return max(1, min(WIDE_COLUMNS, WIDE_BYTES // (4 * (inputs + 1))))


def useful_columns(inputs: int, columns: int) -> int:
    """How many of so many columns would be used: all of them where they are summed up."""
    return columns if inputs <= WIDEST else min(columns, most_columns(inputs))


def _count(places: Sequence[Place], tensor: str, geometry: Geometry, held_out: bool) -> int:
    """Columns of the calibration or the held-out batches."""
    total = 0
    for place in places:
        if place.held_out is held_out:
            shape = place.tensors[tensor].shape
            samples = shape[0] if len(shape) > 1 else 1
            total += ops.positions(shape, geometry) * samples
    return total


def _unfolded(
    mine: Place, theirs: Place, tensor: str, geometry: Geometry, rows: int, exact: bool
) -> Iterator[tuple[Array, Array]]:
    """Columns with their row of ones, a bounded part of a batch at a time: (reached, dense)."""
    value = mine.get(tensor)
    other = value if exact else theirs.get(tensor)
    samples = value.shape[0] if value.ndim > 1 else 1
    each = 4 * rows * max(1, ops.positions(value.shape, geometry))
    step = max(1, min(samples, UNFOLD_BYTES // each))
    for at in range(0, samples, step):
        part = slice(at, at + step) if value.ndim > 1 else slice(None)
        x = _with_ones(ops.columns(value[part], geometry))
        yield x, (x if exact else _with_ones(ops.columns(other[part], geometry)))


def _with_ones(columns: Array) -> Array:
    result = np.empty((columns.shape[0] + 1, columns.shape[1]), np.float32)
    result[:-1] = columns
    result[-1] = 1
    return result
