"""The producers and the readers of each tensor of a model, and where constants are stored."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import onnx

from nettrim_cli.errors import BadInput
from nettrim_cli.graph.ir.flat_graph import ENTER, STANDARD, Node
from nettrim_cli.graph.ir.flatten import flatten
from nettrim_cli.graph.ir.rank_inference import Ranks
from nettrim_cli.graph.ops import Unsupported, spec_of
from nettrim_cli.graph.ops.context import NodeContext
from nettrim_cli.graph.ops.spec import OpSpec
from nettrim_cli.graph.storage.constant_views import constant_view, passes_on, require_float
from nettrim_cli.graph.storage.elements import FLOATS
from nettrim_cli.graph.storage.external import NOTHING, External
from nettrim_cli.graph.storage.tensors import Holder
from nettrim_cli.graph.storage.weight_view import WeightView
from nettrim_cli.reasons import Reason


@dataclass(frozen=True)
class Use:
    """Input `slot` of node `node` reads a tensor; slot -1: its subgraph hands it out."""

    node: int
    slot: int


def attributes(node: Node | onnx.NodeProto) -> dict[str, Any]:
    """Plain attributes of a node (numbers, text, tuples of them), graphs and tensors left out."""
    result: dict[str, Any] = {}
    kinds = onnx.AttributeProto
    for attribute in node.attribute:
        if attribute.type == kinds.INT:
            result[attribute.name] = int(attribute.i)
        elif attribute.type == kinds.FLOAT:
            result[attribute.name] = float(attribute.f)
        elif attribute.type == kinds.STRING:
            result[attribute.name] = attribute.s.decode("utf-8", "replace")
        elif attribute.type == kinds.STRINGS:
            texts = (text.decode("utf-8", "replace") for text in attribute.strings)
            result[attribute.name] = tuple(texts)
        elif attribute.type == kinds.INTS:
            result[attribute.name] = tuple(int(i) for i in attribute.ints)
        elif attribute.type == kinds.FLOATS:
            result[attribute.name] = tuple(float(f) for f in attribute.floats)
    return result


def derived_constants(nodes: Iterable[Node], sources: Iterable[str]) -> set[str]:
    """`sources` and all tensors computed from them and from Constant nodes alone."""
    constants = set(sources)
    for node in nodes:
        spec = spec_of(node.op_type, node.domain)
        if node.subgraphs or node.domain == ENTER or spec.random:
            continue
        inputs = [name for name in node.input if name]
        if spec.stores if not inputs else constants.issuperset(inputs):
            constants.update(name for name in node.output if name)
    return constants


class Index:
    """The flat view of a model, indexed by tensor name.

    Attributes
    ----------
    model, graph
        The protobuf message, and its main graph.
    external
        The values that are not in it.
    opset
        Version of the standard operators.
    float_types
        Element types that count as floating point.
    flat
        The flat view.
    nodes
        Its nodes, in dataflow order.
    initializers
        Dense initializers by name.
    producers
        Number of the node that makes a tensor.
    uses
        The readers of a tensor; the owner of a subgraph reads its outputs (slot -1).
    outputs
        Names of the model's outputs.
    constants
        Names of all tensors that do not depend on the model's inputs.

    Raises
    ------
    BadInput
        Two constants or nodes define one tensor, nothing defines one that is read, or nodes wait
        for each other's results.
    """

    float_types = FLOATS

    def __init__(self, model: onnx.ModelProto, external: External = NOTHING) -> None:
        self.external = external
        self.model, self.graph = model, model.graph
        self.opset = max((o.version for o in model.opset_import if o.domain in STANDARD), default=0)
        self.flat = flatten(model)
        self.nodes: list[Node] = self.flat.nodes
        self.initializers: dict[str, onnx.TensorProto] = self.flat.initializers
        self.sparse: dict[str, onnx.SparseTensorProto] = self.flat.sparse
        self.producers: dict[str, int] = {}
        self.uses: dict[str, list[Use]] = {}
        self.outputs = {output.name for output in self.graph.output}
        fixed = {*self.initializers, *self.sparse}
        self._index_nodes(fixed | {tensor.name for tensor in self.graph.input})
        self.constants = derived_constants(self.nodes, fixed)
        self._ranks: Ranks | None = None
        self._views: dict[str, WeightView | Reason] = {}
        self._readers: dict[int, list[tuple[Use, WeightView]]] | None = None

    def _index_nodes(self, defined: set[str]) -> None:
        for number, node in enumerate(self.nodes):
            outputs = ((-1, name) for name in node.subgraph_outputs)
            for slot, name in (*enumerate(node.input), *outputs):
                if name and name not in defined:
                    raise BadInput(f"nothing makes the tensor '{name}' that '{node.title}' reads")
                self.uses.setdefault(name, []).append(Use(number, slot))
            for name in node.output:
                if name and name in defined:
                    raise BadInput(f"tensor '{name}' is made twice")
                if name:
                    defined.add(name)
                    self.producers[name] = number
        missing = sorted(self.outputs - defined)
        if missing:
            raise BadInput(f"nothing makes the model output '{missing[0]}'")

    def users(self, name: str) -> list[Use]:
        """All uses of a tensor."""
        return self.uses.get(name, [])

    def only_user(self, name: str) -> Use | None:
        """The one use of a tensor, if there is no other and it is not an output of the model."""
        users = self.users(name)
        if len(users) != 1 or name in self.outputs or users[0].slot < 0:
            return None
        return users[0]

    def view(self, name: str) -> WeightView:
        """The view of the constant tensor `name`; other nodes may read the same stored elements.

        Raises
        ------
        Unsupported
            It is no constant, stored sparse, of a type that is not treated, or computed.
        """
        if name not in self._views:
            try:
                self._views[name] = constant_view(self, name)
            except Unsupported as refusal:
                self._views[name] = refusal.reason
        view = self._views[name]
        if isinstance(view, Reason):
            raise Unsupported(view.text, view.code)
        return view

    def weight_view(self, name: str) -> WeightView:
        """Like `view`, for floating-point values that can be replaced.

        Raises
        ------
        Unsupported
            As for `view`; or the values are of another type.
        """
        view = self.view(name)
        require_float(view.elem_type)
        return view

    def readers_of(self, view: WeightView) -> list[Use]:
        """Uses of the stored elements that a view reads, but for those that pass them on.

        Slot -1 stands for a subgraph that hands them out, node -1 for the model itself.
        """
        if self._readers is None:
            self._readers = self._find_readers()
        readers = [reader for holder in view.holders for reader in self._readers.get(holder, ())]
        uses = {use for use, reader_view in readers if view.overlaps(reader_view)}
        return sorted(uses, key=lambda use: (use.node, use.slot))

    def _find_readers(self) -> dict[int, list[tuple[Use, WeightView]]]:
        """Uses of constants and their views, by the ids of holders."""
        readers: dict[int, list[tuple[Use, WeightView]]] = {}
        for name in self.constants:
            with suppress(Unsupported):
                view = self.view(name)
                uses = [use for use in self.users(name) if not self._passes_on(use)]
                if name in self.outputs:
                    uses.append(Use(-1, -1))
                for holder in view.holders:
                    readers.setdefault(holder, []).extend((use, view) for use in uses)
        return readers

    def is_read_only_by(self, view: WeightView, uses: Iterable[Use]) -> bool:
        """Whether values can be stored through a view and only `uses` read them."""
        return view.reads_once and set(self.readers_of(view)) == set(uses)

    def _passes_on(self, use: Use) -> bool:
        """Whether the use is a step on the way to other readers."""
        node = self.nodes[use.node]
        if use.slot < 0 or not passes_on(self, node, use.slot):
            return False
        try:
            self.view(next(filter(None, node.output)))
        except Unsupported:
            return False
        return True

    def integers(self, name: str) -> tuple[int, ...] | None:
        """Value of a constant list of whole numbers, if that is what `name` is."""
        if name not in self.constants:
            return None
        try:
            values = self.view(name).values()
        except Unsupported:
            return None
        whole = values.dtype.kind in "iu"
        return tuple(int(value) for value in values.reshape(-1)) if whole else None

    def holder(self, name: str) -> Holder | None:
        """Holder of a constant that is read as it is stored; None for anything else."""
        if name in self.producers:
            holder: Holder | None = self.nodes[self.producers[name]].holder
            return holder
        return self.initializers.get(name)

    def number(self, name: str) -> float | None:
        """Value of a constant of one element, if that is what `name` is."""
        if name not in self.constants:
            return None
        try:
            values = self.view(name).values()
        except Unsupported:
            return None
        return float(values.reshape(())) if values.size == 1 else None

    def rank(self, name: str) -> int | None:
        """Number of axes of a tensor, as far as simple rules tell."""
        return self._known_ranks().ranks.get(name)

    def length(self, name: str) -> int | None:
        """Number of entries of a tensor with one axis, as far as simple rules tell."""
        return self._known_ranks().lengths.get(name)

    def attributes(self, node: Node) -> dict[str, Any]:
        """Plain attributes of a node."""
        return attributes(node)

    def spec(self, node: Node) -> OpSpec:
        """Entry of a node's op in the table."""
        return spec_of(node.op_type, node.domain)

    def maker(self, name: str) -> Node | None:
        """The node that makes a tensor."""
        number = self.producers.get(name)
        return None if number is None else self.nodes[number]

    def _known_ranks(self) -> Ranks:
        """By the rules, else as declared; what is declared of outputs is often wrong."""
        if self._ranks is None:
            self._ranks = Ranks()  # rules ask for what is known so far
            self._infer_ranks(self._ranks)
        return self._ranks

    def _infer_ranks(self, ranks: Ranks) -> None:
        declared = {}
        for value in (*self.graph.output, *self.graph.value_info, *self.graph.input):
            if value.type.HasField("tensor_type") and value.type.tensor_type.HasField("shape"):
                declared[value.name] = len(value.type.tensor_type.shape.dim)
        inputs = (value.name for value in self.graph.input)
        ranks.ranks.update((name, declared[name]) for name in inputs if name in declared)
        for name in self.constants:
            with suppress(Unsupported):
                ranks.add_shape(name, self.view(name).shape)
        for node in self.nodes:
            ranks.add_node(NodeContext(self, node))
            for name in node.output:
                if name in declared:
                    ranks.ranks.setdefault(name, declared[name])

    def all_names(self) -> set[str]:
        """Every tensor name, wherever it is."""
        names = {value.name for value in (*self.graph.input, *self.graph.output)}
        names.update(self.initializers, self.sparse)
        for node in self.nodes:
            names.update(node.input, node.output)
            source = node.source
            names.update(*(() if source is None else (source.input, source.output)))
            for body in node.subgraphs:
                names.update(value.name for value in (*body.graph.input, *body.graph.output))
                names.update(tensor.name for tensor in body.graph.initializer)
        return names
