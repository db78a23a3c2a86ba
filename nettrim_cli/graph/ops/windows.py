"""How the window of a convolution moves, over any number of spatial axes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from nettrim_cli.graph.layer import Floats, Geometry
from nettrim_cli.graph.ops.base import Positions, Shape, Unsupported, working_dtype

MODES = ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER")


def read_window(attributes: Mapping[str, Any], shape: Shape) -> dict[str, Any]:
    """Kernel, strides, dilations, pads and group of a node whose weight has this shape.

    Raises
    ------
    Unsupported
        They do not go together, or the engine does not run them.
    """
    spatial = len(shape) - 2
    if spatial < 1:
        raise Unsupported(f"weight has {len(shape)} axes, 3 or more are wanted")
    mode = attributes.get("auto_pad") or "NOTSET"
    if mode not in MODES:
        raise Unsupported(f"auto_pad '{mode}' is not known")
    kernel = tuple(attributes.get("kernel_shape", shape[2:]))
    strides = tuple(attributes.get("strides", (1,) * spatial))
    dilations = tuple(attributes.get("dilations", (1,) * spatial))
    unpadded = (0,) * (2 * spatial)
    pads = tuple(attributes.get("pads", unpadded)) if mode == "NOTSET" else unpadded
    if kernel != tuple(shape[2:]):
        raise Unsupported("kernel_shape does not match the weight")
    if [len(strides), len(dilations), len(pads)] != [spatial, spatial, 2 * spatial]:
        raise Unsupported("strides, dilations or pads do not match the number of axes")
    if min(*strides, *dilations) < 1:
        raise Unsupported("strides or dilations below 1 have no meaning")
    if min(pads) < 0:
        raise Unsupported("has negative pads, which onnxruntime does not run")
    return {
        "kernel_shape": kernel,
        "strides": strides,
        "dilations": dilations,
        "pads": pads,
        # VALID is no padding: one spelling, so that equal layers have equal keys.
        "auto_pad": "NOTSET" if mode == "VALID" else mode,
        "group": attributes.get("group", 1),
    }


def window(
    attributes: Mapping[str, Any], kernel: Sequence[int]
) -> tuple[Sequence[int], Sequence[int], Sequence[int]]:
    """Kernel, strides and dilations, one for each spatial axis."""
    ones = (1,) * len(kernel)
    return kernel, attributes.get("strides", ones), attributes.get("dilations", ones)


def step_arrays(geometry: Geometry) -> tuple[Positions, Positions]:
    """Strides and dilations, (axes, 1) each."""
    strides, dilations = (geometry.attributes[name] for name in ("strides", "dilations"))
    return np.array(strides)[:, None], np.array(dilations)[:, None]


def conv_margins(spatial: Sequence[int], geometry: Geometry) -> list[tuple[int, int]]:
    """Zeros before and after each spatial axis (ONNX operators, Conv: ``auto_pad``, ``pads``)."""
    attributes = geometry.attributes
    mode = attributes["auto_pad"]
    count = len(spatial)
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
        extent = (-(-size // stride) - 1) * stride + dilation * (k - 1) + 1
        margins.append(_halves(extent - size, mode))
    return margins


def conv_output_shape(spatial: Sequence[int], geometry: Geometry) -> Shape:
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
        shape.append(max(0, (size + sum(margin) - dilation * (k - 1) - 1) // stride + 1))
    return tuple(shape)


def full_sizes(spatial: Sequence[int], geometry: Geometry) -> list[int]:
    """Spatial shape of a transposed convolution's output before anything is cut off."""
    a = geometry.attributes
    names = ("strides", "dilations", "kernel_shape", "output_padding")
    rows = zip(spatial, *(a[name] for name in names), strict=True)
    return [s * (size - 1) + d * (k - 1) + 1 + extra for size, s, d, k, extra in rows]


def spread_margins(spatial: Sequence[int], geometry: Geometry) -> list[tuple[int, int]]:
    """What a transposed convolution cuts off before and after each axis.

    ``pads``, or what leaves the wanted size, as onnxruntime divides it.
    """
    a = geometry.attributes
    count = len(spatial)
    if not a["output_shape"] and a["auto_pad"] == "NOTSET":
        return [(a["pads"][i], a["pads"][i + count]) for i in range(count)]
    sizes = a["output_shape"] or [
        size * stride for size, stride in zip(spatial, a["strides"], strict=True)
    ]
    pairs = zip(full_sizes(spatial, geometry), sizes, strict=True)
    return [_halves(full - size, a["auto_pad"]) for full, size in pairs]


def _halves(total: int, mode: str) -> tuple[int, int]:
    """What comes before and after an axis; of an odd total SAME_UPPER has more after it."""
    small, large = max(total, 0) // 2, (max(total, 0) + 1) // 2
    return (small, large) if mode == "SAME_UPPER" else (large, small)


def window_view(x: NDArray[Any], geometry: Geometry) -> NDArray[Any]:
    """View ``(B, C, out..., k...)`` of what the window meets at each place."""
    names = ("kernel_shape", "strides", "dilations")
    kernel, strides, dilations = (geometry.attributes[name] for name in names)
    margins = conv_margins(x.shape[2:], geometry)
    if any(begin or end for begin, end in margins):
        x = np.pad(x, ((0, 0), (0, 0), *margins))
    extents = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True))
    dense = sliding_window_view(x, extents, axis=tuple(range(2, x.ndim)))
    steps = [slice(None, None, step) for step in (*strides, *dilations)]
    view: NDArray[Any] = dense[(slice(None), slice(None), *steps)]
    return view


def unfolded(windows: NDArray[Any]) -> Floats:
    """``(B, C, out..., k...)`` as columns ``(C * k..., B * out...)``."""
    spatial = windows.ndim // 2 - 1
    outer, inner = range(2, 2 + spatial), range(2 + spatial, windows.ndim)
    view = windows.transpose(1, *inner, 0, *outer)
    result = np.empty(view.shape, dtype=working_dtype(windows.dtype))
    result[...] = view
    return result.reshape(math.prod(view.shape[: 1 + spatial]), -1)
