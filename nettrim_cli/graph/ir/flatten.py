"""Makes the flat view of a model (see ``flat_graph``): functions inlined, subgraphs included."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest

import onnx

from nettrim_cli.errors import BadInput
from nettrim_cli.graph.ir.flat_graph import ENTER, STANDARD, FlatGraph, Node, Subgraph
from nettrim_cli.graph.ir.toposort import topological_order
from nettrim_cli.graph.storage.tensors import Holder, attribute_graphs, is_constant, subgraphs

VALUE_ATTRIBUTES = ("value", "value_float", "value_floats", "value_int", "value_ints")
"""Attributes of a Constant whose value can be read and written (see ``storage.tensors``)."""

MOST_NODES = 100_000  # a small file can unfold to any number by functions that call functions
Key = tuple[str, str, str]
"""Domain, name and overload of a local function."""

Functions = dict[Key, onnx.FunctionProto]
Attributes = dict[str, tuple[onnx.AttributeProto, onnx.AttributeProto]]
"""Attributes by name: with the value filled in, and the one in the model that stores the value."""


def flatten(model: onnx.ModelProto) -> FlatGraph:
    """The flat view of a model.

    Raises
    ------
    BadInput
        Two initializers have one name, nodes wait for each other's results, a function calls itself
        or reads an undefined tensor, or there are too many nodes.
    """
    return _Flattener(model).flat


@dataclass
class _Scope:
    """A graph or function call whose nodes are being read.

    Attributes
    ----------
    names
        Flat names of tensors by the names in the model.
    prefix
        Beginning of the flat names of new tensors.
    nodes
        List to which its nodes are added.
    parent, function, refusal
        Attributes of its nodes (see `Node`).
    attributes
        Attributes that a function's nodes may refer to.
    result_names
        Flat names of the results of a function call.
    """

    names: MutableMapping[str, str]
    prefix: str
    nodes: list[Node]
    parent: Subgraph | None = None
    function: str = ""
    attributes: Attributes = field(default_factory=dict)
    result_names: dict[str, str] = field(default_factory=dict)
    refusal: str = ""


class _Flattener:
    def __init__(self, model: onnx.ModelProto) -> None:
        self.flat = FlatGraph()
        self.functions: Functions = {
            (function.domain, function.name, function.overload): function
            for function in model.functions
        }
        # A function's version of an operator is the model's: onnx's checker sees to it.
        for opset in (
            *(opset for function in model.functions for opset in function.opset_import),
            *model.opset_import,
        ):
            self.flat.versions[_domain(opset.domain)] = opset.version
        self.calls: list[Key] = []
        graph = model.graph
        if _inlined_size(graph.node, self.functions, {}) > MOST_NODES:
            raise BadInput(f"the model unfolds to more than {MOST_NODES:,} nodes")
        for tensor in graph.sparse_initializer:
            self.flat.sparse[tensor.values.name] = tensor
        for tensor in graph.initializer:
            if tensor.name in self.flat.initializers or tensor.name in self.flat.sparse:
                raise BadInput(f"two initializers have the name '{tensor.name}'")
            self.flat.initializers[tensor.name] = tensor
        self.used_names = {*self.flat.initializers, *self.flat.sparse}
        self.used_names.update(value.name for value in graph.input)
        self.used_names.update(name for node in graph.node for name in node.output)
        self._read_nodes(graph.node, _Scope({}, "", self.flat.main_nodes))

    def _read_nodes(self, nodes: Sequence[onnx.NodeProto], scope: _Scope) -> None:
        for source in topological_order(nodes):
            key = (source.domain, source.op_type, source.overload)
            if key in self.functions:
                self._inline(source, key, scope)
            else:
                self._append(self._node(source, scope), scope)

    def _append(self, node: Node, scope: _Scope, *, inside: bool = True) -> None:
        node.number = len(self.flat.nodes)
        self.flat.nodes.append(node)
        if inside:
            scope.nodes.append(node)

    def _node(self, source: onnx.NodeProto, scope: _Scope) -> Node:
        """A node that is no call, its subgraphs read before it."""
        resolved = list(_resolved(source.attribute, scope.attributes))
        node = Node(
            source.op_type,
            source.domain,
            source.name,
            tuple(self._read_name(name, scope) for name in source.input),
            (),
            attribute=[attribute for attribute, _ in resolved],
            source=source,
            parent=scope.parent,
            function=scope.function,
            refusal=scope.refusal,
        )
        if is_constant(source):
            pairs = (pair for pair in resolved if pair[0].name in VALUE_ATTRIBUTES)
            node.holder = next((_holder(*pair) for pair in pairs), None)
        title = source.name or next(filter(None, source.output), source.op_type)
        for attribute, stored in resolved:
            for graph in attribute_graphs(stored):
                prefix = f"{scope.prefix}{title}.{attribute.name}/"
                node.subgraphs += (self._subgraph(node, attribute.name, graph, prefix, scope),)
        node.captured = frozenset().union(*map(_captured, node.subgraphs))
        node.output = tuple(self._new_name(name, scope) for name in source.output)
        return node

    def _subgraph(
        self, owner: Node, attribute: str, graph: onnx.GraphProto, prefix: str, outer: _Scope
    ) -> Subgraph:
        names = outer.names if isinstance(outer.names, ChainMap) else ChainMap(outer.names)
        subgraph = Subgraph(owner, attribute, graph)
        scope = replace(
            outer,
            names=names.new_child(),
            prefix=prefix,
            nodes=subgraph.nodes,
            parent=subgraph,
            result_names={},
            refusal=outer.refusal or self._untreated(owner),
        )
        for tensor in graph.initializer:
            subgraph.initializers[self._new_name(tensor.name, scope)] = tensor
        for tensor in graph.sparse_initializer:
            subgraph.sparse[self._new_name(tensor.values.name, scope)] = tensor
        self.flat.initializers.update(subgraph.initializers)
        self.flat.sparse.update(subgraph.sparse)
        subgraph.inputs = tuple(self._new_name(value.name, scope) for value in graph.input)
        if subgraph.inputs:
            enter = Node(
                *(owner.op_type, ENTER, owner.title, owner.input, subgraph.inputs),
                parent=subgraph,
                function=owner.function,
            )
            self._append(enter, scope, inside=False)
        self._read_nodes(graph.node, scope)
        subgraph.outputs = tuple(self._read_name(value.name, scope) for value in graph.output)
        return subgraph

    def _untreated(self, owner: Node) -> str:
        """The reason why tensors in a node's subgraphs cannot be recorded; empty for none."""
        if owner.domain not in STANDARD or owner.op_type not in ("If", "Loop", "Scan"):
            return f"inside a subgraph of {owner.op_type} '{owner.title}', which is not treated"
        if owner.op_type == "Scan" and self.flat.versions.get("", 0) < 9:
            return f"inside a Scan ('{owner.title}') of an operator set before 9"
        return ""

    def _inline(self, source: onnx.NodeProto, key: Key, scope: _Scope) -> None:
        """Read a local function's nodes in place of its call."""
        function = self.functions[key]
        if key in self.calls:
            raise BadInput(f"the local function '{function.name}' calls itself")
        title = source.name or next(filter(None, source.output), source.op_type)
        attributes = {default.name: (default, default) for default in function.attribute_proto}
        for attribute, stored in _resolved(source.attribute, scope.attributes):
            attributes[attribute.name] = attribute, stored
        inner = _Scope(
            {},
            f"{scope.prefix}{title}/",
            scope.nodes,
            scope.parent,
            function.name,
            attributes,
            refusal=scope.refusal,
        )
        for formal, name in zip_longest(function.input, source.input, fillvalue=""):
            inner.names[formal] = self._read_name(name, scope)
        pairs = [
            (formal, self._new_name(name, scope))
            for formal, name in zip(function.output, source.output, strict=False)
        ]
        # The first of several equal results gets the caller's name.
        inner.result_names = {formal: name for formal, name in reversed(pairs) if name}
        self.calls.append(key)
        self._read_nodes(function.node, inner)
        self.calls.pop()
        for formal, name in pairs:
            inner_name = inner.names.get(formal, formal)
            if name and inner_name != name:
                link = Node("Identity", "", "", (inner_name,), (name,), parent=scope.parent)
                self._append(link, scope)

    def _read_name(self, raw: str, scope: _Scope) -> str:
        """Flat name of a tensor that is read."""
        name = scope.names.get(raw) if raw else ""
        if name is not None:
            return name
        if scope.function:
            raise BadInput(
                f"nothing makes the tensor '{raw}' that the local function '{scope.function}' reads"
            )
        return raw

    def _new_name(self, raw: str, scope: _Scope) -> str:
        """Flat name of a result."""
        if not raw or not scope.prefix:
            return raw
        name = scope.result_names.pop(raw, "")
        if not name:
            name = f"{scope.prefix}{raw}"
            while name in self.used_names:
                name += "'"
        self.used_names.add(name)
        scope.names[raw] = name
        return name


def _domain(name: str) -> str:
    return "" if name in STANDARD else name


def _inlined_size(
    nodes: Iterable[onnx.NodeProto], functions: Functions, sizes: dict[Key, int]
) -> int:
    """Number of nodes once every call is inlined; `sizes` are those of functions."""
    total = 0
    for node in nodes:
        key = (node.domain, node.op_type, node.overload)
        if key in functions and key not in sizes:
            sizes[key] = 0  # a function that calls itself is refused when it is read
            sizes[key] = _inlined_size(functions[key].node, functions, sizes)
        total += 1 + sizes.get(key, 0)
        total += sum(_inlined_size(graph.node, functions, sizes) for graph in subgraphs(node))
    return total


def _resolved(
    attributes: Iterable[onnx.AttributeProto], scope: Attributes
) -> Iterator[tuple[onnx.AttributeProto, onnx.AttributeProto]]:
    """Attributes of a node with references resolved, and those that store the values."""
    for attribute in attributes:
        if not attribute.ref_attr_name:
            yield attribute, attribute
        elif attribute.ref_attr_name in scope:
            _, stored = scope[attribute.ref_attr_name]
            named = onnx.AttributeProto()
            named.CopyFrom(stored)
            named.name = attribute.name
            yield named, stored


def _holder(attribute: onnx.AttributeProto, stored: onnx.AttributeProto) -> Holder:
    """Holder of a Constant's value in the model."""
    return stored.t if attribute.name == "value" else stored


def _captured(subgraph: Subgraph) -> set[str]:
    """Tensors from outside that a subgraph reads."""
    defined = {*subgraph.inputs, *subgraph.initializers, *subgraph.sparse}
    defined.update(name for node in subgraph.nodes for name in node.output)
    read = {name for node in subgraph.nodes for name in node.reads}
    return (read | {name for name in subgraph.outputs if name}) - defined
