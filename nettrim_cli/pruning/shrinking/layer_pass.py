"""One pass over the layers with units gone and ranks low, in dataflow order.

The network keeps its graph.  A unit that goes has zero rows in all layers that read it; what its
producers make stays until the pass is over, as later layers are refitted to what it carried.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

import numpy as np

from nettrim_cli.data.sample_set import SampleSet
from nettrim_cli.data.stream import StreamCache
from nettrim_cli.evaluation.provenance import KEY, describe
from nettrim_cli.execution.executor import in_order
from nettrim_cli.graph.channels.units import UnitGroup
from nettrim_cli.graph.layer import Layer
from nettrim_cli.graph.layers.elementwise import Elementwise
from nettrim_cli.graph.model import Model
from nettrim_cli.pruning.context import Context
from nettrim_cli.pruning.layer_job import LayerJob, LayerResult, UnitsBudget, solve_layer
from nettrim_cli.pruning.layer_reports import joined
from nettrim_cli.pruning.layerwise import PassResult, stored_matrices
from nettrim_cli.pruning.output_gradients import Importance
from nettrim_cli.pruning.propagation import (
    LayerGroup,
    RecordedStage,
    dense_matrices,
    layer_problem,
    set_matrices,
)
from nettrim_cli.pruning.selection import work
from nettrim_cli.pruning.shrinking.inner import InnerBases, shorten
from nettrim_cli.pruning.shrinking.widths import (
    Block,
    Numbers,
    Plan,
    block_shapes,
    stored_weights,
)
from nettrim_cli.report.result import LayerReport
from nettrim_cli.solve.matrices import Matrix
from nettrim_cli.solve.problem import LayerProblem
from nettrim_cli.solve.samples import LayerSamples


@dataclass(frozen=True)
class Remaining:
    """Rows and columns of each block that stay, by number.

    Attributes
    ----------
    shares
        Share that stays of each layer that passes units on by itself, by name.
    """

    rows: Mapping[Block, Numbers]
    columns: Mapping[Block, Numbers]
    shares: Mapping[str, float]

    @classmethod
    def of(cls, layers: Sequence[Layer], groups: Sequence[UnitGroup], plan: Plan) -> Remaining:
        """What stays of layers where a plan's units stay."""
        shapes = {
            (layer.name, block): shape
            for layer in layers
            for block, shape in enumerate(layer.blocks)
        }
        rows = {block: np.ones(shape[0], bool) for block, shape in shapes.items()}
        columns = {block: np.ones(shape[1], bool) for block, shape in shapes.items()}
        shares: dict[str, float] = {}
        for group in groups:
            for name in group.inside:
                share = len(plan.units[group.name]) / group.units
                shares[name] = shares.get(name, 1.0) * share
            gone = np.setdiff1d(np.arange(group.units), plan.units[group.name])
            for reader in group.readers:
                rows[reader.layer, reader.block][reader.of(gone)] = False
            for producer in group.producers:
                columns[producer.layer, producer.block][producer.of(gone)] = False
        return cls(
            {block: np.flatnonzero(mask) for block, mask in rows.items()},
            {block: np.flatnonzero(mask) for block, mask in columns.items()},
            shares,
        )


def shrink_pass(
    context: Context,
    samples: SampleSet,
    groups: Sequence[UnitGroup],
    plan: Plan,
    bases: Sequence[InnerBases] = (),
    *,
    importance: Importance,
    cache: StreamCache | None = None,
) -> PassResult:
    """The dense network's graph with layers that read the units that stay, of the plan's ranks.

    Parameters
    ----------
    groups, bases
        Those of the plan's units, and of its inner groups.
    importance
        Of the layers' outputs.
    cache
        What the dense network delivered on these samples in passes before.
    """
    shrunk = context.dense.clone()
    shrunk.set_metadata(KEY, describe(context.settings, context.dense))
    context.listener.plan({layer.name: work(layer) for layer in context.layers})
    remaining = Remaining.of(context.layers, groups, plan)
    layer_pass = _Pass(context, shrunk, remaining, plan, bases, importance)
    layer_pass.shrink(context.recorded(samples, shrunk, cache))
    shorten(shrunk, bases, plan.inner)
    layer_pass.clear()
    return PassResult(shrunk, layer_pass.reports, importance=importance)


class _Pass:
    """A pass on its way, and what was told of its layers."""

    def __init__(
        self,
        context: Context,
        shrunk: Model,
        remaining: Remaining,
        plan: Plan,
        bases: Sequence[InnerBases],
        importance: Importance,
    ) -> None:
        self.context, self.shrunk, self.remaining = context, shrunk, remaining
        self.plan, self.importance = plan, importance
        self.first = {basis.group.layers[0]: basis for basis in bases}
        self.shapes = block_shapes(context.layers, (), [basis.group for basis in bases])
        self.sizes = {basis.group.name: basis.group.size for basis in bases}
        self.reports: list[LayerReport] = []
        self._in_flight: deque[tuple[Layer, tuple[LayerProblem, ...]]] = deque()

    def shrink(self, stages: Iterable[RecordedStage]) -> None:
        """Solve the layers of all stages and set their weights."""
        for groups in self.context.independent(stages):
            for result in in_order(self.context.executor, solve_layer, map(self._jobs, groups)):
                self._store(*self._in_flight.popleft(), result)

    def _store(self, layer: Layer, problems: Sequence[LayerProblem], result: LayerResult) -> None:
        """Set a layer's weights, and tell of them."""
        matrices = [
            self._among_dense(layer, block, part.U) for block, part in enumerate(result.solutions)
        ]
        if (bases := self.first.get(layer.name)) is not None:
            count = self.plan.inner[bases.group.name]
            if count < bases.group.size:
                matrices = [bases.projected(layer.name, matrices[0], count)]
        set_matrices(self.shrunk, layer, matrices)
        report = self._report(layer, problems, result)
        self.reports.append(report)
        self.context.listener.end(report)

    def _jobs(self, group: LayerGroup) -> Iterator[LayerJob]:
        """The jobs of some layers, whose problems wait for their results."""
        settings = self.context.settings
        for layer, samples in group:
            number = len(self.reports) + len(self._in_flight)
            self.context.listener.begin(layer.name, number, len(self.context.layers))
            self._in_flight.append((layer, self._problems(layer, samples)))
            blocks = [(layer.name, block) for block in range(len(samples))]
            budget = UnitsBudget(
                tuple(self.remaining.rows[block] for block in blocks),
                tuple(self.plan.ranks.get(block) for block in blocks),
                tuple(self.plan.folds.get(block, 1) for block in blocks),
            )
            yield LayerJob(self._in_flight[-1][1], budget, (0, layer.parameters), settings.method)

    def clear(self) -> None:
        """Set the columns of units that are gone to zero."""
        for layer in self.context.layers:
            matrices = stored_matrices(self.shrunk, layer)
            for block, matrix in enumerate(matrices):
                gone = np.ones(matrix.shape[1], bool)
                gone[self.remaining.columns[layer.name, block]] = False
                matrix[:, gone] = 0
            set_matrices(self.shrunk, layer, matrices)

    def _problems(self, layer: Layer, samples: Sequence[LayerSamples]) -> tuple[LayerProblem, ...]:
        """What is to be solved of a layer, block by block, for the outputs that stay."""
        weights = self.importance.get(layer.name, ())
        return tuple(
            of_outputs(
                replace(
                    layer_problem(self.context.dense, layer, block_samples, block, block_weights),
                    threads=self.context.threads,
                ),
                self.remaining.columns[layer.name, block],
            )
            for block, (block_samples, block_weights) in enumerate(zip_longest(samples, weights))
        )

    def _among_dense(self, layer: Layer, block: int, U: Matrix) -> Matrix:
        """Weights of the outputs that stay, among the dense ones of the others.

        Inputs that go are not read, whether the layer was solved or not.
        """
        matrix = dense_matrices(self.context.dense, layer)[block].astype(U.dtype)
        columns = self.remaining.columns[layer.name, block]
        matrix[: len(U), columns] = U
        gone = np.setdiff1d(np.arange(len(matrix) - 1), self.remaining.rows[layer.name, block])
        matrix[np.ix_(gone, columns)] = 0
        return matrix[: len(U)] if not layer.has_bias else matrix

    def _report(
        self, layer: Layer, problems: Sequence[LayerProblem], result: LayerResult
    ) -> LayerReport:
        solution = joined(result.solutions)
        matrices = [
            matrix[:, self.remaining.columns[layer.name, block]]
            for block, matrix in enumerate(stored_matrices(self.shrunk, layer))
        ]
        left, outputs, rank = 0, 0, None
        for block, (inputs, _) in enumerate(layer.blocks):
            key = layer.name, block
            staying = len(self.remaining.rows[key]), len(self.remaining.columns[key])
            shortened = self.shapes[key].shortened(*staying, self.plan.inner, self.sizes)
            rows, columns = map(int, shortened)
            rank = self.plan.ranks.get(key)
            fold = self.plan.folds.get(key, 1)
            left += int(stored_weights(rows, columns, inputs if rank is None else rank, fold))
            outputs += columns
        share = self.remaining.shares.get(layer.name, 1.0)
        usable = not problems[0].samples.unusable_reason
        errors = result.errors_of(problems, matrices) if usable else (None, None)
        return LayerReport(
            name=layer.name,
            op=layer.op,
            shape=layer.shape,
            weights=layer.parameters,
            nonzeros_before=layer.parameters,
            nonzeros_after=round(share * left),
            error_calibration=errors[0],
            error_holdout=errors[1],
            columns=min(problem.samples.columns for problem in problems),
            status=solution.status.value,
            seconds=result.seconds,
            note=solution.note,
            reason=solution.reason,
            remaining=(rows, round(share * outputs)),
            rank=rank,
        )


def of_outputs(problem: LayerProblem, columns: Numbers) -> LayerProblem:
    """The problem of some of a layer's outputs."""
    if len(columns) == problem.W.shape[1]:
        return problem
    activation, correlation = problem.activation, problem.correlation
    if isinstance(activation, Elementwise):
        activation = activation.of_outputs(columns)
    return replace(
        problem,
        W=problem.W[:, columns],
        samples=_samples_of(problem.samples, columns),
        scale=None if problem.scale is None else problem.scale[columns],
        shift=None if problem.shift is None else problem.shift[columns],
        importance=None if problem.importance is None else problem.importance[columns],
        correlation=None if correlation is None else correlation[np.ix_(columns, columns)],
        activation=activation,
    )


def _samples_of(samples: LayerSamples, columns: Numbers) -> LayerSamples:
    skip = samples.skip
    if skip is not None:
        pruned, holdout_pruned = skip.pruned[columns], skip.holdout_pruned[columns]
        skip = replace(
            skip,
            pruned=pruned,
            holdout_pruned=holdout_pruned,
            dense=pruned if skip.exact else skip.dense[columns],
            holdout_dense=holdout_pruned if skip.exact else skip.holdout_dense[columns],
            missing=None if skip.missing is None else skip.missing[:, columns],
        )
    return replace(
        samples,
        B=None if samples.B is None else samples.B[:, columns],
        Z=samples.Z[columns],
        holdout_Z=samples.holdout_Z[columns],
        skip=skip,
    )
