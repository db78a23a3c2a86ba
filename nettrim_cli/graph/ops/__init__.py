"""What each op does to plain arrays: weight <-> matrices, tensors <-> columns.

A stored weight is one or more *blocks*.  Block b is a matrix U_b (N_b inputs, M_b outputs) that
acts on columns X_b (N_b, P) of its own, which are made from the tensors that ``reads`` names by
their role ("x", the input, and whatever else decides the columns).  Where the op gives out what
the weight makes, with the effective bias c_b of M_b entries,

    U_b.T @ columns(arrays, geometry, b) + c_b[:, None] == outputs_as_columns(y, geometry, b)

All that is known of an op stands in one entry of ``OPS``, in the file of its family
(``spec.OpSpec``).  No protobuf in here: attributes come as plain values.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.graph.layer import Floats, Geometry
from nettrim_cli.graph.ops.base import (
    Applied,
    Grid,
    Op,
    Reads,
    Unsupported,
    WeightNode,
    qualified,
    working,
)
from nettrim_cli.graph.ops.table import OPS, spec_of

__all__ = [
    "OPS",
    "Applied",
    "Grid",
    "Unsupported",
    "applies",
    "bias",
    "bias_slot",
    "biases",
    "blocks",
    "columns",
    "columns_in_parts",
    "count_columns",
    "depthwise",
    "grid",
    "is_product",
    "matrices",
    "output_axis",
    "outputs_as_columns",
    "read_geometry",
    "reads",
    "slots",
    "spec_of",
    "summand_slot",
    "weight",
    "weight_op",
]


def slots(op: str, count: int, domain: str = "") -> tuple[int, ...]:
    """Input slots that may carry a weight, of a node with `count` inputs; () for no layer."""
    weight_op = spec_of(op, domain).weight
    return weight_op.slots(count) if weight_op is not None else ()


def is_product(op: str, domain: str = "") -> bool:
    """Whether the op also multiplies two signals: with no constant operand it is no layer."""
    weight_op = spec_of(op, domain).weight
    return weight_op is not None and weight_op.product


def read_geometry(
    op: str, slot: int, attributes: Mapping[str, Any], shape: Sequence[int], domain: str = ""
) -> Geometry:
    """Geometry of a node that has a weight of this shape as its input `slot`.

    Parameters
    ----------
    op, domain
        Kind of the node.
    attributes
        Its attributes, as far as it has them.

    Raises
    ------
    Unsupported
        It is a kind that is not treated.
    """
    weight_op = spec_of(op, domain).weight
    if weight_op is None or slot not in weight_op.slots(slot + 2):
        raise Unsupported(f"{op} is not treated")
    if math.prod(shape) == 0:
        raise Unsupported("weight is empty", "empty")
    return weight_op.geometry(WeightNode(qualified(op, domain), slot, attributes), tuple(shape))


def weight_op(geometry: Geometry) -> Op:
    """How the node of a geometry reads its weight."""
    result = OPS[geometry.op].weight
    assert result is not None
    return result


def blocks(geometry: Geometry, shape: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """(N, M) of each block of a weight stored in this shape."""
    return weight_op(geometry).blocks(geometry, tuple(shape))


def depthwise(geometry: Geometry, shape: Sequence[int]) -> bool:
    """Whether the weight is that of a convolution with one input channel for each group."""
    return weight_op(geometry).is_depthwise(geometry, tuple(shape))


def matrices(weight: NDArray[Any], geometry: Geometry) -> list[Floats]:
    """Matrix U (N, M) of each block of a stored weight.

    Factors that the op applies (Gemm's alpha) are part of U.  In float32, or float64 where
    stored so or where a factor would not be undone exactly otherwise; may be views of `weight`.
    """
    op = weight_op(geometry)
    factor = op.factor(geometry)
    dtype = working(weight[:0]).dtype
    if abs(math.frexp(factor)[0]) != 0.5:
        dtype = np.dtype(np.float64)
    result = []
    shapes = op.blocks(geometry, weight.shape)
    for view, shape in zip(op.views(weight, geometry), shapes, strict=True):
        plain = view.reshape(shape).astype(dtype, copy=False)
        result.append(plain if factor == 1.0 else plain * dtype.type(factor))
    return result


def weight(matrices: Sequence[Floats], geometry: Geometry, shape: Sequence[int]) -> Floats:
    """Weight of the stored `shape` for the matrices of all blocks: inverse of `matrices`."""
    op = weight_op(geometry)
    factor = op.factor(geometry)
    result = np.empty(tuple(shape), np.result_type(*matrices))
    for view, U in zip(op.views(result, geometry), matrices, strict=True):
        view[...] = (U if factor == 1.0 else U / factor).reshape(view.shape)
    return result


def grid(geometry: Geometry) -> Grid | None:
    """Where the node says what real numbers its integer weight stands for; None for floats.

    All functions here take and give the real numbers.
    """
    return weight_op(geometry).grid(geometry)


def applies(geometry: Geometry) -> tuple[Applied, ...]:
    """Functions, by op and attributes, that the node itself applies to its weight's results.

    Several where different outputs go through different ones.
    """
    return weight_op(geometry).applies(geometry)


def summand_slot(geometry: Geometry) -> int | None:
    """Input slot of a tensor that the node adds to its weight's results before that, if any."""
    return weight_op(geometry).summand_slot(geometry)


def bias_slot(geometry: Geometry) -> int | None:
    """Input slot of the op's own bias; None if it has none, or takes no notice of it."""
    return weight_op(geometry).bias_slot(geometry)


def biases(stored: NDArray[Any], geometry: Geometry, shape: Sequence[int]) -> list[Floats]:
    """Effective bias (M,) of each block, from the op's own as stored.

    Parameters
    ----------
    shape
        That of the weight.

    Raises
    ------
    Unsupported
        The stored bias is not one value for each output.
    """
    op = weight_op(geometry)
    values = _spread(working(stored), geometry, tuple(shape))
    factor = op.bias_factor(geometry)
    views = op.bias_views(values, geometry, tuple(shape))
    return [view.reshape(-1) * values.dtype.type(factor) for view in views]


def bias(
    vectors: Sequence[Floats], geometry: Geometry, shape: Sequence[int], stored: NDArray[Any]
) -> Floats:
    """What to store for the biases of all blocks: inverse of `biases`.

    Of the shape of `stored`, unless that is one number for all outputs.

    Parameters
    ----------
    vectors
        (M,) bias of each block.
    geometry
        How the node reads the weight.
    shape
        That of the weight.
    stored
        The bias so far; entries that are not this layer's (an LSTM's other half) keep their values.
    """
    op = weight_op(geometry)
    values = np.array(_spread(working(stored), geometry, tuple(shape)))
    factor = op.bias_factor(geometry)
    for view, vector in zip(op.bias_views(values, geometry, tuple(shape)), vectors, strict=True):
        view[...] = (vector / factor).reshape(view.shape)
    return values.reshape(stored.shape) if values.size == stored.size else values


def _spread(stored: Floats, geometry: Geometry, shape: tuple[int, ...]) -> Floats:
    """The bias with an entry for each output."""
    op = weight_op(geometry)
    full_shape = op.bias_shape(geometry, shape)
    if stored.shape == full_shape:
        return stored
    if op.product and stored.ndim <= 2:
        if stored.size == 1:
            return np.broadcast_to(stored.reshape(()), full_shape)
        if stored.shape == (1, *full_shape):
            return stored.reshape(full_shape)
    raise Unsupported(f"bias of shape {stored.shape} is not one value per output")


def reads(geometry: Geometry) -> Reads:
    """Tensors of the node that the columns are made from: role -> ("input" or "output", slot).

    Inputs that a node may leave out are named, too; their roles are then left out of `arrays`.
    """
    return weight_op(geometry).reads(geometry)


def columns(arrays: Mapping[str, NDArray[Any]], geometry: Geometry, block: int = 0) -> Floats:
    """Columns X (N, P) of a block, from the tensors that `reads` names, by role.

    In float32 (float64 where given so).  Views where possible for products, C-contiguous copies
    for convolutions; without what is only there as padding (beyond the lengths of sequences).
    """
    return weight_op(geometry).columns(arrays, geometry, block)


def count_columns(
    shapes: Mapping[str, Sequence[int]],
    geometry: Geometry,
    block: int = 0,
    lengths: NDArray[Any] | None = None,
) -> int:
    """Number P of a block's columns (N, P), from the shapes of the tensors that `reads` names.

    Parameters
    ----------
    lengths
        Values of the tensor of that role.
    """
    arrays: dict[str, NDArray[Any]] = {
        role: np.broadcast_to(np.float32(0), tuple(shape)) for role, shape in shapes.items()
    }
    if lengths is not None:
        arrays["lengths"] = lengths
    return weight_op(geometry).count(arrays, geometry, block)


def columns_in_parts(
    arrays: Mapping[str, NDArray[Any]],
    geometry: Geometry,
    block: int,
    most: int,
    positions: NDArray[np.integer[Any]] | None = None,
) -> Iterator[Floats]:
    """The same columns (N, P) in the same order, some `most` values of X at a time.

    Tensors of equal shapes are cut in the same places.

    Parameters
    ----------
    positions
        Which of the columns are wanted, ascending; the others are not formed.  None for all.
    """
    return weight_op(geometry).parts(arrays, geometry, block, most, positions)


def outputs_as_columns(y: NDArray[Any], geometry: Geometry, block: int = 0) -> Floats:
    """Columns (M, P) of a tensor like the output that belong to a block, in the order of `columns`.

    They are what the weight makes unless the op makes more of it (`applies`, `summand_slot`).

    Raises
    ------
    Unsupported
        The op makes something else of it before it gives it out.
    """
    return weight_op(geometry).outputs(y, geometry, block)


def output_axis(geometry: Geometry) -> int | None:
    """Axis of the output along which the outputs of a layer of one block lie.

    From the end where negative.  None where the outputs are not one axis.
    """
    return weight_op(geometry).output_axis(geometry)
