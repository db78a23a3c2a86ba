"""Fewer entries of queries and keys in each head: scores of a lower rank."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.graph.channels.inner import InnerGroup
from nettrim_cli.graph.model import Model
from nettrim_cli.pruning.propagation import dense_matrices, set_matrices
from nettrim_cli.solve.gram.balanced import balanced
from nettrim_cli.solve.matrices import Matrix

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class InnerBases:
    """Bases in which the first entries of queries and keys matter most, head by head.

    Attributes
    ----------
    first, second
        (H, d, d) of the queries and of the keys.
    relative
        (d+1,) squared error of all heads' scores with 0, 1, ..., d entries left, of their size.
    """

    group: InnerGroup
    first: Floats
    second: Floats
    relative: Floats

    @classmethod
    def of(cls, group: InnerGroup, moments: Mapping[str, Floats]) -> InnerBases:
        """From second moments (H, d, d) of both layers' results.

        Raises
        ------
        numpy.linalg.LinAlgError
            They are no numbers, or zero.
        """
        pairs = zip(*(moments[name] for name in group.layers), strict=True)
        first, second, errors = zip(*(balanced(*pair) for pair in pairs), strict=True)
        total = np.sum(errors, axis=0)
        return cls(group, np.array(first), np.array(second), total / max(total[0], 1e-300))

    def kept(self, count: int) -> NDArray[np.int64]:
        """Numbers of the entries that stay, ascending."""
        return np.arange(count)

    def projected(self, name: str, matrix: Matrix, count: int) -> Matrix:
        """The weights (N, M) of one of the layers, by which all scores get the rank."""
        result = matrix.copy()
        own, other = self.first, self.second
        columns = self.group.columns[self.group.layers.index(name)]
        if name == self.group.layers[1]:
            own, other = other, own
        for A, B, places in zip(own, other, columns, strict=True):
            result[:, places] = matrix[:, places] @ A[:, :count] @ B[:, :count].T
        return result

    def shortened(self, name: str, matrix: Matrix, count: int) -> Matrix:
        """The weights (N, M) of one of the layers whose first entries are the scores' rank."""
        result = matrix.copy()
        side = self.group.layers.index(name)
        bases = (self.first, self.second)[side][:, :, :count]
        for basis, places in zip(bases, self.group.columns[side], strict=True):
            result[:, places] = 0
            result[:, places[:count]] = matrix[:, places] @ basis
        return result


def head_moments(group: InnerGroup, name: str, Z: Matrix) -> Floats:
    """(H, d, d) second moments of a layer's results (M, P), head by head.

    Those of keys are taken about their mean: what is the same for all keys moves all scores of a
    query alike, which a Softmax does not feel.
    """
    side = group.layers.index(name)
    heads = Z[group.columns[side]].astype(np.float64)
    if side:
        heads = heads - heads.mean(axis=2, keepdims=True)
    return np.asarray(heads @ heads.swapaxes(1, 2) / Z.shape[1])


def shorten(model: Model, bases: Sequence[InnerBases], counts: Mapping[str, int]) -> None:
    """Let each head's first entries be all that queries and keys have, so many by group."""
    layers = {layer.name: layer for layer in model.layers}
    for each in bases:
        count = counts.get(each.group.name, each.group.size)
        for name in each.group.layers if count < each.group.size else ():
            (matrix,) = dense_matrices(model, layers[name])
            result = each.shortened(name, matrix, count)
            set_matrices(model, layers[name], [result if layers[name].has_bias else result[:-1]])
