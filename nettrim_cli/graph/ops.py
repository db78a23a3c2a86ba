"""What each op does to plain arrays: weight <-> matrix U, input tensor <-> columns of X.

For every op in ``OPS``, with ``U`` the matrix of the layer (N inputs, M outputs), ``X`` the
columns of its input tensor (N rows, P columns) and ``bias`` the effective bias of M entries::

    U.T @ columns(x, geometry) + bias[:, None] == outputs_as_columns(y, geometry)

Columns run sample by sample and, within a sample, position by position in C order; a sample
(an entry of the first axis) has ``positions(x.shape, geometry)`` columns, so that column ``p``
belongs to sample ``p // positions``.

One more op is one more class and one more line in ``OPS`` (its weight is input 1, its bias, if
it has one of its own, input 2).  No protobuf in here: attributes come as plain values.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from nettrim_cli.graph.layer import Floats, Geometry


class Refusal(Exception):
    """Why something in the graph cannot be treated; never leaves the wing.

    The message is a clause for the report; that of ``Index.trace`` is a predicate ("is computed
    by Mul"), to be put after a subject.
    """


class Op(Protocol):
    """How one kind of layer reads its weight and its tensors; see the functions below."""

    def matrix_shape(self, given: Mapping[str, Any], shape: Sequence[int]) -> tuple[int, int]:
        """(N, M) for a node's attributes and its weight's shape; (0, 0) if they do not fit."""
        ...

    def attributes(self, given: Mapping[str, Any], shape: Sequence[int]) -> dict[str, Any]:
        """Attributes of the geometry; raises Refusal."""
        ...

    def matrix(self, weight: Floats, geometry: Geometry) -> Floats:
        """Matrix U (N, M) of a stored weight."""
        ...

    def weight(self, U: Floats, geometry: Geometry, shape: Sequence[int]) -> Floats:
        """Stored weight of a matrix U."""
        ...

    def columns(self, x: Floats, geometry: Geometry) -> Floats:
        """Columns X (N, P) of an input tensor."""
        ...

    def outputs_as_columns(self, y: Floats, geometry: Geometry) -> Floats:
        """Columns (M, P) of an output tensor."""
        ...

    def positions(self, shape: Sequence[int], geometry: Geometry) -> int:
        """Columns per sample of an input tensor of this shape."""
        ...


class MatMul:
    """``y = x @ W`` on the last axis of x; all leading axes are flattened into columns."""

    def matrix_shape(self, given: Mapping[str, Any], shape: Sequence[int]) -> tuple[int, int]:
        """Shape of the weight."""
        return (shape[0], shape[1]) if len(shape) == 2 else (0, 0)

    def attributes(self, given: Mapping[str, Any], shape: Sequence[int]) -> dict[str, Any]:
        """None."""
        if len(shape) > 2:
            raise Refusal(f"batched {len(shape)}-D weights are not treated yet")
        if len(shape) < 2:
            raise Refusal("weight is a vector, not a matrix")
        return {}

    def matrix(self, weight: Floats, geometry: Geometry) -> Floats:
        """U is the weight itself."""
        return _working(weight)

    def weight(self, U: Floats, geometry: Geometry, shape: Sequence[int]) -> Floats:
        """Inverse of `matrix`."""
        return U.reshape(tuple(shape))

    def columns(self, x: Floats, geometry: Geometry) -> Floats:
        """Transposed view of x flattened to rows."""
        return _working(x).reshape(-1, x.shape[-1]).T

    def outputs_as_columns(self, y: Floats, geometry: Geometry) -> Floats:
        """Transposed view of y flattened to rows."""
        return _working(y).reshape(-1, y.shape[-1]).T

    def positions(self, shape: Sequence[int], geometry: Geometry) -> int:
        """Product of the axes between the first and the last."""
        return math.prod(shape[1:-1])


class Gemm(MatMul):
    """``y = alpha * x @ W (or W.T) + beta * C`` on rank 2; alpha belongs to U."""

    def matrix_shape(self, given: Mapping[str, Any], shape: Sequence[int]) -> tuple[int, int]:
        """Shape of the weight, turned under transB."""
        inputs, outputs = super().matrix_shape(given, shape)
        return (outputs, inputs) if given.get("transB", 0) else (inputs, outputs)

    def attributes(self, given: Mapping[str, Any], shape: Sequence[int]) -> dict[str, Any]:
        """``transB``, ``alpha``, ``beta``; transA is always 0, and left out for equal keys."""
        if len(shape) != 2:
            raise Refusal(f"weight has {len(shape)} axes, 2 are wanted")
        if given.get("transA", 0):
            raise Refusal("Gemm with transA is not treated yet")
        alpha, beta = given.get("alpha", 1.0), given.get("beta", 1.0)
        if alpha == 0 or not math.isfinite(alpha) or not math.isfinite(beta):
            raise Refusal("Gemm with alpha 0 or factors that are not finite is left alone")
        return {"transB": int(bool(given.get("transB", 0))), "alpha": alpha, "beta": beta}

    def matrix(self, weight: Floats, geometry: Geometry) -> Floats:
        """``alpha * W``, transposed under transB."""
        weight = _working(weight)
        alpha = geometry.attributes.get("alpha", 1.0)
        plain = weight.T if geometry.attributes.get("transB", 0) else weight
        return plain if alpha == 1.0 else plain * plain.dtype.type(alpha)

    def weight(self, U: Floats, geometry: Geometry, shape: Sequence[int]) -> Floats:
        """Inverse of `matrix`: alpha is divided out."""
        alpha = geometry.attributes.get("alpha", 1.0)
        plain = U if alpha == 1.0 else U / U.dtype.type(alpha)
        return (plain.T if geometry.attributes.get("transB", 0) else plain).reshape(tuple(shape))


class Conv:
    """Ungrouped convolution over any number of spatial axes, unfolded (im2col)."""

    def matrix_shape(self, given: Mapping[str, Any], shape: Sequence[int]) -> tuple[int, int]:
        """Inputs of one output, outputs."""
        return (math.prod(shape[1:]), shape[0]) if len(shape) >= 3 else (0, 0)

    def attributes(self, given: Mapping[str, Any], shape: Sequence[int]) -> dict[str, Any]:
        """All that moves the window, with the defaults of the ONNX operator filled in."""
        spatial = len(shape) - 2
        if spatial < 1:
            raise Refusal(f"weight has {len(shape)} axes, 3 or more are wanted")
        groups = given.get("group", 1)
        if groups > 1 and shape[1] == 1:
            raise Refusal("depthwise convolution is left dense")
        if groups != 1:
            raise Refusal(f"grouped convolution ({groups} groups) is not treated yet")
        mode = given.get("auto_pad") or "NOTSET"
        if mode not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"):
            raise Refusal(f"auto_pad '{mode}' is not known")
        kernel = tuple(given.get("kernel_shape", shape[2:]))
        strides = tuple(given.get("strides", (1,) * spatial))
        dilations = tuple(given.get("dilations", (1,) * spatial))
        unpadded = (0,) * (2 * spatial)
        pads = tuple(given.get("pads", unpadded)) if mode == "NOTSET" else unpadded
        if kernel != tuple(shape[2:]):
            raise Refusal("kernel_shape does not match the weight")
        if [len(strides), len(dilations), len(pads)] != [spatial, spatial, 2 * spatial]:
            raise Refusal("strides, dilations or pads do not match the number of axes")
        if min(*strides, *dilations) < 1 or min(pads) < 0:
            raise Refusal("strides or dilations below 1, or negative pads, are not treated")
        return {
            "kernel_shape": kernel,
            "strides": strides,
            "dilations": dilations,
            "pads": pads,
            # VALID is no padding: one spelling, so that equal layers have equal keys.
            "auto_pad": "NOTSET" if mode == "VALID" else mode,
        }

    def matrix(self, weight: Floats, geometry: Geometry) -> Floats:
        """``(M, C, k...)`` flattened to ``(M, C*k...)`` and transposed."""
        return _working(weight).reshape(weight.shape[0], -1).T

    def weight(self, U: Floats, geometry: Geometry, shape: Sequence[int]) -> Floats:
        """Inverse of `matrix`."""
        return U.T.reshape(tuple(shape))

    def columns(self, x: Floats, geometry: Geometry) -> Floats:
        """C-contiguous ``(C*k..., B*out...)``: a view of windows, copied once."""
        kernel = geometry.attributes["kernel_shape"]
        strides = geometry.attributes["strides"]
        dilations = geometry.attributes["dilations"]
        spatial = len(kernel)
        margins = conv_margins(x.shape[2:], geometry)
        if any(before or after for before, after in margins):
            x = np.pad(x, ((0, 0), (0, 0), *margins))
        extents = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True))
        windows = sliding_window_view(x, extents, axis=tuple(range(2, 2 + spatial)))
        steps = [slice(None, None, step) for step in (*strides, *dilations)]
        windows = windows[(slice(None), slice(None), *steps)]
        outer = tuple(range(2, 2 + spatial))
        inner = tuple(range(2 + spatial, 2 + 2 * spatial))
        view = windows.transpose(1, *inner, 0, *outer)
        result = np.empty(view.shape, dtype=_working_dtype(x.dtype))
        result[...] = view
        return result.reshape(math.prod(view.shape[: 1 + spatial]), -1)

    def outputs_as_columns(self, y: Floats, geometry: Geometry) -> Floats:
        """Channels first, the rest flattened."""
        return np.moveaxis(_working(y), 1, 0).reshape(y.shape[1], -1)

    def positions(self, shape: Sequence[int], geometry: Geometry) -> int:
        """Product of the output's spatial axes."""
        return math.prod(conv_output_shape(shape[2:], geometry))


def conv_margins(spatial: Sequence[int], geometry: Geometry) -> list[tuple[int, int]]:
    """Zeros before and after each spatial axis (ONNX operators, Conv: ``auto_pad``, ``pads``)."""
    attributes = geometry.attributes
    mode = attributes.get("auto_pad", "NOTSET")
    count = len(spatial)
    if mode == "VALID":
        return [(0, 0)] * count
    if mode == "NOTSET":
        pads = attributes["pads"]
        return [(int(pads[i]), int(pads[i + count])) for i in range(count)]
    margins = []
    for size, k, stride, dilation in zip(
        spatial,
        attributes["kernel_shape"],
        attributes["strides"],
        attributes["dilations"],
        strict=True,
    ):
        wanted = (-(-size // stride) - 1) * stride + dilation * (k - 1) + 1
        total = max(wanted - size, 0)
        small, large = total // 2, total - total // 2
        margins.append((small, large) if mode == "SAME_UPPER" else (large, small))
    return margins


def conv_output_shape(spatial: Sequence[int], geometry: Geometry) -> tuple[int, ...]:
    """Spatial shape of a convolution's output for an input of spatial shape `spatial`."""
    attributes = geometry.attributes
    shape = []
    for size, margin, k, stride, dilation in zip(
        spatial,
        conv_margins(spatial, geometry),
        attributes["kernel_shape"],
        attributes["strides"],
        attributes["dilations"],
        strict=True,
    ):
        shape.append((size + sum(margin) - dilation * (k - 1) - 1) // stride + 1)
    return tuple(shape)


def _working_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """float64 stays, everything smaller is handled in float32."""
    return np.dtype(np.float64 if dtype == np.float64 else np.float32)


def _working(array: NDArray[Any]) -> Floats:
    return array.astype(_working_dtype(array.dtype), copy=False)


def read_geometry(op: str, given: Mapping[str, Any], shape: Sequence[int]) -> Geometry:
    """Geometry of a node of type `op` with these attributes and a weight of this shape.

    Raises
    ------
    Refusal
        It is a kind of the op that is not treated.
    """
    if math.prod(shape) == 0:
        raise Refusal("weight is empty")
    return Geometry(op, OPS[op].attributes(given, shape))


def matrix(weight: Floats, geometry: Geometry) -> Floats:
    """Matrix U (N, M) of a stored weight, in float32 (float64 where stored so).

    Factors that the op applies (Gemm's alpha) are part of U.  May be a view of `weight`.
    """
    return OPS[geometry.op].matrix(weight, geometry)


def weight(U: Floats, geometry: Geometry, shape: Sequence[int]) -> Floats:
    """Weight of the stored `shape` for a matrix U (N, M): the inverse of `matrix`."""
    return OPS[geometry.op].weight(U, geometry, shape)


def columns(x: Floats, geometry: Geometry) -> Floats:
    """Columns X (N, P) of an input tensor, in float32 (float64 where given so).

    A transposed view for Gemm and MatMul, a C-contiguous copy for Conv.
    """
    return OPS[geometry.op].columns(x, geometry)


def outputs_as_columns(y: Floats, geometry: Geometry) -> Floats:
    """Columns (M, P) of an output tensor, in the order of `columns`."""
    return OPS[geometry.op].outputs_as_columns(y, geometry)


def positions(shape: Sequence[int], geometry: Geometry) -> int:
    """Columns that each sample of an input tensor of this shape contributes: P / batch."""
    return OPS[geometry.op].positions(shape, geometry)


OPS: dict[str, Op] = {
    "Gemm": Gemm(),
    "MatMul": MatMul(),
    "Conv": Conv(),
}
