"""What the rules of the table may ask about a node, and what they answer."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.graph.layer import Floats
from nettrim_cli.graph.ops.base import Unsupported, qualified

if TYPE_CHECKING:
    from nettrim_cli.graph.ops.spec import OpSpec

Shapes = Mapping[str, tuple[int, ...]]


class Node(Protocol):
    """A node of the flat view."""

    number: int
    op_type: str
    domain: str

    @property
    def input(self) -> Sequence[str]:
        """Names of its inputs, empty for one that is left out."""

    @property
    def output(self) -> Sequence[str]:
        """Names of its outputs."""


class View(Protocol):
    """How a constant is stored, and read."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the constant as it is read."""

    def values(self) -> NDArray[Any]:
        """Its values."""


class Graph(Protocol):
    """The graph around a node: ``ir.index.Index``."""

    opset: int

    @property
    def float_types(self) -> Container[int]:
        """Element types that count as floating point."""

    @property
    def constants(self) -> Container[str]:
        """Tensors that do not depend on the model's inputs."""

    def attributes(self, node: Any) -> Mapping[str, Any]:
        """Plain attributes of a node."""

    def spec(self, node: Any) -> OpSpec:
        """Entry of a node's op in the table."""

    def maker(self, name: str) -> Any:
        """The node that makes a tensor; None where there is none."""

    def view(self, name: str) -> View:
        """How a constant is stored; raises Unsupported."""

    def rank(self, name: str) -> int | None:
        """Number of axes, as far as it is known."""

    def length(self, name: str) -> int | None:
        """Number of entries of a tensor with one axis, as far as it is known."""

    def integers(self, name: str) -> tuple[int, ...] | None:
        """Values of a constant list of whole numbers."""

    def number(self, name: str) -> float | None:
        """Value of a constant of one element."""


@dataclass(frozen=True)
class NodeContext:
    """A node in its graph."""

    graph: Graph
    node: Node

    @cached_property
    def attributes(self) -> Mapping[str, Any]:
        """Plain attributes of the node."""
        return self.graph.attributes(self.node)

    @cached_property
    def spec(self) -> OpSpec:
        """Entry of the node's op in the table."""
        return self.graph.spec(self.node)

    @property
    def op(self) -> str:
        """Key of the node's op in the table."""
        return qualified(self.node.op_type, self.node.domain)

    @property
    def count(self) -> int:
        """Number of inputs."""
        return len(self.node.input)

    @property
    def results(self) -> int:
        """Number of outputs that have a name."""
        return sum(bool(name) for name in self.node.output)

    def name(self, slot: int = 0) -> str:
        """Name of an input, empty where there is none."""
        return self.node.input[slot] if slot < self.count else ""

    def rank(self, slot: int = 0) -> int | None:
        """Rank of an input."""
        return self.graph.rank(self.name(slot))

    def length(self, slot: int = 0) -> int | None:
        """Entries of an input with one axis."""
        return self.graph.length(self.name(slot))

    def is_constant(self, slot: int) -> bool:
        """Whether an input does not depend on the model's inputs."""
        return self.name(slot) in self.graph.constants

    def integers(self, name: str, slot: int) -> tuple[int, ...] | None:
        """A list of integers: the attribute of that name, or a constant input."""
        if name in self.attributes:
            value = self.attributes[name]
            return value if isinstance(value, tuple) else (value,)
        return self.graph.integers(self.name(slot)) if self.name(slot) else None

    def number(self, name: str, slot: int, default: float) -> float | None:
        """A number: the attribute of that name, or a constant input; None for a signal."""
        if name in self.attributes or not self.name(slot):
            return float(self.attributes.get(name, default))
        return self.graph.number(self.name(slot))

    def stored(self, slot: int) -> NDArray[Any] | None:
        """Values of a constant input; None for a signal, or what cannot be read."""
        if not self.is_constant(slot):
            return None
        try:
            return self.graph.view(self.name(slot)).values()
        except Unsupported:
            return None

    def maker(self, slot: int) -> NodeContext | None:
        """The node that makes an input."""
        node = self.graph.maker(self.name(slot))
        return None if node is None else NodeContext(self.graph, node)


@dataclass(frozen=True)
class Norms:
    """Upper bounds on operator norms, by the room that can prove them.

    Attributes
    ----------
    matrix
        Of a matrix.
    convolution
        Of a convolution with an (M, C, k...) kernel, strides and dilations, over whole images.
    uses
        How many windows of a kernel shape, strides and dilations read one entry, at most.
    """

    matrix: Callable[[Floats], float]
    convolution: Callable[[Floats, Sequence[int], Sequence[int]], float]
    uses: Callable[[Sequence[int], Sequence[int], Sequence[int]], int]


@dataclass(frozen=True)
class ErrorGain:
    """Factor of each changed input, by slot; `joint` where the squares add up."""

    factors: Mapping[int, float]
    joint: bool = False

    def error(self, errors: Mapping[int, float]) -> float:
        """Bound on the output's error for errors of the inputs."""
        parts = [factor * errors[slot] for slot, factor in self.factors.items()]
        return math.hypot(*parts) if self.joint else math.fsum(parts)


@dataclass(frozen=True)
class ErrorContext(NodeContext):
    """A node with errors of its inputs.

    Attributes
    ----------
    changed
        Slots whose tensor carries an error.
    shapes
        Shapes of the tensors as they were when the samples ran, one mapping a kind of batch.
    scale
        (M,) factors on the outputs that are folded into a linear node's weight; None for 1.
    """

    changed: tuple[int, ...]
    shapes: Sequence[Shapes]
    norms: Norms
    scale: Floats | None = None

    def value(self, slot: int) -> NDArray[np.float64]:
        """Finite constant of a slot.

        Raises
        ------
        Unsupported
            It is none.
        """
        if not self.is_constant(slot):
            raise Unsupported("it joins a changed tensor with another signal")
        try:
            with np.errstate(invalid="ignore"):  # a signalling NaN stays a NaN
                values = self.graph.view(self.name(slot)).values().astype(np.float64)
        except Unsupported as refusal:
            raise refusal.about("its constant") from None
        if not np.isfinite(values).all():
            raise Unsupported("its constants are not finite")
        return values

    def shape_pairs(self, slot: int) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
        """Shapes of an input and of the first output, a pair a kind of batch.

        Raises
        ------
        Unsupported
            They are not known.
        """
        name, out = self.node.input[slot], self.node.output[0]
        if not self.shapes or any(name not in batch or out not in batch for batch in self.shapes):
            raise Unsupported("the shapes of its tensors are not known")
        return [(batch[name], batch[out]) for batch in self.shapes]

    def growth(self, slot: int) -> float:
        """Entries of the output for one entry of an input, at most: copies by broadcasting."""
        return max(math.prod(out) / max(1, math.prod(x)) for x, out in self.shape_pairs(slot))

    def shrinkage(self, slot: int) -> float:
        """Entries of an input for one entry of the output, at most."""
        return max(math.prod(x) / max(1, math.prod(out)) for x, out in self.shape_pairs(slot))

    def first(self, factor: float) -> ErrorGain:
        """The answer that errors of the first input alone come out times a factor.

        Raises
        ------
        Unsupported
            Another input has an error.
        """
        if self.changed != (0,):
            raise Unsupported("a changed tensor steers it")
        return ErrorGain({0: factor})


@dataclass(frozen=True)
class AffineContext(NodeContext):
    """A node behind the result of a layer with `size` outputs, which it reads at `slot`."""

    slot: int
    size: int

    def constant(self, slot: int) -> Floats | None:
        """A finite constant of one value or one an output, (1,) or (M,); None for others.

        Raises
        ------
        NotImplementedError
            The context is one for constant ranges alone.
        """
        raise NotImplementedError

    def channels(self, slot: int) -> Floats | None:
        """A finite constant (M,) whose entries meet the outputs as channels (axis 1).

        Raises
        ------
        NotImplementedError
            The context is one for constant ranges alone.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class LayoutContext(NodeContext):
    """A node on the way from a stored constant, and which of its results is meant."""

    result: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the first input."""
        return self.graph.view(self.name(0)).shape

    def whole(self, slot: int) -> NDArray[Any] | None:
        """Whole numbers at another input that say how to move values; None for none.

        Raises
        ------
        Unsupported
            They are computed, or other numbers.
        """
        if not self.name(slot):
            return None
        op = self.node.op_type
        try:
            values = self.graph.view(self.name(slot)).values()
        except Unsupported:
            raise Unsupported(f"is put into a computed shape by {op}") from None
        if values.dtype.kind not in "iu":
            raise Unsupported(f"is moved by {op}, whose numbers are not whole")
        return values
