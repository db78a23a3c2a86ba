"""What fewer units and lower ranks cost, measured in one pass over the dense network.

A layer's own errors are those of closed forms on its second moments: greedy elimination of units,
and reduced-rank regression (``solve.gram``).  What they do to the network's outputs is measured
with some of them in place, and in between grows as the layer's own error does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.data.sample_set import SampleSet
from nettrim_cli.errors import BadInput
from nettrim_cli.graph.channels.factors import fold_of
from nettrim_cli.graph.channels.inner import InnerGroup
from nettrim_cli.graph.channels.units import UnitGroup
from nettrim_cli.graph.layer import Layer
from nettrim_cli.pruning.context import Context
from nettrim_cli.pruning.propagation import (
    RecordedStage,
    dense_matrices,
    layer_problem,
)
from nettrim_cli.pruning.sensitivity import SensitivityProbe
from nettrim_cli.pruning.shrinking.inner import InnerBases, moments_of
from nettrim_cli.pruning.shrinking.widths import Block
from nettrim_cli.solve.gram.feedback import ErrorFeedback
from nettrim_cli.solve.gram.folded import Fold
from nettrim_cli.solve.gram.metric import OutputMetric, stretched
from nettrim_cli.solve.gram.row_groups import Reader, joint_removal_order
from nettrim_cli.solve.gram.scaled_problem import ScaledProblem
from nettrim_cli.solve.gram.shrunk import ShrunkSystem, rank_errors, submatrix
from nettrim_cli.solve.gram.system import inverse_of
from nettrim_cli.solve.matrices import Matrix
from nettrim_cli.solve.problem import LayerProblem

PROBED = (0.05, 0.25)  # relative errors of a layer's response at which the network is probed
LEAST = 1e-12  # squared error, of the response's, below which nothing is lost

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Sensitivity:
    """The outputs' squared error for each squared error of a layer's response, at some errors.

    Attributes
    ----------
    errors
        (p,) squared errors of the layer, ascending.
    factors
        (p,) the outputs' squared error over that.
    """

    errors: Floats
    factors: Floats

    def cost(self, errors: Floats) -> Floats:
        """The outputs' squared error for squared errors of the layer."""
        if not len(self.errors):
            return np.zeros_like(errors)
        logarithms = np.log(np.maximum(errors, 1e-300))
        factors = np.interp(logarithms, np.log(self.errors), self.factors)
        return np.asarray(errors * factors)


@dataclass(frozen=True)
class UnitCurve:
    """What fewer units of a group cost.

    Attributes
    ----------
    order
        (G,) units in the order of their removal.
    costs, relative
        (G+1,) the outputs' squared error with 0, 1, ..., G units left, and the largest relative
        squared error of a reader's response.
    """

    group: UnitGroup
    order: NDArray[np.int64]
    costs: Floats
    relative: Floats

    def kept(self, count: int) -> NDArray[np.int64]:
        """Numbers of the units that stay, ascending."""
        return np.sort(self.order[len(self.order) - count :])


@dataclass(frozen=True)
class RankCurve:
    """What lower ranks of a block cost.

    Attributes
    ----------
    Y
        (N, M) float32, the whitened weights (``solve.gram.shrunk``).
    metric
        What errors of outputs do together; None where each counts for itself.
    relative
        Relative squared error of the response, of rank 0, 1, ...
    fold
        Rows that are put beside each other before a rank is taken.
    """

    Y: Matrix
    metric: OutputMetric | None
    relative: Floats
    sensitivity: Sensitivity
    fold: int = 1

    def costs(self, columns: Matrix | slice = slice(None)) -> Floats:
        """The outputs' squared error of rank 0, 1, ... on some of the columns, (M,) numbers."""
        Y = stretched(self.Y.astype(np.float64), self.metric, columns)
        if self.fold == 1:
            return self.sensitivity.cost(rank_errors(Y))
        return self.sensitivity.cost(self.relative * float(np.vdot(Y, Y)))


@dataclass(frozen=True)
class InnerCurve:
    """What fewer entries of heads cost.

    Attributes
    ----------
    costs
        (d+1,) the outputs' squared error with 0, 1, ..., d entries left in each head.
    """

    bases: InnerBases
    costs: Floats

    @property
    def relative(self) -> Floats:
        """(d+1,) relative squared error of the scores."""
        return self.bases.relative


@dataclass
class ShrinkingCosts:
    """Curves of all groups and blocks.

    Attributes
    ----------
    units
        By the group's name.
    ranks
        Of the blocks that could be measured.
    columns
        Columns that each block reads, over all samples.
    inner
        By the name of the inner group.
    unusable
        Names of layers that no sample tells anything of; they stay as they are.
    """

    units: dict[str, UnitCurve] = field(default_factory=dict)
    inner: dict[str, InnerCurve] = field(default_factory=dict)
    ranks: dict[Block, RankCurve] = field(default_factory=dict)
    columns: dict[Block, int] = field(default_factory=dict)
    unusable: set[str] = field(default_factory=set)


def measure_shrinking(
    context: Context,
    samples: SampleSet,
    groups: Sequence[UnitGroup],
    inner: Sequence[InnerGroup] = (),
) -> ShrinkingCosts:
    """Measure what fewer units of each group, and lower ranks of each block, cost.

    Parameters
    ----------
    groups, inner
        Those whose layers are all among the context's.
    """
    context.listener.stage("measuring what units and ranks are worth")
    recorded = context.recorded(samples)
    batches = samples.probe_batches(len(context.layers), runs=2 * len(PROBED))
    probe = SensitivityProbe(context.dense, context.stages, batches, threads=context.threads)
    measuring = _Measuring(context, probe, groups, inner)
    for number, stage in enumerate(recorded):
        with stage:
            measuring.add(number, stage)
    return measuring.costs


def probed_levels(relative: Floats) -> list[int]:
    """Positions of squared errors that are nearest to those of PROBED, of errors above none."""
    lossy = np.flatnonzero(relative > LEAST)
    if not len(lossy):
        return []
    logarithms = np.log(relative[lossy])
    nearest = {int(lossy[np.argmin(np.abs(logarithms - 2 * np.log(error)))]) for error in PROBED}
    return sorted(nearest)


def at_half(errors: Floats, shape: tuple[int, ...], fold: int) -> float:
    """Squared error of a matrix (N, M) as two factors of half of its weights, by its curve."""
    rows, columns = shape
    rank = rows * columns // 2 // (rows // fold + columns * fold)
    return float(errors[min(rank, len(errors) - 1)])


class _Measuring:
    """A pass over the dense network, and the curves so far."""

    def __init__(
        self,
        context: Context,
        probe: SensitivityProbe,
        groups: Sequence[UnitGroup],
        inner: Sequence[InnerGroup],
    ) -> None:
        self.context, self.probe, self.inner = context, probe, inner
        self.moments: dict[str, dict[str, tuple[Floats, ...]]] = {group.name: {} for group in inner}
        self.costs = ShrinkingCosts()
        self.groups = {group.name: group for group in groups}
        self.readers: dict[str, list[tuple[Reader, Sensitivity, float]]] = {}
        self.reading: dict[Block, list[tuple[UnitGroup, NDArray[np.int64]]]] = {}
        for group in groups:
            for reader in group.readers:
                self.reading.setdefault((reader.layer, reader.block), []).append(
                    (group, reader.rows)
                )

    def add(self, number: int, stage: RecordedStage) -> None:
        """Measure the layers of a stage."""
        importance = self.context.dense_importance
        for layer, samples in stage:
            for block, block_samples in enumerate(samples):
                self.costs.columns[layer.name, block] = block_samples.recorded
                if block_samples.unusable_reason:
                    self.costs.unusable.add(layer.name)
                    continue
                weights = importance.get(layer.name)
                problem = layer_problem(
                    self.context.dense,
                    layer,
                    block_samples,
                    block,
                    None if weights is None else weights[block],
                )
                with suppress(np.linalg.LinAlgError, BadInput):
                    self._measure(number, layer, block, ScaledProblem.of(problem))
                with suppress(np.linalg.LinAlgError, BadInput):
                    self._measure_inner(number, layer, problem)

    def _measure(self, stage: int, layer: Layer, block: int, scaled: ScaledProblem) -> None:
        rhs, place = scaled.rhs(ErrorFeedback()), (stage, layer, block)
        metric, A = scaled.objective.metric, scaled.system.A
        everything = ShrunkSystem.of(A, np.arange(len(rhs)), metric=metric)
        weights = everything.whitened(rhs)
        Y = stretched(weights, metric)
        size = float(np.vdot(Y, Y))
        if not size > 0:
            return
        errors, fold, system = rank_errors(Y), 1, everything
        if fold_of(layer) > 1:
            folds = Fold(fold_of(layer), scaled.system.d)
            folded = ShrunkSystem.of(A, everything.rows, None, folds, metric)
            assert folded.folded is not None
            curve = folded.folded.errors(rhs.astype(np.float64), metric)
            if at_half(curve, rhs.shape, fold_of(layer)) < at_half(errors, rhs.shape, 1):
                errors, fold, system = curve, fold_of(layer), folded
        shrunk = [(errors[rank], system.with_rank(rank)) for rank in probed_levels(errors / size)]
        sensitivity = self._sensitivity(place, scaled, shrunk)
        self.costs.ranks[layer.name, block] = RankCurve(
            weights.astype(np.float32), metric, errors / size, sensitivity, fold
        )
        readers = self.reading.get((layer.name, block), ())
        if not readers:
            return
        H = inverse_of(submatrix(A, np.arange(len(rhs))), 0.0)
        V = stretched(H @ rhs, metric)
        for group, rows in readers:
            order, rises = joint_removal_order([Reader.of_rows(H, V, rows)], (1.0,))
            errors = 2 * np.concatenate([[0.0], np.cumsum(rises[0])])
            shrunk = []
            for count in probed_levels(errors / size):
                rest = np.setdiff1d(np.arange(len(rhs)), rows[order[:count]])
                if len(rest):
                    shrunk.append((errors[count], ShrunkSystem.of(A, rest)))
            sensitivity = self._sensitivity(place, scaled, shrunk)
            if len(group.readers) == 1:
                self._finish(group, order, rises, [sensitivity], [size])
                continue
            self.readers.setdefault(group.name, []).append(
                (Reader.of_rows(H, V, rows), sensitivity, size)
            )
            if len(self.readers[group.name]) == len(group.readers):
                self._join(group)

    def _measure_inner(self, stage: int, layer: Layer, problem: LayerProblem) -> None:
        """Measure what fewer entries of heads cost, once both layers are there."""
        for group in self.inner:
            if layer.name not in group.layers:
                continue
            moments = self.moments[group.name]
            moments[layer.name] = moments_of(group, layer.name, problem)
            if len(moments) < len(group.layers):
                continue
            sides = [part for name in group.layers for part in moments[name]]
            bases, pairs = InnerBases.of(group, sides), {}
            (matrix,) = dense_matrices(self.context.dense, layer)
            for count in probed_levels(bases.relative):
                changed = bases.projected(layer.name, matrix, count)
                pairs[float(bases.relative[count])] = [changed if layer.has_bias else changed[:-1]]
            sensitivity = self._probed(stage, layer, pairs)
            curve = InnerCurve(bases, sensitivity.cost(bases.relative))
            self.costs.inner[group.name] = curve

    def _sensitivity(
        self,
        place: tuple[int, Layer, int],
        scaled: ScaledProblem,
        shrunk: Sequence[tuple[float, ShrunkSystem]],
    ) -> Sensitivity:
        """How the outputs move with a layer's block shrunk.

        Parameters
        ----------
        place
            Number of the stage, the layer, and its block.
        shrunk
            Squared errors of the layer, and systems that make them.
        """
        stage, layer, block = place
        feedback, changed = ErrorFeedback(), {}
        for error, system in shrunk:
            U = scaled.linear_weights(system.solve(scaled.rhs(feedback)), feedback)
            matrices = list(dense_matrices(self.context.dense, layer))
            matrices[block][: len(U)] = U
            if not layer.has_bias:
                matrices = [matrix[:-1] for matrix in matrices]
            changed[float(error)] = matrices
        return self._probed(stage, layer, changed)

    def _probed(
        self, stage: int, layer: Layer, changed: Mapping[float, Sequence[Matrix]]
    ) -> Sensitivity:
        """How the outputs move with other matrices of a layer, by its squared error with them."""
        pairs = {
            error: self.probe.movement(stage, layer, matrices).unflattened / error
            for error, matrices in changed.items()
        }
        errors = sorted(pairs)
        return Sensitivity(np.array(errors), np.array([pairs[error] for error in errors]))

    def _join(self, group: UnitGroup) -> None:
        """The curve of a group of several readers, all of which have been measured."""
        readers, sensitivities, sizes = zip(*self.readers.pop(group.name), strict=True)
        weights = [
            float(sensitivity.factors.mean()) if len(sensitivity.factors) else 0.0
            for sensitivity in sensitivities
        ]
        order, rises = joint_removal_order(readers, weights)
        self._finish(group, order, rises, sensitivities, sizes)

    def _finish(
        self,
        group: UnitGroup,
        order: NDArray[np.int64],
        rises: Floats,
        sensitivities: Sequence[Sensitivity],
        sizes: Sequence[float],
    ) -> None:
        """Keep the curve of a group.

        Parameters
        ----------
        group
            Of G units that R layers read.
        order, rises
            (G,) and (R, G), see ``joint_removal_order``.
        sensitivities, sizes
            Of each reader, and its squared response.
        """
        errors = 2 * np.cumsum(rises, axis=1)
        costs, relative = np.zeros((2, len(order) + 1))
        for sensitivity, row, size in zip(sensitivities, errors, sizes, strict=True):
            costs[1:] += sensitivity.cost(row)
            relative[1:] = np.maximum(relative[1:], row / size)
        self.costs.units[group.name] = UnitCurve(group, order, costs[::-1], relative[::-1])
