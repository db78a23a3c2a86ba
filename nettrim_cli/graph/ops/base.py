"""What all ops share: the interface of ``nettrim_cli.graph.ops`` with its usual answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.graph.layer import Floats, Geometry
from nettrim_cli.reasons import Reason

Arrays = Mapping[str, NDArray[Any]]
Reads = dict[str, tuple[str, int]]
Shape = tuple[int, ...]
Positions = NDArray[np.integer[Any]]
Applied = tuple[str, Mapping[str, Any]]
"""A function by the name of its ONNX operator, and its attributes."""
FLOAT = 1
"""ONNX's number of the element type float32."""


def qualified(op: str, domain: str = "") -> str:
    """Key in the table of an op: after the domain's name where that is not the standard one."""
    return op if domain in ("", "ai.onnx") else f"{domain}.{op}"


@dataclass(frozen=True)
class Grid:
    """How stored integers are real numbers, ``(q - zero_point) * scale``.

    Attributes
    ----------
    scale, zero_point
        Input slots of the node; None where the op has none (1 and 0 then).
    axes
        Axes of the weight along which those of values that are more than one run.
    block
        Entries along the first of these axes that share a value; 0 for one value each, or one.
    elem_type
        ONNX's number of the type of the real numbers; 0 for that of the scale.
    """

    scale: int | None
    zero_point: int | None
    axes: tuple[int, ...]
    block: int = 0
    elem_type: int = FLOAT


class Unsupported(Exception):
    """Why something in the graph cannot be treated; never leaves the room.

    The message is a clause for the report; that of ``Index.view`` is a predicate ("is computed
    by Mul"), to be put after a subject.  The code is one of ``reasons.CODES``.
    """

    def __init__(self, text: str, code: str = "unsupported") -> None:
        super().__init__(text)
        self.reason = Reason(code, text)

    def about(self, subject: str) -> Unsupported:
        """The same with the subject before its message."""
        return Unsupported(f"{subject} {self}", self.reason.code)


@dataclass(frozen=True)
class WeightNode:
    """A node that reads a weight.

    Attributes
    ----------
    op
        Key in the table.
    slot
        Input that is the weight.
    attributes
        Those of the node, as far as it has them.
    """

    op: str
    slot: int
    attributes: Mapping[str, Any]


@dataclass(frozen=True)
class FactorNode:
    """A node that stands for one factor of another node's weight.

    Attributes
    ----------
    op_type, attributes
        Those of the new node.
    weight
        Its weight, as stored.
    slot
        The input that is the weight; the signal is the other one of the first two.
    """

    op_type: str
    attributes: Mapping[str, Any]
    weight: NDArray[Any]
    slot: int


class Op:
    """How one kind of node reads its weight and its tensors.

    A subclass says how the stored weight is seen as blocks (``views``), how tensors become
    columns, and what differs from a node with one input, one weight and one bias.  Everything
    that is written back goes through the same views that it was read by.

    Attributes
    ----------
    weights
        Input slots that may carry a weight.
    product
        Whether the op also multiplies two signals; such a node is no layer.
    bias_input
        Slot of the op's own bias; None if it has none.
    bias_follows
        Whether its bias may come by an addition behind it.
    spreads
        Whether it spreads each input over the outputs, so that not all inputs meet all weights.
    slot_names
        Names of its weights by slot, where it has several.
    """

    weights: Shape = (1,)
    product = False
    bias_input: int | None = 2
    bias_follows = False
    spreads = False
    slot_names: Mapping[int, str] = {}

    def slots(self, count: int) -> Shape:
        """Input slots that may carry a weight, of a node with `count` inputs."""
        return tuple(slot for slot in self.weights if slot < count)

    def geometry(self, node: WeightNode, shape: Shape) -> Geometry:
        """How a node reads a weight of this shape.

        Raises
        ------
        NotImplementedError
            The op treats no weight.
        """
        raise NotImplementedError

    def views(self, weight: NDArray[Any], geometry: Geometry) -> list[NDArray[Any]]:
        """One view of a stored weight for each block, which in C order is its matrix (N, M).

        Raises
        ------
        NotImplementedError
            The op treats no weight.
        """
        raise NotImplementedError

    def factor(self, geometry: Geometry) -> float:
        """What the op multiplies the weight with."""
        return 1.0

    def blocks(self, geometry: Geometry, shape: Shape) -> tuple[tuple[int, int], ...]:
        """(N, M) of each block.

        Raises
        ------
        NotImplementedError
            The op treats no weight.
        """
        raise NotImplementedError

    def grid(self, geometry: Geometry) -> Grid | None:
        """What the stored numbers stand for, if not for themselves."""
        return None

    def reads(self, geometry: Geometry) -> Reads:
        """Tensors that the columns are made from, by role."""
        return {"x": ("input", 0)}

    def columns(self, arrays: Arrays, geometry: Geometry, block: int) -> Floats:
        """Columns X (N, P) of a block.

        Raises
        ------
        NotImplementedError
            The op treats no weight.
        """
        raise NotImplementedError

    def count(self, arrays: Arrays, geometry: Geometry, block: int) -> int:
        """Number of columns of a block; of the tensors nothing but shapes and lengths matter."""
        return int(self.columns(arrays, geometry, block).shape[1])

    def parts(
        self,
        arrays: Arrays,
        geometry: Geometry,
        block: int,
        most: int,
        positions: Positions | None = None,
    ) -> Iterator[Floats]:
        """The columns (N, P) of a block, or those at some positions, piece by piece.

        Parameters
        ----------
        most
            Values of a piece, about.
        positions
            Which of the columns are wanted, ascending; None for all.
        """
        columns = self.columns(arrays, geometry, block)
        step = max(1, most // max(1, len(columns)))
        for start in range(0, columns.shape[1] if positions is None else len(positions), step):
            chunk = slice(start, start + step)
            yield columns[:, chunk] if positions is None else columns.T[positions[chunk]].T

    def outputs(self, y: NDArray[Any], geometry: Geometry, block: int) -> Floats:
        """Columns (M, P) of an output tensor that belong to a block.

        Raises
        ------
        Unsupported
            The node gives out something else.
        """
        raise Unsupported(f"{geometry.op} does not give out what its weight makes")

    def output_axis(self, geometry: Geometry) -> int | None:
        """Axis of the output tensor that the outputs of a single block lie along."""
        return None

    def applies(self, geometry: Geometry) -> tuple[Applied, ...]:
        """What the op makes of its weight's results before it gives anything out.

        Several functions where different outputs go through different ones.  By default the
        attribute ``applied`` of the geometry.
        """
        applied: tuple[Applied, ...] = geometry.attributes.get("applied", ())
        return applied

    def summand_slot(self, geometry: Geometry) -> int | None:
        """Input slot of a tensor of the results' shape that is added to them before that."""
        return None

    def factor_nodes(
        self, geometry: Geometry, first: Floats, second: Floats, fold: int = 1
    ) -> tuple[FactorNode, FactorNode] | None:
        """Two nodes, one behind the other, in place of one whose weight is a product.

        Parameters
        ----------
        first, second
            (N / f, r) and (r, f M), whose product is the matrix U of its only block, with f rows
            beside each other.
        fold
            f: the last axis of a window of two, or 1.

        Returns
        -------
        pair or None
            None where the node cannot be replaced so.
        """
        return None

    def is_depthwise(self, geometry: Geometry, shape: Shape) -> bool:
        """Whether each output reads one channel of the input alone."""
        return False

    def bias_slot(self, geometry: Geometry) -> int | None:
        """Input slot of the op's own bias."""
        return self.bias_input

    def bias_factor(self, geometry: Geometry) -> float:
        """What the op multiplies its bias with."""
        return 1.0

    def bias_shape(self, geometry: Geometry, shape: Shape) -> Shape:
        """Shape of a stored bias with one value for each output."""
        return (sum(outputs for _, outputs in self.blocks(geometry, shape)),)

    def bias_views(
        self, stored: NDArray[Any], geometry: Geometry, shape: Shape
    ) -> list[NDArray[Any]]:
        """One view of a stored bias for each block, which in C order is its vector (M,)."""
        ends = np.cumsum([outputs for _, outputs in self.blocks(geometry, shape)])
        return np.split(stored.reshape(-1), ends[:-1])


def working_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """float64 stays, everything smaller is handled in float32."""
    return np.dtype(np.float64 if dtype == np.float64 else np.float32)


def working(array: NDArray[Any]) -> Floats:
    """The array (of any shape) in its working dtype; itself where it has that already."""
    return array.astype(working_dtype(array.dtype), copy=False)


def per_group(count: int, groups: int, kind: str) -> int:
    """How many of `count` one of the groups has.

    Raises
    ------
    Unsupported
        The groups are not alike.
    """
    if groups < 1 or count % groups:
        raise Unsupported(f"{count} {kind} are not divided evenly into {groups} groups")
    return count // groups


class Fused(Op, ABC):
    """What is added to an op with an activation of its own, which comes next in the bases."""

    factor_nodes = Op.factor_nodes

    @abstractmethod
    def parameters(self, attributes: Mapping[str, Any]) -> Mapping[str, Any]:
        """Attributes of the activation, from those of the node."""

    def geometry(self, node: WeightNode, shape: Shape) -> Geometry:
        """As the op's, with ``applied``: the activation if there is one."""
        plain = super().geometry(node, shape)
        name = node.attributes.get("activation", "")
        applied = ((name, self.parameters(node.attributes)),) if name else ()
        return replace(plain, attributes={**plain.attributes, "applied": applied})
