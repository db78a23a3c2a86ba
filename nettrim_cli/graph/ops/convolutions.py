"""Convolutions over any number of spatial axes, unfolded (im2col); one block for each group."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from nettrim_cli.graph.layer import Floats, Geometry
from nettrim_cli.graph.ops.base import (
    Arrays,
    Fused,
    Op,
    Positions,
    Shape,
    Unsupported,
    per_group,
    working,
    working_dtype,
)

MODES = ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER")
PARAMETERS = {"LeakyRelu": ("alpha",), "Clip": ("min", "max"), "HardSigmoid": ("alpha", "beta")}
"""What FusedConv's list of numbers stands for (onnxruntime's conv_activation_fusion)."""
INDICES = 8  # float32 values that take as much memory as the indices to a picked value


class Conv(Op):
    """A weight ``(M, C / group, k...)`` slid over ``(B, C, size...)``."""

    def geometry(self, op: str, slot: int, given: Mapping[str, Any], shape: Shape) -> Geometry:
        """All that moves the window, with the defaults of the ONNX operator filled in."""
        attributes = _window(given, shape)
        per_group(shape[0], attributes["group"], "outputs")
        return Geometry(op, slot, attributes, ("windows", *sorted(attributes.items())))

    def views(self, weight: NDArray[Any], geometry: Geometry) -> list[NDArray[Any]]:
        """``(M / group, C / group, k...)`` flattened to two axes and turned, group by group."""
        groups = geometry.attributes["group"]
        inputs = math.prod(weight.shape[1:])
        return list(weight.reshape(groups, -1, inputs).swapaxes(1, 2))

    def blocks(self, geometry: Geometry, shape: Shape) -> tuple[tuple[int, int], ...]:
        """Inputs of one output, outputs of one group."""
        groups: int = geometry.attributes["group"]
        return ((math.prod(shape[1:]), shape[0] // groups),) * groups

    def columns(self, arrays: Arrays, geometry: Geometry, block: int) -> Floats:
        """C-contiguous ``(C / group * k..., B * out...)``: a view of windows, copied once."""
        return _unfolded(_windows(_channels(arrays["x"], geometry, block), geometry))

    def count(self, arrays: Arrays, geometry: Geometry, block: int) -> int:
        """Positions of the output."""
        x = arrays["x"]
        return len(x) * math.prod(self.output_shape(x.shape[2:], geometry))

    def parts(
        self,
        arrays: Arrays,
        geometry: Geometry,
        block: int,
        most: int,
        positions: Positions | None = None,
    ) -> Iterator[Floats]:
        """Some samples at a time: the columns are larger than the tensor that they come from."""
        x = arrays["x"]
        kernel = geometry.attributes["kernel_shape"]
        channels = x.shape[1] // geometry.attributes["group"]
        inputs = channels * math.prod(kernel)
        if positions is not None:
            step = max(1, most // (max(channels, INDICES) * math.prod(kernel)))
            for at in range(0, len(positions), step):
                yield self._picked(x, geometry, block, positions[at : at + step])
            return
        each = max(1, inputs * math.prod(self.output_shape(x.shape[2:], geometry)))
        step = max(1, most // each)
        for at in range(0, len(x), step):
            some = {**arrays, "x": x[at : at + step]}
            yield from self.slices(some, geometry, block, math.ceil(each / most))

    def slices(
        self, arrays: Arrays, geometry: Geometry, block: int, count: int
    ) -> Iterator[Floats]:
        """The columns, those of a single large sample in some `count` slices of its first axis."""
        if count <= 1:
            yield self.columns(arrays, geometry, block)
            return
        windows = _windows(_channels(arrays["x"], geometry, block), geometry)
        step = max(1, windows.shape[2] // count)
        for at in range(0, windows.shape[2], step):
            yield _unfolded(windows[:, :, at : at + step])

    def _picked(
        self, x: NDArray[Any], geometry: Geometry, block: int, positions: Positions
    ) -> Floats:
        """Columns at some positions of the output: what each place of the kernel meets there."""
        kernel: Shape = geometry.attributes["kernel_shape"]
        spatial = x.shape[2:]
        channels, size = x.shape[1] // geometry.attributes["group"], math.prod(spatial)
        flat = np.ascontiguousarray(x).reshape(-1)
        shape = (len(x), *self.output_shape(spatial, geometry))
        sample, *out = np.unravel_index(positions, shape)
        first = sample * (x.shape[1] * size) + block * channels * size
        places = np.indices(kernel).reshape(len(kernel), -1)
        met = self._sources(np.stack(out), places, spatial, geometry)
        outside = ((met < 0) | (met >= np.array(spatial)[:, None, None])).any(axis=0)
        met[:, outside] = 0
        at = first + np.ravel_multi_index(tuple(met), spatial)
        result = np.empty((channels, *at.shape), x.dtype)
        for channel, plane in enumerate(result):
            np.take(flat[channel * size :], at, out=plane, mode="clip")
        result[:, outside] = 0
        return working(result.reshape(-1, len(positions)))

    def _sources(
        self, out: Positions, places: Positions, spatial: Shape, geometry: Geometry
    ) -> Positions:
        """Where in the input (axes, K, P) places of the kernel (axes, K) lie for output positions.

        Outside of the input where they meet padding.
        """
        strides, dilations = _steps(geometry)
        before = np.array([begin for begin, _ in conv_margins(spatial, geometry)])[:, None]
        found: Positions = (places * dilations - before)[..., None] + (out * strides)[:, None]
        return found

    def output_shape(self, spatial: Sequence[int], geometry: Geometry) -> Shape:
        """Spatial shape of the output for an input of spatial shape `spatial`."""
        return conv_output_shape(spatial, geometry)

    def outputs(self, y: NDArray[Any], geometry: Geometry, block: int) -> Floats:
        """Channels of the group first, the rest flattened."""
        y = working(_channels(y, geometry, block))
        return np.moveaxis(y, 1, 0).reshape(y.shape[1], -1)

    def output_axis(self, geometry: Geometry) -> int | None:
        """Channels."""
        return 1


class FusedConv(Fused, Conv):
    """onnxruntime's Conv with an activation, which comes after the bias and a summand Z."""

    def parameters(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Those of ``activation_params``, in the order of the activation's own attributes."""
        names = PARAMETERS.get(given["activation"], ())
        return dict(zip(names, given.get("activation_params", ())))

    def summand_slot(self, geometry: Geometry) -> int | None:
        """Z."""
        return 3


class ConvTranspose(Conv):
    """A weight ``(C, M / group, k...)`` that every input position spreads over the output.

    An output position is reached from an input position by at most one place of the kernel, so
    that its column has the input's values at some places and zeros at all others.
    """

    def geometry(self, op: str, slot: int, given: Mapping[str, Any], shape: Shape) -> Geometry:
        """As Conv, with ``output_padding`` and ``output_shape`` (() for none)."""
        attributes = _window(given, shape)
        per_group(shape[0], attributes["group"], "inputs")
        spatial = len(shape) - 2
        extra = tuple(given.get("output_padding", (0,) * spatial))
        wanted = tuple(given.get("output_shape", ()))[-spatial:]
        if len(extra) != spatial or len(wanted) not in (0, spatial) or min(extra) < 0:
            raise Unsupported("output_padding or output_shape do not match the number of axes")
        attributes |= {"output_padding": extra, "output_shape": wanted}
        return Geometry(op, slot, attributes, ("spread", *sorted(attributes.items())))

    def views(self, weight: NDArray[Any], geometry: Geometry) -> list[NDArray[Any]]:
        """``(C / group, k..., M / group)``, group by group."""
        inputs, outputs, *kernel = weight.shape
        groups = geometry.attributes["group"]
        grouped = weight.reshape(groups, inputs // groups, outputs, math.prod(kernel))
        return list(grouped.swapaxes(2, 3))

    def blocks(self, geometry: Geometry, shape: Shape) -> tuple[tuple[int, int], ...]:
        """Inputs of one group times the kernel, outputs of one group."""
        groups: int = geometry.attributes["group"]
        return ((shape[0] // groups * math.prod(shape[2:]), shape[1]),) * groups

    def columns(self, arrays: Arrays, geometry: Geometry, block: int) -> Floats:
        """C-contiguous ``(C / group * k..., B * out...)``: zeros, and x copied once a place."""
        x = _channels(arrays["x"], geometry, block).swapaxes(0, 1)
        kernel: Shape = geometry.attributes["kernel_shape"]
        spatial = x.shape[2:]
        out = self.output_shape(spatial, geometry)
        before = [begin for begin, _ in spread_margins(spatial, geometry)]
        shape = (len(x), *kernel, x.shape[1], *out)
        result = np.zeros(shape, dtype=working_dtype(x.dtype))
        strides, dilations = (geometry.attributes[name] for name in ("strides", "dilations"))
        for place in np.ndindex(*kernel):
            source, target = [slice(None)] * 2, [slice(None), *place, slice(None)]
            for at, dilation, stride, begin, size, length in zip(
                place, dilations, strides, before, spatial, out, strict=True
            ):
                offset = at * dilation - begin
                first = max(0, -(offset // stride))  # the least i with i * stride + offset >= 0
                last = max(first, min(size, (length - 1 - offset) // stride + 1))
                source.append(slice(first, last))
                target.append(slice(first * stride + offset, last * stride + offset, stride))
            result[tuple(target)] = x[tuple(source)]
        return result.reshape(len(x) * math.prod(kernel), -1)

    def slices(
        self, arrays: Arrays, geometry: Geometry, block: int, count: int
    ) -> Iterator[Floats]:
        """All columns: a slice of the output has no slice of the input to itself."""
        yield self.columns(arrays, geometry, block)

    def _sources(
        self, out: Positions, places: Positions, spatial: Shape, geometry: Geometry
    ) -> Positions:
        """Where in the input what places of the kernel spread came from, by output positions.

        Outside of the input where nothing did.
        """
        strides, dilations = _steps(geometry)
        before = np.array([begin for begin, _ in spread_margins(spatial, geometry)])[:, None]
        spread = (out + before)[:, None] - (places * dilations)[..., None]
        steps = strides[..., None]
        return np.where(spread % steps == 0, spread // steps, -1)

    def output_shape(self, spatial: Sequence[int], geometry: Geometry) -> Shape:
        """Spatial shape of the output for an input of spatial shape `spatial`."""
        rows = zip(_full(spatial, geometry), spread_margins(spatial, geometry), strict=True)
        return tuple(max(0, size - sum(margin)) for size, margin in rows)


def _steps(geometry: Geometry) -> tuple[Positions, Positions]:
    """Strides and dilations, (axes, 1) each."""
    strides, dilations = (geometry.attributes[name] for name in ("strides", "dilations"))
    return np.array(strides)[:, None], np.array(dilations)[:, None]


def _full(spatial: Sequence[int], geometry: Geometry) -> list[int]:
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
    wanted = a["output_shape"] or [
        size * stride for size, stride in zip(spatial, a["strides"], strict=True)
    ]
    margins = []
    for full, size in zip(_full(spatial, geometry), wanted, strict=True):
        total = max(full - size, 0)
        small, large = total // 2, total - total // 2
        margins.append((small, large) if a["auto_pad"] == "SAME_UPPER" else (large, small))
    return margins


def _window(given: Mapping[str, Any], shape: Shape) -> dict[str, Any]:
    """Kernel, strides, dilations, pads and group of a node whose weight has this shape."""
    spatial = len(shape) - 2
    if spatial < 1:
        raise Unsupported(f"weight has {len(shape)} axes, 3 or more are wanted")
    mode = given.get("auto_pad") or "NOTSET"
    if mode not in MODES:
        raise Unsupported(f"auto_pad '{mode}' is not known")
    kernel = tuple(given.get("kernel_shape", shape[2:]))
    strides = tuple(given.get("strides", (1,) * spatial))
    dilations = tuple(given.get("dilations", (1,) * spatial))
    unpadded = (0,) * (2 * spatial)
    pads = tuple(given.get("pads", unpadded)) if mode == "NOTSET" else unpadded
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
        "group": given.get("group", 1),
    }


def _channels(x: NDArray[Any], geometry: Geometry, block: int) -> NDArray[Any]:
    """Channels of one group."""
    each = x.shape[1] // geometry.attributes["group"]
    return x[:, block * each : (block + 1) * each]


def _windows(x: NDArray[Any], geometry: Geometry) -> NDArray[Any]:
    """View ``(B, C, out..., k...)`` of what the window meets at each place."""
    names = ("kernel_shape", "strides", "dilations")
    kernel, strides, dilations = (geometry.attributes[name] for name in names)
    margins = conv_margins(x.shape[2:], geometry)
    if any(before or after for before, after in margins):
        x = np.pad(x, ((0, 0), (0, 0), *margins))
    extents = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True))
    windows = sliding_window_view(x, extents, axis=tuple(range(2, x.ndim)))
    steps = [slice(None, None, step) for step in (*strides, *dilations)]
    found: NDArray[Any] = windows[(slice(None), slice(None), *steps)]
    return found


def _unfolded(windows: NDArray[Any]) -> Floats:
    """``(B, C, out..., k...)`` as columns ``(C * k..., B * out...)``."""
    spatial = windows.ndim // 2 - 1
    outer, inner = range(2, 2 + spatial), range(2 + spatial, windows.ndim)
    view = windows.transpose(1, *inner, 0, *outer)
    result = np.empty(view.shape, dtype=working_dtype(windows.dtype))
    result[...] = view
    return result.reshape(math.prod(view.shape[: 1 + spatial]), -1)


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
        wanted = (-(-size // stride) - 1) * stride + dilation * (k - 1) + 1
        total = max(wanted - size, 0)
        small, large = total // 2, total - total // 2
        margins.append((small, large) if mode == "SAME_UPPER" else (large, small))
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
