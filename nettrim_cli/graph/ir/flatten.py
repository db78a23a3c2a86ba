"""The flat view of a model: every node, wherever it is, with tensor names of one scope.

Nodes of local functions appear once per call, with the names of the caller's tensors for the
function's arguments and results, so that a call is no border at all.  Nodes of subgraphs (If,
Loop, Scan, whatever has a graph as an attribute) come before the node that owns the graph.  Names
of the main graph stay as they are; others get the scope in front.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

import onnx

from nettrim_cli.errors import BadInput
from nettrim_cli.graph.ir.toposort import in_order

STANDARD = ("", "ai.onnx")
ENTER = "nettrim.enter"
"""Domain of the nodes that stand for what a Loop or a Scan hands to its body."""

HELD = ("value", "value_float", "value_floats", "value_int", "value_ints")
"""Attributes of a Constant whose value can be read and written (see ``storage.tensors``)."""

MOST_NODES = 100_000  # functions that call others can make any number of a few bytes
Key = tuple[str, str, str]


@dataclass(eq=False)
class Node:
    """A node as the flat view has it; reads like a NodeProto.

    Attributes
    ----------
    attribute
        Attributes, those that a function takes from its call filled in.
    holder
        Holder of a Constant's value in the model itself (see ``storage.tensors``).
    body
        The subgraph that the node is in; None for the main graph.
    bodies
        Its own subgraphs.
    captured
        Tensors from outside that its subgraphs read.
    function
        Name of the local function that it is in.
    refusal
        Why nothing in it can be treated; empty where something can.
    number
        Its place in the flat view.
    """

    op_type: str
    domain: str
    name: str
    input: tuple[str, ...]
    output: tuple[str, ...]
    attribute: Sequence[Any] = ()
    source: Any = None
    holder: Any = None
    body: Subgraph | None = None
    bodies: tuple[Subgraph, ...] = ()
    captured: frozenset[str] = frozenset()
    function: str = ""
    refusal: str = ""
    number: int = -1

    @property
    def title(self) -> str:
        """Name of the node, or of what it makes."""
        return self.name or next(filter(None, self.output), self.op_type)

    @property
    def reads(self) -> set[str]:
        """Tensors that it or its subgraphs read from where it stands."""
        return {name for name in self.input if name} | self.captured

    @property
    def results(self) -> tuple[str, ...]:
        """Tensors that its subgraphs hand to it."""
        return tuple(name for body in self.bodies for name in body.outputs)

    @property
    def iterates(self) -> bool:
        """Whether its subgraph may run any number of times."""
        return any(body.inputs for body in self.bodies)


@dataclass(eq=False)
class Subgraph:
    """A subgraph: its owner, the attribute that holds it, and its parts under flat names."""

    owner: Node
    attribute: str
    graph: Any
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    initializers: dict[str, Any] = field(default_factory=dict)
    sparse: dict[str, Any] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)

    @property
    def place(self) -> tuple[int, int]:
        """Number of its owner, and which of the owner's it is."""
        return self.owner.number, self.owner.bodies.index(self)

    @property
    def way(self) -> Iterator[Subgraph]:
        """The subgraph and those around it, inside out."""
        body: Subgraph | None = self
        while body is not None:
            yield body
            body = body.owner.body


@dataclass
class FlatGraph:
    """All nodes of a model in dataflow order.

    Attributes
    ----------
    nodes
        Every node; a Loop's or Scan's ENTER node before those of its body.
    top
        The nodes of the main graph, with functions unfolded.
    initializers, sparse
        Stored tensors of all scopes by flat name.
    versions
        Of the operators of each domain, those that functions alone import among them.
    """

    nodes: list[Node] = field(default_factory=list)
    top: list[Node] = field(default_factory=list)
    initializers: dict[str, Any] = field(default_factory=dict)
    sparse: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)


def flatten(model: onnx.ModelProto) -> FlatGraph:
    """The flat view of a model.

    Raises
    ------
    BadInput
        Two initializers have one name, nodes wait for each other's results, or a function calls
        itself or reads what it has not.
    """
    return _Flattener(model).flat


def depends_on(nodes: Iterable[Node], sources: Iterable[str]) -> set[str]:
    """`sources` and every tensor that is computed from one of them."""
    touched, listed, again = set(sources), list(nodes), True
    while again:  # where a Loop's body hands something to its next turn
        again = False
        for node in listed:
            if touched.isdisjoint(node.reads) and touched.isdisjoint(node.results):
                continue
            touched.update(name for name in node.output if name)
            for body in node.bodies:
                if not touched.issuperset(body.inputs) and not touched.isdisjoint(body.outputs):
                    touched.update(body.inputs)
                    again = True
    return touched


@dataclass
class _Scope:
    """Where nodes are being read: how names resolve, and where the nodes go."""

    names: MutableMapping[str, str]
    prefix: str
    nodes: list[Node]
    body: Subgraph | None = None
    function: str = ""
    given: dict[str, Any] = field(default_factory=dict)
    wanted: dict[str, str] = field(default_factory=dict)
    refusal: str = ""


class _Flattener:
    def __init__(self, model: onnx.ModelProto) -> None:
        self.flat = FlatGraph()
        self.functions: dict[Key, Any] = {
            (each.domain, each.name, each.overload): each for each in model.functions
        }
        # A function's version of an operator is the model's: onnx's checker sees to it.
        for imported in (
            *(i for f in model.functions for i in f.opset_import),
            *model.opset_import,
        ):
            self.flat.versions[_domain(imported.domain)] = imported.version
        self.calls: list[Key] = []
        graph = model.graph
        if _unfolded(graph.node, self.functions, {}) > MOST_NODES:
            raise BadInput(f"the model unfolds to more than {MOST_NODES:,} nodes")
        for tensor in graph.sparse_initializer:
            self.flat.sparse[tensor.values.name] = tensor
        for tensor in graph.initializer:
            if tensor.name in self.flat.initializers or tensor.name in self.flat.sparse:
                raise BadInput(f"two initializers have the name '{tensor.name}'")
            self.flat.initializers[tensor.name] = tensor
        self.taken = {*self.flat.initializers, *self.flat.sparse}
        self.taken.update(each.name for each in graph.input)
        self.taken.update(name for node in graph.node for name in node.output)
        self._read(graph.node, _Scope({}, "", self.flat.top))

    def _read(self, nodes: Sequence[Any], scope: _Scope) -> None:
        for source in in_order(nodes):
            key = (source.domain, source.op_type, source.overload)
            if key in self.functions:
                self._call(source, key, scope)
            else:
                self._put(self._plain(source, scope), scope)

    def _put(self, node: Node, scope: _Scope, *, inside: bool = True) -> None:
        node.number = len(self.flat.nodes)
        self.flat.nodes.append(node)
        if inside:
            scope.nodes.append(node)

    def _plain(self, source: Any, scope: _Scope) -> Node:
        """A node that is no call, its subgraphs read before it."""
        given = list(_given(source.attribute, scope.given))
        node = Node(
            source.op_type,
            source.domain,
            source.name,
            tuple(self._seen(name, scope) for name in source.input),
            (),
            attribute=[attribute for attribute, _ in given],
            source=source,
            body=scope.body,
            function=scope.function,
            refusal=scope.refusal,
        )
        if source.op_type == "Constant" and source.domain in STANDARD:
            node.holder = next((_held(*each) for each in given if each[0].name in HELD), None)
        title = source.name or next(filter(None, source.output), source.op_type)
        for attribute, kept in given:
            for graph in _graphs(kept):
                prefix = f"{scope.prefix}{title}.{attribute.name}/"
                node.bodies += (self._body(node, attribute.name, graph, prefix, scope),)
        node.captured = frozenset().union(*map(_captured, node.bodies))
        node.output = tuple(self._made(name, scope) for name in source.output)
        return node

    def _body(
        self, owner: Node, attribute: str, graph: Any, prefix: str, outer: _Scope
    ) -> Subgraph:
        names = outer.names if isinstance(outer.names, ChainMap) else ChainMap(outer.names)
        body = Subgraph(owner, attribute, graph)
        refusal = outer.refusal or self._unfit(owner)
        scope = _Scope(
            names.new_child(), prefix, body.nodes, body, outer.function, outer.given, {}, refusal
        )
        for tensor in graph.initializer:
            body.initializers[self._made(tensor.name, scope)] = tensor
        for tensor in graph.sparse_initializer:
            body.sparse[self._made(tensor.values.name, scope)] = tensor
        self.flat.initializers.update(body.initializers)
        self.flat.sparse.update(body.sparse)
        body.inputs = tuple(self._made(value.name, scope) for value in graph.input)
        if body.inputs:
            enter = Node(
                *(owner.op_type, ENTER, owner.title, owner.input, body.inputs),
                body=body,
                function=owner.function,
            )
            self._put(enter, scope, inside=False)
        self._read(graph.node, scope)
        body.outputs = tuple(self._seen(value.name, scope) for value in graph.output)
        return body

    def _unfit(self, owner: Node) -> str:
        """Why what runs in a node's subgraphs cannot be recorded."""
        if owner.domain not in STANDARD or owner.op_type not in ("If", "Loop", "Scan"):
            return f"inside a subgraph of {owner.op_type} '{owner.title}', which is not treated"
        if owner.op_type == "Scan" and self.flat.versions.get("", 0) < 9:
            return f"inside a Scan ('{owner.title}') of an operator set before 9"
        return ""

    def _call(self, source: Any, key: Key, scope: _Scope) -> None:
        """Unfold a local function in place of its call."""
        function = self.functions[key]
        if key in self.calls:
            raise BadInput(f"the local function '{function.name}' calls itself")
        title = source.name or next(filter(None, source.output), source.op_type)
        given = {each.name: (each, each) for each in function.attribute_proto}
        given |= {each.name: (each, kept) for each, kept in _given(source.attribute, scope.given)}
        inner = _Scope(
            {},
            f"{scope.prefix}{title}/",
            scope.nodes,
            scope.body,
            function.name,
            given,
            refusal=scope.refusal,
        )
        for formal, name in zip_longest(function.input, source.input, fillvalue=""):
            inner.names[formal] = self._seen(name, scope)
        pairs = list(
            zip(function.output, (self._made(each, scope) for each in source.output), strict=False)
        )
        # The first of several equal results is made under the caller's name.
        inner.wanted = {formal: name for formal, name in reversed(pairs) if name}
        self.calls.append(key)
        self._read(function.node, inner)
        self.calls.pop()
        for formal, name in pairs:
            made = inner.names.get(formal, formal)
            if name and made != name:
                link = Node("Identity", "", "", (made,), (name,), body=scope.body)
                self._put(link, scope)

    def _seen(self, raw: str, scope: _Scope) -> str:
        """Flat name of a tensor that is read."""
        found = scope.names.get(raw) if raw else ""
        if found is not None:
            return found
        if scope.function:
            raise BadInput(
                f"nothing makes the tensor '{raw}' that the local function '{scope.function}' reads"
            )
        return raw

    def _made(self, raw: str, scope: _Scope) -> str:
        """Flat name of a tensor that is made."""
        if not raw or not scope.prefix:
            return raw
        name = scope.wanted.pop(raw, "")
        if not name:
            name = f"{scope.prefix}{raw}"
            while name in self.taken:
                name += "'"
        self.taken.add(name)
        scope.names[raw] = name
        return name


def _domain(name: str) -> str:
    return "" if name in STANDARD else name


def _unfolded(nodes: Iterable[Any], functions: dict[Key, Any], sizes: dict[Key, int]) -> int:
    """Number of nodes once every call is replaced by its function's; `sizes` are theirs."""
    total = 0
    for node in nodes:
        key = (node.domain, node.op_type, node.overload)
        if key in functions and key not in sizes:
            sizes[key] = 0  # a function that calls itself is refused when it is read
            sizes[key] = _unfolded(functions[key].node, functions, sizes)
        graphs = (graph for attribute in node.attribute for graph in _graphs(attribute))
        total += 1 + sizes.get(key, 0) + sum(_unfolded(g.node, functions, sizes) for g in graphs)
    return total


def _given(attributes: Iterable[Any], given: dict[str, Any]) -> Iterator[tuple[Any, Any]]:
    """Attributes of a node as it has them, each with the one in the model that holds its value."""
    for attribute in attributes:
        if not attribute.ref_attr_name:
            yield attribute, attribute
        elif attribute.ref_attr_name in given:
            _, kept = given[attribute.ref_attr_name]
            named = onnx.AttributeProto()
            named.CopyFrom(kept)
            named.name = attribute.name
            yield named, kept


def _held(attribute: Any, kept: Any) -> Any:
    """Holder of a Constant's value, which is in the model's own attribute."""
    return kept.t if attribute.name == "value" else kept


def _graphs(attribute: Any) -> tuple[Any, ...]:
    """Subgraphs of an attribute."""
    return (*((attribute.g,) if attribute.HasField("g") else ()), *attribute.graphs)


def _captured(body: Subgraph) -> set[str]:
    """Tensors from outside that a subgraph reads."""
    made = {*body.inputs, *body.initializers, *body.sparse}
    made.update(name for node in body.nodes for name in node.output)
    read = {name for node in body.nodes for name in node.reads}
    return (read | {name for name in body.outputs if name}) - made
