"""How far the network's output moves when one layer is changed.

A few samples wait where the layers are read, in dataflow order, so that only what lies behind a
layer runs again for it.

A Softmax or a Sigmoid at the end flattens all changes but those of samples that are in doubt.  A
few samples have hardly any of these, so the movement of what it reads is told, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.data.dataset import Batch
from nettrim_cli.data.engine import is_array
from nettrim_cli.data.stream import MEMORY_BYTES, Build, Stream, TensorStore, load
from nettrim_cli.data.values import parts
from nettrim_cli.graph.analysis.before_softmax import before_softmax
from nettrim_cli.graph.capture.plan import CapturePlan
from nettrim_cli.graph.capture.segments import Segment, Segments, build
from nettrim_cli.graph.ir.flat_graph import Node
from nettrim_cli.graph.layer import Layer
from nettrim_cli.graph.model import Model
from nettrim_cli.pruning.propagation import Stage, set_matrices
from nettrim_cli.solve.matrices import BLOCK_VALUES

Array = NDArray[np.floating[Any]]


class Movement(NamedTuple):
    """Sums over the outputs of their relative squared errors: as they are, and unflattened."""

    outputs: float
    unflattened: float


class SensitivityProbe:
    """The dense network on its way through some samples, with its outputs for them.

    Parameters
    ----------
    plan
        The layers in the order in which they will be asked for.
    batches
        The samples; beyond a budget of memory they, and what is alive of them, wait on disk.
    """

    def __init__(
        self, dense: Model, plan: Sequence[Stage], batches: Iterable[Batch], *, threads: int
    ) -> None:
        self.dense = dense
        self.recording = CapturePlan(dense.index, (), cascade=False)
        self._at = {item.node: at for at, item in enumerate(self.recording.schedule)}
        ends = {each.name: before_softmax(dense.index, each.name) for each in dense.outputs}
        places = [self._places(stage)[0] for stage in plan]
        reads = [sorted(self.recording.schedule[each].reads) for each in places]
        self.segments = Segments(self.recording, [*reads, [*{*ends, *ends.values()}]])
        fed = ((batch, False) for batch in batches)
        self.start = Stream.read(fed, threads=threads, memory_bytes=MEMORY_BYTES // 4)
        self.stream = self.start.fork()
        self._reached = 0
        # Cut once, too: half-precision tensors are rounded where a piece ends.
        self._advance(0)
        whole, shelf = self.segments.remainder(1), TensorStore(self.start.budget)
        self.names = whole.outputs
        self.outputs = [name in ends for name in self.names]
        self.unflattened = [name in ends.values() for name in self.names]
        self.expected: list[list[Any]] = []
        self.sizes = np.zeros(len(whole.outputs))  # squared, over all samples
        for outputs in self._run(dense, self.stream, whole):
            self.sizes += [squared_distance(each) for each in outputs]
            self.expected.append([shelf.keep(each) for each in outputs])

    def movement(self, stage: int, layer: Layer, matrices: Sequence[Array]) -> Movement:
        """Relative squared errors of the outputs with other weights for one layer's blocks.

        Outputs that are no numbers do not count.

        Parameters
        ----------
        stage
            The layer's place in the plan; never one before those that were asked for earlier.
        matrices
            (N, M) of each block, or (N+1, M) with the bias in the last row.
        """
        self._advance(stage)
        stream, behind = self.stream, self.segments.remainder(self._reached)
        if not set(self._places(layer)) <= set(behind.positions):  # some of it has run already
            stream, behind = self.start, self.segments.remainder(0)
        moved = self._moved(self._run(self._changed(layer, matrices), stream, behind), behind)
        shares = self._relative(sum(moved, np.zeros(len(self.sizes))))
        return Movement(*(float(shares[on].sum()) for on in (self.outputs, self.unflattened)))

    def differences(self, candidate: Model) -> NDArray[np.float64]:
        """(batches,) what the unflattened outputs move by with weights changed anywhere.

        Their sum is the sum over the outputs of their relative squared errors.
        """
        behind = self.segments.remainder(0)
        moved = self._moved(self._run(candidate, self.start, behind), behind)
        return np.asarray(self._relative(moved)[:, self.unflattened].sum(axis=1))

    def _moved(self, results: Iterator[list[Any]], behind: Segment) -> NDArray[np.float64]:
        """(batches, outputs) squared errors of what a part of the network gives."""
        moved = np.zeros((len(self.expected), len(self.sizes)))
        for at, (expected, outputs) in enumerate(zip(self.expected, results, strict=True)):
            by_name = dict(zip(behind.outputs, outputs, strict=True))
            for number, name in enumerate(self.names):
                if name in by_name:
                    moved[at, number] = squared_distance(load(expected[number]), by_name[name])
        return moved

    def _relative(self, moved: NDArray[np.float64]) -> NDArray[np.float64]:
        """(..., outputs) squared errors relative to each output's size over all samples."""
        return np.divide(moved, self.sizes, out=np.zeros_like(moved), where=self.sizes != 0)

    def _places(self, layers: Layer | Stage) -> list[int]:
        """Where in the recording the nodes are that read the layers, or the owners of these."""
        nodes = [self.dense.index.nodes[site.node] for site in layers.sites]
        return [self._at[outermost(each).number] for each in nodes]

    def _advance(self, stage: int) -> None:
        """Run what the layers up to a stage read."""
        while self._reached <= stage:
            piece = self.segments.pieces[self._reached]
            built = self._builder(self.dense, piece)
            self.stream.advance(built, piece.inputs, piece.outputs, piece.needed)
            self._reached += 1

    def _run(self, model: Model, stream: Stream, piece: Segment) -> Iterator[list[Any]]:
        return stream.results(self._builder(model, piece), piece.inputs)

    def _builder(self, model: Model, piece: Segment) -> Build:
        return lambda kinds, _: build(model.index, self.recording, piece, kinds)

    def _changed(self, layer: Layer, matrices: Sequence[Array]) -> Model:
        """A copy of the network with those weights."""
        changed = self.dense.clone()
        set_matrices(changed, layer, matrices)
        return changed


def outermost(node: Node) -> Node:
    """The node of the main graph that a node is, or is inside of."""
    while node.parent is not None:
        node = node.parent.owner
    return node


@np.errstate(over="ignore", invalid="ignore")  # what comes out is looked at
def squared_distance(expected: Any, found: Any = None) -> float:
    """||found - expected||^2 of an output, from zero by default; 0 for non-numbers."""
    if isinstance(expected, (list, dict)):  # with tensors inside
        ours, theirs = parts("", expected, 0), {} if found is None else parts("", found, 0)
        there = {path: theirs[path].array for path in ours if path in theirs}
        return sum(squared_distance(ours[path].array, there.get(path)) for path in ours)
    if not (is_array(expected) and np.issubdtype(expected.dtype, np.floating)):
        return 0.0
    # Where the data decide the shape, another one means that all is lost.
    same = found is not None and expected.shape == found.shape
    total, one = 0.0, expected.reshape(-1)
    other = found.reshape(-1) if same else None
    for at in range(0, one.size, BLOCK_VALUES):
        part = one[at : at + BLOCK_VALUES].astype(np.float64)
        if other is not None:
            part -= other[at : at + BLOCK_VALUES]
        total += float(part @ part)
    return total
