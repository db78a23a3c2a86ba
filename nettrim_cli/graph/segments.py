"""Cutting a model into pieces that run one after the other.

Recording a layer needs the tensor that it reads, under weights that change from layer to layer
in a cascade.  The graph is cut where such tensors are born: each node runs once a stream, and
between two pieces only the tensors that later pieces need are alive.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import DTypeLike

from nettrim_cli.graph.constants import subgraphs
from nettrim_cli.graph.external import NOTHING, External
from nettrim_cli.graph.index import derived_constants
from nettrim_cli.graph.layer import Runnable


@dataclass(frozen=True)
class Segment:
    """A piece of the main graph.

    Attributes
    ----------
    nodes
        Positions in the graph, ascending; nodes that compute constants may be in several pieces.
    inputs, outputs
        Tensors that must be alive before and that are handed on.
    needed
        Tensors still alive after the piece, its outputs among them.
    """

    nodes: tuple[int, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    needed: frozenset[str]


class Segments:
    """A model cut at the tensors that its layers read.

    Parameters
    ----------
    graph
        The main graph, its nodes in dataflow order.
    stops
        After piece k all tensors of the k-th stop have been computed (or were inputs).
    """

    def __init__(self, graph: onnx.GraphProto, stops: Sequence[Sequence[str]]) -> None:
        stored = {each.name for each in graph.initializer}
        stored |= {each.values.name for each in graph.sparse_initializer}
        self._constants = derived_constants(graph.node, stored) - stored
        self._reads = [reads(node) - stored for node in graph.node]
        self._maker = {
            name: position
            for position, node in enumerate(graph.node)
            for name in node.output
            if name
        }
        self._timeless = {self._maker[name] for name in self._constants if name in self._maker}
        pieces = self._share_out(stops)
        self.pieces = self._with_edges(pieces, stops)

    def _share_out(self, stops: Sequence[Sequence[str]]) -> list[list[int]]:
        """Nodes of each piece: what the stop needs and no earlier piece has run."""
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
        for nodes, stop in zip(reversed(pieces), reversed(stops)):
            mine = set(nodes)
            made = {name for name, at in self._maker.items() if at in mine}
            read = {name for at in nodes for name in self._reads[at]} - made
            wanted = needed | set(stop)
            outputs = tuple(sorted((wanted & made) - self._constants))
            segments.append(Segment(tuple(nodes), tuple(sorted(read)), outputs, wanted))
            needed = frozenset((wanted - set(outputs)) | read)
        return tuple(reversed(segments))


def build(
    proto: onnx.ModelProto,
    segment: Segment,
    tensors: Mapping[str, tuple[DTypeLike, int]],
    external: External = NOTHING,
) -> Runnable:
    """A model of its own for one piece, with the weights that `proto` has now.

    Parameters
    ----------
    tensors
        dtype and rank of each tensor in ``segment.inputs``.
    external
        The values that are not in `proto`.
    """
    model = onnx.ModelProto(ir_version=proto.ir_version)
    model.opset_import.extend(proto.opset_import)
    model.functions.extend(proto.functions)
    graph = model.graph
    graph.name = "segment"
    nodes = [proto.graph.node[at] for at in segment.nodes]
    graph.node.extend(nodes)
    read = {name for node in nodes for name in reads(node)}
    graph.initializer.extend(each for each in proto.graph.initializer if each.name in read)
    graph.sparse_initializer.extend(
        each for each in proto.graph.sparse_initializer if each.values.name in read
    )
    for name in segment.inputs:
        dtype, rank = tensors[name]
        kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        axes = [f"{name}.{axis}" for axis in range(rank)]
        graph.input.append(onnx.helper.make_tensor_value_info(name, kind, axes))
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in segment.outputs)
    return external.runnable(model)


def reads(node: onnx.NodeProto) -> set[str]:
    """Tensors that a node reads, by itself or from inside its subgraphs."""
    found = {name for name in node.input if name}
    for graph in subgraphs(node):
        inner = {each.name for each in graph.initializer} | {each.name for each in graph.input}
        for each in graph.node:
            found |= reads(each) - inner
            inner |= set(each.output)
        found |= {each.name for each in graph.output} - inner
    return found


def depends_on(graph: onnx.GraphProto, sources: set[str]) -> set[str]:
    """`sources` and every tensor that is computed from one of them."""
    touched = set(sources)
    for node in graph.node:
        if touched & reads(node):
            touched.update(name for name in node.output if name)
    return touched
