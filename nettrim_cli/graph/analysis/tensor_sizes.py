"""A model that tells how large the tensors on the way through a network are."""

from __future__ import annotations

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
    index = model.index
    writer = Writer(index)
    proto = writer.model("sizes")
    graph = proto.graph
    graph.input.extend(value for value in index.graph.input)
    graph.initializer.extend(index.graph.initializer)
    graph.sparse_initializer.extend(index.graph.sparse_initializer)
    names = index.all_names()
    nodes = NodeWriter(graph.node)
    for node in index.flat.main_nodes:
        graph.node.append(writer.node(node))
        for name in node.output:
            if name and name not in index.constants:
                size = f"{name}:size"
                while size in names:
                    size += "'"
                nodes.Size(name, output=size)
                graph.output.append(helper.make_tensor_value_info(size, TensorProto.INT64, []))
    return index.external.runnable(proto)
