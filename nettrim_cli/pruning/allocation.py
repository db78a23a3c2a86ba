"""Sharing out the zeros: layers to which the network's output is less sensitive get more.

One pass over the dense network gives each layer's error at a few shares of zeros.  Errors of
different layers are not comparable, so each is weighed by the layer's sensitivity: how much the
network's output moves, squared, for the layer's own squared error, measured on some samples with
that layer alone pruned (``sensitivity``).  The zeros then go where the estimated output error grows
least.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.data.dataset import Batch
from nettrim_cli.errors import BadInput
from nettrim_cli.graph.layer import Layer
from nettrim_cli.graph.model import Model
from nettrim_cli.pruning.propagation import RecordedStage, Stage, layer_problem, set_matrices
from nettrim_cli.pruning.sensitivity import Movement, SensitivityProbe
from nettrim_cli.solve.gram.l0 import error_curve
from nettrim_cli.solve.levels import allocate, interpolate, refine_levels, uniform
from nettrim_cli.solve.matrices import Matrix, norm
from nettrim_cli.solve.problem import LayerProblem, LayerSamples

DENSITIES = (5.0, 2.2, 1.0, 0.5, 0.22)
ALL_DENSITIES = (0.9, 0.6, 0.35, 0.2, 0.1, 0.05, 0.025, 0.01)
PROBED = 0.1  # error of a layer at which it is probed where no sparsity is given
NOTHING: Mapping[str, Sequence[Matrix]] = MappingProxyType({})

Bounds = tuple[int, int]


@dataclass(frozen=True)
class LayerCurve:
    """What zeros do to one layer's response.

    Attributes
    ----------
    squares
        Squared response error at each level, not relative.
    size
        Squared norm of the dense response.
    sensitivity, unflattened
        Squared relative error of the network's outputs for a squared error of the response: as
        they are, and before a final Softmax or Sigmoid (see ``sensitivity``), by which zeros are
        shared out.
    deltas
        Damping that was chosen for each block; None where none was.
    """

    layer: Layer
    squares: NDArray[np.float64]
    size: float
    sensitivity: float
    unflattened: float
    deltas: Sequence[float | None]


@dataclass(frozen=True)
class ErrorModel:
    """What zeros cost at each share, layer by layer.

    Attributes
    ----------
    levels
        Shares of zeros at which every curve was taken.
    curves
        Of each layer that could be measured.
    """

    levels: NDArray[np.float64]
    curves: Sequence[LayerCurve]

    def shared(self, sparsity: float, bounds: Mapping[str, Bounds], *, kind: str) -> dict[str, int]:
        """Zeros of each measured layer, by name, at a share of zeros over all of them.

        Parameters
        ----------
        bounds
            Fewest and most zeros of each layer.
        kind
            ``network``: least error of the network's output; ``error``: least sum of the layers'
            own squared relative errors; ``uniform``: the same share for all.
        """
        layers = [each.layer for each in self.curves]
        sizes, within = [e.parameters for e in layers], [bounds[e.name] for e in layers]
        total = round(sparsity * sum(sizes))
        if kind == "uniform":
            zeros = uniform(sizes, total, within)
        else:
            own = kind == "error" or not any(each.unflattened > 0 for each in self.curves)
            fine = refine_levels(self.levels)
            weights = [own_weight(each) if own else each.unflattened for each in self.curves]
            costs = [
                interpolate(self.levels, each.squares, fine) * weight
                for each, weight in zip(self.curves, weights, strict=True)
            ]
            zeros = allocate(costs, sizes, fine, total, within)
        return {layer.name: count for layer, count in zip(layers, zeros, strict=True)}

    def error(self, zeros: Mapping[str, int]) -> float:
        """The network's relative error by the layers' own, as if they were independent."""
        total = 0.0
        for each in self.curves:
            share = np.array([zeros[each.layer.name] / each.layer.parameters])
            cost = interpolate(self.levels, each.squares, share)
            total += float(cost[0]) * (each.sensitivity if self.felt else own_weight(each))
        return math.sqrt(total)

    def cost(self, zeros: Mapping[str, int]) -> float:
        """What is minimised by ``shared(kind="network")``: the outputs' squared relative error."""
        felt = any(curve.unflattened > 0 for curve in self.curves)
        total = 0.0
        for curve in self.curves:
            share = np.array([zeros[curve.layer.name] / curve.layer.parameters])
            weight = curve.unflattened if felt else own_weight(curve)
            total += float(interpolate(self.levels, curve.squares, share)[0]) * weight
        return total

    @property
    def felt(self) -> bool:
        """Whether the output moves at all; otherwise layers count by their own errors."""
        return any(each.sensitivity > 0 for each in self.curves)


@dataclass(frozen=True)
class Forecast:
    """What more samples would give, from the same costs with half of them.

    Attributes
    ----------
    ratio
        The network's predicted error with all samples, relative to that with half of them.
    layer, layer_ratio
        The layer whose error fell most, and that ratio.
    """

    ratio: float
    layer: str
    layer_ratio: float

    @classmethod
    def of(cls, costs: ErrorModel, fewer: ErrorModel, zeros: Mapping[str, int]) -> Forecast | None:
        """Compare costs with those of half of the samples; None where they do not tell."""
        halves = {curve.layer.name: curve for curve in fewer.curves}
        pairs = [(curve, halves.get(curve.layer.name)) for curve in costs.curves]
        ratios, total, before = {}, 0.0, 0.0
        for curve, half in pairs:
            if half is None:
                return None
            share = np.array([zeros[curve.layer.name] / curve.layer.parameters])
            now = float(interpolate(costs.levels, curve.squares, share)[0])
            then = float(interpolate(fewer.levels, half.squares, share)[0])
            weight = curve.unflattened or own_weight(curve)
            total, before = total + now * weight, before + then * weight
            if then > 0:
                ratios[curve.layer.name] = math.sqrt(now / then)
        if not ratios or not before > 0:
            return None
        layer = min(ratios, key=lambda name: ratios[name])
        return cls(math.sqrt(total / before), layer, ratios[layer])


def own_weight(curve: LayerCurve) -> float:
    """What makes a layer's squared errors relative to its response."""
    return 1 / curve.size if curve.size > 0 else 0.0


def measure_error_model(
    dense: Model,
    plan: Sequence[Stage],
    recorded: Iterable[RecordedStage],
    batches: Iterable[Batch],
    sparsity: float | None,
    sparse: Model | None = None,
    *,
    importance: Mapping[str, Sequence[Matrix]] = NOTHING,
    threads: int,
) -> ErrorModel:
    """Measure every layer's curve and the network's sensitivity to it.

    Parameters
    ----------
    plan, recorded
        The stages, and the samples of each in the dense network.
    batches
        The samples again, for the sensitivities.
    sparsity
        Around which the curves are taken; over the whole range if None.
    sparse
        A copy of the dense network that is given the weights of every layer as it was probed.
    importance
        (M,) of the layers' outputs, block by block, where it is known.

    Returns
    -------
    ErrorModel
        Without the layers that cannot be measured.
    """
    levels = shares_of_zeros(sparsity)
    probe = SensitivityProbe(dense, plan, batches, threads=threads)

    def measured(number: int, layer: Layer, samples: Sequence[LayerSamples]) -> LayerCurve | None:
        problems = [
            layer_problem(dense, layer, block_samples, block, block_importance)
            for block, (block_samples, block_importance) in enumerate(
                zip_longest(samples, importance.get(layer.name, ()))
            )
        ]
        if any(problem.samples.unusable_reason for problem in problems):
            return None
        moves = partial(probe.movement, number, layer)
        with suppress(np.linalg.LinAlgError, BadInput):  # it gets no zeros, and stays dense
            curve, weights = _curve(layer, problems, levels, sparsity, moves)
            if sparse is not None:
                set_matrices(sparse, layer, weights)
            return curve
        return None

    curves = []
    for number, stage in enumerate(recorded):
        with stage:
            curves += [measured(number, layer, samples) for layer, samples in stage]
    return ErrorModel(levels, [curve for curve in curves if curve is not None])


def share_zeros(tasks: Sequence[LayerProblem], zeros: int) -> list[int]:
    """Zeros of each block of a layer that bring the layer's response least error together."""
    if len(tasks) == 1:
        return [zeros]
    sizes = [task.weight_count for task in tasks]
    levels = shares_of_zeros(min(max(zeros / sum(sizes), 1e-6), 1 - 1e-6))
    fine = refine_levels(levels)
    curves = [interpolate(levels, _squares(task, levels, ()).squares, fine) for task in tasks]
    return allocate(curves, sizes, fine, zeros)


def response_size(task: LayerProblem, *, held: bool) -> float:
    """Norm of the dense response on the kept columns, ||Y||_F."""
    return norm(task.dense_response(holdout=held))


class _Squares(NamedTuple):
    squares: NDArray[np.float64]
    weights: dict[int, Matrix]
    delta: float | None


@np.errstate(all="ignore")  # what comes out is looked at
def _squares(task: LayerProblem, levels: NDArray[np.float64], probed: Sequence[int]) -> _Squares:
    """Squared response error of a block at each share of zeros, not relative; and some weights.

    Parameters
    ----------
    probed
        The levels, by number, whose weights are wanted.
    """
    keeps = [task.weight_count - round(each * task.weight_count) for each in levels]
    found = error_curve(task, keeps, [keeps[at] for at in probed])
    errors = np.where(
        np.isfinite(found.errors), found.errors, 1.0
    )  # no number: all of the response is lost
    size = response_size(task, held=task.samples.holdout_X.shape[1] > 0)
    squares = np.square(errors * (size if math.isfinite(size) else 1.0))
    return _Squares(squares, {at: found.weights[keeps[at]] for at in probed}, found.delta)


def shares_of_zeros(sparsity: float | None) -> NDArray[np.float64]:
    """Where the curves are taken: none, and densities around the one asked for, or all."""
    kept: Sequence[float] = ALL_DENSITIES
    if sparsity is not None:
        kept = [min(1.0, (1 - sparsity) * each) for each in DENSITIES]
    return np.array([0.0, *(1 - each for each in kept if each < 1)])


def _curve(
    layer: Layer,
    tasks: Sequence[LayerProblem],
    levels: NDArray[np.float64],
    sparsity: float | None,
    moves: Callable[[list[Matrix]], Movement],
) -> tuple[LayerCurve, list[Matrix]]:
    """A layer's curve, probed at one level, and the weights at it.

    Parameters
    ----------
    moves
        What other weights of the layer do to the outputs.
    """
    near = None if sparsity is None else int(np.argmin(np.abs(levels - sparsity)))
    probed = range(len(levels)) if near is None else (near,)
    parts = [_squares(task, levels, probed) for task in tasks]
    squares = np.sum([each.squares for each in parts], axis=0)
    held = tasks[0].samples.holdout_X.shape[1] > 0
    size = sum(response_size(task, held=held) ** 2 for task in tasks)
    at = near
    if at is None:
        with np.errstate(divide="ignore"):
            at = int(np.argmin(np.abs(np.log(squares) - math.log(max(size, 1e-300) * PROBED**2))))
    own = squares[at]
    weights = [each.weights[at] for each in parts]
    moved = moves(weights)
    felt, before = (each / own if own > 0 and np.isfinite(each) else 0.0 for each in moved)
    deltas = [each.delta for each in parts]
    return LayerCurve(layer, np.asarray(squares, np.float64), size, felt, before, deltas), weights
