"""What is kept of the samples of layers that read the same tensor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
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


@dataclass
class _Columns:
    """Columns collected so far, a share of those seen, and each layer's results on them."""

    share: float
    seen: int = 0
    taken: int = 0
    inputs: list[Array] = field(default_factory=list)
    results: list[list[Array]] = field(default_factory=list)

    def draw(self, random: np.random.Generator, columns: int) -> slice | Array:
        """Which of the next columns to keep, so that the share holds however few come at once."""
        if self.share >= 1:
            return slice(None)
        self.seen += columns
        count = min(columns, round(self.seen * self.share) - self.taken)
        self.taken += count
        return np.sort(random.choice(columns, count, replace=False))

    def joined(self, rows: int, weights: Sequence[Array]) -> tuple[Array, list[Array]]:
        if not self.inputs:
            empty = [np.zeros((each.shape[1], 0), np.float32) for each in weights]
            return np.zeros((rows, 0), np.float32), empty
        inputs = np.concatenate(self.inputs, axis=1)
        results = [np.concatenate(each, axis=1) for each in zip(*self.results)]
        return inputs, results


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
    rows = len(weights[0])
    gram = np.zeros((rows, rows))
    cross = [np.zeros(each.shape) for each in weights]
    origin: Array | None = None
    random = np.random.default_rng(seed)
    shares = _shares(reached, tensor, geometry, rows + sum(w.shape[1] for w in weights))
    kept, held = _Columns(shares[False]), _Columns(shares[True])
    for mine, theirs in zip(reached, dense):
        for x, y in _unfolded(mine, theirs, tensor, geometry, rows, exact):
            results = [each.T @ y for each in weights]
            into = held if mine.held_out else kept
            at = into.draw(random, x.shape[1])
            into.inputs.append(x[:, at])
            into.results.append([z[:, at] for z in results])
            if mine.held_out:
                continue
            if origin is None and x.shape[1]:
                origin = _origin(x)
            x = x - (0 if origin is None else origin)
            gram += x @ x.T
            if not exact:
                for total, z in zip(cross, results):
                    total += x @ z.T
    if origin is not None:
        gram, cross = _back(gram, cross, origin.astype(np.float64))
    if exact:
        cross = [gram @ each for each in weights]
    inputs, kept_results = kept.joined(rows, weights)
    held_inputs, held_results = held.joined(rows, weights)
    shared: dict[Any, Any] = {}
    return [
        Samples(gram, total, inputs, kept_z, held_inputs, held_z, exact, shared)
        for total, kept_z, held_z in zip(cross, kept_results, held_results)
    ]


def _origin(x: Array) -> Array:
    """The mean column of the first batch, 0 for the row of ones.

    Sums are taken about it, so that what centring leaves of an input keeps float32's precision.
    """
    mean = x.mean(axis=1, keepdims=True)
    mean[-1] = 0
    return np.where(np.isfinite(mean), mean, 0)


def _back(gram: Array, cross: list[Array], origin: Array) -> tuple[Array, list[Array]]:
    """Sums about the origin 0 from those about another; the last row and column are of ones."""
    shift = np.eye(len(gram))
    shift[:, -1:] += origin
    return shift @ gram @ shift.T, [shift @ each for each in cross]


def _shares(
    places: Sequence[Place], tensor: str, geometry: Geometry, rows: int
) -> dict[bool, float]:
    """Share of the columns to keep, for calibration (False) and held-out (True) batches."""
    totals = {False: 0, True: 0}
    for place in places:
        shape = place.tensors[tensor].shape
        samples = shape[0] if len(shape) > 1 else 1
        totals[place.held_out] += ops.positions(shape, geometry) * samples
    most = max(1, min(KEPT_BYTES // (4 * rows), max(KEPT_COLUMNS, 4 * rows)))
    return {held: min(1.0, most / total) if total else 1.0 for held, total in totals.items()}


def _unfolded(
    mine: Place, theirs: Place, tensor: str, geometry: Geometry, rows: int, exact: bool
) -> Any:
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
