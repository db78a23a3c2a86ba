"""Samples of layers that read the same columns: their moments, and some of the columns.

The second moments C and B sum up all columns, or SUMMED_TIMES to an input where there are more.
Where the inputs are more than WIDEST, or twice the columns, the moments are not formed.  The
columns themselves are stored instead, as many as memory allows (``solve.gram.low_rank``).

Columns are counted before any is formed.  So columns that are not drawn cost nothing, and the draw
depends on the order of the samples and the seed but not on the batches.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.data.column_sampling import ColumnSample, ColumnSampler, Positions
from nettrim_cli.data.layer_columns import LayerInputs
from nettrim_cli.data.moments import Moments, Spread, results
from nettrim_cli.reasons import NO_REASON, Reason
from nettrim_cli.solve.samples import LayerSamples, SkipConnection
from nettrim_cli.solve.transport import SharedCache

Array = NDArray[Any]
SUMMED_COLUMNS = 50_000  # columns in the moments, at most,
SUMMED_TIMES = 32  # unless so many to an input are more
KEPT_BYTES = 256 << 20  # of the columns that are stored beside the moments, over all blocks
KEPT_COLUMNS = 8192  # number of these columns, unless the layer is large
PART_VALUES = 1 << 19  # values of columns that are formed at once; they fit into a cache
PART_MOST = 4 << 20  # the same for layers whose LEAST_COLUMNS need more
LEAST_COLUMNS = 512  # columns that are summed up at once, at least
WIDEST = 12_000  # inputs beyond which no matrix is inputs x inputs
WIDE_BYTES = 512 << 20  # of the columns that stand for the moments where these are not formed
WIDE_COLUMNS = 6144  # number of these columns; the factorisation takes its cube in time
CHANGING = Reason(
    "changing-shapes",
    "shapes inside of its Scan change between iterations, so that it cannot be recorded",
)


@np.errstate(invalid="ignore", over="ignore")  # said once, by LayerSamples.unusable_reason
def collect(
    pruned: LayerInputs,
    dense: LayerInputs,
    weights: Sequence[Array],
    *,
    block: int = 0,
    share: float = 1.0,
    exact: bool,
    seed: int,
) -> list[LayerSamples]:
    """Samples of layers that read the same columns.

    Parameters
    ----------
    pruned, dense
        The network pruned so far and the dense one; the same where `exact`.
    weights
        (N+1, M) dense weights of each layer's block, bias (or zeros) in the last row.
    block
        Number of the block.
    share
        Share of the memory for columns that this block may take.
    exact
        Whether the columns are the same in both networks.
    seed
        Of the draw of columns.

    Returns
    -------
    list of LayerSamples
        One a layer; they share everything that depends on the inputs alone.
    """
    rows, outputs = len(weights[0]) - 1, [W.shape[1] for W in weights]
    skips = _Skips(pruned, dense, outputs)
    size = _kept_columns(rows + 1 + sum(outputs) + sum(skips.rows), share)
    counts = [
        _count(pruned, dense, number, block, exact=exact) for number in range(len(pruned.batches))
    ]
    fitted = sum(n for n, batch in zip(counts, pruned.batches, strict=True) if not batch.holdout)
    wide, random = is_wide(rows, fitted), np.random.default_rng(seed)
    computed = exact and not pruned.outputs
    sizes = (rows, *(() if computed else outputs), *skips.rows)
    sampler = ColumnSampler(fitted, useful_columns(rows, fitted), random)
    fit_sample = ColumnSample(sampler, sampler.count if wide else size, sizes, random)
    holdout_sampler = ColumnSampler(sum(counts) - fitted, size, random)
    holdout_sample = ColumnSample(holdout_sampler, size, sizes, random)
    sums = None if wide else Moments(rows, weights, exact=exact, missing=skips.inexact_rows)
    networks = (pruned,) if exact else (pruned, dense)
    spread = None if exact else Spread()
    fit_sink = _Sink(fit_sample, sums, weights, skips, computed, spread)
    holdout_sink = _Sink(holdout_sample, None, weights, skips, computed)
    for number, (batch, count) in enumerate(zip(pruned.batches, counts, strict=True)):
        if count:
            sink = holdout_sink if batch.holdout else fit_sink
            sink.add_batch(networks, number, block, count)
    C, cross = sums.about_zero() if sums is not None else (None, [None] * len(weights))
    fit, holdout = (
        _finished(sample, weights, computed=computed) for sample in (fit_sample, holdout_sample)
    )
    connections = skips.connections(
        fit_sample, holdout_sample, [] if sums is None else sums.missing()
    )
    shared = SharedCache()
    unread = pruned.unread_sites(block)
    return [
        LayerSamples(
            C=C,
            B=B,
            X=fit[0],
            Z=Z,
            holdout_X=holdout[0],
            holdout_Z=holdout_Z,
            inputs_exact=exact,
            dense_spread=None if spread is None else spread.of_inputs(),
            shared=shared,
            skip=connection,
            incomplete_reason=CHANGING if pruned.incomplete or dense.incomplete else NO_REASON,
            unread=unread,
            recorded=fitted,
        )
        for B, Z, holdout_Z, connection in zip(cross, fit[1], holdout[1], connections, strict=True)
    ]


def _kept_columns(values: int, share: float) -> int:
    """How many columns of so many values are stored in a share of the memory."""
    return max(1, min(int(share * KEPT_BYTES) // (4 * values), max(KEPT_COLUMNS, 4 * values)))


@dataclass(frozen=True)
class _Sink:
    """The destination of columns, those of fitted or of held-out samples."""

    into: ColumnSample
    sums: Moments | None
    weights: Sequence[Array]
    skips: _Skips
    computed: bool
    spread: Spread | None = None

    def add_batch(
        self, networks: Sequence[LayerInputs], number: int, block: int, count: int
    ) -> None:
        """Add the columns of a batch, some at a time.

        Parameters
        ----------
        networks
            The pruned and the dense network; one alone where the columns are the same in both.
        number
            Of the batch.
        block
            Number of the block.
        count
            Number of the block's columns in the batch.
        """
        outputs = [W.shape[1] for W in self.weights]
        max_values = min(PART_MOST, max(PART_VALUES, LEAST_COLUMNS * (len(self.weights[0]) - 1)))
        positions, recorded = self.into.sampler.next(count), None
        if len(networks) == 1:
            recorded = _recorded(networks[0], number, block, (count, outputs))
        skip_rows = self.skips.rows_of(number, count)
        weights = networks[0].weights(number, count)
        roots = None if weights is None else np.sqrt(weights)
        parts = [network.parts(number, block, positions, max_values) for network in networks]
        for x, y, place in _formed(parts, positions):
            self.add(x, y, place, recorded, skip_rows, roots)

    def add(
        self,
        x: Array,
        y: Array,
        positions: Any,
        recorded: Sequence[Array] | None,
        skip_rows: Sequence[Array],
        roots: Array | None = None,
    ) -> None:
        """Add some columns of a batch.

        Parameters
        ----------
        x, y
            (N, P) columns in the pruned and in the dense network.
        positions
            Their index among the batch's columns.
        recorded, skip_rows
            The layers' results, and the residual connections, for all columns of the batch.
        roots
            (P,) of the weights of all columns of the batch; None where all are alike.
        """
        picked = self.into.pick(x.shape[1])
        stored_positions = _inner(positions, picked)
        part = None if roots is None else roots[positions]
        if self.spread is not None:
            self.spread.add(y, part)
        if self.sums is not None and self.sums.of_results:
            all_results = [results(W, y) for W in self.weights]
            y, outputs = np.vstack(all_results), [array.T[picked] for array in all_results]
        elif recorded is not None:
            outputs = [array[stored_positions] for array in recorded]
        else:
            weights = () if self.computed else self.weights
            outputs = [results(W, y.T[picked].T).T for W in weights]
        self.into.append([x.T[picked], *outputs, *(array[stored_positions] for array in skip_rows)])
        if self.sums is not None:
            missing = self.skips.missing([array[positions] for array in skip_rows])
            self.sums.add(x, y, *missing, roots=part)


def is_wide(inputs: int, columns: int) -> bool:
    """Whether columns stand for the moments: C would be too large, or far slower."""
    return inputs > WIDEST or columns <= min(inputs // 2, most_columns(inputs))


def most_columns(inputs: int) -> int:
    """Largest number of columns that stand for the moments."""
    return max(1, min(WIDE_COLUMNS, WIDE_BYTES // (4 * (inputs + 1))))


def useful_columns(inputs: int, columns: int) -> int:
    """Number of columns, of so many, that a layer's samples use."""
    if inputs > WIDEST:
        return min(columns, most_columns(inputs))
    return min(columns, max(SUMMED_COLUMNS, SUMMED_TIMES * inputs))


class _Skips:
    """The layers' residual connections, as rows for the layers' columns."""

    def __init__(self, pruned: LayerInputs, dense: LayerInputs, outputs: Sequence[int]) -> None:
        self.pruned, self.dense, self.exact = pruned, dense, pruned.exact_skips
        self.layers = [number for number, name in enumerate(pruned.skips) if name]
        self.count = len(outputs)
        self._sizes = [outputs[number] for number in self.layers]
        self._aligned = [True] * len(self.layers)

    @property
    def rows(self) -> list[int]:
        """Outputs of each recorded connection: first the pruned network's."""
        return self._sizes * (1 if self.exact else 2)

    @property
    def inexact_rows(self) -> list[int]:
        """Outputs of each connection that differs between the networks."""
        return [] if self.exact else self._sizes

    def missing(self, rows: Sequence[Array]) -> list[Array]:
        """(M, P) the dense network's connections less the pruned one's."""
        if self.exact:
            return []
        half = len(self.layers)
        pairs = zip(rows[:half], rows[half:], strict=True)
        return [(dense - pruned).T for pruned, dense in pairs]

    def rows_of(self, number: int, columns: int) -> list[Array]:
        """The connections in a batch in which the layers read so many columns.

        A connection of another shape than the layer's results is broadcast; it is given up.
        """
        if not self.layers:
            return []
        rows = self.pruned.skip_rows(number) + ([] if self.exact else self.dense.skip_rows(number))
        for index, values in enumerate(rows):
            layer = index % len(self.layers)
            if values.shape != (columns, self._sizes[layer]):
                self._aligned[layer] = False
                rows[index] = np.zeros((columns, self._sizes[layer]), np.float32)
        return rows

    def connections(
        self, fit_sample: ColumnSample, holdout_sample: ColumnSample, missing: Sequence[Array]
    ) -> list[SkipConnection | None]:
        """The connection of each layer, None for layers without."""
        connections: list[SkipConnection | None] = [None] * self.count
        count = len(self.layers)
        fit, holdout = (
            sample.matrices()[-len(self.rows) :] for sample in (fit_sample, holdout_sample)
        )
        for number, layer in enumerate(self.layers):
            if self._aligned[number]:
                dense_number = number if self.exact else number + count
                pruned, holdout_pruned = fit[number], holdout[number]
                dense = pruned if self.exact else fit[dense_number]
                holdout_dense = holdout_pruned if self.exact else holdout[dense_number]
                missing_product = missing[number] if missing else None
                connections[layer] = SkipConnection(
                    pruned, holdout_pruned, dense, holdout_dense, missing_product
                )
        return connections


def _count(pruned: LayerInputs, dense: LayerInputs, number: int, block: int, *, exact: bool) -> int:
    """Number of columns in a batch; 0 where the networks took different branches."""
    counts = pruned.counts(number, block)
    if not exact and counts != dense.counts(number, block):
        return 0
    return sum(map(sum, counts))


def _formed(
    parts: Sequence[Iterator[Array]], positions: Positions | None
) -> Iterator[tuple[Array, Array, Any]]:
    """Columns of a batch in both networks, and their index among the batch's columns."""
    start = 0
    for matrices in _merged(zip(*parts, strict=True)):
        place = slice(start, start + matrices[0].shape[1])
        start = place.stop
        yield matrices[0], matrices[-1], place if positions is None else positions[place]


def _inner(positions: Any, picked: Any) -> Any:
    """The index of picked ones among a batch's columns."""
    if not isinstance(positions, slice):
        return positions[picked]
    return positions if isinstance(picked, slice) else positions.start + picked


def _recorded(
    pruned: LayerInputs, number: int, block: int, shape: tuple[int, Sequence[int]]
) -> list[Array] | None:
    """Recorded results in a batch; None where they are not for so many columns and outputs."""
    rows = pruned.results(number, block)
    shapes = [(shape[0], outputs) for outputs in shape[1]]
    return rows if rows and [values.shape for values in rows] == shapes else None


def _finished(
    sample: ColumnSample, weights: Sequence[Array], *, computed: bool
) -> tuple[Array, list[Array]]:
    """Stored columns with their row of ones, and the dense results on them."""
    inputs, *outputs = sample.matrices()
    if computed:
        return inputs, [W.T @ inputs for W in weights]
    return inputs, outputs[: len(weights)]


def _merged(parts: Iterable[tuple[Array, ...]]) -> Iterator[tuple[Array, ...]]:
    """The same columns with small parts put together."""
    pending: list[tuple[Array, ...]] = []
    columns = 0
    for matrices in parts:
        pending.append(matrices)
        columns += matrices[0].shape[1]
        if columns >= LEAST_COLUMNS:
            yield _joined(pending)
            pending, columns = [], 0
    if columns:
        yield _joined(pending)


def _joined(parts: Sequence[tuple[Array, ...]]) -> tuple[Array, ...]:
    if len(parts) == 1:
        return parts[0]
    return tuple(np.hstack(arrays) for arrays in zip(*parts, strict=True))
