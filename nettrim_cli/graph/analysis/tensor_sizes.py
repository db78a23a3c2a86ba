"""A model that tells how large the tensors on the way through a network are."""

from __future__ import annotations

from collections.abc import Collection

from onnx import TensorProto, helper

from nettrim_cli.graph.ir.node_writer import NodeWriter
from nettrim_cli.graph.ir.writer import Writer
from nettrim_cli.graph.layer import Runnable
from nettrim_cli.graph.model import Model


def sizes(model: Model) -> Runnable:
    """The network with the number of elements of each tensor of its main graph as outputs.

    Constants are left out.  No engine runs it where the network makes sequences on the way, which
    have no size.
    """
    return _told(model, "Size", None)


def shapes(model: Model, names: Collection[str]) -> Runnable:
    """The network with the shapes of some tensors that its main graph makes as outputs.

    Parameters
    ----------
    names
        The tensors; an output is named as its tensor, with a suffix.
    """
    return _told(model, "Shape", names)


def _told(model: Model, op: str, names: Collection[str] | None) -> Runnable:
    """The network with what an op says of some of its tensors as outputs."""
    index = model.index
    writer = Writer(index)
    proto = writer.model("sizes")
    graph = proto.graph
    graph.input.extend(value for value in index.graph.input)
    graph.initializer.extend(index.graph.initializer)
    graph.sparse_initializer.extend(index.graph.sparse_initializer)
    taken, axes = index.all_names(), [] if op == "Size" else [None]
    nodes = NodeWriter(graph.node)
    for node in index.flat.main_nodes:
        graph.node.append(writer.node(node))
        for name in node.output:
            if name and name not in index.constants and (names is None or name in names):
                told = f"{name}:size"
                while told in taken:
                    told += "'"
                nodes.add(op, name, output=told)
                graph.output.append(helper.make_tensor_value_info(told, TensorProto.INT64, axes))
    return index.external.runnable(proto)
