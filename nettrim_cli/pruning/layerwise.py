"""One pass over the layers: each is solved where its inputs are known, in dataflow order."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import NamedTuple

import numpy as np

from nettrim_cli.data.sample_set import SampleSet
from nettrim_cli.data.stream import StreamCache
from nettrim_cli.errors import BadInput
from nettrim_cli.evaluation.provenance import KEY, describe
from nettrim_cli.execution.executor import in_order
from nettrim_cli.graph.layer import Layer
from nettrim_cli.graph.model import Model
from nettrim_cli.pruning.blocks import nonzeros, weights_of
from nettrim_cli.pruning.context import Context
from nettrim_cli.pruning.layer_job import (
    Budget,
    ErrorBudget,
    LayerJob,
    LayerResult,
    ZerosBudget,
    solve_layer,
)
from nettrim_cli.pruning.layer_reports import joined
from nettrim_cli.pruning.output_gradients import Importance
from nettrim_cli.pruning.propagation import (
    LayerGroup,
    RecordedStage,
    dense_matrices,
    layer_problem,
    set_matrices,
)
from nettrim_cli.pruning.selection import bits_of, dense_report, work
from nettrim_cli.reasons import NO_REASON, Reason
from nettrim_cli.report.result import LayerReport, Target
from nettrim_cli.settings import ANYWHERE
from nettrim_cli.solve.matrices import Matrix
from nettrim_cli.solve.problem import LayerProblem, Solution, Status, TunedOptions
from nettrim_cli.solve.samples import LayerSamples

NOT_MEASURED = Reason("not-measured", "its sensitivity could not be measured")
Block = tuple[str, int]
"""A layer's name, and the number of one of its blocks."""


@dataclass(frozen=True)
class WarmStart:
    """What earlier passes leave to the next one.

    Attributes
    ----------
    tuned
        What held-out samples chose for each block; it holds for nearly as many zeros.
    damping
        Damping of each block that was chosen when its curve was measured; None where none was.
    weights
        A network whose weights are a start for each layer's; None for the usual start.
    holdout_fitted
        Whether the held-out samples are among those that are fitted to.
    """

    tuned: Mapping[Block, TunedOptions] = field(default_factory=dict)
    damping: Mapping[Block, float | None] = field(default_factory=dict)
    weights: Model | None = None
    holdout_fitted: bool = False

    def initial_weights(self, layer: Layer, block: int) -> Matrix | None:
        """Weights (N, M) or (N+1, M) that a block's solve starts from."""
        if self.weights is None:
            return None
        matrix = dense_matrices(self.weights, layer)[block]
        return matrix if layer.has_bias else matrix[:-1]


@dataclass(frozen=True)
class PassResult:
    """A pruned network, how it was made, and what is known of its layers.

    Attributes
    ----------
    zeros, importance
        Of each layer, as in ``prune_pass``.
    warm
        What it leaves to the next pass.
    unread
        By layer, the nodes that read it and that no sample reaches.
    target
        Where one was searched for, how it was met.
    judged
        The network before the final fit, which has not seen the held-out samples: errors are told
        of this one.  None where there was no such fit.
    masked
        The same function with the dense network's graph, where units are gone or ranks are low;
        None where the network has that graph itself.
    unrounded
        The same with weights of all bits, where these were rounded in a step of its own.
    seconds
        That the pass took; about those of another.
    joint_fit
        Whether all layers were fitted together in the end: errors of layers are those of before.
    """

    model: Model
    layers: Sequence[LayerReport]
    zeros: Mapping[str, int] | None = None
    importance: Importance = field(default_factory=dict)
    warm: WarmStart = field(default_factory=WarmStart)
    unread: Mapping[str, Sequence[str]] = field(default_factory=dict)
    target: Target | None = None
    judged: Model | None = None
    masked: Model | None = None
    unrounded: PassResult | None = None
    seconds: float = 0.0
    joint_fit: bool = False

    @property
    def in_dense_graph(self) -> Model:
        """The network that errors are told of, with the dense one's graph."""
        return self.judged or self.masked or self.model


def prune_pass(
    context: Context,
    samples: SampleSet,
    zeros: Mapping[str, int] | None,
    importance: Importance,
    warm: WarmStart,
    *,
    cache: StreamCache | None = None,
) -> PassResult:
    """Solve every layer in dataflow order and set its weights in a copy of the dense network.

    Parameters
    ----------
    samples
        Those that are fitted to, and those held out.
    zeros
        Of each layer, by name; None where epsilon is the target.
    importance
        Of the layers' outputs.
    cache
        What the dense network delivered on these samples in passes before.
    """
    begun = time.monotonic()
    pruned = context.dense.clone()
    pruned.set_metadata(KEY, describe(context.settings, context.dense))
    context.listener.plan({layer.name: work(layer) for layer in context.layers})
    layer_pass = _Pass(context, pruned, zeros, importance, warm)
    layer_pass.prune(context.recorded(samples, pruned, cache))
    next_start = WarmStart(layer_pass.tuned, warm.damping)
    reports, unread = layer_pass.reports, layer_pass.unread
    result = PassResult(pruned, reports, zeros, importance, next_start, unread)
    return replace(result, seconds=time.monotonic() - begun)


class _InFlight(NamedTuple):
    """A layer that has no report yet: its problems wait for their result, or it stays dense."""

    layer: Layer
    problems: tuple[LayerProblem, ...]
    reason: Reason = NO_REASON


class _Pass:
    """A pass on its way: the network as it is pruned so far, and what was told of its layers."""

    def __init__(
        self,
        context: Context,
        pruned: Model,
        zeros: Mapping[str, int] | None,
        importance: Importance,
        warm: WarmStart,
    ) -> None:
        self.context, self.pruned, self.zeros = context, pruned, zeros
        self.importance, self.warm = importance, warm
        self.reports: list[LayerReport] = []
        self.tuned = dict(warm.tuned)
        self.unread: dict[str, list[str]] = {}
        self._in_flight: deque[_InFlight] = deque()

    def prune(self, stages: Iterable[RecordedStage]) -> None:
        """Solve the layers of all stages and set their weights."""
        for groups in self.context.independent(stages):
            for result in in_order(self.context.executor, solve_layer, map(self._jobs, groups)):
                layer, problems, _ = self._in_flight.popleft()
                self._tell(self._store(layer, problems, result))
                del problems  # they cache responses
                self._leave_dense()
            self._leave_dense()

    def _jobs(self, group: LayerGroup) -> Iterator[LayerJob]:
        """The jobs of some layers; a layer has begun when its job is asked for."""
        for layer, samples in group:
            if samples[0].unread:
                nodes = self.context.dense.index.nodes
                readers = [nodes[layer.sites[number].node] for number in samples[0].unread]
                self.unread[layer.name] = [node.title for node in readers]
            if reason := self._unusable(layer, samples):
                self._in_flight.append(_InFlight(layer, (), reason))
                self._leave_dense()
                continue
            self._begin(layer, ahead=len(self._in_flight))
            self._in_flight.append(_InFlight(layer, self._problems(layer, samples)))
            yield LayerJob(
                self._in_flight[-1].problems,
                self._budget(layer),
                self._bounds(layer),
                self.context.options[layer.name].method or self.context.settings.method,
                bits_of(layer, self.context.options[layer.name]),
            )

    def _leave_dense(self) -> None:
        """Tell of the layers that stay dense and are next."""
        while self._in_flight and self._in_flight[0].reason:
            layer, _, reason = self._in_flight.popleft()
            self._begin(layer)
            self._tell(dense_report(self.context.dense, layer, reason))

    def _tell(self, report: LayerReport) -> None:
        self.reports.append(report)
        self.context.listener.end(report)

    def _budget(self, layer: Layer) -> Budget:
        settings = self.context.settings
        if self.zeros is not None:
            return ZerosBudget(self.zeros[layer.name], self._pattern(layer))
        assert settings.target_epsilon is not None
        return ErrorBudget(settings.target_epsilon)

    def _bounds(self, layer: Layer) -> tuple[int, int]:
        """Fewest and most zeros; a pattern has as many as it has, as none may come back alone."""
        fewest, most = self.context.bounds[layer.name]
        return fewest, layer.parameters if self._pattern(layer) else most

    def _pattern(self, layer: Layer) -> str | None:
        pattern = self.context.options[layer.name].pattern
        return None if pattern == ANYWHERE else pattern

    def _begin(self, layer: Layer, *, ahead: int = 0) -> None:
        number = len(self.reports) + ahead
        self.context.listener.begin(layer.name, number, len(self.context.layers))

    def _unusable(self, layer: Layer, samples: Sequence[LayerSamples]) -> Reason:
        """Why a layer has to stay dense; empty where it can be solved."""
        reasons = (block.unusable_reason for block in samples)
        if reason := next(filter(None, reasons), NO_REASON):
            return reason
        measured = self.zeros is None or layer.name in self.zeros
        return NO_REASON if measured else NOT_MEASURED

    def _problems(self, layer: Layer, samples: Sequence[LayerSamples]) -> tuple[LayerProblem, ...]:
        """What is to be solved of a layer, block by block."""
        context, warm = self.context, self.warm
        last = layer in context.stages[-1].layers and not layer.response.relu
        importance = self.importance.get(layer.name, ())
        return tuple(
            replace(
                layer_problem(context.dense, layer, block_samples, block, block_importance),
                gamma=context.settings.gamma,
                risk=context.settings.risk if last else 1.0,
                fixed_bias=context.settings.bias == "fixed",
                threads=context.threads,
                tuned=warm.tuned.get((layer.name, block)),
                delta=warm.damping.get((layer.name, block)),
                start=warm.initial_weights(layer, block),
                holdout_fitted=warm.holdout_fitted,
            )
            for block, (block_samples, block_importance) in enumerate(
                zip_longest(samples, importance)
            )
        )

    def _store(
        self, layer: Layer, problems: Sequence[LayerProblem], result: LayerResult
    ) -> LayerReport:
        """Set a layer's weights, and tell of them as the file will have them."""
        for block, (problem, solution) in enumerate(zip(problems, result.solutions, strict=True)):
            if solution.tuned is not None and problem.tuned_sparse is None:
                self.tuned[layer.name, block] = solution.tuned
        solution = self._set(layer, result.solutions)
        matrices = stored_matrices(self.pruned, layer)
        weights = [weights_of(*pair) for pair in zip(problems, matrices, strict=True)]
        error_calibration, error_holdout = result.errors_of(problems, matrices)
        return LayerReport(
            name=layer.name,
            op=layer.op,
            shape=layer.shape,
            weights=layer.parameters,
            nonzeros_before=nonzeros(self.context.dense.weight(layer)[0]),
            nonzeros_after=nonzeros(weights),
            error_calibration=error_calibration,
            error_holdout=error_holdout,
            columns=min(problem.samples.columns for problem in problems),
            iterations=solution.iterations,
            status=solution.status.value,
            seconds=result.seconds,
            gap=solution.gap,
            violation=solution.violation,
            note=solution.note,
            reason=solution.reason,
        )

    def _set(self, layer: Layer, solutions: Sequence[Solution]) -> Solution:
        """Set a layer's weights unless it stays dense; what is to be told of all blocks."""
        solution = joined(solutions)
        if solution.status is Status.DENSE:
            return solution
        try:
            set_matrices(self.pruned, layer, [block.U for block in solutions])
        except BadInput as error:
            self.pruned.set_weight(layer, *self.context.dense.weight(layer))
            return replace(solution, status=Status.DENSE, note=str(error), reason="out-of-range")
        return solution


def stored_matrices(model: Model, layer: Layer) -> list[Matrix]:
    """(N, M) weights of each block, or (N+1, M) with the bias in the last row if it has one."""
    weights, biases = model.weight(layer)
    if biases is None:
        return list(weights)
    return [np.vstack([W, bias[None]]) for W, bias in zip(weights, biases, strict=True)]
