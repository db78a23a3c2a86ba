"""Sharing out the zeros: layers to which the network's output is less sensitive get more.

One pass over the dense network gives each layer's error at a few sparsities.  Errors of
different layers are not comparable, so each is weighed by the layer's sensitivity: how much the
network's output moves, squared, for the layer's own squared error, on some samples with that layer
alone pruned (``sensitivity``).  The zeros then go where the estimated output error grows
least.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import zip_longest
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.errors import BadInput
from nettrim_cli.execution.executor import Executor, in_order
from nettrim_cli.graph.layer import Layer
from nettrim_cli.graph.model import Model
from nettrim_cli.pruning.curve_job import CurveJob, measure_curve, sparsity_levels
from nettrim_cli.pruning.output_gradients import Importance, Movement
from nettrim_cli.pruning.propagation import RecordedStage, layer_problem, set_matrices
from nettrim_cli.report.result import ErrorCurve
from nettrim_cli.solve.levels import allocate, interpolate, refine_levels, uniform

FINE = 400  # shares at which a layer's curve is looked at
NOTHING: Importance = MappingProxyType({})

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
    deltas
        Damping that was chosen for each block; None where none was.
    changed
        Squared response error of the weights by which the layer is weighed.
    sensitivity, unflattened
        Squared relative error of the network's outputs for a squared error of the response: as
        they are, and before a final Softmax or Sigmoid (see ``sensitivity``), by which zeros are
        shared out.
    """

    layer: Layer
    squares: NDArray[np.float64]
    size: float
    deltas: Sequence[float | None]
    changed: float
    sensitivity: float = 0.0
    unflattened: float = 0.0

    def weighed(self, movement: Movement) -> LayerCurve:
        """The curve with how far those weights move the outputs."""
        shares = [
            moved / self.changed if self.changed > 0 and math.isfinite(moved) else 0.0
            for moved in movement
        ]
        return replace(self, sensitivity=shares[0], unflattened=shares[1])


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

    @property
    def told(self) -> tuple[ErrorCurve, ...]:
        """Every curve as relative errors, for a report."""
        return tuple(
            ErrorCurve(
                curve.layer.name,
                tuple(self.levels.tolist()),
                tuple(np.sqrt(curve.squares * relative_weight(curve)).tolist()),
            )
            for curve in self.curves
        )

    def weighed(self, movements: Mapping[str, Movement]) -> ErrorModel:
        """The same with what each layer's weights do to the outputs, by name."""
        curves = [
            curve.weighed(movements[curve.layer.name]) if curve.layer.name in movements else curve
            for curve in self.curves
        ]
        return replace(self, curves=curves)

    def allocate(
        self, sparsity: float, bounds: Mapping[str, Bounds], *, kind: str
    ) -> dict[str, int]:
        """Zeros of each measured layer, by name, at a sparsity over all of them.

        Parameters
        ----------
        bounds
            Fewest and most zeros of each layer.
        kind
            ``network``: least error of the network's output; ``error``: least sum of the layers'
            own squared relative errors; ``uniform``: the same share for all.
        """
        layers = [curve.layer for curve in self.curves]
        sizes, layer_bounds = (
            [layer.parameters for layer in layers],
            [bounds[layer.name] for layer in layers],
        )
        total = round(sparsity * sum(sizes))
        if kind == "uniform":
            zeros = uniform(sizes, total, layer_bounds)
        else:
            own_errors = kind == "error" or not any(curve.unflattened > 0 for curve in self.curves)
            fine = refine_levels(self.levels)
            weights = [
                relative_weight(curve) if own_errors else curve.unflattened for curve in self.curves
            ]
            curves = [
                interpolate(self.levels, curve.squares, fine) * weight
                for curve, weight in zip(self.curves, weights, strict=True)
            ]
            zeros = allocate(curves, sizes, fine, total, layer_bounds)
        return {layer.name: count for layer, count in zip(layers, zeros, strict=True)}

    def error(self, zeros: Mapping[str, int]) -> float:
        """The network's relative error by the layers' own, as if they were independent."""
        errors = [
            self.layer_error(curve, zeros[curve.layer.name] / curve.layer.parameters)
            for curve in self.curves
        ]
        return math.hypot(*errors)

    def layer_error(self, curve: LayerCurve, share: float) -> float:
        """The network's relative error with that share of zeros in one layer alone."""
        cost = interpolate(self.levels, curve.squares, np.array([share]))
        weight = curve.sensitivity if self.moves_output else relative_weight(curve)
        return math.sqrt(float(cost[0]) * weight)

    def zeros_within(self, curve: LayerCurve, epsilon: float) -> int:
        """About the most zeros with which a layer's own relative error is at most epsilon."""
        shares = np.linspace(0, self.levels[-1], FINE)
        costs = interpolate(self.levels, curve.squares, shares)
        within = np.flatnonzero(costs <= epsilon**2 * curve.size)
        share = float(shares[within[-1]]) if len(within) else 0.0
        return math.floor(share * curve.layer.parameters)

    def cost(self, zeros: Mapping[str, int]) -> float:
        """The outputs' squared relative error, which ``allocate(kind="network")`` minimises."""
        moved = any(curve.unflattened > 0 for curve in self.curves)
        total = 0.0
        for curve in self.curves:
            share = np.array([zeros[curve.layer.name] / curve.layer.parameters])
            weight = curve.unflattened if moved else relative_weight(curve)
            total += float(interpolate(self.levels, curve.squares, share)[0]) * weight
        return total

    @property
    def moves_output(self) -> bool:
        """Whether the output moves at all; otherwise layers count by their own errors."""
        return any(curve.sensitivity > 0 for curve in self.curves)


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
    def of(
        cls, error_model: ErrorModel, fewer: ErrorModel, zeros: Mapping[str, int]
    ) -> Forecast | None:
        """Compare costs with those of half of the samples; None where they do not tell."""
        halves = {curve.layer.name: curve for curve in fewer.curves}
        pairs = [(curve, halves.get(curve.layer.name)) for curve in error_model.curves]
        ratios, total, half_total = {}, 0.0, 0.0
        for curve, half in pairs:
            if half is None:
                return None
            share = np.array([zeros[curve.layer.name] / curve.layer.parameters])
            cost = float(interpolate(error_model.levels, curve.squares, share)[0])
            half_cost = float(interpolate(fewer.levels, half.squares, share)[0])
            weight = curve.unflattened or relative_weight(curve)
            total, half_total = total + cost * weight, half_total + half_cost * weight
            if half_cost > 0:
                ratios[curve.layer.name] = math.sqrt(cost / half_cost)
        if not ratios or not half_total > 0:
            return None
        layer = min(ratios, key=lambda name: ratios[name])
        return cls(math.sqrt(total / half_total), layer, ratios[layer])


def relative_weight(curve: LayerCurve) -> float:
    """What makes a layer's squared errors relative to its response."""
    return 1 / curve.size if curve.size > 0 else 0.0


def measure_error_model(
    dense: Model,
    recorded: Iterable[RecordedStage],
    sparsity: float | None,
    sparse: Model,
    executor: Executor,
    *,
    importance: Importance = NOTHING,
) -> ErrorModel:
    """Measure every layer's curve.

    Parameters
    ----------
    recorded
        Every stage, with its samples in the dense network.
    sparsity
        Around which the curves are taken; over the whole range if None.
    sparse
        A copy of the dense network that is given the weights by which every layer is weighed.
    executor
        Does the jobs.
    importance
        Of the layers' outputs, where it is known.

    Returns
    -------
    ErrorModel
        Not weighed, and without the layers that cannot be measured.
    """
    in_flight: deque[Layer] = deque()

    def jobs(stage: RecordedStage) -> Iterator[CurveJob]:
        """The layers of a stage that can be measured."""
        for layer, samples in stage:
            problems = tuple(
                layer_problem(dense, layer, block_samples, block, block_importance)
                for block, (block_samples, block_importance) in enumerate(
                    zip_longest(samples, importance.get(layer.name, ()))
                )
            )
            if not any(problem.samples.unusable_reason for problem in problems):
                in_flight.append(layer)
                yield CurveJob(problems, sparsity)

    def groups() -> Iterator[Iterator[CurveJob]]:
        """The jobs of each stage."""
        for stage in recorded:
            with stage:
                yield jobs(stage)

    curves = []
    for measured in in_order(executor, measure_curve, groups()):
        layer = in_flight.popleft()
        if measured is not None:
            with suppress(BadInput):  # it gets no zeros, and stays dense
                set_matrices(sparse, layer, measured.weights)
                curves.append(LayerCurve(layer, *measured.facts))
    return ErrorModel(sparsity_levels(sparsity), curves)
