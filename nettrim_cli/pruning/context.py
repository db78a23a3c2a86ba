"""What stays the same in all passes of a run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from nettrim_cli.data.sample_set import SampleSet
from nettrim_cli.data.stream import StreamCache
from nettrim_cli.execution.executor import Executor
from nettrim_cli.graph.layer import Layer
from nettrim_cli.graph.model import Model
from nettrim_cli.process.deadline import Deadline
from nettrim_cli.pruning.blocks import nonzeros
from nettrim_cli.pruning.column_weights import ColumnWeights
from nettrim_cli.pruning.output_gradients import Importance, OutputGradients, blended
from nettrim_cli.pruning.propagation import (
    LayerGroup,
    RecordedStage,
    Stage,
    propagate,
    stages,
)
from nettrim_cli.pruning.selection import bounds_of
from nettrim_cli.settings import LayerOptions, Settings

if TYPE_CHECKING:
    from nettrim_cli.report.progress import Listener


@dataclass(frozen=True)
class Context:
    """The network, its layers in their order, and how they are pruned.

    Attributes
    ----------
    dense
        The network as the user gave it.
    layers
        The layers to prune, in the model's order.
    samples
        Those to fit and those held out, before any are made of them.
    threads
        Threads of BLAS and of the engine.
    listener
        Hears of the progress.
    executor
        Does the jobs.
    deadline
        Says whether there is time for a step that may be left out.
    """

    dense: Model
    layers: tuple[Layer, ...]
    settings: Settings
    samples: SampleSet
    threads: int
    listener: Listener
    executor: Executor
    deadline: Deadline = field(default_factory=Deadline)

    def with_settings(self, **changes: Any) -> Context:
        """The same with other settings; what was measured of the dense network is not again."""
        other = replace(self, settings=replace(self.settings, **changes))
        measured = vars(self).keys() & {"stages", "gradients"}
        vars(other).update({name: vars(self)[name] for name in measured})
        return other

    @cached_property
    def stages(self) -> list[Stage]:
        """The layers in dataflow order, those together that read the same columns."""
        return stages(self.layers)

    def recorded(
        self, samples: SampleSet, pruned: Model | None = None, cache: StreamCache | None = None
    ) -> Iterator[RecordedStage]:
        """Each stage with the samples of its layers, see ``propagation.propagate``."""
        return propagate(
            self.dense,
            pruned if self.settings.scheme == "cascade" else None,
            self.stages,
            samples.flagged_batches(),
            threads=self.threads,
            seed=self.settings.seed,
            cache=cache,
        )

    def independent(self, stages: Iterable[RecordedStage]) -> Iterator[Iterator[LayerGroup]]:
        """Groups of layers, those at once that need no weights of one another.

        In a cascade these are the layers of a stage, shared out over the executor's places; in the
        parallel scheme all layers.  Layers of a stage stay together there: what is factorised of
        their columns is the same.
        """
        if self.settings.scheme != "cascade":
            yield (group for stage in stages for group in _held(stage, 1))
            return
        for stage in stages:
            yield _held(stage, self.executor.places)

    @cached_property
    def options(self) -> dict[str, LayerOptions]:
        """What holds for each layer, by name."""
        names = [layer.name for layer in self.dense.layers]
        return {layer.name: self.settings.of_layer(layer.name, names) for layer in self.layers}

    @cached_property
    def bounds(self) -> dict[str, tuple[int, int]]:
        """Fewest and most zeros of each layer, by name."""
        names = [layer.name for layer in self.dense.layers]
        return {
            layer.name: bounds_of(
                layer,
                self.settings,
                layer.parameters - nonzeros(self.dense.weight(layer)[0]),
                names=names,
            )
            for layer in self.layers
        }

    @cached_property
    def gradients(self) -> OutputGradients:
        """What errors of layers do to the outputs of the dense network."""
        widest = max((layer.shape[1] for layer in self.layers), default=1)
        batches, judges = ([*self.samples.gradient_batches(outputs)] for outputs in (widest, None))
        return OutputGradients(self.dense, batches, judges, threads=self.threads)

    def weighed(self, samples: SampleSet) -> SampleSet:
        """Samples whose columns count by what errors there do, where that differs enough."""
        weights = self._column_weights
        return replace(samples, weigh=weights.of_batch) if weights is not None else samples

    @cached_property
    def _column_weights(self) -> ColumnWeights | None:
        """None where outputs do not matter, or all columns alike."""
        if not self.dense_importance:
            return None
        weights = ColumnWeights.of(self.gradients, self.layers)
        return weights if weights.tensors else None

    @property
    def dense_importance(self) -> Importance:
        """Importance of the layers' outputs in the dense network.

        Empty where the target is epsilon: the fewest weights of each layer are wanted then,
        wherever they are.
        """
        settings = self.settings
        if settings.target_epsilon is not None or settings.method != "l0":
            return {}
        return self.gradients.dense_importance

    def importance(self, sparse: Model) -> Importance:
        """Importance of outputs by what a sparse version of the network reads, too.

        A unit that hardly anything reads any more is not worth many weights.
        """
        if not self.dense_importance:
            return {}
        return blended(self.dense_importance, self.gradients.importance(sparse))

    @property
    def allocation(self) -> str:
        """How zeros are shared out over the layers: one of ``settings.ALLOCATIONS``."""
        even = self.settings.method != "l0" or self.settings.n_of_m is not None
        return self.settings.allocate or ("uniform" if even else "network")

    @property
    def may_augment(self) -> bool:
        """Whether samples may be made of those of the file."""
        return self.settings.method == "l0" and self.settings.augment == "auto"


def _held(stage: RecordedStage, groups: int) -> Iterator[LayerGroup]:
    """The layers of a stage in groups; its samples are freed when all have been taken."""
    with stage:
        yield from stage.groups(groups)
