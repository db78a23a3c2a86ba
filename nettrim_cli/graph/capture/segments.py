"""Cutting a model into pieces that run one after the other.

Recording a layer needs the tensors that it reads, under weights that change from layer to layer
in a cascade.  The graph is cut where such tensors are computed: each node runs once a stream, and
between two pieces only the tensors that later pieces need are alive.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nettrim_cli.graph.capture.plan import CapturePlan
from nettrim_cli.graph.ir.index import Index
from nettrim_cli.graph.ir.writer import Writer, value_type
from nettrim_cli.graph.layer import Runnable


@dataclass(frozen=True)
class Segment:
    """A piece of a schedule.

    Attributes
    ----------
    positions
        Positions in the plan's schedule, ascending; nodes that compute constants may be in several
        pieces.
    inputs, outputs
        Tensors that it reads from outside, and those that later pieces need.
    needed
        Tensors still alive after the piece, its outputs among them.
    """

    positions: tuple[int, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    needed: frozenset[str]


class Segments:
    """A schedule cut at the tensors that layers read.

    Parameters
    ----------
    plan
        The plan with the schedule.
    stops
        After piece k all tensors of the k-th stop have been computed (or were inputs).
    """

    def __init__(self, plan: CapturePlan, stops: Sequence[Sequence[str]]) -> None:
        self._constants = plan.constants
        self._reads = [node.reads - plan.stored for node in plan.schedule]
        self._producers = {
            name: position for position, node in enumerate(plan.schedule) for name in node.outputs
        }
        self._results: list[list[str]] = [[] for _ in plan.schedule]  # by position
        for name, position in self._producers.items():
            self._results[position].append(name)
        computed_constants = self._constants & self._producers.keys()
        self._timeless = {self._producers[name] for name in computed_constants}
        self._last = tuple(stops[-1]) if stops else ()
        pieces = self._split(stops)
        self.pieces = self._with_edges(pieces, stops)

    def remainder(self, count: int) -> Segment:
        """The nodes that the last stop still needs after `count` pieces have run."""
        done = {position for piece in self.pieces[:count] for position in piece.positions}
        done -= self._timeless
        positions = self._required(self._last, done)
        results = {name for position in positions for name in self._results[position]}
        read = {name for position in positions for name in self._reads[position]}
        inputs = tuple(sorted(read - results))
        outputs = tuple(name for name in self._last if name in results - self._constants)
        return Segment(tuple(sorted(positions)), inputs, outputs, frozenset(self._last))

    def _split(self, stops: Sequence[Sequence[str]]) -> list[list[int]]:
        """Positions of each piece: nodes that the stop needs and no earlier piece has run."""
        done: set[int] = set()
        pieces = []
        for stop in stops:
            positions = self._required(stop, done)
            done.update(positions - self._timeless)
            pieces.append(sorted(positions))
        return pieces

    def _required(self, names: Sequence[str], done: set[int]) -> set[int]:
        """Positions of all nodes that the tensors depend on, but for those that are done."""
        producers = self._producers
        required: set[int] = set()
        pending = [producers[name] for name in names if name in producers]
        while pending:
            position = pending.pop()
            if position in required or position in done:
                continue
            required.add(position)
            pending += [producers[name] for name in self._reads[position] if name in producers]
        return required

    def _with_edges(
        self, pieces: list[list[int]], stops: Sequence[Sequence[str]]
    ) -> tuple[Segment, ...]:
        segments = []
        needed: frozenset[str] = frozenset()
        for positions, stop in zip(reversed(pieces), reversed(stops), strict=True):
            alive = needed | set(stop)
            results = {name for position in positions for name in self._results[position]}
            inputs = {name for position in positions for name in self._reads[position]} - results
            outputs = tuple(sorted((alive & results) - self._constants))
            segments.append(Segment(tuple(positions), tuple(sorted(inputs)), outputs, alive))
            needed = frozenset((alive - set(outputs)) | inputs)
        return tuple(reversed(segments))


def build(
    index: Index,
    plan: CapturePlan,
    segment: Segment,
    kinds: Mapping[str, tuple[Any, Any]],
    *,
    carried: bool = False,
) -> Runnable:
    """A model of one piece, with the weights that `index` has now.

    Parameters
    ----------
    index
        The model as it is now.
    plan
        The plan whose schedule the piece belongs to.
    segment
        The piece.
    kinds
        Dtype and rank of each tensor in ``segment.inputs`` (None for a rank that changes); for an
        input that is no tensor the engine's word for its type, and None.
    carried
        Whether inner tensors are carried out of Loops as flat values.  Their shapes are then
        outputs, too (``plan.shapes``), and tensors that cannot be carried are left out.
    """
    writer = Writer(index, plan, carried=carried)
    model = writer.model("segment")
    graph = model.graph
    read: set[str] = set()
    for position in segment.positions:
        scheduled = plan.schedule[position]
        node = index.nodes[scheduled.node]
        graph.node.append(writer.node(node, probe=scheduled.probe))
        read |= node.reads  # a layer may have been given a bias that the plan knows nothing of
    graph.initializer.extend(tensor for tensor in index.graph.initializer if tensor.name in read)
    graph.sparse_initializer.extend(
        tensor for tensor in index.graph.sparse_initializer if tensor.values.name in read
    )
    for name in segment.inputs:
        graph.input.add(name=name).type.CopyFrom(value_type(name, *kinds[name]))
    for name in segment.outputs:
        shapes = plan.shapes.get(name) if carried else None
        if shapes != "":
            graph.output.add(name=name)
        if shapes:
            graph.output.add(name=shapes)
    return index.external.runnable(model)
