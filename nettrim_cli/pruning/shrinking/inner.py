"""Fewer entries of queries and keys, or of values, in each head: products of a lower rank."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.graph.channels.inner import InnerGroup, Places
from nettrim_cli.graph.model import Model
from nettrim_cli.pruning.propagation import dense_matrices, set_matrices
from nettrim_cli.solve.gram.balanced import balanced
from nettrim_cli.solve.gram.metric import OutputMetric, stretched
from nettrim_cli.solve.gram.output_weights import linear_correlation
from nettrim_cli.solve.matrices import Matrix
from nettrim_cli.solve.problem import LayerProblem

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class InnerBases:
    """Bases in which the first entries of each head matter most.

    Attributes
    ----------
    first, second
        (H, d, d) of both layers.
    relative
        (d+1,) squared error of all heads' products with 0, 1, ..., d entries left, of their size.
    """

    group: InnerGroup
    first: Floats
    second: Floats
    relative: Floats

    @classmethod
    def of(cls, group: InnerGroup, moments: Sequence[Floats]) -> InnerBases:
        """From second moments (H, d, d) of both sides.

        Raises
        ------
        numpy.linalg.LinAlgError
            They are no numbers, or zero.
        """
        pairs = zip(*moments, strict=True)
        first, second, errors = zip(*(balanced(*pair) for pair in pairs), strict=True)
        total = np.sum(errors, axis=0)
        return cls(group, np.array(first), np.array(second), total / max(total[0], 1e-300))

    def projected(self, name: str, matrix: Matrix, count: int) -> Matrix:
        """The weights (N, M) of one of the layers, by which all heads get the rank."""
        side = self.group.layers.index(name)
        own, other = (self.first, self.second)[:: -1 if side else 1]
        result = matrix.copy()
        for A, B, places in zip(own, other, self.group.places[side], strict=True):
            low = A[:, :count] @ B[:, :count].T
            if side and self.group.reads:
                result[places] = low.T @ matrix[places]
            else:
                result[:, places] = matrix[:, places] @ low
        return result

    def shortened(self, name: str, matrix: Matrix, count: int) -> Matrix:
        """The weights (N, M) of one of the layers that has the rank's entries first, no others."""
        side = self.group.layers.index(name)
        bases, result = (self.first, self.second)[side][:, :, :count], matrix.copy()
        for basis, places in zip(bases, self.group.places[side], strict=True):
            if side and self.group.reads:
                result[places] = 0
                result[places[:count]] = basis.T @ matrix[places]
            else:
                result[:, places] = 0
                result[:, places[:count]] = matrix[:, places] @ basis
        return result


def result_moments(places: Places, Z: Matrix, *, centred: bool) -> Floats:
    """(H, d, d) second moments of a layer's results (M, P), head by head.

    Parameters
    ----------
    places
        (H, d) numbers of the results.
    centred
        Whether they are taken about the mean.  What is the same for all keys moves all scores of a
        query alike, which a Softmax does not feel.
    """
    heads = Z[places].astype(np.float64)
    if centred:
        heads = heads - heads.mean(axis=2, keepdims=True)
    return np.asarray(heads @ heads.swapaxes(1, 2) / Z.shape[1])


def moments_of(group: InnerGroup, name: str, problem: LayerProblem) -> tuple[Floats, ...]:
    """Second moments (H, d, d) of one of the layers, one array a side that it tells of.

    Values are weighed by what the layer behind them reads, and by its weights.
    """
    side = group.layers.index(name)
    places, samples = group.places[side], problem.samples
    if not group.reads:
        return (result_moments(places, samples.Z, centred=bool(side)),)
    if not side:
        return ()
    rows = problem.W[places].astype(np.float64)
    if problem.importance is not None:
        rows = rows * problem.importance
    if (correlation := linear_correlation(problem)) is not None:
        rows = stretched(rows, OutputMetric.of(correlation))
    read = result_moments(places, samples.X, centred=False)
    return read, np.asarray(rows @ rows.swapaxes(1, 2))


def shorten(model: Model, bases: Sequence[InnerBases], counts: Mapping[str, int]) -> None:
    """Let each head's first entries be all that both layers have, so many by group."""
    layers = {layer.name: layer for layer in model.layers}
    for each in bases:
        count = counts.get(each.group.name, each.group.size)
        for name in each.group.layers if count < each.group.size else ():
            (matrix,) = dense_matrices(model, layers[name])
            result = each.shortened(name, matrix, count)
            set_matrices(model, layers[name], [result if layers[name].has_bias else result[:-1]])
