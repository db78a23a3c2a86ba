"""Nodes in dataflow order.

The standard wants them so in files, yet converters append nodes at the end of the main graph (the
usual one to float16 does), and engines run such files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from graphlib import CycleError, TopologicalSorter
from heapq import heappop, heappush
from typing import Any

import onnx

from nettrim_cli.errors import BadInput

MOST_NAMED = 5  # nodes of a circle that a message names


def in_order(nodes: Sequence[Any]) -> list[Any]:
    """Nodes of one graph or function, each behind those whose results it or its subgraphs read.

    Otherwise they stay as they are: of the nodes that may be next the first is, so that a sorted
    list stays the same.

    Raises
    ------
    BadInput
        Nodes wait for each other's results.
    """
    return [nodes[at] for at in _positions(nodes)]


def sorted_model(model: onnx.ModelProto) -> onnx.ModelProto:
    """A model with the nodes of its main graph in dataflow order: itself if they are, else a copy.

    Raises
    ------
    BadInput
        Nodes wait for each other's results, or those of a subgraph or of a local function are in
        another order: engines sort the main graph alone.
    """
    for nodes, place in _inner_nodes(model):
        if not _are_sorted(nodes):
            raise BadInput(
                f"the nodes of {place} are in no order in which they can run, and engines sort "
                "those of the main graph alone: put each behind those whose results it reads"
            )
    if _are_sorted(model.graph.node):
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    nodes = [onnx.NodeProto.FromString(n.SerializeToString()) for n in in_order(copy.graph.node)]
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    return copy


def _are_sorted(nodes: Sequence[Any]) -> bool:
    return _positions(nodes) == list(range(len(nodes)))


def _positions(nodes: Sequence[Any]) -> list[int]:
    maker: dict[str, int] = {}
    for at, node in enumerate(nodes):
        for name in node.output:
            maker.setdefault(name, at)
    before = {
        at: {maker[name] for name in _reads(node) if name in maker} for at, node in enumerate(nodes)
    }
    if all(each < at for at, them in before.items() for each in them):
        return list(before)
    sorter = TopologicalSorter(before)
    try:
        sorter.prepare()
    except CycleError as error:
        raise BadInput(_circle([nodes[at] for at in error.args[1][:-1]])) from error
    found: list[int] = []
    ready: list[int] = []
    while sorter.is_active():
        for at in sorter.get_ready():
            heappush(ready, at)
        found.append(heappop(ready))
        sorter.done(found[-1])
    return found


def _circle(nodes: Sequence[Any]) -> str:
    names = [f"'{_title(node)}' ({node.op_type})" for node in nodes]
    if len(names) == 1:
        return f"node {names[0]} reads its own result"
    shown = names[:MOST_NAMED] + [f"{len(names) - MOST_NAMED} more"] * (len(names) > MOST_NAMED)
    return f"nodes {', '.join(shown[:-1])} and {shown[-1]} wait for each other's results"


def _reads(node: Any) -> set[str]:
    """What a node and its subgraphs read from where it stands."""
    read = set(node.input)
    for graph in _subgraphs(node):
        made = {value.name for value in graph.input}
        made.update(tensor.name for tensor in graph.initializer)
        made.update(tensor.values.name for tensor in graph.sparse_initializer)
        inner = {value.name for value in graph.output}
        for each in graph.node:
            made.update(each.output)
            inner |= _reads(each)
        read |= inner - made
    return read - {""}


def _subgraphs(node: Any) -> Iterator[Any]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _inner_nodes(model: onnx.ModelProto) -> Iterator[tuple[Sequence[Any], str]]:
    """Nodes of each local function and subgraph, those inside of others later, and its name."""
    waiting: list[tuple[Sequence[Any], str]] = [(model.graph.node, "")]
    waiting += [(each.node, f"the local function '{each.name}'") for each in model.functions]
    while waiting:
        nodes, place = waiting.pop()
        if place:
            yield nodes, place
        for node in nodes:
            owner = f"{node.op_type} '{_title(node)}'"
            waiting += [(each.node, f"a subgraph of {owner}") for each in _subgraphs(node)]


def _title(node: Any) -> str:
    return str(node.name or next(filter(None, node.output), node.op_type))
