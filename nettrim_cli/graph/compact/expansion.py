"""Sparse weights in compact form (see ``packing``) as plain initializers again.

The form is known by its nodes: a ScatterElements into zeros, of constants alone, and the Reshape
behind it.  A Transpose belongs to it where the elements stand in one column, a Mul where they are
integers that were cast.  Or it is the Mul of such integers alone, or the Cast of numbers of half
precision behind a Reshape.
"""

from __future__ import annotations

from collections import ChainMap, Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import onnx
from onnx import TensorProto, helper

from nettrim_cli.graph.compact.folding import FOLDED, STEPS, Elements, Room, Unfolded
from nettrim_cli.graph.ir.flat_graph import STANDARD
from nettrim_cli.graph.storage import tensors
from nettrim_cli.graph.storage.external import External, is_external

DEEPEST = 16  # nodes between a constant and what is rebuilt of it
MOST_BYTES, MOST_FACTOR = 1 << 28, 1 << 11  # of what is rebuilt, the latter of what is stored
INSIDE_BYTES = 1 << 30  # of what is rebuilt in the protobuf


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
    room: Room
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
            result = FOLDED[node.op_type](self.room, attributes, *inputs)
        except (TypeError, ValueError, IndexError, OverflowError) as error:
            raise Unfolded from error
        return result


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
    uses, room, read = (
        Counter(_reads(model.graph)),
        Room(MOST_BYTES + MOST_FACTOR * stored),
        set[str](),
    )
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
    passed: set[str] = set()
    for node in graph.node:
        if node.domain not in STANDARD or node.op_type not in STEPS or node.output[0] in passed:
            continue
        try:
            path = [node.output[0]]
            for step in STEPS[node.op_type](scope, node):
                reader = readers.get(path[-1])
                if reader is None or reader.op_type != step or uses[path[-1]] != 1:
                    raise Unfolded
                path.append(reader.output[0])
            yield Rebuilt(path[-1], scope.value(path[-1]), path)
            passed.update(path)
        except Unfolded:
            continue
        finally:
            scope.known.clear()


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
