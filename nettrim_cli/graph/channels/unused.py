"""Tensors and nodes that nothing reads any more."""

from __future__ import annotations

import onnx

from nettrim_cli.graph.storage.tensors import graphs, subgraphs


def drop_unused(model: onnx.ModelProto) -> None:
    """Remove initializers and nodes that nothing reads, and inputs for them, in all graphs."""
    for graph in reversed(list(graphs(model.graph))):  # what stands inside is cut first
        while _drop(graph):
            pass


def _drop(graph: onnx.GraphProto) -> bool:
    """Remove what nothing reads now from a graph; whether there was any."""
    read = {output.name for output in graph.output}.union(*map(_reads, graph.node))
    nodes = [node for node in graph.node if not read.isdisjoint(node.output)]
    stored = [tensor for tensor in graph.initializer if tensor.name in read]
    gone = {tensor.name for tensor in graph.initializer} - read
    if len(nodes) == len(graph.node) and not gone:
        return False
    inputs = [value for value in graph.input if value.name not in gone]
    for field, kept in (
        (graph.node, nodes),
        (graph.initializer, stored),
        (graph.input, inputs),
    ):
        messages = [type(message).FromString(message.SerializeToString()) for message in kept]
        del field[:]
        field.extend(messages)
    return True


def _reads(node: onnx.NodeProto) -> set[str]:
    """Tensors that a node or its subgraphs read; names of inner tensors may be among them."""
    names = set(node.input)
    for graph in subgraphs(node):
        names.update(output.name for output in graph.output)
        names.update(*map(_reads, graph.node))
    return names
