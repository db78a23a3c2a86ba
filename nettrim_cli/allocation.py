"""Sharing out the zeros: layers to which the network's output is less sensitive get more.

One pass over the dense network gives each layer's error at a few shares of zeros.  Errors of
different layers are not comparable, so each is weighed by the layer's sensitivity: how much the
network's output moves, squared, for the layer's own squared error, measured on some samples with
that layer alone pruned.  The zeros then go where the estimated output error grows least.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.data.calibration import Batch
from nettrim_cli.data.engine import Engine, is_array
from nettrim_cli.errors import BadInput
from nettrim_cli.graph.layer import Layer
from nettrim_cli.graph.model import Model
from nettrim_cli.solve.l0 import error_curve
from nettrim_cli.solve.search import allocate
from nettrim_cli.solve.task import Matrix, Samples, Task, norm
from nettrim_cli.walk import Stage, layer_task

DENSITIES = (6.0, 4.0, 2.8, 2.0, 1.4, 1.0, 0.7, 0.5, 0.35, 0.25, 0.15)


def allocate_zeros(
    dense: Model,
    recorded: Iterable[tuple[Stage, list[list[Samples]]]],
    batches: Iterable[Batch],
    sparsity: float,
    *,
    threads: int,
) -> dict[str, int]:
    """Zeros of each layer at a share of zeros over all of them.

    Parameters
    ----------
    recorded
        Samples of each stage in the dense network.
    batches
        Samples to measure the sensitivities on.

    Returns
    -------
    dict
        By name; layers that cannot be measured are not in it.
    """
    levels = shares_of_zeros(sparsity)
    probe = Probe(dense, batches, threads=threads)
    layers, curves = [], []
    for stage, found in recorded:
        for layer in stage.layers:
            tasks = [
                layer_task(dense, layer, each, block) for block, each in enumerate(found.pop(0))
            ]
            with suppress(np.linalg.LinAlgError, BadInput):  # it gets no zeros, and stays dense
                if not any(task.samples.trouble for task in tasks):
                    curves.append(_costs(layer, tasks, levels, sparsity, probe))
                    layers.append(layer)
            del tasks  # the sums and factorisations of its stage go before the next stage's come
    sizes = [each.parameters for each in layers]
    zeros = allocate(curves, sizes, levels, round(sparsity * sum(sizes)))
    return {layer.name: count for layer, count in zip(layers, zeros)}


def share_zeros(tasks: Sequence[Task], zeros: int) -> list[int]:
    """Zeros of each block of a layer that bring the layer's response least error together."""
    if len(tasks) == 1:
        return [zeros]
    sizes = [task.weights for task in tasks]
    levels = shares_of_zeros(min(max(zeros / sum(sizes), 1e-6), 1 - 1e-6))
    curves = [_squares(task, levels)[0] for task in tasks]
    return allocate(curves, sizes, levels, zeros)


def response_size(task: Task, *, held: bool) -> float:
    """Norm of the dense response on the kept columns, ||Y||_F."""
    return norm(task.dense_response(held=held))


@np.errstate(all="ignore")  # what comes out is looked at
def _squares(task: Task, levels: NDArray[np.float64]) -> tuple[NDArray[np.float64], list[Matrix]]:
    """Squared response error of a block at each share of zeros, not relative; and the weights."""
    keeps = [task.weights - round(each * task.weights) for each in levels]
    found, solved = error_curve(task, keeps)
    errors = np.where(np.isfinite(found), found, 1.0)  # no number: all of the response is lost
    size = response_size(task, held=task.samples.held_X.shape[1] > 0)
    return np.square(errors * (size if math.isfinite(size) else 1.0)), solved


def shares_of_zeros(sparsity: float) -> NDArray[np.float64]:
    """Where the curves are taken: none, and densities around the one asked for."""
    kept = [min(1.0, (1 - sparsity) * each) for each in DENSITIES]
    return np.array([0.0, *(1 - each for each in kept if each < 1)])


class Probe:
    """Measures how far the network's output moves when one layer is changed."""

    def __init__(self, dense: Model, batches: Iterable[Batch], *, threads: int) -> None:
        self.dense, self.threads = dense, threads
        self.batches = list(batches)
        self.expected = self._run(dense)

    def squared_error(self, layer: Layer, matrices: Sequence[NDArray[np.floating[Any]]]) -> float:
        """Relative squared error of the outputs with other weights for one layer's blocks."""
        changed = self.dense.clone()
        weights, biases = list(matrices), None
        if layer.has_bias:
            weights, biases = [each[:-1] for each in matrices], [each[-1] for each in matrices]
        changed.set_weight(layer, weights, biases)
        outputs = zip(*self._run(changed))
        return sum(
            _relative_square(expected, found)
            for expected, found in zip(zip(*self.expected), outputs)
        )

    def _run(self, model: Model) -> list[list[Any]]:
        engine = Engine(model.runnable(), threads=self.threads)
        return [engine.run(batch.feeds) for batch in self.batches]


def _costs(
    layer: Layer,
    tasks: Sequence[Task],
    levels: NDArray[np.float64],
    sparsity: float,
    probe: Probe,
) -> NDArray[np.float64]:
    """Squared error that a layer brings to the network's output at each share of zeros."""
    parts = [_squares(task, levels) for task in tasks]
    squares = np.sum([square for square, _ in parts], axis=0)
    at = int(np.argmin(np.abs(levels - sparsity)))
    own = squares[at]
    moved = probe.squared_error(layer, [solved[at] for _, solved in parts])
    sensitivity = moved / own if own > 0 and np.isfinite(moved) else 0.0
    return np.asarray(squares * sensitivity, np.float64)


@np.errstate(over="ignore", invalid="ignore")  # what comes out is looked at
def _relative_square(expected: Iterable[Any], found: Iterable[Any]) -> float:
    """||found - expected||^2 / ||expected||^2 over the batches of one output; 0 for non-numbers."""
    difference = reference = 0.0
    for one, other in zip(expected, found):
        if is_array(one) and np.issubdtype(one.dtype, np.floating):
            exact = one.astype(np.float64)
            size = float(np.square(exact).sum())
            # Where the data decide the shape, another one means that all is lost.
            same = one.shape == other.shape
            difference += float(np.square(other - exact).sum()) if same else size
            reference += size
    return difference / reference if reference else 0.0
