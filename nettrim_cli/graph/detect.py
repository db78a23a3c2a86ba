"""Find the layers of a model: those that can be pruned, and why the others cannot."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx

from nettrim_cli.graph.constants import FLOATS, subgraphs, type_name
from nettrim_cli.graph.index import STANDARD, Index, Trace, attributes, derived_constants
from nettrim_cli.graph.layer import Geometry, Layer
from nettrim_cli.graph.ops import OPS, Refusal, read_geometry
from nettrim_cli.graph.responses import response

WEIGHT_SLOTS = {
    "Gemm": 1,
    "MatMul": 1,
    "Conv": 1,
    "ConvTranspose": 1,
    "DeformConv": 1,
    "LSTM": 1,
    "GRU": 1,
    "RNN": 1,
    "Einsum": 1,
    "QLinearConv": 3,
    "QLinearMatMul": 3,
    "ConvInteger": 1,
    "MatMulInteger": 1,
    "FusedConv": 1,
    "FusedGemm": 1,
    "FusedMatMul": 1,
}
"""Ops that have a weight, with the input that carries it."""

PRODUCTS = {
    "MatMul": (0, 1),
    "FusedMatMul": (0, 1),
    "QLinearMatMul": (0, 3),
    "MatMulInteger": (0, 1),
    "Einsum": (0, 1),
}
"""Ops that may also multiply two signals, with their operands: then they are no layers."""

INTEGER = ("QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger")


@dataclass(frozen=True)
class Binding:
    """Where a layer's values are: node numbers in the main graph and input slots.

    `bias_node` is -1 for a layer without a bias; `bias_factor` is Gemm's beta.
    """

    node: int
    slot: int
    bias_node: int = -1
    bias_slot: int = -1
    bias_factor: float = 1.0


def detect(model: onnx.ModelProto, index: Index) -> tuple[tuple[Layer, ...], dict[str, Binding]]:
    """All layers in dataflow order, and the bindings of the prunable ones by layer name."""
    found: list[tuple[int, Layer]] = []
    finder = _InnerFinder(model)
    for number, node in enumerate(index.nodes):
        slot = finder.weight_slot(node, index.initializers, index.constants)
        if slot is not None:
            found.append((number, _blank(node, _known_shape(index, node.input[slot]))))
        inner = finder.inside(node, index.initializers, index.constants)
        found.extend((-1, layer) for layer in inner)
    named = _unique_names(found)
    owners = {number: layer.name for number, layer in named if number >= 0}
    layers: list[Layer] = []
    bindings: dict[str, Binding] = {}
    for number, layer in named:
        if layer.refusal:
            layers.append(layer)
            continue
        try:
            whole, binding = _read(index, number, layer, owners)
        except Refusal as refusal:
            layers.append(replace(layer, refusal=str(refusal)))
        else:
            layers.append(whole)
            bindings[layer.name] = binding
    return tuple(layers), bindings


def _blank(node: onnx.NodeProto, weight: tuple[tuple[int, ...], str]) -> Layer:
    """What is known of a layer from its node alone."""
    shape, dtype = weight
    output = node.output[0] if node.output else ""  # other domains may have none
    return Layer(
        name=node.name or output or node.op_type,
        op=node.op_type,
        input=node.input[0],
        output=output,
        weight_shape=shape,
        shape=_matrix_shape(node, shape),
        has_bias=False,
        dtype=dtype,
        geometry=Geometry(node.op_type),
    )


def _matrix_shape(node: onnx.NodeProto, shape: tuple[int, ...]) -> tuple[int, int]:
    """(N, M) of the ops that are treated; (0, 0) for the others."""
    if node.op_type not in OPS or node.domain not in STANDARD:
        return 0, 0
    return OPS[node.op_type].matrix_shape(attributes(node), shape)


def _known_shape(index: Index, name: str) -> tuple[tuple[int, ...], str]:
    """Shape and element type of a weight in the file, as far as they can be told."""
    if name not in index.constants:
        return (), ""
    try:
        trace = index.trace(name)
    except Refusal:
        tensor = index.initializers.get(name)
        return ((), "") if tensor is None else (tuple(tensor.dims), type_name(tensor.data_type))
    return trace.shape, trace.stored_type


def _unique_names(found: list[tuple[int, Layer]]) -> list[tuple[int, Layer]]:
    taken = {layer.name for _, layer in found}
    seen: set[str] = set()
    result = []
    for number, layer in found:
        name, suffix = layer.name, 2
        while name in seen or (name != layer.name and name in taken):
            name, suffix = f"{layer.name}_{suffix}", suffix + 1
        seen.add(name)
        result.append((number, replace(layer, name=name)))
    return result


def _read(
    index: Index, number: int, layer: Layer, owners: Mapping[int, str]
) -> tuple[Layer, Binding]:
    """The whole layer of a main-graph node, or the reason why it is left alone."""
    node = index.nodes[number]
    if node.op_type in INTEGER:
        raise Refusal("integer weights are not treated yet")
    if node.op_type not in OPS or node.domain not in STANDARD:
        known = node.op_type in WEIGHT_SLOTS or node.domain in STANDARD
        where = "" if known else f" of domain '{node.domain}'"
        raise Refusal(f"{node.op_type}{where} is not treated yet")
    slot = WEIGHT_SLOTS[node.op_type]
    if node.input[slot] not in index.constants:
        left = node.input[0] in index.constants and node.op_type != "Conv"
        raise Refusal("the constant is on the left side" if left else "weight is not constant")
    if node.input[0] in index.constants:
        raise Refusal("its input is constant")
    trace = _trace(index, node.input[slot], "weight")
    how = read_geometry(node.op_type, attributes(node), trace.shape)
    _require_sole(index, trace, number, owners)
    _require_finite(trace, "weight")
    binding = Binding(number, slot)
    output = node.output[0]
    if node.op_type == "MatMul":
        added = _added_bias(index, output, layer.shape[1])
        if added is not None:
            binding = Binding(number, slot, *added)
            output = index.nodes[added[0]].output[0]
    elif len(node.input) > 2 and node.input[2]:
        binding = _own_bias(index, number, binding, layer.shape[1])
    following = response(index, output, op=node.op_type, size=layer.shape[1])
    return replace(
        layer,
        output=output,
        has_bias=binding.bias_node >= 0,
        geometry=how,
        response=following,
    ), binding


def _trace(index: Index, name: str, what: str) -> Trace:
    try:
        return index.trace(name)
    except Refusal as refusal:
        raise Refusal(f"{what} {refusal}") from None


def _require_finite(trace: Trace, what: str) -> None:
    if not np.isfinite(trace.values()).all():
        raise Refusal(f"{what} has values that are not finite")


def _require_sole(index: Index, trace: Trace, number: int, owners: Mapping[int, str]) -> None:
    """Refuse a weight that anything but the layer's node sees."""
    readers = [*(index.producers.get(name, number) for name in trace.names[1:]), number]
    for name, reader in zip(trace.names, readers, strict=True):
        if name in index.outputs:
            raise Refusal("weight is also an output of the model")
        users = index.users(name)
        others = [use.node for use in users if use.node != reader]
        if not others and len(users) > 1:
            raise Refusal("weight is read twice by the same node")
        for other in others:
            if other in owners:
                raise Refusal(f"weight is shared with layer '{owners[other]}'")
        if others:
            node = index.nodes[others[0]]
            raise Refusal(f"weight is also read by {node.op_type} '{node.name or node.output[0]}'")


def _fits(shape: tuple[int, ...], size: int) -> bool:
    """Whether a constant of this shape adds the same vector of `size` to every sample."""
    return math.prod(shape) == 1 or (math.prod(shape) == size == shape[-1])


def _added_bias(index: Index, tensor: str, size: int) -> tuple[int, int] | None:
    """Node and slot of the constant that an Add behind a MatMul brings, if it is a bias."""
    use = index.only_user(tensor)
    if use is None:
        return None
    node = index.nodes[use.node]
    if node.op_type != "Add" or node.domain not in STANDARD or len(node.input) != 2:
        return None
    slot = 1 - use.slot
    if node.input[slot] not in index.constants:
        return None
    try:
        trace = index.trace(node.input[slot])
    except Refusal:
        return None
    # More axes than the product has would change the rank of what follows.
    if not _fits(trace.shape, size) or len(trace.shape) > (index.rank(tensor) or 2):
        return None
    _require_finite(trace, "bias")
    return use.node, slot


def _own_bias(index: Index, number: int, binding: Binding, size: int) -> Binding:
    """Binding with Gemm's C or Conv's B."""
    node = index.nodes[number]
    beta = attributes(node).get("beta", 1.0)
    if node.op_type == "Gemm" and beta == 0:
        return binding
    if node.input[2] not in index.constants:
        raise Refusal("bias is not constant")
    trace = _trace(index, node.input[2], "bias")
    shape = trace.shape
    if not _fits(shape, size) or len(shape) > 2 or (node.op_type == "Conv" and shape != (size,)):
        raise Refusal(f"bias of shape {shape} is not one value per output")
    _require_finite(trace, "bias")
    factor = beta if node.op_type == "Gemm" else 1.0
    return Binding(number, binding.slot, number, 2, factor)


class _InnerFinder:
    """Tells layers, and lists those in subgraphs and local functions (once; all refused)."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._functions = {(f.domain, f.name): f for f in model.functions}
        self._seen: set[tuple[str, str]] = set()

    def weight_slot(
        self, node: onnx.NodeProto, tensors: Mapping[str, Any], constants: set[str]
    ) -> int | None:
        """Input that carries the weight of a node; None for a node that is not a layer."""
        if (node.domain, node.op_type) in self._functions:
            return None
        if node.domain in (*STANDARD, "com.microsoft") and node.op_type in WEIGHT_SLOTS:
            slot = WEIGHT_SLOTS[node.op_type]
            if slot >= len(node.input):
                return None
            if node.op_type not in PRODUCTS or node.input[slot] in constants:
                return slot
            operands = [node.input[other] for other in PRODUCTS[node.op_type]]
            return slot if constants.intersection(operands) else None
        if node.domain in STANDARD:
            return None
        for slot, name in enumerate(node.input):
            if _is_float_matrix(tensors.get(name)):
                return slot
        return None

    def inside(
        self, node: onnx.NodeProto, tensors: Mapping[str, Any], constants: set[str]
    ) -> list[Layer]:
        """Layers in the subgraphs of `node` or in the local function that it calls."""
        layers: list[Layer] = []
        title = node.name or (node.output[0] if node.output else "")
        for graph in subgraphs(node):
            inner = {**tensors, **{tensor.name: tensor for tensor in graph.initializer}}
            known = derived_constants(graph.node, {*constants, *inner})
            place = f"inside a subgraph of {node.op_type} '{title}'"
            layers.extend(self._listed(graph.node, inner, known, place))
        key = (node.domain, node.op_type)
        function = self._functions.get(key)
        if function is not None and key not in self._seen:
            self._seen.add(key)
            pairs = list(zip(function.input, node.input, strict=False))
            inner = {inside: tensors[outside] for inside, outside in pairs if outside in tensors}
            given = {inside for inside, outside in pairs if outside in constants}
            known = derived_constants(function.node, given)
            place = f"inside the local function '{function.name}'"
            layers.extend(self._listed(function.node, inner, known, place))
        return layers

    def _listed(
        self,
        nodes: Iterable[onnx.NodeProto],
        tensors: Mapping[str, Any],
        constants: set[str],
        place: str,
    ) -> list[Layer]:
        layers: list[Layer] = []
        for node in nodes:
            slot = self.weight_slot(node, tensors, constants)
            if slot is not None:
                tensor = tensors.get(node.input[slot])
                shape = () if tensor is None else tuple(tensor.dims)
                dtype = "" if tensor is None else type_name(tensor.data_type)
                layers.append(replace(_blank(node, (shape, dtype)), refusal=place))
            layers.extend(self.inside(node, tensors, constants))
        return layers


def _is_float_matrix(tensor: onnx.TensorProto | None) -> bool:
    return tensor is not None and len(tensor.dims) >= 2 and tensor.data_type in FLOATS
