"""Nodes in dataflow order.

The standard asks for this order in files.  Yet converters append nodes at the end of the main graph
(the usual one to float16 does), and engines run such files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from graphlib import CycleError, TopologicalSorter
from heapq import heappop, heappush

import onnx

from nettrim_cli.errors import BadInput
from nettrim_cli.graph.storage.tensors import subgraphs

MOST_NAMED = 5  # nodes of a circle that a message names


def topological_order(nodes: Sequence[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """Nodes of one graph or function, each behind those whose results it or its subgraphs read.

    Of the nodes that may be next, the first is taken; so a sorted list stays the same.

    Raises
    ------
    BadInput
        Nodes wait for each other's results.
    """
    return [nodes[position] for position in _positions(nodes)]


def sorted_model(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model itself if the nodes of its main graph are in dataflow order, else a sorted copy.

    Raises
    ------
    BadInput
        Nodes wait for each other's results, or those of a subgraph or of a local function are in
        another order: engines sort the main graph alone.
    """
    for nodes, place in _nested_nodes(model):
        if not _are_sorted(nodes):
            raise BadInput(
                f"the nodes of {place} are in no order in which they can run, and engines sort "
                "those of the main graph alone: put each behind those whose results it reads"
            )
    if _are_sorted(model.graph.node):
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    nodes = [
        onnx.NodeProto.FromString(node.SerializeToString())
        for node in topological_order(copy.graph.node)
    ]
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    return copy


def _are_sorted(nodes: Sequence[onnx.NodeProto]) -> bool:
    return _positions(nodes) == list(range(len(nodes)))


def _positions(nodes: Sequence[onnx.NodeProto]) -> list[int]:
    producers: dict[str, int] = {}
    for position, node in enumerate(nodes):
        for name in node.output:
            producers.setdefault(name, position)
    predecessors = {
        position: {producers[name] for name in _tensors_read(node) if name in producers}
        for position, node in enumerate(nodes)
    }
    if all(max(earlier, default=-1) < position for position, earlier in predecessors.items()):
        return list(predecessors)
    sorter = TopologicalSorter(predecessors)
    try:
        sorter.prepare()
    except CycleError as error:
        raise BadInput(_cycle([nodes[position] for position in error.args[1][:-1]])) from error
    order: list[int] = []
    ready: list[int] = []
    while sorter.is_active():
        for position in sorter.get_ready():
            heappush(ready, position)
        order.append(heappop(ready))
        sorter.done(order[-1])
    return order


def _cycle(nodes: Sequence[onnx.NodeProto]) -> str:
    names = [f"'{_title(node)}' ({node.op_type})" for node in nodes]
    if len(names) == 1:
        return f"node {names[0]} reads its own result"
    shown = names[:MOST_NAMED] + [f"{len(names) - MOST_NAMED} more"] * (len(names) > MOST_NAMED)
    return f"nodes {', '.join(shown[:-1])} and {shown[-1]} wait for each other's results"


def _tensors_read(node: onnx.NodeProto) -> set[str]:
    """Tensors that a node reads, and those from outside that its subgraphs read."""
    read = set(node.input)
    for graph in subgraphs(node):
        defined = {value.name for value in graph.input}
        defined.update(tensor.name for tensor in graph.initializer)
        defined.update(tensor.values.name for tensor in graph.sparse_initializer)
        inner = {value.name for value in graph.output}
        for inner_node in graph.node:
            defined.update(inner_node.output)
            inner |= _tensors_read(inner_node)
        read |= inner - defined
    return read - {""}


def _nested_nodes(model: onnx.ModelProto) -> Iterator[tuple[Sequence[onnx.NodeProto], str]]:
    """Nodes of each local function and subgraph, outer ones first, with its title."""
    pending: list[tuple[Sequence[onnx.NodeProto], str]] = [(model.graph.node, "")]
    pending += [(graph.node, f"the local function '{graph.name}'") for graph in model.functions]
    while pending:
        nodes, place = pending.pop()
        if place:
            yield nodes, place
        for node in nodes:
            owner = f"{node.op_type} '{_title(node)}'"
            pending += [(graph.node, f"a subgraph of {owner}") for graph in subgraphs(node)]


def _title(node: onnx.NodeProto) -> str:
    return str(node.name or next(filter(None, node.output), node.op_type))
