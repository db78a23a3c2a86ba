"""Whether a network is what the Net-Trim paper's theorems are about: a chain of ReLU layers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import onnx

from nettrim_cli.graph.layer import Layer, Runnable
from nettrim_cli.graph.layers.paths import is_idle, response_path
from nettrim_cli.graph.model import Model
from nettrim_cli.graph.ops import Unsupported
from nettrim_cli.graph.ops.context import NodeContext


def relu_chain(model: Model) -> list[tuple[Layer, str]]:
    """All layers of a network in dataflow order, each with the tensor that carries its response.

    Each layer is ``relu(W' x + b)``, the last one with or without the ReLU.  It reads what the one
    before gives, in another shape at most.  What follows the last one is not looked at.

    Raises
    ------
    Unsupported
        The network is something else; says where.
    """
    index, chain = model.index, list[tuple[Layer, str]]()
    layers = {layer.sites[0].node: layer for layer in model.layers if layer.sites}
    last, done, tensor = max(layers, default=-1), set[int](), ""
    for node in index.flat.main_nodes:
        if node.number > last or node.number in done or index.constants.issuperset(node.output):
            continue
        signals = [name for name in node.reads if name not in index.constants]
        if len(signals) != 1 or (tensor and signals != [tensor]):
            raise Unsupported(f"{node.op_type} '{node.title}' is no link of a chain")
        if node.number in layers:
            layer = layers[node.number]
            _check(layer, last=node.number == last)
            path, tensor = response_path(index, layer, layer.sites[0])
            done.update(path)
            chain.append((layer, tensor))
        elif index.spec(node).same_values or is_idle(NodeContext(index, node)):
            tensor = node.output[0]
        else:
            raise Unsupported(f"{node.op_type} '{node.title}' is not part of a ReLU layer")
    if len(chain) != len(model.layers):
        raise Unsupported("not all of its layers are in one chain")
    return chain


def _check(layer: Layer, *, last: bool) -> None:
    """Refuse a layer that is not ``relu(W' x + b)``, or ``W' x + b`` where it is the last."""
    response, name = layer.response, layer.name
    if not layer.prunable:
        raise Unsupported(f"layer '{name}' cannot be read: {layer.refusal}")
    plain = layer.geometry.key[:2] == ("product", -1) and len(layer.blocks) == len(layer.sites) == 1
    if not plain:
        raise Unsupported(f"layer '{name}' is no fully connected one, but a {layer.op}")
    extra = response.scale is not None or response.shift is not None or response.offset
    bounds = response.floor, response.ceiling
    if extra or response.activation or (response.relu and bounds != (0, math.inf)):
        raise Unsupported(f"layer '{name}' is followed by {response.follows}")
    if not (response.relu or last):
        raise Unsupported(f"layer '{name}' is followed by no ReLU")


def with_outputs(model: Model, names: Sequence[str]) -> Runnable:
    """The network with some of its tensors as outputs."""
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    del proto.graph.output[:]
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    return model.external.runnable(proto)
