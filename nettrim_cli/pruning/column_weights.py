"""Columns of layers count by what errors there do to the network's outputs.

Behind a MaxPool over a sequence, before an attention that reads few tokens, or where samples are
filled up, most columns do nothing.  Second moments in which a column counts as the square of the
outputs' gradient there tell where the weights that stay do good.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.data.dataset import Batch
from nettrim_cli.graph import ops
from nettrim_cli.graph.layer import Layer
from nettrim_cli.graph.layers.paths import response_path
from nettrim_cli.graph.model import Model
from nettrim_cli.pruning.output_gradients import REFUSALS, OutputGradients

RUNS = 4  # backward passes of a batch, with signs of their own
CONCENTRATED = 6.0  # mean square of weights whose mean is 1, from which they differ enough
MOST = 0.5  # share of the parameters in such layers, from which another pass is worth its time
EQUAL = 0.2  # of the weights, alike for all columns
FEW = 64  # samples that tell how concentrated weights are

Weights = NDArray[np.float32]


@dataclass(frozen=True)
class ColumnWeights:
    """Weights of the columns of some layers.

    Attributes
    ----------
    gradients
        Of the dense network's outputs.
    tensors
        Of each layer, by name, the tensor that its errors are in.
    axes
        The axis of the channels of each of these tensors.
    means
        The mean square of the gradient at a place of each of these tensors.
    """

    gradients: OutputGradients
    tensors: Mapping[str, str]
    axes: Mapping[str, int]
    means: Mapping[str, float]

    @classmethod
    def of(cls, gradients: OutputGradients, layers: Sequence[Layer]) -> ColumnWeights:
        """Those of layers in which few columns have nearly all of the weight.

        None are where these have less than half of the layers' parameters, or the engine fails.
        """
        tensors, axes = _tensors(gradients.dense, layers)
        spread: dict[str, tuple[float, float]] = {}
        with suppress(*REFUSALS):
            spread = concentrations(gradients, axes)
        means = {name: mean for name, (mean, square) in spread.items() if square >= CONCENTRATED}
        tensors = {layer: name for layer, name in tensors.items() if name in means}
        sizes = {layer.name: layer.parameters for layer in layers}
        if sum(sizes[layer] for layer in tensors) < MOST * sum(sizes.values()):
            return cls(gradients, {}, {}, {})
        return cls(gradients, tensors, {name: axes[name] for name in means}, means)

    def of_batch(self, batch: Batch) -> dict[str, Weights]:
        """Weights (P,) of the columns of each layer in a batch, by name; their mean is about 1."""
        runs = []
        with suppress(*REFUSALS):
            runs = [self._squares(batch) for _ in range(RUNS)]
        weights = {}
        for layer, name in self.tensors.items():
            if squares := [run[name] for run in runs if name in run]:
                relative = np.mean(squares, axis=0) / self.means[name]
                weights[layer] = (EQUAL + (1 - EQUAL) * relative).astype(np.float32)
        return weights

    @cached_property
    def _squares(self) -> Callable[[Batch], dict[str, NDArray[np.float32]]]:
        return self.gradients.by_column(self.axes)


def concentrations(
    gradients: OutputGradients, axes: Mapping[str, int]
) -> dict[str, tuple[float, float]]:
    """Mean of the squares of tensors' gradients at a place, and their mean square relative to it.

    The squares are products of those of two passes with signs of their own, to which chance adds
    nothing.

    Parameters
    ----------
    gradients
        Of the network.
    axes
        Names of tensors, and the axis of their channels.

    Raises
    ------
    EngineFailed
        onnxruntime does not run the backward pass on these samples.
    OutOfMemory
        There is no room for it.
    """
    squares, sums = gradients.by_column(axes), dict[str, NDArray[np.float64]]()
    for batch in _first(gradients.batches, FEW):
        first, second = squares(batch), squares(batch)
        for name in first.keys() & second.keys():
            pair = np.array([first[name], second[name]], np.float64)
            added = np.array([pair.shape[1], pair.mean(axis=0).sum(), np.prod(pair, axis=0).sum()])
            sums[name] = sums.get(name, np.zeros(3)) + added
    return {
        name: (total / places, square * places / total**2)
        for name, (places, total, square) in sums.items()
        if 0 < total < np.inf
    }


def _first(batches: Iterable[Batch], most: int) -> list[Batch]:
    """As many batches as have so many samples together."""
    chosen, count = [], 0
    for batch in batches:
        chosen.append(batch)
        count += batch.count
        if count >= most:
            break
    return chosen


def _tensors(model: Model, layers: Sequence[Layer]) -> tuple[dict[str, str], dict[str, int]]:
    """Tensors that the errors of layers are in, by layer, and the axis of their channels.

    Layers of several places or blocks, and those in subgraphs, are not among them.
    """
    tensors, axes = {}, {}
    for layer in layers:
        axis = ops.output_axis(layer.geometry)
        if axis is None or len(layer.sites) != 1 or len(layer.blocks) != 1 or layer.sites[0].scope:
            continue
        tensors[layer.name] = name = response_path(model.index, layer, layer.sites[0])[1]
        axes[name] = axis
    return tensors, axes
