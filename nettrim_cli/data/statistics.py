"""What is kept of the samples of layers that read the same columns.

Second moments C and B sum up all columns, whatever their number.  Where the inputs are more than
WIDEST, or twice the columns, these are not formed: the columns themselves are kept, all of
them or as many as memory allows, and the solvers work with those (``solve.wide``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.data.signals import Signals
from nettrim_cli.data.sums import Sums, results
from nettrim_cli.solve.task import Offset, Samples

Array = NDArray[Any]
KEPT_BYTES = 256 << 20  # of the columns that are kept of all blocks beside their sums,
KEPT_COLUMNS = 8192  # and their number, unless the layer is large
LEAST_COLUMNS = 512  # that are summed up at once, where there are so many
WIDEST = 12_000  # inputs beyond which no matrix is inputs x inputs
WIDE_BYTES = 512 << 20  # of the columns that stand for the sums where these are not formed,
WIDE_COLUMNS = 6144  # and their number, whose cube the factorisation's time is
CHANGING = "shapes inside of its Scan change from turn to turn, so that it cannot be recorded"


class _Kept:
    """At most so many columns, each as likely as any other (reservoir sampling, algorithm R).

    Held as rows, each with a one at the end: that is how most columns come and how BLAS reads
    them as fast.
    """

    def __init__(self, most: int, rows: Sequence[int], random: np.random.Generator) -> None:
        self.most, self.random = most, random
        self.seen = self.taken = 0
        self._parts = [np.empty((0, each + 1), np.float32) for each in rows]

    def draw(self, columns: int) -> tuple[Any, Any]:
        """Which of the next columns to keep, and where."""
        start, self.seen = self.seen, self.seen + columns
        free = min(self.most - self.taken, columns)
        at = slice(self.taken, self.taken + free)
        self.taken += free
        if free == columns:
            return slice(None), at
        later = np.arange(start + free, self.seen)
        drawn = (self.random.random(columns - free) * (later + 1)).astype(np.int64)
        lucky = np.flatnonzero(drawn < self.most)
        places = np.concatenate([np.arange(at.start, at.stop), drawn[lucky]])
        return np.concatenate([np.arange(free), free + lucky]), places

    def keep(self, at: Any, parts: Sequence[Array]) -> None:
        """Put columns where they were drawn to; of two for one place the later stays."""
        for number, each in enumerate(parts):
            held = self._parts[number]
            if self.taken > len(held):
                room = min(self.most, max(self.taken, len(held) * 3 // 2))
                grown = np.empty((room, held.shape[1]), np.float32)
                grown[: len(held)], grown[len(held) :, -1] = held, 1
                self._parts[number] = held = grown
            held[at, :-1] = each.T

    def all(self) -> list[Array]:
        """What was kept, with a row of ones for the first."""
        first, *others = (each[: self.taken].T for each in self._parts)
        return [first, *(each[:-1] for each in others)]


@np.errstate(invalid="ignore", over="ignore")  # said once, by Samples.trouble
def collect(
    reached: Signals,
    dense: Signals,
    weights: Sequence[Array],
    *,
    block: int = 0,
    share: float = 1.0,
    exact: bool,
    exact_offsets: bool = True,
    seed: int,
) -> list[Samples]:
    """Sum up what some layers read.

    Parameters
    ----------
    reached, dense
        The network pruned so far and the dense one; the same where `exact`.
    weights
        (N+1, M) dense weights of each layer's block, bias (or zeros) in the last row.
    exact_offsets
        Whether what is added behind the layers is the same in both networks.
    share
        Of the memory for columns that this block may take.

    Returns
    -------
    list of Samples
        One a layer; what depends on the inputs alone is shared.
    """
    rows, outputs = len(weights[0]) - 1, [each.shape[1] for each in weights]
    random = np.random.default_rng(seed)
    added = _Added(reached, dense, outputs, exact=exact_offsets)
    each = rows + 1 + sum(outputs) + sum(added.rows)
    usual = max(1, min(int(share * KEPT_BYTES) // (4 * each), max(KEPT_COLUMNS, 4 * each)))
    few = min(rows // 2, most_columns(rows))
    most = most_columns(rows) if rows > WIDEST else max(usual, few)
    computed = exact and not reached.outputs
    sizes = (rows, *(() if computed else outputs), *added.rows)
    kept, held = _Kept(most, sizes, random), _Kept(usual, sizes, random)
    early: list[tuple[Array, ...]] = []
    sums: Sums | None = None
    for at, place in enumerate(reached.places):
        into = held if place.held_out else kept
        pairs = _pairs(reached, dense, at, block, exact=exact)
        known, seen = reached.results(at, block) if exact else None, 0
        for x, y, *more in _merged(added.beside(pairs, at)):
            drawn, where = into.draw(x.shape[1])
            columns, seen = slice(seen, seen + x.shape[1]), seen + x.shape[1]
            found = []
            for number, each in enumerate(() if computed else weights):
                z = np.empty((0, 0)) if known is None else known[number][:, columns]
                fits = z.shape == (each.shape[1], x.shape[1])
                found.append(z[:, drawn] if fits else results(each, y[:, drawn]))
            into.keep(where, [x[:, drawn], *found, *(each[:, drawn] for each in more)])
            if place.held_out or rows > WIDEST:
                continue
            fresh = (x, y, *added.missing(more))
            if sums is None:
                early.append(fresh)
                if kept.seen <= few:
                    continue
                sums = Sums(rows, weights, exact=exact, missing=added.inexact_rows)
            for part in early or [fresh]:
                sums.add(*part)
            early = []
    gram, cross = sums.about_zero() if sums is not None else (None, [None] * len(weights))
    mine, theirs = (_finished(each, weights, computed=computed) for each in (kept, held))
    offsets = added.offsets(kept, held, [] if sums is None else sums.missing())
    shared: dict[Any, Any] = {}
    lost = CHANGING if reached.lost or dense.lost else ""
    return [
        Samples(gram, total, mine[0], kept_z, theirs[0], held_z, exact, shared, offset, lost)
        for total, kept_z, held_z, offset in zip(cross, mine[1], theirs[1], offsets)
    ]


class _Added:
    """What is added behind the layers, column by column beside what they read."""

    def __init__(
        self, reached: Signals, dense: Signals, outputs: Sequence[int], *, exact: bool
    ) -> None:
        self.reached, self.dense, self.exact = reached, dense, exact
        self.layers = [at for at, name in enumerate(reached.offsets) if name]
        self.count = len(outputs)
        self._sizes = [outputs[at] for at in self.layers]
        self._aligned = [True] * len(self.layers)

    @property
    def rows(self) -> list[int]:
        """Outputs of each offset that is kept: all as reached, then all of the dense network."""
        return self._sizes * (1 if self.exact else 2)

    @property
    def inexact_rows(self) -> list[int]:
        """Outputs of each offset that lacks something."""
        return [] if self.exact else self._sizes

    def missing(self, more: Sequence[Array]) -> list[Array]:
        """What the offsets lack of the dense network's."""
        half = len(self.layers)
        return [] if self.exact else [d - r for r, d in zip(more[:half], more[half:])]

    def beside(self, parts: Iterable[tuple[Array, Array]], at: int) -> Iterator[tuple[Array, ...]]:
        """Put the offsets' columns beside those of batch `at`.

        An offset that has other columns than the layer has results is broadcast: it is given up.
        """
        found = self.reached.added(at) if self.layers else []
        if self.layers and not self.exact:
            found += self.dense.added(at)
        seen = 0
        for x, y in parts:
            columns = slice(seen, seen + x.shape[1])
            seen = columns.stop
            yield x, y, *(self._cut(number, each, columns) for number, each in enumerate(found))
        for number, each in enumerate(found):
            self._aligned[number % len(self.layers)] &= each.shape[1] == seen

    def _cut(self, number: int, found: Array, columns: slice) -> Array:
        at = number % len(self.layers)
        rows, width = self._sizes[at], columns.stop - columns.start
        part = found[:, columns]
        if part.shape != (rows, width):
            self._aligned[at] = False
            return np.zeros((rows, width), np.float32)
        return part

    def offsets(self, kept: _Kept, held: _Kept, missing: Sequence[Array]) -> list[Offset | None]:
        """The offset of each layer, None for those without."""
        found: list[Offset | None] = [None] * self.count
        count = len(self.layers)
        mine, theirs = (each.all()[-len(self.rows) :] for each in (kept, held))
        for at, layer in enumerate(self.layers):
            if self._aligned[at]:
                other = at if self.exact else at + count
                reached, held_reached = mine[at], theirs[at]
                dense = reached if self.exact else mine[other]
                held_dense = held_reached if self.exact else theirs[other]
                lacking = missing[at] if missing else None
                found[layer] = Offset(reached, held_reached, dense, held_dense, lacking)
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


def _finished(
    kept: _Kept, weights: Sequence[Array], *, computed: bool
) -> tuple[Array, list[Array]]:
    """Kept columns with their row of ones, and the dense results on them."""
    inputs, *found = kept.all()
    if computed:
        return inputs, [each.T @ inputs for each in weights]
    return inputs, found[: len(weights)]


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


def _merged(pairs: Iterator[tuple[Array, ...]]) -> Iterator[tuple[Array, ...]]:
    """The same columns with small parts put together."""
    waiting: list[tuple[Array, ...]] = []
    columns = 0
    for pair in pairs:
        waiting.append(pair)
        columns += pair[0].shape[1]
        if columns >= LEAST_COLUMNS:
            yield _joined(waiting)
            waiting, columns = [], 0
    if columns:
        yield _joined(waiting)


def _joined(parts: Sequence[tuple[Array, ...]]) -> tuple[Array, ...]:
    if len(parts) == 1:
        return parts[0]
    x, y, *more = (np.hstack(each) for each in zip(*parts))
    return (x, x if parts[0][0] is parts[0][1] else y, *more)
