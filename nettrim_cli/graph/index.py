"""Who makes and who reads each tensor of a model's main graph, and where constants come from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from nettrim_cli.errors import BadInput
from nettrim_cli.graph.constants import (
    FLOATS,
    TREATED,
    constant_holder,
    elem_type,
    shape,
    subgraphs,
    type_name,
    widens,
)
from nettrim_cli.graph.external import NOTHING, External
from nettrim_cli.graph.ops import Refusal

STANDARD = ("", "ai.onnx")
KEEP_RANK = frozenset(
    (
        *("Identity", "Dropout", "Cast", "Transpose", "Pad", "Conv", "ConvTranspose"),
        *("Relu", "Clip", "LeakyRelu", "PRelu", "Elu", "Selu", "Gelu", "HardSwish"),
        *("Sigmoid", "HardSigmoid", "Tanh", "Erf", "Exp", "Sqrt", "Abs", "Neg"),
        *("BatchNormalization", "LayerNormalization", "Softmax", "LogSoftmax"),
        *("MaxPool", "AveragePool", "GlobalAveragePool"),
    )
)
"""Standard ops whose output has as many axes as their first input."""

BROADCAST = frozenset(("Add", "Sub", "Mul", "Div", "Max", "Min", "Pow"))
"""Standard ops whose output has as many axes as their largest input."""


@dataclass(frozen=True)
class Use:
    """Input `slot` of node `node` reads a tensor; slot -1: a subgraph of the node does."""

    node: int
    slot: int


@dataclass(frozen=True)
class Trace:
    """The way from a stored constant to the tensor that a node reads.

    Attributes
    ----------
    holder
        The protobuf message that holds the stored value.
    names
        Tensors on the way, the stored one first, the one that is read last.
    perms
        Transpositions on the way, in their order.
    kind
        Element type of the tensor that is read (a Cast may widen it).
    external
        Values outside the protobuf.
    """

    holder: Any
    names: tuple[str, ...]
    perms: tuple[tuple[int, ...], ...]
    kind: int
    external: External = NOTHING

    @property
    def dtype(self) -> np.dtype[Any]:
        """Numpy's dtype in which it is read."""
        return TREATED[self.kind]

    @property
    def stored_type(self) -> str:
        """Name of the stored element type."""
        return type_name(elem_type(self.holder))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the tensor that is read."""
        result = shape(self.holder)
        for perm in self.perms:
            result = tuple(result[axis] for axis in perm)
        return result

    def values(self) -> NDArray[Any]:
        """Value of the tensor that is read."""
        array = self.external.read(self.holder)
        for perm in self.perms:
            array = array.transpose(perm)
        with np.errstate(invalid="ignore"):  # a signalling NaN stays a NaN
            return array.astype(self.dtype, copy=False)

    def store(self, values: NDArray[Any]) -> None:
        """Write the stored value so that `values` (up to the stored dtype) is read."""
        for perm in reversed(self.perms):
            values = values.transpose(np.argsort(perm))
        self.external.write(self.holder, values)


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
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
        elif attribute.type == kinds.INTS:
            result[attribute.name] = tuple(int(i) for i in attribute.ints)
        elif attribute.type == kinds.FLOATS:
            result[attribute.name] = tuple(float(f) for f in attribute.floats)
    return result


def derived_constants(nodes: Iterable[onnx.NodeProto], known: Iterable[str]) -> set[str]:
    """`known` and all tensors computed from them and from Constant nodes alone."""
    constants = set(known)
    for node in nodes:
        inputs = [name for name in node.input if name]
        alone = node.op_type == "Constant" if not inputs else constants.issuperset(inputs)
        if alone and not node.op_type.startswith("Random") and not any(subgraphs(node)):
            constants.update(name for name in node.output if name)
    return constants


class Index:
    """The main graph of a model, indexed by tensor name.

    Attributes
    ----------
    external
        The values that are not in the protobuf.
    graph
        The main graph.
    opset
        Version of the standard operators.
    nodes
        Its nodes, in dataflow order.
    initializers
        Dense initializers by name.
    producers
        Node that makes a tensor.
    uses
        Who reads a tensor, subgraphs that capture it included.
    outputs
        Names of the model's outputs.
    constants
        Names of all tensors that do not depend on the model's inputs.

    Raises
    ------
    BadInput
        Two constants or nodes define one tensor, or a tensor is read before it is made.
    """

    def __init__(self, model: onnx.ModelProto, external: External = NOTHING) -> None:
        self.graph = model.graph
        self.external = external
        self.opset = max((o.version for o in model.opset_import if o.domain in STANDARD), default=0)
        self.nodes: list[Any] = list(self.graph.node)
        self.initializers: dict[str, Any] = {}
        self.sparse: dict[str, Any] = {t.values.name: t for t in self.graph.sparse_initializer}
        self.producers: dict[str, int] = {}
        self.uses: dict[str, list[Use]] = {}
        self.outputs = {output.name for output in self.graph.output}
        for tensor in self.graph.initializer:
            if tensor.name in self.initializers or tensor.name in self.sparse:
                raise BadInput(f"two initializers have the name '{tensor.name}'")
            self.initializers[tensor.name] = tensor
        fixed = {*self.initializers, *self.sparse}
        self._index_nodes(fixed | {tensor.name for tensor in self.graph.input})
        self.constants = derived_constants(self.nodes, fixed)
        self._ranks: dict[str, int] | None = None

    def _index_nodes(self, known: set[str]) -> None:
        for number, node in enumerate(self.nodes):
            for slot, name in enumerate(node.input):
                if name and name not in known:
                    raise BadInput(f"tensor '{name}' is read before it is made")
                self.uses.setdefault(name, []).append(Use(number, slot))
            for name in sorted(_mentioned(node)):
                self.uses.setdefault(name, []).append(Use(number, -1))
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
        """All uses of a tensor in the main graph."""
        return self.uses.get(name, [])

    def only_user(self, name: str) -> Use | None:
        """The one use of a tensor, if there is no other and it is not an output of the model."""
        users = self.users(name)
        if len(users) != 1 or name in self.outputs or users[0].slot < 0:
            return None
        return users[0]

    def trace(self, name: str) -> Trace:
        """Where the constant tensor `name` is stored; sharing is not looked at.

        Raises
        ------
        Refusal
            It is stored sparse, of a type that is not treated, or computed.
        """
        names = [name]
        perms: list[tuple[int, ...]] = []
        wanted: int | None = None
        while True:
            if name in self.initializers:
                holder = self.initializers[name]
                break
            if name in self.sparse:
                raise Refusal("is stored as a sparse tensor")
            node = self.nodes[self.producers[name]]
            kind = node.op_type if node.domain in STANDARD else ""
            if kind == "Constant":
                holder = constant_holder(node)
                if holder is None:
                    raise Refusal("is stored in a kind of Constant that is not treated yet")
                break
            if kind not in ("Identity", "Transpose", "Cast"):
                raise Refusal(f"is computed from constants by {node.op_type}")
            if kind == "Transpose":
                perms.append(attributes(node).get("perm", ()))
            if kind == "Cast" and wanted is None:
                wanted = attributes(node).get("to", 0)
            if kind == "Cast":
                _require_float(attributes(node).get("to", 0))
            name = node.input[0]
            names.append(name)
        axes = tuple(range(len(shape(holder))))
        if any(perm and tuple(sorted(perm)) != axes for perm in perms):
            raise Refusal("is transposed over axes that it does not have")
        trace = Trace(
            holder=holder,
            names=tuple(reversed(names)),
            perms=tuple(perm or axes[::-1] for perm in reversed(perms)),
            kind=_require_float(elem_type(holder) if wanted is None else wanted),
            external=self.external,
        )
        self._require_widening(trace)
        return trace

    def _require_widening(self, trace: Trace) -> None:
        """Refuse a way on which a Cast loses digits."""
        kind = _require_float(elem_type(trace.holder))
        for name in trace.names[1:]:
            node = self.nodes[self.producers[name]]
            if node.op_type == "Cast":
                step = attributes(node)["to"]
                if not widens(kind, step):
                    raise Refusal("is rounded by a Cast")
                kind = step

    def holder(self, name: str) -> Any:
        """What holds a constant that is read as it is stored; None for anything else."""
        if name in self.producers:
            node = self.nodes[self.producers[name]]
            return constant_holder(node) if node.op_type == "Constant" else None
        return self.initializers.get(name)

    def number(self, name: str) -> float | None:
        """Value of a constant of one element, if that is what `name` is."""
        if name not in self.constants:
            return None
        try:
            trace = self.trace(name)
        except Refusal:
            return None
        values = trace.values()
        return float(values.reshape(())) if values.size == 1 else None

    def rank(self, name: str) -> int | None:
        """Number of axes of a tensor, as far as simple rules tell."""
        if self._ranks is None:
            self._ranks = self._find_ranks()
        return self._ranks.get(name)

    def _find_ranks(self) -> dict[str, int]:
        ranks = {name: len(tensor.dims) for name, tensor in self.initializers.items()}
        for value in (*self.graph.input, *self.graph.value_info, *self.graph.output):
            if value.type.HasField("tensor_type") and value.type.tensor_type.HasField("shape"):
                ranks[value.name] = len(value.type.tensor_type.shape.dim)
        for node in self.nodes:
            found = _rank(node, ranks)
            if found is not None:
                ranks.setdefault(node.output[0], found)
        return ranks

    def all_names(self) -> set[str]:
        """Every tensor name in the main graph and in the graphs inside it."""
        names = {value.name for value in (*self.graph.input, *self.graph.output)}
        names.update(self.initializers, self.sparse)
        for node in self.nodes:
            names.update(node.input, node.output, _mentioned(node))
        return names


def _require_float(kind: int) -> int:
    if kind in TREATED:
        return kind
    if kind in FLOATS:
        raise Refusal(f"holds {type_name(kind)} values, which are not treated yet")
    raise Refusal(f"holds {type_name(kind)} values, not floating-point ones")


def _rank(node: onnx.NodeProto, ranks: Mapping[str, int]) -> int | None:
    """Rank of a node's first output from the ranks of its inputs."""
    if node.domain not in STANDARD:
        return None
    known = [ranks.get(name) for name in node.input]
    if node.op_type in ("Flatten", "Gemm"):
        return 2
    if node.op_type == "Constant":
        holder = constant_holder(node)
        return None if holder is None else len(shape(holder))
    if not known:
        return None
    if node.op_type in KEEP_RANK:
        return known[0]
    if node.op_type in BROADCAST or (node.op_type == "MatMul" and known[-1] == 2):
        ready = [rank for rank in known if rank is not None]
        return max(ready) if len(ready) == len(known) else None
    return None


def _mentioned(node: onnx.NodeProto) -> set[str]:
    """Names that occur in the subgraphs of a node: more than it captures, never fewer."""
    names: set[str] = set()
    pending = list(subgraphs(node))
    while pending:
        graph = pending.pop()
        names.update(value.name for value in graph.output)
        names.update(tensor.name for tensor in graph.initializer)
        for inner in graph.node:
            names.update(name for name in (*inner.input, *inner.output) if name)
            pending.extend(subgraphs(inner))
    return names
