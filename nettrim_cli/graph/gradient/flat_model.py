"""A model as one list of nodes with named parameters as inputs, ready to be differentiated."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

import onnx
from onnx import version_converter

from nettrim_cli.errors import BadInput
from nettrim_cli.graph.ir.index import Index
from nettrim_cli.graph.ir.node_writer import NodeWriter
from nettrim_cli.graph.ir.writer import Writer
from nettrim_cli.graph.ops.gradients.context import Sizes, TensorFacts
from nettrim_cli.graph.storage.external import External
from nettrim_cli.graph.storage.tensors import elem_type, shape

OPSET = 17  # ScatterElements adds from 16 on; normalisations have ops of their own from 17 on


@dataclass(frozen=True)
class FlatModel:
    """A model whose functions are inlined, and whose parameters are inputs.

    Attributes
    ----------
    proto
        The model, of operator set 17 or later.
    external
        Where values outside of it are.
    parameters
        Names of stored tensors that are inputs.
    """

    proto: onnx.ModelProto
    external: External
    parameters: tuple[str, ...]

    @cached_property
    def index(self) -> Index:
        """Its nodes and tensors."""
        return Index(self.proto, self.external)

    @cached_property
    def facts(self) -> TensorFacts:
        """What onnx's shape inference says of all tensors; ranks by simple rules, too."""
        sizes: dict[str, Sizes] = {}
        types: dict[str, int] = {}
        try:
            model = onnx.shape_inference.infer_shapes(self.proto, data_prop=True)
        except Exception:  # whatever the C++ below throws
            model = self.proto
        graph = model.graph
        for value in (*graph.value_info, *graph.output, *graph.input):
            kind = value.type.tensor_type
            if kind.elem_type:
                types[value.name] = kind.elem_type
            if kind.HasField("shape"):
                sizes[value.name] = tuple(map(_size, kind.shape.dim))
        for tensor in graph.initializer:
            sizes[tensor.name], types[tensor.name] = tuple(tensor.dims), tensor.data_type
        for node in self.index.nodes:
            for name in node.output:
                rank = self.index.rank(name) if name else None
                if rank is not None:
                    sizes.setdefault(name, (None,) * rank)
        return TensorFacts(sizes, types)


def flat_model(
    index: Index,
    parameters: Collection[str],
    outputs: Collection[str],
    branches: Mapping[str, bool] = MappingProxyType({}),
) -> FlatModel:
    """A model that makes some tensors, with stored tensors as inputs.

    Parameters
    ----------
    index
        The model.
    parameters
        Names of initializers and of results of Constant nodes.
    outputs
        Names of the tensors that it makes.
    branches
        What the condition of an If always is, by the name of its first output.  Only that branch
        is left.

    Raises
    ------
    BadInput
        onnx cannot convert it to operator set 17.
    """
    writer = Writer(index)
    model = writer.model("flat")
    model.ir_version = max(model.ir_version, 8)
    graph, stored = model.graph, {*index.initializers, *index.sparse}
    needed = _needed(index, outputs)
    for node in index.flat.main_nodes:
        if node.number in needed and not {*node.output} & {*parameters}:
            proto = writer.node(node)
            if proto.output and proto.output[0] in branches:
                _append_branch(graph, proto, taken=branches[proto.output[0]])
            else:
                graph.node.append(proto)
    read = {name for number in needed for name in index.nodes[number].reads}
    for tensor in index.graph.initializer:
        if tensor.name in read and tensor.name not in parameters:
            graph.initializer.append(tensor)
    graph.sparse_initializer.extend(
        tensor for tensor in index.graph.sparse_initializer if tensor.values.name in read
    )
    graph.input.extend(value for value in index.graph.input if value.name not in stored)
    used = tuple(name for name in parameters if name in read)
    for name in used:
        holder = index.holder(name)
        if holder is None:
            raise ValueError(f"'{name}' is not a stored tensor")
        graph.input.append(
            onnx.helper.make_tensor_value_info(name, elem_type(holder), shape(holder))
        )
    known = {value.name: value for value in index.graph.output}
    graph.output.extend(known.get(name, onnx.ValueInfoProto(name=name)) for name in outputs)
    return FlatModel(_converted(model, index.opset), index.external, used)


def _append_branch(graph: onnx.GraphProto, proto: onnx.NodeProto, *, taken: bool) -> None:
    """The nodes of one branch of an If in its place; all names differ already."""
    name = "then_branch" if taken else "else_branch"
    body = next(attribute.g for attribute in proto.attribute if attribute.name == name)
    graph.node.extend(body.node)
    graph.initializer.extend(body.initializer)
    graph.sparse_initializer.extend(body.sparse_initializer)
    nodes = NodeWriter(graph.node)
    for result, output in zip(body.output, proto.output, strict=True):
        nodes.Identity(result.name, output=output)


def _needed(index: Index, outputs: Collection[str]) -> set[int]:
    """Numbers of the main nodes that some tensors depend on."""
    needed: set[int] = set()
    pending = [index.producers[name] for name in outputs if name in index.producers]
    while pending:
        number = pending.pop()
        if number not in needed:
            needed.add(number)
            reads = index.nodes[number].reads
            pending += [index.producers[name] for name in reads if name in index.producers]
    return needed


def _converted(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    if opset >= OPSET:
        return model
    try:
        return version_converter.convert_version(model, OPSET)
    except Exception as error:  # whatever the C++ below throws
        message = str(error).strip().splitlines()[0]
        raise BadInput(f"onnx cannot convert the model to opset {OPSET}: {message}") from error


def _size(axis: onnx.TensorShapeProto.Dimension) -> int | str | None:
    if axis.HasField("dim_value"):
        return int(axis.dim_value) if axis.dim_value >= 0 else None
    return axis.dim_param or None
