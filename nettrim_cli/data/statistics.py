"""What is kept of the samples of layers that read the same columns.

Second moments C and B sum up all columns, whatever their number.  Where the inputs are more than
WIDEST, or twice the columns, these are not formed: the columns themselves are kept, all of
them or as many as memory allows, and the solvers work with those (``solve.wide``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from nettrim_cli.data.recorder import Place
from nettrim_cli.graph import ops
from nettrim_cli.graph.layer import Geometry
from nettrim_cli.solve.task import Samples

Array = NDArray[Any]
KEPT_BYTES = 256 << 20  # of the columns that are kept of all blocks beside their sums,
KEPT_COLUMNS = 8192  # and their number, unless the layer is large
PART_VALUES = 4 << 20  # of the columns that are made at once
LEAST_COLUMNS = 512  # that are summed up at once, where there are so many
SINGLE_COLUMNS = 8192  # summed in float32 before they go to the float64 sums
WIDEST = 12_000  # inputs beyond which no matrix is inputs x inputs
WIDE_BYTES = 512 << 20  # of the columns that stand for the sums where these are not formed,
WIDE_COLUMNS = 6144  # and their number, whose cube the factorisation's time is


@dataclass(frozen=True)
class Reading:
    """How one place in the graph reads a layer's columns.

    Attributes
    ----------
    names
        By role, the recorded tensor and how many of its leading axes count iterations.
    constants
        By role, tensors that no sample changes.
    """

    geometry: Geometry
    names: Mapping[str, tuple[str, int]]
    constants: Mapping[str, Array] = field(default_factory=dict)

    def parts(self, place: Place, block: int) -> Iterator[Array]:
        """Columns of a block in one batch, a bounded number at a time."""
        found = {role: place.get(name) for role, (name, _) in self.names.items()}
        if any(not isinstance(each, np.ndarray) or each.size == 0 for each in found.values()):
            return  # an empty sequence, or a branch that was not taken
        depth = max((stacked for _, stacked in self.names.values()), default=0)
        shape = next(iter(found.values())).shape[:depth] if found else ()
        for turn in np.ndindex(shape):
            arrays = {role: each[turn] for role, each in found.items()}
            if "lengths" in arrays:
                arrays["lengths"] = arrays["lengths"].astype(np.int64)
            yield from ops.columns_in_parts(
                {**arrays, **self.constants}, self.geometry, block, PART_VALUES
            )


@dataclass(frozen=True)
class Signals:
    """One version of the network at the places that read a layer's columns."""

    places: Sequence[Place]
    readings: Sequence[Reading]

    def parts(self, at: int, block: int) -> Iterator[Array]:
        """Columns of a block in batch `at`, at all places."""
        for reading in self.readings:
            yield from reading.parts(self.places[at], block)


class _Kept:
    """At most so many columns, each as likely as any other (reservoir sampling, algorithm R)."""

    def __init__(self, most: int, rows: Sequence[int], random: np.random.Generator) -> None:
        self.most, self.random = most, random
        self.seen = self.taken = 0
        self._parts = [np.empty((each, 0), np.float32) for each in rows]

    def draw(self, columns: int) -> tuple[Array, Array]:
        """Which of the next columns to keep, and where."""
        seen = np.arange(self.seen, self.seen + columns)
        self.seen += columns
        free = min(self.most - self.taken, columns)
        at = np.arange(self.taken, self.taken + free)
        drawn = (self.random.random(columns - free) * (seen[free:] + 1)).astype(np.int64)
        lucky = np.flatnonzero(drawn < self.most)
        self.taken += free
        return np.concatenate([np.arange(free), free + lucky]), np.concatenate([at, drawn[lucky]])

    def keep(self, at: Array, parts: Sequence[Array]) -> None:
        """Put columns where they were drawn to; of two for one place the later stays."""
        for number, each in enumerate(parts):
            held = self._parts[number]
            if self.taken > held.shape[1]:
                room = min(self.most, max(self.taken, held.shape[1] * 3 // 2))
                grown = np.empty((len(held), room), np.float32)
                grown[:, : held.shape[1]] = held
                self._parts[number] = held = grown
            held[:, at] = each

    def all(self) -> list[Array]:
        """What was kept."""
        return [each[:, : self.taken] for each in self._parts]


class _Sums:
    """C, and B of each layer where it is not C times the weights.

    Summed about the first columns' mean instead of zero, so that what centring leaves of an input
    keeps float32's precision.  B is the weights' product with the sum of ``x y'`` (y: the dense
    network's columns), or where the layers have few outputs the sum of ``x (W'y)'``.
    """

    def __init__(self, rows: int, weights: Sequence[Array], *, exact: bool) -> None:
        self.rows, self.weights, self.exact = rows, weights, exact
        self.few = 2 * sum(each.shape[1] for each in weights) < rows
        self.origin: Array | None = None
        self.gram = np.zeros((rows + 1, rows + 1))
        self._squares = np.zeros((rows, rows), np.float32, order="F")
        self._waiting = 0
        wide = sum(each.shape[1] for each in weights) if self.few else rows
        self._cross = np.zeros((0 if exact else rows, wide))
        self._sums = np.zeros(wide)  # of z or y

    def add(self, x: Array, y: Array) -> None:
        """Sum up some columns (rows, P)."""
        if self.origin is None:
            mean = x.mean(axis=1, keepdims=True)
            self.origin = np.where(np.isfinite(mean), mean, 0).astype(np.float32)
        x = np.subtract(x, self.origin, dtype=np.float32)
        ones = np.ones(x.shape[1], np.float32)
        turned = x.flags.c_contiguous
        self._squares = scipy.linalg.blas.ssyrk(
            1.0,
            x.T if turned else x,
            beta=1.0,
            c=self._squares,
            trans=turned,
            lower=1,
            overwrite_c=1,
        )
        self.gram[-1, :-1] += x @ ones
        self.gram[-1, -1] += len(ones)
        self._waiting += len(ones)
        if self._waiting >= SINGLE_COLUMNS:
            self._settle()
        if self.exact:
            return
        if self.few:
            y = np.vstack([results(each, y) for each in self.weights])
        else:
            y = np.subtract(y, self.origin, dtype=np.float32)
        self._cross += x @ y.T
        self._sums += y @ ones

    def _settle(self) -> None:
        """Hand the float32 sums over."""
        self.gram[:-1, :-1] += self._squares
        self._squares[...] = 0
        self._waiting = 0

    def about_zero(self) -> tuple[Array, list[Array]]:
        """C and B: ``(x + o)(x + o)' = xx' + xo' + ox' + oo'``, summed."""
        self._settle()
        gram, inner = self.gram, self.gram[:-1, :-1]
        for at in range(1, self.rows):  # only one triangle was summed
            inner[:at, at] = inner[at, :at]
        gram[:-1, -1] = gram[-1, :-1]
        cross = [] if self.exact else self._results()
        if self.origin is not None:
            origin = np.append(self.origin[:, 0].astype(np.float64), 0.0)
            sums = gram[-1].copy()
            there = sums + gram[-1, -1] * origin
            for row, offset, total in zip(gram, origin, sums):
                row += offset * there
                row += total * origin
        if self.exact:
            cross = [gram @ each for each in self.weights]
        return gram, cross

    def _results(self) -> list[Array]:
        """B about zero, from what was summed about the origin."""
        origin = np.zeros(self.rows) if self.origin is None else self.origin[:, 0]
        origin, sums, count = origin.astype(np.float64), self.gram[-1, :-1], self.gram[-1, -1]
        whole = np.empty((self.rows + 1, len(self._sums)))
        whole[:-1], whole[-1] = self._cross, self._sums
        if self.few:
            whole[:-1] += np.outer(origin, self._sums)
            ends = np.cumsum([each.shape[1] for each in self.weights])
            return np.split(whole, ends[:-1], axis=1)
        there = self._sums + count * origin  # of the dense columns about zero
        whole[:-1] += np.outer(sums, origin)
        whole[:-1] += np.outer(origin, there)
        whole[-1] = there
        ones = np.append(sums + count * origin, count)
        return [whole @ each[:-1] + np.outer(ones, each[-1]) for each in self.weights]


@np.errstate(invalid="ignore", over="ignore")  # said once, by Samples.trouble
def collect(
    reached: Signals,
    dense: Signals,
    weights: Sequence[Array],
    *,
    block: int = 0,
    share: float = 1.0,
    exact: bool,
    seed: int,
) -> list[Samples]:
    """Sum up what some layers read.

    Parameters
    ----------
    reached, dense
        The network pruned so far and the dense one; the same where `exact`.
    weights
        (N+1, M) dense weights of each layer's block, bias (or zeros) in the last row.
    share
        Of the memory for columns that this block may take.

    Returns
    -------
    list of Samples
        One a layer; what depends on the inputs alone is shared.
    """
    rows, outputs = len(weights[0]) - 1, [each.shape[1] for each in weights]
    random = np.random.default_rng(seed)
    each = rows + 1 + sum(outputs)
    usual = max(1, min(int(share * KEPT_BYTES) // (4 * each), max(KEPT_COLUMNS, 4 * each)))
    few = min(rows // 2, most_columns(rows))
    most = most_columns(rows) if rows > WIDEST else max(usual, few)
    sizes = (rows, *(() if exact else outputs))
    kept, held = _Kept(most, sizes, random), _Kept(usual, sizes, random)
    early: list[tuple[Array, Array]] = []
    sums: _Sums | None = None
    for at, place in enumerate(reached.places):
        into = held if place.held_out else kept
        for x, y in _merged(_pairs(reached, dense, at, block, exact=exact)):
            drawn, where = into.draw(x.shape[1])
            found = () if exact else [results(each, y[:, drawn]) for each in weights]
            into.keep(where, [x[:, drawn], *found])
            if place.held_out or rows > WIDEST:
                continue
            if sums is None:
                early.append((x, y))
                if kept.seen <= few:
                    continue
                sums = _Sums(rows, weights, exact=exact)
            for pair in early or [(x, y)]:
                sums.add(*pair)
            early = []
    gram, cross = sums.about_zero() if sums is not None else (None, [None] * len(weights))
    mine, theirs = (_finished(each, weights, exact=exact) for each in (kept, held))
    shared: dict[Any, Any] = {}
    return [
        Samples(gram, total, mine[0], kept_z, theirs[0], held_z, exact, shared)
        for total, kept_z, held_z in zip(cross, mine[1], theirs[1])
    ]


def results(weights: Array, columns: Array) -> Array:
    """(M, P) results of weights (N+1, M), bias last, on columns (N, P)."""
    found: Array = weights[:-1].T @ columns
    found += weights[-1][:, None]
    return found


def is_wide(inputs: int, columns: int) -> bool:
    """Whether columns stand for the sums: where C may not be formed or costs more by far."""
    return inputs > WIDEST or columns <= min(inputs // 2, most_columns(inputs))


def most_columns(inputs: int) -> int:
    """How many columns may stand for the sums."""
    return max(1, min(WIDE_COLUMNS, WIDE_BYTES // (4 * (inputs + 1))))


def useful_columns(inputs: int, columns: int) -> int:
    """How many of so many columns would be used: all of them where they are summed up."""
    return columns if inputs <= WIDEST else min(columns, most_columns(inputs))


def _finished(kept: _Kept, weights: Sequence[Array], *, exact: bool) -> tuple[Array, list[Array]]:
    """Kept columns with their row of ones, and the dense results on them."""
    found = kept.all()
    inputs = np.empty((len(found[0]) + 1, found[0].shape[1]), np.float32)
    inputs[:-1], inputs[-1] = found[0], 1
    return inputs, [each.T @ inputs for each in weights] if exact else found[1:]


def _pairs(
    reached: Signals, dense: Signals, at: int, block: int, *, exact: bool
) -> Iterator[tuple[Array, Array]]:
    """Columns of a batch in both networks; nothing where one of them went another way."""
    if exact:
        for x in reached.parts(at, block):
            yield x, x
        return
    for x, y in zip(reached.parts(at, block), dense.parts(at, block)):
        if x.shape == y.shape:
            yield x, y


def _merged(pairs: Iterator[tuple[Array, Array]]) -> Iterator[tuple[Array, Array]]:
    """The same columns with small parts put together."""
    waiting: list[tuple[Array, Array]] = []
    columns = 0
    for pair in pairs:
        waiting.append(pair)
        columns += pair[0].shape[1]
        if columns >= LEAST_COLUMNS:
            yield _joined(waiting)
            waiting, columns = [], 0
    if columns:
        yield _joined(waiting)


def _joined(pairs: Sequence[tuple[Array, Array]]) -> tuple[Array, Array]:
    if len(pairs) == 1:
        return pairs[0]
    x = np.hstack([each for each, _ in pairs])
    return x, x if pairs[0][0] is pairs[0][1] else np.hstack([each for _, each in pairs])
