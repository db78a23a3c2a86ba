"""Who makes and who reads each tensor of a model, and where constants come from."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from nettrim_cli.errors import BadInput
from nettrim_cli.graph.ir.flatten import ENTER, STANDARD, Node, flatten
from nettrim_cli.graph.ir.rank_inference import Ranks
from nettrim_cli.graph.ops import Grid, Unsupported
from nettrim_cli.graph.storage.external import NOTHING, External
from nettrim_cli.graph.storage.layout_steps import MOVES, dequantized, moves
from nettrim_cli.graph.storage.tensors import FLOATS, TREATED, elem_type, type_name, widens
from nettrim_cli.graph.storage.weight_view import (
    INTEGERS,
    Array,
    Concatenated,
    Step,
    StoredTensor,
    WeightView,
)

WAYS = MOVES | {"Identity", "Cast", "DequantizeLinear", "Concat"}
"""Standard ops on the way from a stored constant that a trace can go back."""


@dataclass(frozen=True)
class Use:
    """Input `slot` of node `node` reads a tensor; slot -1: its subgraph hands it out."""

    node: int
    slot: int


def attributes(node: Any) -> dict[str, Any]:
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
            texts = (each.decode("utf-8", "replace") for each in attribute.strings)
            result[attribute.name] = tuple(texts)
        elif attribute.type == kinds.INTS:
            result[attribute.name] = tuple(int(i) for i in attribute.ints)
        elif attribute.type == kinds.FLOATS:
            result[attribute.name] = tuple(float(f) for f in attribute.floats)
    return result


def derived_constants(nodes: Iterable[Node], known: Iterable[str]) -> set[str]:
    """`known` and all tensors computed from them and from Constant nodes alone."""
    constants = set(known)
    for node in nodes:
        if node.bodies or node.domain == ENTER or node.op_type.startswith("Random"):
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
    flat
        The flat view.
    nodes
        Its nodes, in dataflow order.
    initializers
        Dense initializers by name.
    producers
        Node that makes a tensor.
    uses
        Who reads a tensor; what a subgraph hands out is read by its owner (slot -1).
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

    def __init__(self, model: onnx.ModelProto, external: External = NOTHING) -> None:
        self.external = external
        self.model, self.graph = model, model.graph
        self.opset = max((o.version for o in model.opset_import if o.domain in STANDARD), default=0)
        self.flat = flatten(model)
        self.nodes: list[Node] = self.flat.nodes
        self.initializers: dict[str, Any] = self.flat.initializers
        self.sparse: dict[str, Any] = self.flat.sparse
        self.producers: dict[str, int] = {}
        self.uses: dict[str, list[Use]] = {}
        self.outputs = {output.name for output in self.graph.output}
        fixed = {*self.initializers, *self.sparse}
        self._index_nodes(fixed | {tensor.name for tensor in self.graph.input})
        self.constants = derived_constants(self.nodes, fixed)
        self._ranks: dict[str, int] | None = None
        self._traces: dict[str, WeightView | str] = {}
        self._sights: dict[int, list[tuple[Use, WeightView]]] | None = None

    def _index_nodes(self, known: set[str]) -> None:
        for number, node in enumerate(self.nodes):
            for slot, name in (*enumerate(node.input), *((-1, name) for name in node.results)):
                if name and name not in known:
                    raise BadInput(f"nothing makes the tensor '{name}' that '{node.title}' reads")
                self.uses.setdefault(name, []).append(Use(number, slot))
            for name in node.output:
                if name and name in known:
                    raise BadInput(f"tensor '{name}' is made twice")
                if name:
                    known.add(name)
                    self.producers[name] = number
        missing = sorted(self.outputs - known)
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

    def trace(self, name: str) -> WeightView:
        """Where the constant tensor `name` is stored; sharing is not looked at.

        Raises
        ------
        Unsupported
            It is no constant, stored sparse, of a type that is not treated, or computed.
        """
        if name not in self._traces:
            try:
                self._traces[name] = self._find_trace(name)
            except Unsupported as refusal:
                self._traces[name] = str(refusal)
        found = self._traces[name]
        if isinstance(found, str):
            raise Unsupported(found)
        return found

    def weight_trace(self, name: str) -> WeightView:
        """Like `trace`, for floating-point values that can be replaced.

        Raises
        ------
        Unsupported
            As for `trace`; or the values are of another type.
        """
        found = self.trace(name)
        _require_float(found.kind)
        return found

    def _find_trace(self, name: str) -> WeightView:
        """The trace of what the node before reads, and a step more."""
        if name not in self.constants:
            raise Unsupported("is not constant")
        if name in self.sparse:
            raise Unsupported("is stored as a sparse tensor")
        if name in self.initializers:
            return self._stored(self.initializers[name])
        node = self.nodes[self.producers[name]]
        kind = node.op_type if node.domain in STANDARD else ""
        if kind == "Constant":
            if node.holder is None:
                raise Unsupported("is stored in a kind of Constant that is not treated yet")
            return self._stored(node.holder)
        if kind not in WAYS or (node.output[0] != name and kind != "Split"):
            raise Unsupported(f"is computed from constants by {node.op_type}")
        if kind == "Concat":
            return self._joined(node)
        before = self.trace(node.input[0])
        if kind == "Cast":
            to = _require_float(attributes(node).get("to", 0))
            if not widens(_require_float(before.kind), to):
                raise Unsupported("is rounded by a Cast")
            return replace(before, kind=to)
        if kind == "Identity":
            return before
        if kind == "DequantizeLinear":
            step, to = self._dequantized(node, before)
            return replace(before, steps=(*before.steps, step), kind=to)
        given = {**attributes(node), "outputs": len(node.output)}
        others = [self._moved_by(node, other) for other in node.input[1:]]
        steps = moves(kind, before.shape, given, others, node.output.index(name))
        return replace(before, steps=(*before.steps, *steps))

    def _stored(self, holder: Any) -> WeightView:
        return WeightView(StoredTensor(holder, self.external), (), elem_type(holder))

    def _joined(self, node: Node) -> WeightView:
        """What a Concat makes of constants."""
        parts = tuple(self.trace(name) for name in node.input)
        shapes = [each.shape for each in parts]
        axis, rank = attributes(node).get("axis", 1), len(shapes[0])
        if not -rank <= axis < rank or len({each.kind for each in parts}) > 1:
            raise Unsupported("is joined of parts that do not fit")
        axis %= rank
        if len({(len(each), *each[:axis], *each[axis + 1 :]) for each in shapes}) > 1:
            raise Unsupported("is joined of parts that do not fit")
        return WeightView(Concatenated(parts, axis), (), parts[0].kind)

    def _moved_by(self, node: Node, name: str) -> Array | None:
        """Whole numbers that tell a node how to move values; None where there are none."""
        if not name:
            return None
        try:
            return self.trace(name).values()
        except Unsupported:
            raise Unsupported(f"is put into a computed shape by {node.op_type}") from None

    def _dequantized(self, node: Node, before: WeightView) -> tuple[Step, int]:
        if before.kind not in INTEGERS:
            raise Unsupported(f"holds {type_name(before.kind)} values, which are not treated yet")
        scale = self.trace(node.input[1])
        zero: Any = np.zeros((), np.int32)
        if len(node.input) > 2 and node.input[2]:
            zero = self.trace(node.input[2]).values()
        given = attributes(node)
        axis, block = given.get("axis", 1), given.get("block_size", 0)
        kind = given.get("output_dtype", 0) or scale.kind
        step = dequantized(before.shape, before.kind, scale.values(), zero, (axis,), block)
        return step, _require_float(kind)

    def gridded(self, trace: WeightView, node: Node, grid: Grid) -> WeightView:
        """The trace of an integer weight on to the real numbers that its node takes it for.

        Raises
        ------
        Unsupported
            Scale or zero point are not constant, or do not fit.
        """
        if trace.kind not in INTEGERS:
            raise Unsupported(f"holds {type_name(trace.kind)} values, which are not treated yet")
        values: list[Any] = [np.ones((), np.float32), np.zeros((), np.int32)]
        for at, slot in enumerate((grid.scale, grid.zero_point)):
            if slot is not None and slot < len(node.input) and node.input[slot]:
                if node.input[slot] not in self.constants:
                    raise Unsupported("is on a grid that is not constant")
                values[at] = self.trace(node.input[slot]).values()
        scale, zero = (each.reshape(()) if each.size == 1 else each for each in values)
        if zero.ndim and not scale.ndim:
            scale = np.full(zero.shape, scale)
        step = dequantized(trace.shape, trace.kind, scale, zero, grid.axes, 0)
        return replace(trace, steps=(*trace.steps, step), kind=TensorProto.FLOAT)

    def readers_of(self, trace: WeightView) -> list[Use]:
        """Who sees a stored element that a trace reads: all but the nodes on the way of a trace.

        Slot -1 is a subgraph that hands it out, node -1 the model itself.
        """
        if self._sights is None:
            self._sights = {}
            for name in self.constants:
                with suppress(Unsupported):
                    found = self.trace(name)
                    seen = [use for use in self.users(name) if not self._passes_on(use)]
                    if name in self.outputs:
                        seen.append(Use(-1, -1))
                    for holder in found.holders:
                        each = self._sights.setdefault(holder, [])
                        each.extend((use, found) for use in seen)
        near = [each for holder in trace.holders for each in self._sights.get(holder, ())]
        uses = {use for use, other in near if trace.meets(other)}
        return sorted(uses, key=lambda use: (use.node, use.slot))

    def is_own(self, trace: WeightView, uses: Iterable[Use]) -> bool:
        """Whether values can be stored by a trace and nobody but `uses` sees it."""
        return trace.once and set(self.readers_of(trace)) == set(uses)

    def _passes_on(self, use: Use) -> bool:
        """Whether a use is a step on the way to other readers."""
        node = self.nodes[use.node]
        if node.op_type not in WAYS or node.domain not in STANDARD or use.slot < 0:
            return False
        if use.slot > 0 and node.op_type != "Concat":
            return False
        try:
            self.trace(next(filter(None, node.output)))
        except Unsupported:
            return False
        return True

    def integers(self, name: str) -> tuple[int, ...] | None:
        """Value of a constant list of whole numbers, if that is what `name` is."""
        if name not in self.constants:
            return None
        try:
            return tuple(int(each) for each in self.trace(name).values().reshape(-1))
        except Unsupported:
            return None

    def holder(self, name: str) -> Any:
        """What holds a constant that is read as it is stored; None for anything else."""
        if name in self.producers:
            return self.nodes[self.producers[name]].holder
        return self.initializers.get(name)

    def number(self, name: str) -> float | None:
        """Value of a constant of one element, if that is what `name` is."""
        if name not in self.constants:
            return None
        try:
            trace = self.trace(name)
        except Unsupported:
            return None
        values = trace.values()
        return float(values.reshape(())) if values.size == 1 else None

    def rank(self, name: str) -> int | None:
        """Number of axes of a tensor, as far as simple rules tell."""
        if self._ranks is None:
            self._ranks = self._find_ranks()
        return self._ranks.get(name)

    def _find_ranks(self) -> dict[str, int]:
        """By the rules, else as declared; what is declared of outputs is often wrong."""
        declared = {}
        for value in (*self.graph.output, *self.graph.value_info, *self.graph.input):
            if value.type.HasField("tensor_type") and value.type.tensor_type.HasField("shape"):
                declared[value.name] = len(value.type.tensor_type.shape.dim)
        inputs = {each.name for each in self.graph.input}
        found = Ranks(self.integers, {k: n for k, n in declared.items() if k in inputs}, {})
        for name in self.constants:
            with suppress(Unsupported):
                shape = self.trace(name).shape
                found.ranks[name] = len(shape)
                if len(shape) == 1:
                    found.lengths[name] = shape[0]
        for node in self.nodes:
            found.add(node, attributes(node))
            for name in node.output:
                if name in declared:
                    found.ranks.setdefault(name, declared[name])
        return found.ranks

    def all_names(self) -> set[str]:
        """Every tensor name, wherever it is."""
        names = {value.name for value in (*self.graph.input, *self.graph.output)}
        names.update(self.initializers, self.sparse)
        for node in self.nodes:
            names.update(node.input, node.output)
            source = node.source
            names.update(*(() if source is None else (source.input, source.output)))
            for body in node.bodies:
                names.update(value.name for value in (*body.graph.input, *body.graph.output))
                names.update(tensor.name for tensor in body.graph.initializer)
        return names


def _require_float(kind: int) -> int:
    if kind in TREATED:
        return kind
    if kind in FLOATS:
        raise Unsupported(f"holds {type_name(kind)} values, which are not treated yet")
    raise Unsupported(f"holds {type_name(kind)} values, not floating-point ones")
