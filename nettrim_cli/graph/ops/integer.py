"""Products and convolutions of integers that stand for real numbers: ``(q - zero) * scale``.

Matrices and weights of these ops are real numbers; ``grid`` tells which inputs of the node say
how the stored integers become real, and whoever stores them rounds to that grid, on which a
zero is the zero point exactly.  Scale and zero point of the signal are read as its tensor is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.graph.layer import Floats, Geometry
from nettrim_cli.graph.ops.base import (
    Arrays,
    Grid,
    Op,
    Positions,
    Reads,
    Shape,
    Unsupported,
    WeightNode,
)
from nettrim_cli.graph.ops.convolutions import Conv
from nettrim_cli.graph.ops.products import Attention, MatMul
from nettrim_cli.graph.ops.rank_rules import product_rank, rank_of_any
from nettrim_cli.graph.ops.recurrent import Recurrent, W
from nettrim_cli.graph.ops.spec import OpSpec


@dataclass(frozen=True)
class Operand:
    """Input slots of a tensor, its scale and its zero point; None for one that is not given."""

    tensor: int
    scale: int | None = None
    zero: int | None = None


class Integer(Op):
    """What is added to an op on real numbers, which comes next in the order of bases.

    Parameters
    ----------
    x, w
        The operands; the second carries the weight; of two integers that are multiplied, either
        may.
    bias
        Slot of a bias of real numbers.  One of integers is left as it is: its scale would have
        to change with it.
    rounds
        Whether the op gives out its result rounded to a grid of its own.
    """

    bias_follows = False
    factor_nodes = Op.factor_nodes

    def __init__(self, x: Operand, w: Operand, bias: int | None = None, rounds: bool = False):
        self.operands = (x, w)
        either = self.product and x.zero is not None
        self.weights: Shape = (x.tensor, w.tensor) if either else (w.tensor,)
        self.bias_input = bias
        self.rounds = rounds

    def grid(self, geometry: Geometry) -> Grid | None:
        """Scale and zero point of the weight: one, or one for each output."""
        (weight,) = (operand for operand in self.operands if operand.tensor == geometry.slot)
        product = isinstance(self, MatMul)
        axis = (-2 if geometry.attributes["left"] else -1) if product else 0
        return Grid(weight.scale, weight.zero, (axis,))

    def reads(self, geometry: Geometry) -> Reads:
        """The signal with its scale and its zero point."""
        (signal,) = (operand for operand in self.operands if operand.tensor != geometry.slot)
        slots = {"x": signal.tensor, "x_scale": signal.scale, "x_zero_point": signal.zero}
        return {role: ("input", slot) for role, slot in slots.items() if slot is not None}

    def columns(self, arrays: Arrays, geometry: Geometry, block: int) -> Floats:
        """Those of the real numbers."""
        return super().columns({"x": self._real(arrays, geometry)}, geometry, block)

    def parts(
        self,
        arrays: Arrays,
        geometry: Geometry,
        block: int,
        most: int,
        positions: Positions | None = None,
    ) -> Iterator[Floats]:
        """Those of the real numbers, which need no scale any more.

        Parameters
        ----------
        arrays, geometry, block, most, positions
            As for ``Op.parts``.
        """
        return super().parts({"x": self._real(arrays, geometry)}, geometry, block, most, positions)

    def _real(self, arrays: Arrays, geometry: Geometry) -> Floats:
        """The signal in real numbers; as it is where nothing says what they are."""
        x: Floats = arrays["x"]
        if x.dtype.kind != "f":
            x = x.astype(np.float32)
        # One value for each row of a signal on the left, for each column of one on the right.
        rows = isinstance(self, MatMul) and not geometry.attributes["left"]
        if "x_zero_point" in arrays:
            x = x - _spread(arrays["x_zero_point"], rows)
        if "x_scale" in arrays:
            x = x * _spread(arrays["x_scale"], rows)
        return x

    def outputs(self, y: NDArray[Any], geometry: Geometry, block: int) -> Floats:
        """Columns (M, P), only where they are not rounded.

        Raises
        ------
        Unsupported
            The node gives out something else.
        """
        if self.rounds:
            raise Unsupported(f"{geometry.op} rounds what its weight makes")
        return super().outputs(y, geometry, block)

    def output_axis(self, geometry: Geometry) -> int | None:
        """None where they are rounded: they are not what the weight makes."""
        return None if self.rounds else super().output_axis(geometry)


def _spread(values: NDArray[Any], rows: bool) -> Floats:
    values = values.astype(np.float32)
    return values[..., None] if rows and values.ndim == 1 and values.size > 1 else values


class IntegerMatMul(Integer, MatMul):
    """QLinearMatMul, MatMulInteger and onnxruntime's relatives of them.

    DynamicQuantizeMatMul rounds x itself, to 8 bits in the range that it finds in it: the
    columns are those of x as given.
    """


class IntegerAttention(Integer, Attention):
    """onnxruntime's QAttention."""


class IntegerConv(Integer, Conv):
    """QLinearConv and ConvInteger: padding is with zero points, which are zeros."""

    def geometry(self, node: WeightNode, shape: Shape) -> Geometry:
        """As Conv.

        Raises
        ------
        Unsupported
            Such a node, or such a weight, is not treated.
        """
        if node.attributes.get("channels_last", 0):
            raise Unsupported(f"{node.op} with channels last is not treated")
        return super().geometry(node, shape)


class IntegerLstm(Recurrent):
    """onnxruntime's DynamicQuantizeLSTM, whose weights are stored inputs first.

    It rounds inputs and states to 8 bits, each in its own range: the columns are those before.
    """

    slot_names: Mapping[int, str] = {}

    def geometry(self, node: WeightNode, shape: Shape) -> Geometry:
        """As LSTM."""
        return super().geometry(node, _turned(shape))

    def grid(self, geometry: Geometry) -> Grid | None:
        """One for a direction, or one for each of its outputs."""
        scale = 8 if geometry.slot == W else 10
        return Grid(scale, scale + 1, (0, 2))

    def views(self, weight: NDArray[Any], geometry: Geometry) -> list[NDArray[Any]]:
        """Matrices (N, M) as LSTM's."""
        return super().views(weight.swapaxes(1, 2), geometry)

    def blocks(self, geometry: Geometry, shape: Shape) -> tuple[tuple[int, int], ...]:
        """As LSTM."""
        return super().blocks(geometry, _turned(shape))

    def bias_shape(self, geometry: Geometry, shape: Shape) -> Shape:
        """As LSTM."""
        return super().bias_shape(geometry, _turned(shape))

    def bias_views(
        self, stored: NDArray[Any], geometry: Geometry, shape: Shape
    ) -> list[NDArray[Any]]:
        """Vectors (M,) as LSTM's."""
        return super().bias_views(stored, geometry, _turned(shape))


def _turned(shape: Shape) -> Shape:
    if len(shape) != 3:
        raise Unsupported(f"weight has {len(shape)} axes, 3 are wanted")
    return (shape[0], shape[2], shape[1])


QLINEAR = (Operand(0, 1, 2), Operand(3, 4, 5))

INTEGER: dict[str, OpSpec] = {
    "ConvInteger": OpSpec(
        weight=IntegerConv(Operand(0, None, 2), Operand(1, None, 3)), rank=rank_of_any(0, 1)
    ),
    "MatMulInteger": OpSpec(
        weight=IntegerMatMul(Operand(0, None, 2), Operand(1, None, 3)), rank=product_rank
    ),
    "QLinearConv": OpSpec(weight=IntegerConv(*QLINEAR, rounds=True), rank=rank_of_any(0, 3)),
    "QLinearMatMul": OpSpec(weight=IntegerMatMul(*QLINEAR, rounds=True)),
    "com.microsoft.DynamicQuantizeLSTM": OpSpec(weight=IntegerLstm(gates=4)),
    "com.microsoft.QLinearConv": OpSpec(weight=IntegerConv(*QLINEAR, rounds=True)),
    "com.microsoft.QGemm": OpSpec(weight=IntegerMatMul(*QLINEAR, rounds=True)),
    "com.microsoft.QAttention": OpSpec(
        weight=IntegerAttention(Operand(0, 3, 6), Operand(1, 4, 7), bias=2)
    ),
    "com.microsoft.DynamicQuantizeMatMul": OpSpec(
        weight=IntegerMatMul(Operand(0), Operand(1, 2, 3), bias=4)
    ),
    "com.microsoft.MatMulIntegerToFloat": OpSpec(
        weight=IntegerMatMul(Operand(0, 2, 4), Operand(1, 3, 5), bias=6)
    ),
}
