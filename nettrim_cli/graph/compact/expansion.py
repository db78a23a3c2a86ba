"""Sparse weights in compact form (see ``packing``) as plain initializers again.

The form is known by its nodes: a ScatterElements into zeros, of constants alone, and the Reshape
behind it.  A Transpose belongs to it where the elements stand in one column, a Mul where they are
integers that were cast.  Or it is the Mul of such integers alone.
"""

from __future__ import annotations

import math
from collections import ChainMap, Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from nettrim_cli.graph.ir.flat_graph import STANDARD
from nettrim_cli.graph.storage import tensors
from nettrim_cli.graph.storage.elements import FLOATS, RAW_DTYPES
from nettrim_cli.graph.storage.external import External, is_external

DEEPEST = 16  # nodes between a constant and what is rebuilt of it
MOST_BYTES, MOST_FACTOR = 1 << 28, 1 << 11  # of what is rebuilt, the latter of what is stored
FEWEST_BYTES = 64  # of integers that are weights
INSIDE_BYTES = 1 << 30  # of what is rebuilt in the protobuf
Attributes = dict[str, Any]


@dataclass(frozen=True)
class Elements:
    """A tensor as its elements are stored, and the number of their type."""

    array: NDArray[Any]
    elem_type: int


class Unfolded(Exception):
    """What is asked for is not computed of constants by known nodes."""


@dataclass
class Rebuilt:
    """A tensor that nodes rebuild.

    Attributes
    ----------
    name, value
        Its name, and what it is.
    path
        Results of the nodes from the ScatterElements to the one that gives the tensor.
    """

    name: str
    value: Elements
    path: list[str]


@dataclass
class _Scope:
    """Constants and nodes that a graph sees, by the names of tensors."""

    sources: ChainMap[str, TensorProto | onnx.NodeProto | None]
    external: External
    room: list[int]
    read: set[str] = field(default_factory=set)
    known: dict[str, Elements] = field(default_factory=dict)

    def value(self, name: str, depth: int = 0) -> Elements:
        """Value of a tensor.

        Raises
        ------
        Unfolded
            It is not known.
        """
        if name in self.known:
            return self.known[name]
        source = self.sources.get(name)
        self.read.add(name)
        if isinstance(source, onnx.NodeProto) and depth < DEEPEST:
            value = self._computed(source, depth)
        elif isinstance(source, TensorProto):
            value = self._stored(source)
        else:
            raise Unfolded
        self.known[name] = value
        return value

    def _stored(self, tensor: TensorProto) -> Elements:
        elements = self.external.elements(tensor)
        if elements is None:
            raise Unfolded
        return Elements(elements.reshape(tuple(tensor.dims)), tensor.data_type)

    def _computed(self, node: onnx.NodeProto, depth: int) -> Elements:
        if node.domain not in STANDARD or len(node.output) != 1:
            raise Unfolded
        if (tensor := tensors.constant(node)) is not None:
            return self._stored(tensor)
        if node.op_type not in FOLDED:
            raise Unfolded
        attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
        inputs = [self.value(name, depth + 1) for name in node.input]
        try:
            result = FOLDED[node.op_type](self, attributes, *inputs)
        except (TypeError, ValueError, IndexError, OverflowError) as error:
            raise Unfolded from error
        return result

    def take(self, size: int, itemsize: int) -> None:
        """Take so much of the room for what is rebuilt.

        Raises
        ------
        Unfolded
            There is no more.
        """
        self.room[0] -= size * itemsize
        if size < 0 or self.room[0] < 0:
            raise Unfolded


def _cast(scope: _Scope, attributes: Attributes, source: Elements) -> Elements:
    target = int(attributes["to"])
    if TensorProto.BFLOAT16 in (target, source.elem_type) or target not in RAW_DTYPES:
        raise Unfolded
    scope.take(source.array.size, RAW_DTYPES[target].itemsize)
    return Elements(source.array.astype(RAW_DTYPES[target]), target)


def _cumsum(scope: _Scope, attributes: Attributes, source: Elements, axis: Elements) -> Elements:
    if attributes.get("exclusive") or attributes.get("reverse") or source.array.dtype.kind != "i":
        raise Unfolded
    scope.take(source.array.size, source.array.itemsize)
    array = np.cumsum(source.array, int(axis.array.reshape(())), source.array.dtype)
    return Elements(array, source.elem_type)


def _arithmetic(function: Callable[..., NDArray[Any]], *, floats: bool = False) -> Any:
    def fold(scope: _Scope, attributes: Attributes, first: Elements, second: Elements) -> Elements:
        """Combine two tensors of one type.

        Parameters
        ----------
        scope
            Gives the room for the result.
        attributes
            Those of the node.
        first, second
            The tensors.

        Raises
        ------
        Unfolded
            Runtimes may give something else.
        """
        arrays = first.array, second.array
        if first.elem_type != second.elem_type or first.elem_type == TensorProto.BFLOAT16:
            raise Unfolded
        kinds = "if" if floats else "i"
        if arrays[0].dtype.kind not in kinds or attributes.get("fmod"):
            raise Unfolded
        shape = np.broadcast_shapes(*(array.shape for array in arrays))
        scope.take(math.prod(shape), arrays[0].itemsize)
        if function in (np.floor_divide, np.mod) and (arrays[0].min() < 0 or arrays[1].min() < 1):
            raise Unfolded  # where runtimes round differently
        with np.errstate(all="ignore"):
            return Elements(function(*arrays), first.elem_type)

    return fold


def _reshape(_: _Scope, attributes: Attributes, source: Elements, shape: Elements) -> Elements:
    sizes = [int(size) for size in shape.array.reshape(-1)]
    if not attributes.get("allowzero"):
        sizes = [size or source.array.shape[axis] for axis, size in enumerate(sizes)]
    return Elements(source.array.reshape(sizes), source.elem_type)


def _zeros(scope: _Scope, attributes: Attributes, shape: Elements) -> Elements:
    value = attributes.get("value")
    elem_type = TensorProto.FLOAT if value is None else value.data_type
    if value is not None:
        fill = tensors.elements(value)
        if fill is None or any(fill.tobytes()):
            raise Unfolded
    sizes = [int(size) for size in shape.array.reshape(-1)]
    scope.take(math.prod(sizes), RAW_DTYPES[elem_type].itemsize)
    return Elements(np.zeros(sizes, RAW_DTYPES[elem_type]), elem_type)


def _scatter(
    scope: _Scope, attributes: Attributes, zeros: Elements, places: Elements, updates: Elements
) -> Elements:
    size, column = len(zeros.array), zeros.array.shape[1:]
    if (
        attributes.get("axis", 0) % zeros.array.ndim
        or attributes.get("reduction", b"none") not in (b"none", "none")
        or math.prod(column) != 1
        or zeros.elem_type != updates.elem_type
        or places.array.dtype.kind != "i"
        or not places.array.shape == updates.array.shape == (places.array.size, *column)
        or (places.array.size and not -size <= places.array.min() <= places.array.max() < size)
    ):
        raise Unfolded
    scope.take(size, zeros.array.itemsize)
    array = zeros.array.copy()
    array[places.array.reshape(-1)] = updates.array
    return Elements(array, zeros.elem_type)


def _transpose(scope: _Scope, attributes: Attributes, source: Elements) -> Elements:
    scope.take(source.array.size, source.array.itemsize)
    array = np.ascontiguousarray(source.array.transpose(attributes.get("perm")))
    return Elements(array, source.elem_type)


FOLDED: Mapping[str, Callable[..., Elements]] = {
    "Cast": _cast,
    "ConstantOfShape": _zeros,
    "CumSum": _cumsum,
    "Div": _arithmetic(np.floor_divide),
    "Mod": _arithmetic(np.mod),
    "Mul": _arithmetic(np.multiply, floats=True),
    "Reshape": _reshape,
    "ScatterElements": _scatter,
    "Sub": _arithmetic(np.subtract),
    "Transpose": _transpose,
}
"""The ops that rebuild weights, as functions on what they read."""


def expanded(model: onnx.ModelProto, external: External) -> onnx.ModelProto:
    """A copy of a model with all weights plain; itself where none is in compact form.

    Parameters
    ----------
    model
        A valid model.
    external
        The values that are not in it; what is large is added.
    """
    stored = model.ByteSize() + sum(
        tensors.raw_bytes(tensor) for tensor in tensors.all_tensors(model) if is_external(tensor)
    )
    uses, room, read = Counter(_reads(model.graph)), [MOST_BYTES + MOST_FACTOR * stored], set[str]()
    rebuilt: list[list[Rebuilt]] = []
    for graph, sources in _scopes(model.graph, ChainMap()):
        scope = _Scope(sources, external, room)
        rebuilt.append(list(_rebuilt(graph, scope, uses)))
        read |= scope.read
    if not any(rebuilt):
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for graph, parts in zip(tensors.graphs(copy.graph), rebuilt, strict=True):
        for part in parts:
            stored += part.value.array.nbytes
            outside = stored > INSIDE_BYTES or bool(external.files)
            value = part.value.array, part.value.elem_type
            graph.initializer.append(external.new_tensor(part.name, *value, outside=outside))
            _remove(graph, part.path, uses)
    for graph in reversed(list(tensors.graphs(copy.graph))):
        _remove_unread(graph, read, uses)
    return copy


def check_equal(
    model: onnx.ModelProto, values: External, copy: onnx.ModelProto, copied_values: External
) -> None:
    """Make sure that a copy has every constant of a model, bit by bit.

    Parameters
    ----------
    model, values
        A model, and the values that are not in it.
    copy, copied_values
        The same of its copy, in which Constant nodes may be initializers.

    Raises
    ------
    AssertionError
        A constant is missing or has other elements.
    """
    pairs = zip(tensors.graphs(model.graph), tensors.graphs(copy.graph), strict=True)
    for graph, copied_graph in pairs:
        copies = dict(_constants(copied_graph))
        for name, tensor in _constants(graph):
            copied = copies.get(name, TensorProto())
            first, second = values.elements(tensor), copied_values.elements(copied)
            if (tensor.data_type, tensor.dims) != (copied.data_type, copied.dims) or (
                first is not None and (second is None or first.tobytes() != second.tobytes())
            ):
                raise AssertionError(f"tensor '{name}' is not what was to be written")


def _constants(graph: onnx.GraphProto) -> Iterator[tuple[str, TensorProto]]:
    """Initializers and tensors of Constant nodes, by name."""
    yield from ((tensor.name, tensor) for tensor in graph.initializer)
    for node in graph.node:
        if (tensor := tensors.constant(node)) is not None:
            yield node.output[0], tensor


def _rebuilt(graph: onnx.GraphProto, scope: _Scope, uses: Counter[str]) -> Iterator[Rebuilt]:
    """The tensors that nodes of a graph rebuild."""
    readers = {name: node for node in graph.node for name in node.input}
    for node in graph.node:
        if node.domain not in STANDARD or node.op_type not in STEPS:
            continue
        try:
            path = [node.output[0]]
            for step in STEPS[node.op_type](scope, node):
                reader = readers.get(path[-1])
                if reader is None or reader.op_type != step or uses[path[-1]] != 1:
                    raise Unfolded
                path.append(reader.output[0])
            yield Rebuilt(path[-1], scope.value(path[-1]), path)
        except Unfolded:
            continue
        finally:
            scope.known.clear()


def _scatter_steps(scope: _Scope, node: onnx.NodeProto) -> list[str]:
    """Ops that follow a ScatterElements."""
    steps = ["Reshape"]
    if scope.value(node.output[0]).array.ndim > 1:
        steps.append("Transpose")
    maker = scope.sources.get(node.input[2])
    if isinstance(maker, onnx.NodeProto) and maker.op_type == "Cast":
        steps += ["Mul"] if scope.value(maker.input[0]).array.dtype.kind in "iu" else []
    return steps


def _cast_steps(scope: _Scope, node: onnx.NodeProto) -> list[str]:
    """Ops that follow a Cast of integers to real numbers."""
    source = scope.value(node.input[0])
    if source.elem_type not in (TensorProto.INT8, TensorProto.INT32) or source.array.ndim < 1:
        raise Unfolded
    if source.array.nbytes < FEWEST_BYTES or scope.value(node.output[0]).elem_type not in FLOATS:
        raise Unfolded
    return ["Mul"]


STEPS: Mapping[str, Callable[[_Scope, onnx.NodeProto], list[str]]] = {
    "Cast": _cast_steps,
    "ScatterElements": _scatter_steps,
}
"""By the first op of a rebuilt tensor, what tells the ops that follow it."""


def _scopes(
    graph: onnx.GraphProto, outer: ChainMap[str, TensorProto | onnx.NodeProto | None]
) -> Iterator[tuple[onnx.GraphProto, ChainMap[str, TensorProto | onnx.NodeProto | None]]]:
    """Each graph with what it sees; an initializer that is an input may have another value."""
    sources: dict[str, TensorProto | onnx.NodeProto | None] = {}
    sources.update((tensor.name, tensor) for tensor in graph.initializer)
    sources.update((value.name, None) for value in graph.input)
    sources.update((name, node) for node in graph.node for name in node.output)
    scope = outer.new_child(sources)
    yield graph, scope
    for node in graph.node:
        for nested in tensors.subgraphs(node):
            yield from _scopes(nested, scope)


def _reads(graph: onnx.GraphProto) -> Iterator[str]:
    """Names that nodes read, and graphs give, once for each time."""
    for each in tensors.graphs(graph):
        yield from (name for node in each.node for name in node.input if name)
        yield from (value.name for value in each.output)


def _remove(graph: onnx.GraphProto, names: list[str], uses: Counter[str]) -> None:
    """Remove the nodes of some results, and what they read from the uses."""
    for position in reversed(range(len(graph.node))):
        node = graph.node[position]
        if node.output and node.output[0] in names:
            uses.subtract(node.input)
            del graph.node[position]


def _remove_unread(graph: onnx.GraphProto, read: set[str], uses: Counter[str]) -> None:
    """Remove what rebuilt weights alone have read, nodes from the last one on."""
    for position in reversed(range(len(graph.node))):
        node = graph.node[position]
        if len(node.output) == 1 and node.output[0] in read and not uses[node.output[0]]:
            uses.subtract(node.input)
            del graph.node[position]
    kept = {value.name for value in graph.input}
    for position in reversed(range(len(graph.initializer))):
        name = graph.initializer[position].name
        if name in read and name not in kept and not uses[name]:
            del graph.initializer[position]
