"""The entries of parameters that may change, as one vector."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.graph.gradient.parameters import Parameter

Vector = NDArray[np.float64]
Arrays = dict[str, NDArray[Any]]


class Entries:
    """Where the E entries that may change are in their tensors.

    Parameters
    ----------
    parameters
        The tensors; what is not free keeps its value.

    Attributes
    ----------
    spans
        Where the entries of each tensor are.
    start
        (E,) entries as they are.
    """

    def __init__(self, parameters: Sequence[Parameter]) -> None:
        self._parameters = tuple(parameters)
        self._places = [
            slice(None) if tensor.free is None else np.flatnonzero(tensor.free)
            for tensor in parameters
        ]
        counts = [
            tensor.values.size if tensor.free is None else int(np.count_nonzero(tensor.free))
            for tensor in parameters
        ]
        ends = list(itertools.accumulate(counts))
        self.spans = [slice(e - n, e) for e, n in zip(ends, counts, strict=True)]
        self.start = self.vector({tensor.name: tensor.values for tensor in parameters})

    def vector(self, arrays: Mapping[str, NDArray[Any]]) -> Vector:
        """(E,) entries of the tensors."""
        pieces = [
            arrays[tensor.name].ravel()[places].astype(np.float64)
            for tensor, places in zip(self._parameters, self._places, strict=True)
        ]
        return np.concatenate(pieces) if pieces else np.empty(0)

    def arrays(self, vector: Vector) -> Arrays:
        """The tensors with these entries (E,)."""
        tensors = {}
        for tensor, places, span in zip(self._parameters, self._places, self.spans, strict=True):
            flat = tensor.values.flatten()
            flat[places] = vector[span]
            tensors[tensor.name] = flat.reshape(tensor.values.shape)
        return tensors

    def separable(self, vector: Vector) -> Vector:
        """(E,) means over rows times those over columns of each tensor, one mean without two axes.

        Parameters
        ----------
        vector
            (E,) of noisy figures, none of them negative.
        """
        smooth = np.empty_like(vector)
        for tensor, places, span in zip(self._parameters, self._places, self.spans, strict=True):
            figures = vector[span]
            smooth[span] = figures.mean() if len(figures) else 0
            if tensor.values.ndim > 1 and smooth[span].any():
                columns = tensor.values[0].size
                rows = np.arange(tensor.values.size)[places] // columns
                ends = np.arange(tensor.values.size)[places] % columns
                smooth[span] = _means(figures, rows)[rows] * _means(figures, ends)[ends]
                smooth[span] /= figures.mean()
        return smooth


def _means(figures: Vector, groups: NDArray[np.intp]) -> Vector:
    """Means of (E,) figures by the number of their group."""
    return np.bincount(groups, figures) / np.maximum(1, np.bincount(groups))
