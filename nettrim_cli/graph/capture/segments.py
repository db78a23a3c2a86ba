"""Cutting a model into pieces that run one after the other.

Recording a layer needs the tensors that it reads, under weights that change from layer to layer
in a cascade.  The graph is cut where such tensors are born: each node runs once a stream, and
between two pieces only the tensors that later pieces need are alive.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nettrim_cli.graph.capture.recording import CapturePlan
from nettrim_cli.graph.ir.index import Index
from nettrim_cli.graph.ir.writer import Writer, value_type
from nettrim_cli.graph.layer import Runnable


@dataclass(frozen=True)
class Segment:
    """A piece of what runs.

    Attributes
    ----------
    items
        Positions in the recording, ascending; what computes constants may be in several pieces.
    inputs, outputs
        Tensors that must be alive before and that are handed on.
    needed
        Tensors still alive after the piece, its outputs among them.
    """

    items: tuple[int, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    needed: frozenset[str]


class Segments:
    """A recording cut at the tensors that its layers read.

    Parameters
    ----------
    plan
        What runs, in dataflow order.
    stops
        After piece k all tensors of the k-th stop have been computed (or were inputs).
    """

    def __init__(self, plan: CapturePlan, stops: Sequence[Sequence[str]]) -> None:
        self._constants = plan.constants
        self._reads = [item.reads - plan.stored for item in plan.items]
        self._maker = {
            name: position for position, item in enumerate(plan.items) for name in item.outputs
        }
        self._timeless = {self._maker[name] for name in self._constants if name in self._maker}
        self._last = tuple(stops[-1]) if stops else ()
        pieces = self._share_out(stops)
        self.pieces = self._with_edges(pieces, stops)

    def rest(self, number: int) -> Segment:
        """What the last stop still needs when so many pieces have run."""
        done = {at for piece in self.pieces[:number] for at in piece.items} - self._timeless
        items = self._closure(self._last, done)
        made = {name for name, at in self._maker.items() if at in items}
        read = {name for at in items for name in self._reads[at]} - made
        outputs = tuple(name for name in self._last if name in made - self._constants)
        return Segment(tuple(sorted(items)), tuple(sorted(read)), outputs, frozenset(self._last))

    def _share_out(self, stops: Sequence[Sequence[str]]) -> list[list[int]]:
        """Items of each piece: what the stop needs and no earlier piece has run."""
        done: set[int] = set()
        pieces = []
        for stop in stops:
            wanted = self._closure(stop, done)
            done.update(wanted - self._timeless)
            pieces.append(sorted(wanted))
        return pieces

    def _closure(self, names: Sequence[str], done: set[int]) -> set[int]:
        found: set[int] = set()
        waiting = [self._maker[name] for name in names if name in self._maker]
        while waiting:
            at = waiting.pop()
            if at in found or at in done:
                continue
            found.add(at)
            waiting += [self._maker[name] for name in self._reads[at] if name in self._maker]
        return found

    def _with_edges(
        self, pieces: list[list[int]], stops: Sequence[Sequence[str]]
    ) -> tuple[Segment, ...]:
        segments = []
        needed: frozenset[str] = frozenset()
        for items, stop in zip(reversed(pieces), reversed(stops), strict=True):
            mine = set(items)
            made = {name for name, at in self._maker.items() if at in mine}
            read = {name for at in items for name in self._reads[at]} - made
            wanted = needed | set(stop)
            outputs = tuple(sorted((wanted & made) - self._constants))
            segments.append(Segment(tuple(items), tuple(sorted(read)), outputs, wanted))
            needed = frozenset((wanted - set(outputs)) | read)
        return tuple(reversed(segments))


def build(
    index: Index,
    plan: CapturePlan,
    segment: Segment,
    kinds: Mapping[str, tuple[Any, Any]],
    *,
    carried: bool = False,
) -> Runnable:
    """A model of its own for one piece, with the weights that `index` has now.

    Parameters
    ----------
    kinds
        Of each tensor in ``segment.inputs``: dtype and rank (None where it changes), or for
        what is no tensor the engine's word for its type and None.
    carried
        Whether what subgraphs show is carried out of them whatever its shapes; these are then
        outputs, too (``plan.shapes``), and what cannot be carried is none.
    """
    writer = Writer(index, plan, carried=carried)
    made = writer.model("segment")
    graph = made.graph
    read: set[str] = set()
    for at in segment.items:
        item = plan.items[at]
        node = index.nodes[item.node]
        graph.node.append(writer.node(node, probe=item.probe))
        read |= node.reads  # a layer may have been given a bias that the plan knows nothing of
    graph.initializer.extend(each for each in index.graph.initializer if each.name in read)
    graph.sparse_initializer.extend(
        each for each in index.graph.sparse_initializer if each.values.name in read
    )
    for name in segment.inputs:
        graph.input.add(name=name).type.CopyFrom(value_type(name, *kinds[name]))
    for name in segment.outputs:
        shapes = plan.shapes.get(name) if carried else None
        if shapes != "":
            graph.output.add(name=name)
        if shapes:
            graph.output.add(name=shapes)
    return index.external.runnable(made)
