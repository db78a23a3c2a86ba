"""The way through a network: each group of layers in dataflow order, with its samples.

In the parallel scheme one stream runs, the dense network's.  In a cascade a second one forks off
at the first pruned layer and runs with the weights pruned so far.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.data.dataset import Batch
from nettrim_cli.data.layer_columns import LayerInputs, SiteReader
from nettrim_cli.data.layer_samples import collect
from nettrim_cli.data.stream import MemoryBudget, Stream, StreamCache
from nettrim_cli.graph import ops
from nettrim_cli.graph.capture.plan import CapturePlan
from nettrim_cli.graph.capture.segments import Segment, Segments, build
from nettrim_cli.graph.ir.flat_graph import depends_on
from nettrim_cli.graph.layer import Layer, Site
from nettrim_cli.graph.model import Model
from nettrim_cli.pruning.output_gradients import OutputImportance
from nettrim_cli.solve.problem import LayerProblem
from nettrim_cli.solve.samples import LayerSamples


@dataclass(frozen=True)
class Stage:
    """Layers that read equal columns at the same places."""

    layers: tuple[Layer, ...]

    @property
    def sites(self) -> tuple[Site, ...]:
        """The places, in dataflow order."""
        return self.layers[0].sites

    @property
    def blocks(self) -> int:
        """Number of matrices that each layer has."""
        return len(self.layers[0].blocks)


def stages(layers: Sequence[Layer]) -> list[Stage]:
    """Group layers by what they read, in the order in which the last of it is there."""
    groups: dict[object, list[Layer]] = {}
    for layer in layers:
        groups.setdefault(tuple(site.key for site in layer.sites), []).append(layer)
    ordered = [Stage(tuple(group)) for group in groups.values()]
    return sorted(ordered, key=lambda stage: stage.sites[-1].node)


def dense_matrices(model: Model, layer: Layer) -> list[NDArray[np.float32]]:
    """(N+1, M) weights of each block with the bias, or zeros, in the last row."""
    weights, biases = model.weight(layer)
    bias_rows = biases or [np.zeros(weight.shape[1]) for weight in weights]
    return [
        np.vstack([weight, bias[None]]).astype(np.float32)
        for weight, bias in zip(weights, bias_rows, strict=True)
    ]


def set_matrices(model: Model, layer: Layer, matrices: Sequence[NDArray[Any]]) -> None:
    """Replace a layer's weights by (N, M) of each block, the bias below them if it has one.

    Raises
    ------
    BadInput
        A value is not finite, or does not fit into the stored dtype.
    """
    if layer.has_bias:
        model.set_weight(
            layer, [matrix[:-1] for matrix in matrices], [matrix[-1] for matrix in matrices]
        )
    else:
        model.set_weight(layer, matrices, None)


def layer_problem(
    dense: Model,
    layer: Layer,
    samples: LayerSamples,
    block: int = 0,
    importance: OutputImportance | None = None,
) -> LayerProblem:
    """What a solver is to know of a layer's block; the target is left to the caller.

    Parameters
    ----------
    importance
        Of the block's outputs.
    """
    matrix = dense_matrices(dense, layer)[block]
    response = layer.response
    # What the activation is applied to is known.
    applicable = not response.offset or samples.skip is not None
    return LayerProblem(
        W=matrix if layer.has_bias else matrix[:-1],
        has_bias=layer.has_bias,
        samples=samples,
        scale=response.scale,
        shift=response.shift,
        importance=None if importance is None else importance.weights,
        correlation=None if importance is None else importance.correlation,
        relu=response.relu and applicable,
        floor=response.floor,
        ceiling=response.ceiling,
        activation=response.activation if applicable else None,
    )


LayerGroup = Iterable[tuple[Layer, Sequence[LayerSamples]]]
"""Layers that read the same columns, with the samples of each, block by block."""


class RecordedStage(AbstractContextManager["RecordedStage"]):
    """A stage with the samples of its layers, layer by layer, each block by block.

    Its end as a context frees the samples and what was factorised of them, before those of the
    next stage are recorded.
    """

    def __init__(self, stage: Stage, samples: Sequence[Sequence[LayerSamples]]) -> None:
        self._layers = list(zip(stage.layers, samples, strict=True))

    def __iter__(self) -> Iterator[tuple[Layer, Sequence[LayerSamples]]]:
        return iter(self._layers)

    def groups(self, count: int) -> Iterator[LayerGroup]:
        """The layers in at most so many groups of about the same number."""
        total = len(self._layers)
        ends = [total * number // min(count, total) for number in range(min(count, total) + 1)]
        for start, end in pairwise(ends):
            yield iter(self._layers[start:end])

    def __exit__(self, *_: object) -> None:
        self._layers.clear()


def propagate(
    dense: Model,
    pruned: Model | None,
    plan: Sequence[Stage],
    batches: Iterable[tuple[Batch, bool]],
    *,
    threads: int,
    seed: int,
    cache: StreamCache | None = None,
) -> Iterator[RecordedStage]:
    """Yield each stage with the samples of its layers.

    Parameters
    ----------
    pruned
        The model whose weights the caller changes stage by stage (cascade); None for parallel.
    batches
        With a flag that says whether the batch is held out.
    cache
        Of the dense network in earlier passes of this plan and these batches: what is in it does
        not run again.
    """
    cache = cache or StreamCache(0)
    propagation = Propagation(
        dense, pruned, plan, lambda: Stream.read(batches, threads=threads), cache
    )
    for number, stage in enumerate(plan):
        propagation.advance(number)
        yield RecordedStage(stage, _record(propagation, stage, seed))
        propagation.changed(number)


def _record(propagation: Propagation, stage: Stage, seed: int) -> list[list[LayerSamples]]:
    """The samples of each layer of a stage, block by block."""
    inputs = propagation.layer_inputs(stage)
    exact = propagation.is_exact(stage)
    weights = [dense_matrices(propagation.dense, layer) for layer in stage.layers]
    by_block = [
        collect(
            *inputs,
            [matrices[block] for matrices in weights],
            block=block,
            share=1 / stage.blocks,
            exact=exact,
            seed=seed,
        )
        for block in range(stage.blocks)
    ]
    return [list(blocks) for blocks in zip(*by_block, strict=True)]


class Propagation:
    """The streams of both networks, and what is known to differ between them."""

    def __init__(
        self,
        dense: Model,
        pruned: Model | None,
        plan: Sequence[Stage],
        start: Callable[[], Stream],
        cache: StreamCache,
    ) -> None:
        self.dense, self.pruned, self.plan, self.cache = dense, pruned, plan, cache
        layers = [layer for stage in plan for layer in stage.layers]
        self.capture = CapturePlan(dense.index, layers, cascade=pruned is not None)
        taps = [
            [tap for site in stage.sites for tap in self.capture.taps(site).values()]
            for stage in plan
        ]
        cache.begin(tuple(tap.name for tapped in taps for tap in tapped))
        self.stream = cache.follow(0, start)
        self.offsets = {
            stage.layers[0].name: self._offsets(number) for number, stage in enumerate(plan)
        }
        self.stops = [
            [*(tap.name for tap in tapped if tap.name), *filter(None, added), *self._outputs(stage)]
            for stage, tapped, added in zip(plan, taps, self.offsets.values(), strict=True)
        ]
        self._source = {tap.name: tap.source for tapped in taps for tap in tapped}
        self.pieces = Segments(self.capture, self.stops).pieces
        restarts = pruned is not None and any(len(layer.sites) > 1 for layer in layers)
        # What is in the cache stays in memory: the pruned network has memory of its own then.
        self._budget = MemoryBudget() if cache.stops else self.stream.budget
        self._start = self.stream.fork(self._budget) if restarts else None
        self.pruned_stream: Stream | None = None
        self._touched: set[str] = set()  # tensors that the pruned layers influence
        self._inexact: set[str] = set()  # those recorded since

    def advance(self, number: int) -> None:
        """Run the piece before a stage in both networks."""
        piece = self.pieces[number]
        if self.pruned is not None and self.pruned_stream is None:
            nodes = piece.positions
            computed = {name for node in nodes for name in self.capture.computed_by(node)}
            if computed & self._touched:
                self.pruned_stream = self.stream.fork(self._budget)
        self.stream = self.cache.follow(number + 1, lambda: self._dense(piece), piece.outputs)
        if self.pruned is not None and self.pruned_stream is not None:
            self._run(self.pruned, self.pruned_stream, piece)
        self._note(piece.outputs)

    def layer_inputs(self, stage: Stage) -> tuple[LayerInputs, LayerInputs]:
        """What the pruned and the dense network deliver to a stage."""
        offsets = self.offsets[stage.layers[0].name]
        outputs, names = self._outputs(stage), [layer.name for layer in stage.layers]
        dense = LayerInputs(
            self.stream.batches, self._readings(self.dense, stage), offsets, outputs, layers=names
        )
        if self.pruned_stream is None or self.pruned is None:
            return dense, dense
        readings = self._readings(self.pruned, stage)
        exact_skips = self._inexact.isdisjoint(offsets)
        pruned = LayerInputs(
            self.pruned_stream.batches, readings, offsets, exact_skips=exact_skips, layers=names
        )
        return pruned, dense

    def is_exact(self, stage: Stage) -> bool:
        """Whether the pruned network delivers to a stage what the dense one does."""
        names = {tap.name for site in stage.sites for tap in self.capture.taps(site).values()}
        return self.pruned_stream is None or not names & self._inexact

    def changed(self, number: int) -> None:
        """Take note of the weights that a stage has got.

        A weight that is read at several places is pruned when the last of them is reached: the
        pruned network then starts again from its inputs, so that nothing in it is older than the
        weights.
        """
        if self.pruned is None:
            return
        nodes = self.dense.index.nodes
        fresh = {
            name
            for layer in self.plan[number].layers
            if _differs(self.dense, self.pruned, layer)
            for site in layer.sites
            for name in (*nodes[site.node].output, *nodes[site.node].subgraph_outputs, site.output)
            if name
        }
        reached = depends_on(nodes, fresh)
        self._touched |= reached
        alive = self.pieces[number].needed
        if self._start is None or not any(self._source.get(n, n) in reached for n in alive):
            return
        self.pruned_stream = self._start.fork(self._budget)
        for piece in self.pieces[: number + 1]:
            self._run(self.pruned, self.pruned_stream, piece)
        self._note(alive)

    def _outputs(self, stage: Stage) -> tuple[str, ...]:
        """Results of a stage's layers, which are there for nothing where no weights change.

        Convolutions have far more of them than are kept: those are computed.
        """
        names = tuple(layer.sites[0].result for layer in stage.layers)
        recorded = self.pruned is None and len(stage.sites) == 1 and all(names)
        recorded = recorded and ops.output_axis(stage.sites[0].geometry) == -1
        return names if recorded else ()

    def _offsets(self, number: int) -> tuple[str, ...]:
        """What is added behind each layer of a stage, where it is there before any of them runs.

        Of two branches that meet the one that is pruned later has the other as its offset.
        """
        stage, nodes = self.plan[number], self.dense.index.nodes
        site = stage.sites[0]
        if len(stage.sites) > 1 or stage.blocks > 1 or nodes[site.node].parent is not None:
            return ("",) * len(stage.layers)
        waiting = {
            name
            for stage in self.plan[number:]
            for layer in stage.layers
            for site in layer.sites
            for name in (*nodes[site.node].output, *nodes[site.node].subgraph_outputs, site.output)
            if name
        }
        later = depends_on(nodes, waiting)
        names = (layer.response.offset for layer in stage.layers)
        return tuple("" if name in later else name for name in names)

    def _note(self, names: Iterable[str]) -> None:
        self._inexact |= {n for n in names if self._source.get(n, n) in self._touched}

    def _dense(self, piece: Segment) -> Stream:
        self._run(self.dense, self.stream, piece)
        return self.stream

    def _run(self, model: Model, stream: Stream, piece: Segment) -> None:
        capture = self.capture
        shapes = {name: capture.shapes[name] for name in piece.outputs if name in capture.shapes}
        stream.advance(
            lambda kinds, carried: build(model.index, capture, piece, kinds, carried=carried),
            piece.inputs,
            piece.outputs,
            piece.needed,
            shapes if capture.iterated.intersection(shapes) else {},
        )

    def _readings(self, model: Model, stage: Stage) -> list[SiteReader]:
        readings = []
        for site in stage.sites:
            taps = self.capture.taps(site)
            names = {role: (tap.name, tap.stacked) for role, tap in taps.items() if tap.name}
            stored = {role: tap.source for role, tap in taps.items() if not tap.name}
            constants = {role: model.index.view(name).values() for role, name in stored.items()}
            readings.append(SiteReader(site.geometry, names, constants))
        return readings


def _differs(dense: Model, pruned: Model, layer: Layer) -> bool:
    """Whether the layer's weights were changed."""
    pairs = zip(dense_matrices(dense, layer), dense_matrices(pruned, layer), strict=True)
    return not all(np.array_equal(*pair) for pair in pairs)
