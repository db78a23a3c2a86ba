"""How far the network's output moves when one layer is changed.

Many layers are told at once by gradients, as far as these reach (``output_gradients``).  Others are
probed: a few samples wait where the layers are read, in dataflow order, so that only what lies
behind a layer runs again for it.

A Softmax or a Sigmoid at the end flattens all changes but those of samples that are in doubt.  A
few samples have hardly any of these, so the movement of what it reads is told, too.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.data.dataset import Batch
from nettrim_cli.data.engine import is_array
from nettrim_cli.data.stream import MEMORY_BYTES, Build, Stream, TensorStore, load
from nettrim_cli.data.values import parts
from nettrim_cli.graph.analysis.before_softmax import before_softmax
from nettrim_cli.graph.capture.plan import CapturePlan
from nettrim_cli.graph.capture.segments import Segment, Segments, build
from nettrim_cli.graph.layer import Layer
from nettrim_cli.graph.model import Model
from nettrim_cli.pruning.output_gradients import Movement, OutputGradients
from nettrim_cli.pruning.propagation import Stage, dense_matrices, set_matrices
from nettrim_cli.solve.matrices import BLOCK_VALUES

PROBED_LAYERS = 48  # more would take a growing share of a run

Array = NDArray[np.floating[Any]]


def movements(
    gradients: OutputGradients,
    changed: Model,
    names: Collection[str],
    plan: Sequence[Stage],
    probe_batches: Callable[[int], Iterable[Batch]],
) -> dict[str, Movement]:
    """What each layer's change alone does to the outputs, by name.

    Parameters
    ----------
    gradients
        Of the dense network's outputs.  Where layers are few, or no gradient reaches them, they are
        probed, which misses nothing of large changes.
    changed
        The dense network with other weights in some layers.
    names
        The layers.
    plan
        All layers in dataflow order.
    probe_batches
        Samples to probe so many layers with.
    """
    result = gradients.movements(changed) if len(names) > PROBED_LAYERS else {}
    missing = [
        (number, layer)
        for number, stage in enumerate(plan)
        for layer in stage.layers
        if layer.name in names and layer.name not in result
    ]
    if missing:
        batches = probe_batches(len(missing))
        probe = SensitivityProbe(gradients.dense, plan, batches, threads=gradients.threads)
        for number, layer in missing:
            biased = dense_matrices(changed, layer)
            matrices = [matrix if layer.has_bias else matrix[:-1] for matrix in biased]
            result[layer.name] = probe.movement(number, layer, matrices)
    return result


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
        self.capture = CapturePlan(dense.index, (), cascade=False)
        self._positions = {
            item.node: position for position, item in enumerate(self.capture.schedule)
        }
        ends = {output.name: before_softmax(dense.index, output.name) for output in dense.outputs}
        positions = [self._places(stage)[0] for stage in plan]
        reads = [sorted(self.capture.schedule[position].reads) for position in positions]
        self.segments = Segments(self.capture, [*reads, [*{*ends, *ends.values()}]])
        fed = ((batch, False) for batch in batches)
        self.start = Stream.read(fed, threads=threads, memory_bytes=MEMORY_BYTES // 4)
        self.stream = self.start.fork()
        self._reached = 0
        # Cut once, too: half-precision tensors are rounded where a piece ends.
        self._advance(0)
        network, store = self.segments.remainder(1), TensorStore(self.start.budget)
        self.names = network.outputs
        self.outputs = [name in ends for name in self.names]
        self.unflattened = [name in ends.values() for name in self.names]
        self.expected: list[list[Any]] = []
        self.sizes = np.zeros(len(network.outputs))  # squared, over all samples
        for outputs in self._run(dense, self.stream, network):
            self.sizes += [squared_distance(output) for output in outputs]
            self.expected.append([store.keep(output) for output in outputs])

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
        stream, remainder = self.stream, self.segments.remainder(self._reached)
        if not set(self._places(layer)) <= set(remainder.positions):  # some of it has run already
            stream, remainder = self.start, self.segments.remainder(0)
        squares = self._moved(
            self._run(self._changed(layer, matrices), stream, remainder), remainder
        )
        shares = self._relative(sum(squares, np.zeros(len(self.sizes))))
        return Movement(
            *(float(shares[selected].sum()) for selected in (self.outputs, self.unflattened))
        )

    def differences(self, candidate: Model) -> NDArray[np.float64]:
        """(batches,) what the unflattened outputs move by with weights changed anywhere.

        Their sum is the sum over the outputs of their relative squared errors.
        """
        remainder = self.segments.remainder(0)
        squares = self._moved(self._run(candidate, self.start, remainder), remainder)
        return np.asarray(self._relative(squares)[:, self.unflattened].sum(axis=1))

    def _moved(self, results: Iterator[list[Any]], piece: Segment) -> NDArray[np.float64]:
        """(batches, outputs) squared errors of what a part of the network gives."""
        squares = np.zeros((len(self.expected), len(self.sizes)))
        for batch, (expected, outputs) in enumerate(zip(self.expected, results, strict=True)):
            by_name = dict(zip(piece.outputs, outputs, strict=True))
            for number, name in enumerate(self.names):
                if name in by_name:
                    squares[batch, number] = squared_distance(load(expected[number]), by_name[name])
        return squares

    def _relative(self, squares: NDArray[np.float64]) -> NDArray[np.float64]:
        """(..., outputs) squared errors relative to each output's size over all samples."""
        return np.divide(squares, self.sizes, out=np.zeros_like(squares), where=self.sizes != 0)

    def _places(self, layers: Layer | Stage) -> list[int]:
        """Positions in the schedule of the nodes that read the layers, or of their owners."""
        nodes = [self.dense.index.nodes[site.node] for site in layers.sites]
        return [self._positions[node.outermost.number] for node in nodes]

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
        return lambda kinds, _: build(model.index, self.capture, piece, kinds)

    def _changed(self, layer: Layer, matrices: Sequence[Array]) -> Model:
        """A copy of the network with those weights."""
        model = self.dense.clone()
        set_matrices(model, layer, matrices)
        return model


@np.errstate(over="ignore", invalid="ignore")  # what comes out is looked at
def squared_distance(expected: Any, actual: Any = None) -> float:
    """||found - expected||^2 of an output, from zero by default; 0 for non-numbers."""
    if isinstance(expected, (list, dict)):  # with tensors inside
        expected_parts, actual_parts = (
            parts("", expected, 0),
            {} if actual is None else parts("", actual, 0),
        )
        arrays = {path: actual_parts[path].array for path in expected_parts if path in actual_parts}
        return sum(
            squared_distance(expected_parts[path].array, arrays.get(path))
            for path in expected_parts
        )
    if not (is_array(expected) and np.issubdtype(expected.dtype, np.floating)):
        return 0.0
    # Where the data decide the shape, another one means that all is lost.
    same = actual is not None and expected.shape == actual.shape
    total, expected_values = 0.0, expected.reshape(-1)
    actual_values = actual.reshape(-1) if same else None
    for start in range(0, expected_values.size, BLOCK_VALUES):
        difference = expected_values[start : start + BLOCK_VALUES].astype(np.float64)
        if actual_values is not None:
            difference -= actual_values[start : start + BLOCK_VALUES]
        total += float(difference @ difference)
    return total
