"""What is kept of the samples of layers that read the same columns.

Second moments C and B sum up the columns: all of them, or SUMMED_TIMES to an input where there are
more.  Where the inputs are more than WIDEST, or twice the columns, these are not formed: the
columns themselves are kept, all of them or as many as memory allows, and the solvers work with
those (``solve.wide``).

Columns are counted before any is formed, so that what is not drawn costs nothing, and what is
drawn depends on the order of the samples and the seed but not on the batches.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.data.column_sampling import ColumnSample, ColumnSampler, Positions
from nettrim_cli.data.layer_columns import LayerInputs
from nettrim_cli.data.moments import Moments, results
from nettrim_cli.solve.problem import LayerSamples, SkipConnection

Array = NDArray[Any]
SUMMED_COLUMNS = 50_000  # that are summed up, where there are so many,
SUMMED_TIMES = 32  # or so many to an input, if that is more
KEPT_BYTES = 256 << 20  # of the columns that are kept of all blocks beside their sums,
KEPT_COLUMNS = 8192  # and their number, unless the layer is large
PART_VALUES = 1 << 19  # of the columns that are formed at once, which a cache holds,
PART_MOST = 4 << 20  # or more for
LEAST_COLUMNS = 512  # that are summed up at once, where there are so many
WIDEST = 12_000  # inputs beyond which no matrix is inputs x inputs
WIDE_BYTES = 512 << 20  # of the columns that stand for the sums where these are not formed,
WIDE_COLUMNS = 6144  # and their number, whose cube the factorisation's time is
CHANGING = "shapes inside of its Scan change from turn to turn, so that it cannot be recorded"


@np.errstate(invalid="ignore", over="ignore")  # said once, by LayerSamples.unusable_reason
def collect(
    reached: LayerInputs,
    dense: LayerInputs,
    weights: Sequence[Array],
    *,
    block: int = 0,
    share: float = 1.0,
    exact: bool,
    exact_offsets: bool = True,
    seed: int,
) -> list[LayerSamples]:
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
    added = _Added(reached, dense, outputs, exact=exact_offsets)
    each = rows + 1 + sum(outputs) + sum(added.rows)
    usual = max(1, min(int(share * KEPT_BYTES) // (4 * each), max(KEPT_COLUMNS, 4 * each)))
    counts = [_count(reached, dense, at, block, exact=exact) for at in range(len(reached.batches))]
    fitted = sum(n for n, place in zip(counts, reached.batches, strict=True) if not place.holdout)
    wide, random = is_wide(rows, fitted), np.random.default_rng(seed)
    computed = exact and not reached.outputs
    sizes = (rows, *(() if computed else outputs), *added.rows)
    formed = ColumnSampler(fitted, useful_columns(rows, fitted), random)
    kept = ColumnSample(formed, formed.count if wide else usual, sizes, random)
    held = ColumnSample(ColumnSampler(sum(counts) - fitted, usual, random), usual, sizes, random)
    sums = None if wide else Moments(rows, weights, exact=exact, missing=added.inexact_rows)
    networks = (reached,) if exact else (reached, dense)
    most = min(PART_MOST, max(PART_VALUES, LEAST_COLUMNS * rows))
    fits = _Sink(kept, sums, weights, added, computed)
    judges = _Sink(held, None, weights, added, computed)
    for at, (place, count) in enumerate(zip(reached.batches, counts, strict=True)):
        if not count:
            continue
        sink = judges if place.holdout else fits
        positions = sink.into.formed.next(count)
        known = _known(reached, at, block, (count, outputs)) if exact else None
        beside = added.beside(at, count)
        parts = [each.parts(at, block, positions, most) for each in networks]
        for x, y, here in _formed(parts, positions):
            sink.take(x, y, here, known, beside)
    gram, cross = sums.about_zero() if sums is not None else (None, [None] * len(weights))
    mine, theirs = (_finished(each, weights, computed=computed) for each in (kept, held))
    offsets = added.offsets(kept, held, [] if sums is None else sums.missing())
    shared: dict[Any, Any] = {}
    lost = CHANGING if reached.incomplete or dense.incomplete else ""
    unread = reached.unread_sites(block)
    return [
        LayerSamples(
            C=gram,
            B=total,
            X=mine[0],
            Z=kept_z,
            holdout_X=theirs[0],
            holdout_Z=held_z,
            inputs_exact=exact,
            shared=shared,
            skip=offset,
            incomplete_reason=lost,
            unread=unread,
        )
        for total, kept_z, held_z, offset in zip(cross, mine[1], theirs[1], offsets, strict=True)
    ]


@dataclass(frozen=True)
class _Sink:
    """Where the columns of fitted or of held-out samples go."""

    into: ColumnSample
    sums: Moments | None
    weights: Sequence[Array]
    added: _Added
    computed: bool

    def take(
        self, x: Array, y: Array, here: Any, known: Sequence[Array] | None, beside: Sequence[Array]
    ) -> None:
        """Take in some columns of both networks, those at `here` in their batch.

        Parameters
        ----------
        known, beside
            Rows of the layers' results, and of what is added behind them, of the whole batch.
        """
        chosen = self.into.pick(x.shape[1])
        there = _inner(here, chosen)
        if self.sums is not None and self.sums.of_results:
            whole = [results(each, y) for each in self.weights]
            y, found = np.vstack(whole), [each.T[chosen] for each in whole]
        elif known is not None:
            found = [each[there] for each in known]
        else:
            wanted = () if self.computed else self.weights
            found = [results(each, y.T[chosen].T).T for each in wanted]
        self.into.keep([x.T[chosen], *found, *(each[there] for each in beside)])
        if self.sums is not None:
            self.sums.add(x, y, *self.added.missing([each[here] for each in beside]))


def is_wide(inputs: int, columns: int) -> bool:
    """Whether columns stand for the sums: where C may not be formed or costs more by far."""
    return inputs > WIDEST or columns <= min(inputs // 2, most_columns(inputs))


def most_columns(inputs: int) -> int:
    """How many columns may stand for the sums."""
    return max(1, min(WIDE_COLUMNS, WIDE_BYTES // (4 * (inputs + 1))))


def useful_columns(inputs: int, columns: int) -> int:
    """How many of so many columns would be used."""
    if inputs > WIDEST:
        return min(columns, most_columns(inputs))
    return min(columns, max(SUMMED_COLUMNS, SUMMED_TIMES * inputs))


class _Added:
    """What is added behind the layers, beside what they read: rows, one a column of theirs."""

    def __init__(
        self, reached: LayerInputs, dense: LayerInputs, outputs: Sequence[int], *, exact: bool
    ) -> None:
        self.reached, self.dense, self.exact = reached, dense, exact
        self.layers = [at for at, name in enumerate(reached.skips) if name]
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
        """Columns of what the offsets lack of the dense network's."""
        half = len(self.layers)
        return (
            [] if self.exact else [(d - r).T for r, d in zip(more[:half], more[half:], strict=True)]
        )

    def beside(self, at: int, columns: int) -> list[Array]:
        """The offsets in batch `at`, where the layers read so many columns.

        An offset that has other columns than the layer has results is broadcast: it is given up.
        """
        if not self.layers:
            return []
        found = self.reached.skip_rows(at) + ([] if self.exact else self.dense.skip_rows(at))
        for number, each in enumerate(found):
            place = number % len(self.layers)
            if each.shape != (columns, self._sizes[place]):
                self._aligned[place] = False
                found[number] = np.zeros((columns, self._sizes[place]), np.float32)
        return found

    def offsets(
        self, kept: ColumnSample, held: ColumnSample, missing: Sequence[Array]
    ) -> list[SkipConnection | None]:
        """The offset of each layer, None for those without."""
        found: list[SkipConnection | None] = [None] * self.count
        count = len(self.layers)
        mine, theirs = (each.all()[-len(self.rows) :] for each in (kept, held))
        for at, layer in enumerate(self.layers):
            if self._aligned[at]:
                other = at if self.exact else at + count
                reached, holdout_reached = mine[at], theirs[at]
                dense = reached if self.exact else mine[other]
                holdout_dense = holdout_reached if self.exact else theirs[other]
                lacking = missing[at] if missing else None
                found[layer] = SkipConnection(
                    reached, holdout_reached, dense, holdout_dense, lacking
                )
        return found


def _count(reached: LayerInputs, dense: LayerInputs, at: int, block: int, *, exact: bool) -> int:
    """Columns in batch `at`; none where the networks went different ways."""
    counts = reached.counts(at, block)
    if not exact and counts != dense.counts(at, block):
        return 0
    return sum(map(sum, counts))


def _formed(
    parts: Sequence[Iterator[Array]], positions: Positions | None
) -> Iterator[tuple[Array, Array, Any]]:
    """Columns of a batch in both networks, and which of the batch's they are."""
    seen = 0
    for each in _merged(zip(*parts, strict=True)):
        here = slice(seen, seen + each[0].shape[1])
        seen = here.stop
        yield each[0], each[-1], here if positions is None else positions[here]


def _inner(here: Any, chosen: Any) -> Any:
    """Which of a batch's columns those chosen of some of them are."""
    if not isinstance(here, slice):
        return here[chosen]
    return here if isinstance(chosen, slice) else here.start + chosen


def _known(
    reached: LayerInputs, at: int, block: int, shape: tuple[int, Sequence[int]]
) -> list[Array] | None:
    """Rows of the results in batch `at` as recorded, of so many columns and outputs each."""
    found = reached.results(at, block)
    wanted = [(shape[0], outputs) for outputs in shape[1]]
    return found if found and [each.shape for each in found] == wanted else None


def _finished(
    kept: ColumnSample, weights: Sequence[Array], *, computed: bool
) -> tuple[Array, list[Array]]:
    """Kept columns with their row of ones, and the dense results on them."""
    inputs, *found = kept.all()
    if computed:
        return inputs, [each.T @ inputs for each in weights]
    return inputs, found[: len(weights)]


def _merged(parts: Iterable[tuple[Array, ...]]) -> Iterator[tuple[Array, ...]]:
    """The same columns with small parts put together."""
    waiting: list[tuple[Array, ...]] = []
    columns = 0
    for part in parts:
        waiting.append(part)
        columns += part[0].shape[1]
        if columns >= LEAST_COLUMNS:
            yield _joined(waiting)
            waiting, columns = [], 0
    if columns:
        yield _joined(waiting)


def _joined(parts: Sequence[tuple[Array, ...]]) -> tuple[Array, ...]:
    return (
        parts[0] if len(parts) == 1 else tuple(np.hstack(each) for each in zip(*parts, strict=True))
    )
