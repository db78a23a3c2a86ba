"""The producers and the readers of each tensor of a model, and where constants are stored."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from nettrim_cli.errors import BadInput
from nettrim_cli.graph.ir.flat_graph import ENTER, STANDARD, Node
from nettrim_cli.graph.ir.flatten import flatten
from nettrim_cli.graph.ir.rank_inference import Ranks
from nettrim_cli.graph.ops import Grid, Unsupported, spec_of
from nettrim_cli.graph.ops.context import NodeContext
from nettrim_cli.graph.ops.spec import OpSpec
from nettrim_cli.graph.storage.elements import FLOATS, PRUNABLE, type_name, widens
from nettrim_cli.graph.storage.external import NOTHING, External
from nettrim_cli.graph.storage.layout_steps import MOVES, dequantized, moves
from nettrim_cli.graph.storage.tensors import Holder, elem_type
from nettrim_cli.graph.storage.weight_view import (
    INTEGERS,
    Array,
    Concatenated,
    StoredTensor,
    WeightView,
)

VIEW_OPS = MOVES | {"Identity", "Cast", "DequantizeLinear", "Concat"}
"""Standard ops that may stand between a stored constant and the tensor that is viewed."""


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
        if node.subgraphs or node.domain == ENTER or node.op_type.startswith("Random"):
            continue
        inputs = [name for name in node.input if name]
        if node.op_type == "Constant" if not inputs else constants.issuperset(inputs):
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
        self._views: dict[str, WeightView | str] = {}
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
                self._views[name] = self._find_view(name)
            except Unsupported as refusal:
                self._views[name] = str(refusal)
        view = self._views[name]
        if isinstance(view, str):
            raise Unsupported(view)
        return view

    def weight_view(self, name: str) -> WeightView:
        """Like `view`, for floating-point values that can be replaced.

        Raises
        ------
        Unsupported
            As for `view`; or the values are of another type.
        """
        view = self.view(name)
        _require_float(view.elem_type)
        return view

    def _find_view(self, name: str) -> WeightView:
        """The view of the tensor that the producer reads, and a step more."""
        if name not in self.constants:
            raise Unsupported("is not constant")
        if name in self.sparse:
            raise Unsupported("is stored as a sparse tensor")
        if name in self.initializers:
            return self._stored_view(self.initializers[name])
        node = self.nodes[self.producers[name]]
        op_type = node.op_type if node.domain in STANDARD else ""
        if op_type == "Constant":
            if node.holder is None:
                raise Unsupported("is stored in a kind of Constant that is not treated yet")
            return self._stored_view(node.holder)
        if op_type not in VIEW_OPS or (node.output[0] != name and op_type != "Split"):
            raise Unsupported(f"is computed from constants by {node.op_type}")
        if op_type == "Concat":
            return self._concatenated(node)
        source = self.view(node.input[0])
        if op_type == "Cast":
            target = _require_float(attributes(node).get("to", 0))
            if not widens(_require_float(source.elem_type), target):
                raise Unsupported("is rounded by a Cast")
            return replace(source, elem_type=target)
        if op_type == "Identity":
            return source
        if op_type == "DequantizeLinear":
            return self._dequantized(node, source)
        options = {**attributes(node), "outputs": len(node.output)}
        inputs = [self._layout_input(node, tensor) for tensor in node.input[1:]]
        steps = moves(op_type, source.shape, options, inputs, node.output.index(name))
        return replace(source, steps=(*source.steps, *steps))

    def _stored_view(self, holder: Holder) -> WeightView:
        return WeightView(StoredTensor(holder, self.external), (), elem_type(holder))

    def _concatenated(self, node: Node) -> WeightView:
        """The view of constants that a Concat joins."""
        views = tuple(self.view(name) for name in node.input)
        shapes = [view.shape for view in views]
        axis, rank = attributes(node).get("axis", 1), len(shapes[0])
        if not -rank <= axis < rank or len({view.elem_type for view in views}) > 1:
            raise Unsupported("is joined of parts that do not fit")
        axis %= rank
        if len({(len(shape), *shape[:axis], *shape[axis + 1 :]) for shape in shapes}) > 1:
            raise Unsupported("is joined of parts that do not fit")
        return WeightView(Concatenated(views, axis), (), views[0].elem_type)

    def _layout_input(self, node: Node, name: str) -> Array | None:
        """Whole numbers that tell a node how to move values; None for an input left out."""
        if not name:
            return None
        try:
            return self.view(name).values()
        except Unsupported:
            raise Unsupported(f"is put into a computed shape by {node.op_type}") from None

    def _dequantized(self, node: Node, view: WeightView) -> WeightView:
        _require_integers(view.elem_type)
        scale = self.view(node.input[1])
        zero: Array = np.zeros((), np.int32)
        if len(node.input) > 2 and node.input[2]:
            zero = self.view(node.input[2]).values()
        options = attributes(node)
        axis, block = options.get("axis", 1), options.get("block_size", 0)
        elem_type = options.get("output_dtype", 0) or scale.elem_type
        step = dequantized(view.shape, view.elem_type, scale.values(), zero, (axis,), block)
        return replace(view, steps=(*view.steps, step), elem_type=_require_float(elem_type))

    def dequantized_view(self, view: WeightView, node: Node, grid: Grid) -> WeightView:
        """The view of an integer weight as the real numbers that its node takes it for.

        Raises
        ------
        Unsupported
            The weight holds no integers, or scale or zero point are not constant or do not fit.
        """
        _require_integers(view.elem_type)
        values: list[Array] = [np.ones((), np.float32), np.zeros((), np.int32)]
        for position, slot in enumerate((grid.scale, grid.zero_point)):
            if slot is not None and slot < len(node.input) and node.input[slot]:
                if node.input[slot] not in self.constants:
                    raise Unsupported("is on a grid that is not constant")
                values[position] = self.view(node.input[slot]).values()
        scale, zero = (array.reshape(()) if array.size == 1 else array for array in values)
        if zero.ndim and not scale.ndim:
            scale = np.full(zero.shape, scale)
        step = dequantized(view.shape, view.elem_type, scale, zero, grid.axes, 0)
        return replace(view, steps=(*view.steps, step), elem_type=TensorProto.FLOAT)

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
        if node.op_type not in VIEW_OPS or node.domain not in STANDARD or use.slot < 0:
            return False
        if use.slot > 0 and node.op_type != "Concat":
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
            return tuple(int(value) for value in self.view(name).values().reshape(-1))
        except Unsupported:
            return None

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

    def _infer_ranks(self, known: Ranks) -> None:
        declared = {}
        for value in (*self.graph.output, *self.graph.value_info, *self.graph.input):
            if value.type.HasField("tensor_type") and value.type.tensor_type.HasField("shape"):
                declared[value.name] = len(value.type.tensor_type.shape.dim)
        inputs = (value.name for value in self.graph.input)
        known.ranks.update((name, declared[name]) for name in inputs if name in declared)
        for name in self.constants:
            with suppress(Unsupported):
                known.add_shape(name, self.view(name).shape)
        for node in self.nodes:
            known.add_node(NodeContext(self, node))
            for name in node.output:
                if name in declared:
                    known.ranks.setdefault(name, declared[name])

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


def _require_integers(elem_type: int) -> None:
    if elem_type not in INTEGERS:
        raise Unsupported(f"holds {type_name(elem_type)} values, which are not treated yet")


def _require_float(elem_type: int) -> int:
    if elem_type in PRUNABLE:
        return elem_type
    if elem_type in FLOATS:
        raise Unsupported(f"holds {type_name(elem_type)} values, which are not treated yet")
    raise Unsupported(f"holds {type_name(elem_type)} values, not floating-point ones")
