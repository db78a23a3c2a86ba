"""The layers of one run: which, in what order, to which target, and what came out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import TYPE_CHECKING

import numpy as np

from nettrim_cli.data.dataset import Batch
from nettrim_cli.data.sample_set import SampleSet
from nettrim_cli.data.stream import StreamCache
from nettrim_cli.errors import BadInput
from nettrim_cli.evaluation.provenance import KEY, describe
from nettrim_cli.graph.analysis.importance import blended, output_importance
from nettrim_cli.graph.layer import Layer
from nettrim_cli.graph.model import Model
from nettrim_cli.pruning.advice import final_fit_advice, sampling_advice
from nettrim_cli.pruning.allocation import (
    ErrorModel,
    Forecast,
    measure_error_model,
    share_zeros,
)
from nettrim_cli.pruning.layer_reports import joined, joint_error, weights_of
from nettrim_cli.pruning.propagation import (
    Stage,
    dense_matrices,
    layer_task,
    propagate,
    set_matrices,
    stages,
)
from nettrim_cli.pruning.selection import bounds_of, dense_report, nonzeros, within_ceiling
from nettrim_cli.report.diagnostic import Diagnostic
from nettrim_cli.report.result import LayerReport, Target
from nettrim_cli.settings import ALLOCATIONS, SEARCHED, Settings
from nettrim_cli.solve.gram.l0 import solve_l0
from nettrim_cli.solve.levels import uniform
from nettrim_cli.solve.matrices import Matrix
from nettrim_cli.solve.methods import METHODS
from nettrim_cli.solve.penalties import pattern
from nettrim_cli.solve.problem import LayerProblem, LayerSamples, Solution, Status, TunedOptions

if TYPE_CHECKING:
    from nettrim_cli.report.progress import Listener

Batches = Callable[[], Iterable[tuple[Batch, bool]]]
TYPICAL = 0.7  # sparsity at which curves are compared where none is asked for


@dataclass(frozen=True)
class PassResult:
    """A pruned network, its layers, and the target where one was searched for.

    Attributes
    ----------
    judged
        The network before the final fit, which has not seen the held-out samples: errors are told
        of this one.  None where there was no such fit.
    """

    model: Model
    layers: list[LayerReport]
    target: Target | None = None
    judged: Model | None = None


class Run:
    """The layers of one run: their order, their targets, what came out."""

    def __init__(
        self,
        dense: Model,
        chosen: Sequence[Layer],
        settings: Settings,
        threads: int,
        listener: Listener,
    ) -> None:
        self.dense = self.pruned = dense  # until there is a pruned one
        self.chosen, self.plan = chosen, stages(chosen)
        self.settings, self.threads, self.listener = settings, threads, listener
        self._description = describe(settings, dense)
        names = [layer.name for layer in dense.layers]
        self.bounds = {
            each.name: bounds_of(
                each,
                settings,
                each.parameters - nonzeros(dense.weight(each)[0]),
                names=names,
            )
            for each in chosen
        }
        # Within an epsilon of each layer's own fewest weights are wanted, wherever they are.
        self.of_dense = {} if settings.target_epsilon is not None else output_importance(dense)
        self.importance = self.of_dense
        self.unread: dict[str, list[str]] = {}  # by layer, nodes that no sample reaches
        self._thin: dict[str, tuple[int, int]] = {}
        self._choices: dict[tuple[str, int], TunedOptions] = {}
        self._deltas: dict[tuple[str, int], float | None] = {}
        self._before: Model | None = None
        self._seen = False
        passes = settings.sweeps > 1 or settings.target[0] in SEARCHED
        self.trail = StreamCache() if passes else None
        self.forecast: Forecast | None = None
        self.rounds = 0  # samples made of each fitted one
        self.final_samples = 0  # of the final fit; 0 where there was none

    def prune_layers(
        self,
        batches: Batches,
        zeros: Mapping[str, int] | None = None,
        *,
        again: bool = False,
        onwards: bool = False,
        seen: bool = False,
    ) -> list[LayerReport]:
        """Solve every layer in dataflow order and set its weights in ``pruned``, a new copy.

        Parameters
        ----------
        zeros
            Of each layer; None where epsilon is the target.
        again
            Whether the choices of the last pass, whose zeros were nearly as many, still hold.
        onwards
            Whether its weights are a start, too.
        seen
            Whether the held-out samples are among those that are fitted to.
        """
        self._before, self._seen = self.pruned if onwards else None, seen
        self.pruned = self.dense.clone()
        self.pruned.set_metadata(KEY, self._description)
        if not again:
            self._choices.clear()
        self.listener.plan({layer.name: layer.parameters for layer in self.chosen})
        reports: list[LayerReport] = []
        following = self.pruned if self.settings.scheme == "cascade" else None
        for stage, found in self._walk(following, batches(), self.trail):
            for layer in stage.layers:
                self.listener.begin(layer.name, len(reports), len(self.chosen))
                report = self._prune_layer(layer, found.pop(0), zeros)
                self.listener.end(report)
                reports.append(report)
        self._before = None  # it is as large as the model
        return reports

    @property
    def choices(self) -> dict[tuple[str, int], TunedOptions]:
        """What held-out samples have chosen in the last passes, by layer and block: a copy."""
        return dict(self._choices)

    @choices.setter
    def choices(self, choices: Mapping[tuple[str, int], TunedOptions]) -> None:
        self._choices = dict(choices)

    def warnings(self, used: int) -> Iterator[Diagnostic]:
        """What to know of the `used` samples, held-out ones among them."""
        yield from sampling_advice(used, self._thin, self.rounds, self.forecast)
        if self.final_samples:
            yield final_fit_advice(self.final_samples)

    def _walk(
        self,
        pruned: Model | None,
        batches: Iterable[tuple[Batch, bool]],
        trail: StreamCache | None = None,
    ) -> Iterator[tuple[Stage, list[list[LayerSamples]]]]:
        return propagate(
            self.dense,
            pruned,
            self.plan,
            batches,
            threads=self.threads,
            seed=self.settings.seed,
            trail=trail,
        )

    def measure(
        self, samples: SampleSet, sparsity: float | None = None
    ) -> tuple[ErrorModel, SampleSet]:
        """What zeros cost in each layer, around a sparsity or at all of them.

        Returns
        -------
        ErrorModel, SampleSet
            With made samples where these cost less on the held-out ones.
        """
        self.listener.stage("measuring how sensitive each layer is")
        share = TYPICAL if sparsity is None else sparsity
        costs, sparse = self._measured(samples, sparsity)
        mixed = samples.augmented() if self._may_augment else samples
        if mixed.rounds:
            others, other_sparse = self._measured(mixed, sparsity)
            if self._cost(others, share) < self._cost(costs, share):
                samples, costs, sparse = mixed, others, other_sparse
        if self.settings.forecast and len(samples.half().fitted) < len(samples.fitted):
            fewer, _ = self._measured(samples.half(), sparsity)
            self.forecast = Forecast.of(costs, fewer, self.shared(costs, share))
        self.rounds = samples.rounds
        if sparse is not None:
            self.weigh(sparse)
        for curve in costs.curves:
            for block, delta in enumerate(curve.deltas):
                self._deltas[curve.layer.name, block] = delta
        return costs, samples

    def shared(self, costs: ErrorModel, sparsity: float) -> dict[str, int]:
        """Zeros of each layer that was measured, by name."""
        return costs.shared(sparsity, self.bounds, kind=self.kind)

    def _cost(self, costs: ErrorModel, sparsity: float) -> float:
        return costs.cost(self.shared(costs, sparsity))

    @property
    def _may_augment(self) -> bool:
        return self.settings.method == "l0" and self.settings.augment == "auto"

    def _measured(
        self, samples: SampleSet, sparsity: float | None
    ) -> tuple[ErrorModel, Model | None]:
        sparse = None if sparsity is None else self.dense.clone()
        recorded = self._walk(None, samples.flagged_batches())
        costs = measure_error_model(
            self.dense,
            self.plan,
            recorded,
            samples.probe_batches(len(self.chosen)),
            sparsity,
            sparse,
            importance=self.importance,
            threads=self.threads,
        )
        return costs, sparse

    def weigh(self, sparse: Model) -> None:
        """Tell from a sparse version of the network what matters, beside the dense one.

        A unit that hardly anything reads any more is not worth many weights.
        """
        self.importance = blended(self.of_dense, output_importance(sparse))

    def allocations(self, samples: SampleSet) -> tuple[list[dict[str, int]], SampleSet]:
        """Zeros of each layer where sparsity is the target, and the samples to fit.

        Returns
        -------
        list, SampleSet
            Nothing where epsilon is the target. Behind the first allocation stand its rivals:
            where samples are few, sensitivities are uncertain, and held-out samples decide.
        """
        sparsity = self.settings.zeros
        if sparsity is None:
            return [], samples
        names, sizes = list(self.bounds), [each.parameters for each in self.chosen]
        even = self.kind == "uniform" or len(names) == 1
        made = self._may_augment and samples.augmented().rounds
        if even and not made and not self.settings.forecast:
            total = round(sparsity * sum(sizes))
            zeros = uniform(sizes, total, list(self.bounds.values()))
            return [dict(zip(names, zeros, strict=True))], samples
        costs, samples = self.measure(samples, sparsity)
        found = [self.shared(costs, sparsity)]
        if self.kind == "network" and self.settings.allocate is None and samples.few:
            rivals = (costs.shared(sparsity, self.bounds, kind=kind) for kind in ALLOCATIONS[1:])
            found += [zeros for zeros in rivals if zeros != found[0]]
        return found, samples

    @property
    def kind(self) -> str:
        """How zeros are shared out."""
        even = self.settings.method != "l0" or self.settings.n_of_m is not None
        usual = "uniform" if even else "network"
        return self.settings.allocate or usual

    def _prune_layer(
        self, layer: Layer, samples: Sequence[LayerSamples], shared: Mapping[str, int] | None
    ) -> LayerReport:
        begun = time.monotonic()
        fewest = min(samples, key=lambda each: each.columns)
        if fewest.columns:
            self._thin[layer.name] = (fewest.columns, layer.shape[0])
        if samples[0].unread:
            nodes = [self.dense.index.nodes[layer.sites[at].node] for at in samples[0].unread]
            self.unread[layer.name] = [each.title for each in nodes]
        trouble = next(filter(None, (each.unusable_reason for each in samples)), "")
        zeros = None if shared is None else shared.get(layer.name)
        if zeros is None and shared is not None:
            trouble = trouble or "its sensitivity could not be measured"
        if trouble:
            return dense_report(self.dense, layer, trouble)
        tasks = [
            replace(
                layer_task(self.dense, layer, each, block, matter),
                epsilon=self.settings.target_epsilon,
                gamma=self.settings.gamma,
                threads=self.threads,
                tuned=self._choices.get((layer.name, block)),
                delta=self._deltas.get((layer.name, block)),
                start=self._start(layer, block),
                holdout_fitted=self._seen,
            )
            for block, (each, matter) in enumerate(
                zip_longest(samples, self.importance.get(layer.name, ()))
            )
        ]
        solutions = self._solutions(tasks, zeros, self.bounds[layer.name])
        for block, (task, each) in enumerate(zip(tasks, solutions, strict=True)):
            if each.tuned is not None and task.tuned_sparse is None:
                self._choices[layer.name, block] = each.tuned
        solutions = within_ceiling(tasks, solutions, self.bounds[layer.name][1])
        solution, matrices = self._store(layer, tasks, solutions)
        weights, _ = self.dense.weight(layer)
        found = [weights_of(task, matrix) for task, matrix in zip(tasks, matrices, strict=True)]
        return LayerReport(
            name=layer.name,
            op=layer.op,
            shape=layer.shape,
            weights=layer.parameters,
            nonzeros_before=nonzeros(weights),
            nonzeros_after=nonzeros(found),
            error_calibration=joint_error(tasks, matrices, held=False),
            error_holdout=joint_error(tasks, matrices, held=True),
            columns=fewest.columns,
            iterations=solution.iterations,
            status=solution.status.value,
            seconds=time.monotonic() - begun,
            gap=solution.gap,
            violation=solution.violation,
            note=solution.note,
        )

    def _start(self, layer: Layer, block: int) -> Matrix | None:
        """The last pass's weights of a block, where they are a start."""
        if self._before is None:
            return None
        found = dense_matrices(self._before, layer)[block]
        return found if layer.has_bias else found[:-1]

    def _solutions(
        self, tasks: Sequence[LayerProblem], zeros: int | None, bounds: tuple[int, int]
    ) -> list[Solution]:
        """Weights of each block, with so many zeros or as epsilon allows within the bounds."""
        if zeros is None:
            found = [self._solve(task) for task in tasks]
            zeros = sum(task.weight_count for task in tasks)
            zeros -= sum(
                nonzeros([weights_of(t, each.U)]) for t, each in zip(tasks, found, strict=True)
            )
            nearest = min(max(zeros, bounds[0]), bounds[1])
            if nearest == zeros:
                return found
            zeros = nearest
        shared = share_zeros(tasks, zeros)
        return [
            self._solve(replace(task, epsilon=None, keep=task.weight_count - each))
            for task, each in zip(tasks, shared, strict=True)
        ]

    def _solve(self, task: LayerProblem) -> Solution:
        look, form = self.listener.iteration, self.settings.pattern
        try:
            # What is no number any more is judged by the status, and said in the report.
            with np.errstate(all="ignore"):
                if form is None or task.keep is None:
                    return METHODS[self.settings.method](task, look)
                shape = task.weight_count // task.W.shape[1], task.W.shape[1]
                return solve_l0(task, look, penalty=pattern(form, shape, task.keep))
        except np.linalg.LinAlgError as error:
            return Solution(task.W, Status.DENSE, note=f"not solved: {error}")

    def _store(
        self, layer: Layer, tasks: Sequence[LayerProblem], solutions: Sequence[Solution]
    ) -> tuple[Solution, list[Matrix]]:
        """Set the layer's weights and read them back as the file will have them."""
        solution = joined(solutions)
        if solution.status is not Status.DENSE:
            try:
                set_matrices(self.pruned, layer, [each.U for each in solutions])
            except BadInput as error:
                self.pruned.set_weight(layer, *self.dense.weight(layer))
                solution = replace(solution, status=Status.DENSE, note=str(error))
        weights, biases = self.pruned.weight(layer)
        if biases is None:
            return solution, list(weights)
        return solution, [
            np.vstack([each, bias[None]]) for each, bias in zip(weights, biases, strict=True)
        ]
