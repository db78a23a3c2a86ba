"""Matrix products: a constant operand on either side, turned or not, plain or batched.

With the constant on the right ``y = x @ W``, on the left ``y = W @ x``; U is what brings the
contracted axis of x to the axis of y that takes its place.  Batch axes of the constant make one
block for each of its matrices; they are broadcast against those of x as numpy does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.graph.layer import Floats, Geometry
from nettrim_cli.graph.ops.base import (
    Applied,
    Arrays,
    FactorNode,
    Fused,
    Op,
    Reads,
    Shape,
    Unsupported,
    WeightNode,
    working,
)
from nettrim_cli.graph.ops.channel_weights import product_channels
from nettrim_cli.graph.ops.context import ErrorContext, ErrorGain
from nettrim_cli.graph.ops.gradients.products import gemm_gradient, matmul_gradient
from nettrim_cli.graph.ops.rank_rules import fixed, product_rank
from nettrim_cli.graph.ops.spec import OpSpec


class MatMul(Op):
    """``y = A @ B`` with one operand constant; the factor ``alpha`` belongs to U.

    Attributes of the geometry: ``left`` (the constant is A), ``turned`` (its matrices are
    stored as (M, N)), ``contracted`` (axis of x, from the end), ``batch`` (the constant's axes
    before the last two), ``alpha``, ``beta``.
    """

    weights: Shape = (0, 1)
    product = True
    bias_input: int | None = None
    bias_follows = True

    def geometry(self, node: WeightNode, shape: Shape) -> Geometry:
        """All that the two spellings of turning and the side come to.

        Raises
        ------
        Unsupported
            Such a node, or such a weight, is not treated.
        """
        if len(shape) < 2:
            raise Unsupported("weight is a vector, not a matrix")
        alpha = node.attributes.get("alpha", 1.0)
        if alpha == 0 or not math.isfinite(alpha):
            raise Unsupported(f"{node.op} with a factor that is 0 or not finite is left alone")
        left = node.slot == 0
        turns = [bool(node.attributes.get(name, 0)) for name in ("transA", "transB")]
        weight_turned, signal_turned = turns if left else turns[::-1]
        contracted = -2 if left != signal_turned else -1
        batch = tuple(shape[:-2])
        return Geometry(
            node.op,
            node.slot,
            {
                "left": left,
                "turned": left != weight_turned,
                "contracted": contracted,
                "batch": batch,
                "alpha": alpha,
            },
            ("product", contracted, batch if math.prod(batch) > 1 else ()),
        )

    def views(self, weight: NDArray[Any], geometry: Geometry) -> list[NDArray[Any]]:
        """Each matrix, turned to (N, M)."""
        stack = weight.reshape(-1, *weight.shape[-2:])
        return list(stack.swapaxes(1, 2) if geometry.attributes["turned"] else stack)

    def factor(self, geometry: Geometry) -> float:
        """The attribute ``alpha``."""
        return float(geometry.attributes["alpha"])

    def blocks(self, geometry: Geometry, shape: Shape) -> tuple[tuple[int, int], ...]:
        """One for each matrix of the constant."""
        inputs, outputs = shape[-2:]
        if geometry.attributes["turned"]:
            inputs, outputs = outputs, inputs
        return ((inputs, outputs),) * math.prod(shape[:-2])

    def reads(self, geometry: Geometry) -> Reads:
        """The other operand."""
        slots = [slot for slot in self.weights if slot != geometry.slot]
        return {"x": ("input", slots[0] if geometry.attributes["left"] else 0)}

    def columns(self, arrays: Arrays, geometry: Geometry, block: int) -> Floats:
        """Contracted axis first, the rest flattened; a view where memory's order allows it."""
        x = working(arrays["x"])
        if x.ndim == 1:
            return x[:, None]
        return _rows(x, geometry.attributes["contracted"], geometry.attributes["batch"], block)

    def count(self, arrays: Arrays, geometry: Geometry, block: int) -> int:
        """From views alone, whatever a class of integers makes of its columns."""
        return int(MatMul.columns(self, arrays, geometry, block).shape[1])

    def outputs(self, y: NDArray[Any], geometry: Geometry, block: int) -> Floats:
        """Columns (M, P): the axis of the outputs first, the rest flattened."""
        batch: Shape = geometry.attributes["batch"]
        if y.ndim < len(batch) + 2:  # of a vector: y has one axis in place of two
            y = y[..., None] if geometry.attributes["left"] else y[..., None, :]
        return _rows(working(y), -2 if geometry.attributes["left"] else -1, batch, block)

    def output_axis(self, geometry: Geometry) -> int | None:
        """The last axis, or the one before it with the constant on the left."""
        return -2 if geometry.attributes["left"] else -1

    def factor_nodes(
        self, geometry: Geometry, first: Floats, second: Floats, fold: int = 1
    ) -> tuple[FactorNode, FactorNode] | None:
        """Two products of (N, r) and (r, M); a signal that is turned, or a stack, stays.

        Parameters
        ----------
        geometry, first, second, fold
            As for ``Op.factor_nodes``.
        """
        left = geometry.attributes["left"]
        if (
            geometry.attributes["contracted"] != (-2 if left else -1)
            or geometry.attributes["batch"]
        ):
            return None
        nodes = [
            FactorNode("MatMul", {}, np.ascontiguousarray(factor.T if left else factor), 1 - left)
            for factor in (first, second)
        ]
        return nodes[0], nodes[1]


class Gemm(MatMul):
    """``Y = alpha * A' @ B' + beta * C`` on matrices."""

    bias_input = 2

    def geometry(self, node: WeightNode, shape: Shape) -> Geometry:
        """As MatMul, with ``beta``; the weight has two axes.

        Raises
        ------
        Unsupported
            Such a node, or such a weight, is not treated.
        """
        if len(shape) != 2:
            raise Unsupported(f"weight has {len(shape)} axes, 2 are wanted")
        beta = node.attributes.get("beta", 1.0)
        if not math.isfinite(beta):
            raise Unsupported(f"{node.op} with a factor that is 0 or not finite is left alone")
        plain = super().geometry(node, shape)
        return Geometry(node.op, node.slot, {**plain.attributes, "beta": beta}, plain.key)

    def bias_slot(self, geometry: Geometry) -> int | None:
        """C, unless beta is 0."""
        return self.bias_input if geometry.attributes["beta"] else None

    def bias_factor(self, geometry: Geometry) -> float:
        """The attribute ``beta``."""
        return float(geometry.attributes["beta"])

    def bias_shape(self, geometry: Geometry, shape: Shape) -> Shape:
        """A row, or a column with the weight on the left."""
        ((_, outputs),) = self.blocks(geometry, shape)
        return (outputs, 1) if geometry.attributes["left"] else (outputs,)

    def factor_nodes(
        self, geometry: Geometry, first: Floats, second: Floats, fold: int = 1
    ) -> tuple[FactorNode, FactorNode] | None:
        """A product of (N, r), and a Gemm of (r, M) with the bias.

        Parameters
        ----------
        geometry, first, second, fold
            As for ``Op.factor_nodes``.
        """
        nodes = super().factor_nodes(geometry, first, second)
        if nodes is None:
            return None
        beta = geometry.attributes["beta"]
        return nodes[0], replace(nodes[1], op_type="Gemm", attributes={"beta": beta})


class FusedGemm(Fused, Gemm):
    """onnxruntime's Gemm with an activation, which comes after alpha, beta and C."""

    bias_follows = False

    def parameters(self, attributes: Mapping[str, Any]) -> Mapping[str, Any]:
        """Those named after the activation."""
        start = "activation_"
        named = [name for name in attributes if name.startswith(start)]
        return {name[len(start) :]: attributes[name] for name in named}


class FusedMatMul(MatMul):
    """onnxruntime's ``alpha * A' @ B'`` of any rank, the last two axes turned as told."""

    bias_follows = False

    def geometry(self, node: WeightNode, shape: Shape) -> Geometry:
        """As MatMul.

        Raises
        ------
        Unsupported
            Such a node, or such a weight, is not treated.
        """
        if node.attributes.get("transBatchA", 0) or node.attributes.get("transBatchB", 0):
            raise Unsupported("FusedMatMul that turns batch axes is not treated")
        return super().geometry(node, shape)


class Attention(MatMul):
    """onnxruntime's self-attention: ``x @ W + b`` are queries, keys and values, side by side."""

    weights: Shape = (1,)
    product = False
    bias_input = 2
    bias_follows = False
    factor_nodes = Op.factor_nodes

    def geometry(self, node: WeightNode, shape: Shape) -> Geometry:
        """As MatMul; the weight has two axes.

        Raises
        ------
        Unsupported
            Such a node, or such a weight, is not treated.
        """
        if len(shape) != 2:
            raise Unsupported(f"weight has {len(shape)} axes, 2 are wanted")
        return super().geometry(replace(node, attributes={}), shape)

    def outputs(self, y: NDArray[Any], geometry: Geometry, block: int) -> Floats:
        """Refused: the columns (M, P) of queries, keys and values stay inside."""
        return Op.outputs(self, y, geometry, block)

    def applies(self, geometry: Geometry) -> tuple[Applied, ...]:
        """The softmax of products of queries and keys."""
        return (("Softmax", {}),)

    def output_axis(self, geometry: Geometry) -> int | None:
        """None: the products stay inside."""
        return None


def _rows(x: Floats, axis: int, batch: Shape, block: int) -> Floats:
    """``axis`` of one block's share of x first, the rest flattened."""
    x = x[_place(x.shape[:-2], batch, block)]
    if axis == -1:
        return x.reshape(math.prod(x.shape[:-1]), x.shape[-1]).T
    return np.moveaxis(x, -2, 0).reshape(x.shape[-2], math.prod(x.shape[:-2]) * x.shape[-1])


def _place(shape: Shape, batch: Shape, block: int) -> tuple[Any, ...]:
    """Index into a signal's batch axes of what meets matrix `block` of a constant's `batch`."""
    places = np.unravel_index(block, batch) if batch else ()
    index: list[Any] = [slice(None)] * len(shape)
    for back in range(1, min(len(shape), len(batch)) + 1):
        if batch[-back] > 1:
            index[-back] = int(places[-back]) if shape[-back] > 1 else 0
    return tuple(index)


def gemm_error(context: ErrorContext) -> ErrorGain:
    """The norm of the constant operand, times alpha; C's is beta.

    Raises
    ------
    Unsupported
        Both operands are changed.
    """
    if 0 in context.changed and 1 in context.changed:
        raise Unsupported("it multiplies two changed tensors")
    attributes, factors = context.attributes, {}
    for slot in context.changed:
        if slot == 2:
            factors[2] = abs(attributes.get("beta", 1.0)) * math.sqrt(context.growth(2))
            continue
        weight = context.value(1 - slot)
        if slot == 0 and context.scale is not None:
            turned = weight.T if attributes.get("transB", 0) else weight
            weight = turned * context.scale
        factors[slot] = abs(attributes.get("alpha", 1.0)) * context.norms.matrix(weight)
    return ErrorGain(factors)


def matmul_error(context: ErrorContext) -> ErrorGain:
    """A constant's norm, the largest of a stack; a stack also repeats what it multiplies.

    Raises
    ------
    Unsupported
        Both operands are changed, or a vector meets a stack.
    """
    if len(context.changed) > 1:
        raise Unsupported("it multiplies two changed tensors")
    (slot,) = context.changed
    weight = np.atleast_2d(context.value(1 - slot))
    if weight.ndim > 2:
        pairs = context.shape_pairs(slot)
        if any(len(x) < 2 for x, _ in pairs):
            raise Unsupported("it multiplies a vector by a stack of matrices")
        copies = max(math.prod(out[:-2]) / max(1, math.prod(x[:-2])) for x, out in pairs)
        stack = weight.reshape(-1, *weight.shape[-2:])
        return ErrorGain({slot: max(map(context.norms.matrix, stack)) * math.sqrt(copies)})
    if slot == 0 and context.scale is not None:
        weight = weight * context.scale
    return ErrorGain({slot: context.norms.matrix(weight)})


PRODUCTS: dict[str, OpSpec] = {
    "Gemm": OpSpec(
        weight=Gemm(),
        rank=fixed(2),
        error=gemm_error,
        channels=product_channels,
        gradient=gemm_gradient,
        fitted=(2,),
    ),
    "MatMul": OpSpec(
        weight=MatMul(),
        rank=product_rank,
        error=matmul_error,
        channels=product_channels,
        gradient=matmul_gradient,
    ),
    "com.microsoft.Attention": OpSpec(weight=Attention()),
    "com.microsoft.FusedGemm": OpSpec(weight=FusedGemm(), channels=product_channels),
    "com.microsoft.FusedMatMul": OpSpec(weight=FusedMatMul(), channels=product_channels),
    "com.microsoft.TransposeMatMul": OpSpec(
        weight=FusedMatMul(), channels=product_channels
    ),  # its former name
}
