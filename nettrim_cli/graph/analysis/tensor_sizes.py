"""A model that tells how large the tensors on the way through a network are."""

from __future__ import annotations

from collections.abc import Callable, Collection

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
    return _with_facts(model, lambda nodes, name, output: nodes.Size(name, output=output), [])


def shapes(model: Model, names: Collection[str]) -> Runnable:
    """The network with the shapes of some tensors that its main graph makes as outputs.

    Parameters
    ----------
    names
        The tensors; an output is named as its tensor, with a suffix.
    """
    return _with_facts(
        model, lambda nodes, name, output: nodes.Shape(name, output=output), [None], names
    )


def _with_facts(
    model: Model,
    fact: Callable[[NodeWriter, str, str], str],
    axes: list[None],
    names: Collection[str] | None = None,
) -> Runnable:
    """The network with a fact, which has so many axes, of some of its tensors as outputs."""
    index = model.index
    writer = Writer(index)
    proto = writer.model("sizes")
    graph = proto.graph
    graph.input.extend(value for value in index.graph.input)
    graph.initializer.extend(index.graph.initializer)
    graph.sparse_initializer.extend(index.graph.sparse_initializer)
    used, nodes = index.all_names(), NodeWriter(graph.node)
    for node in index.flat.main_nodes:
        graph.node.append(writer.node(node))
        for name in node.output:
            if name and name not in index.constants and (names is None or name in names):
                output = f"{name}:size"
                while output in used:
                    output += "'"
                fact(nodes, name, output)
                graph.output.append(helper.make_tensor_value_info(output, TensorProto.INT64, axes))
    return index.external.runnable(proto)
