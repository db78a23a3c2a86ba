"""Convolutions over any number of spatial axes, unfolded (im2col); one block for each group."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.graph.layer import Floats, Geometry
from nettrim_cli.graph.ops.base import (
    Arrays,
    FactorNode,
    Fused,
    Op,
    Positions,
    Shape,
    Unsupported,
    WeightNode,
    per_group,
    working,
    working_dtype,
)
from nettrim_cli.graph.ops.channel_weights import convolution_channels
from nettrim_cli.graph.ops.context import ErrorContext, ErrorGain
from nettrim_cli.graph.ops.gradients.convolutions import conv_gradient, conv_transpose_gradient
from nettrim_cli.graph.ops.rank_rules import rank_of_any
from nettrim_cli.graph.ops.spec import OpSpec
from nettrim_cli.graph.ops.windows import (
    conv_margins,
    conv_output_shape,
    full_sizes,
    read_window,
    spread_margins,
    step_arrays,
    unfolded,
    window,
    window_view,
)

PARAMETERS = {"LeakyRelu": ("alpha",), "Clip": ("min", "max"), "HardSigmoid": ("alpha", "beta")}
"""What FusedConv's list of numbers stands for (onnxruntime's conv_activation_fusion)."""
INDICES = 8  # float32 values that take as much memory as the indices to a picked value


class Conv(Op):
    """A weight ``(M, C / group, k...)`` slid over ``(B, C, size...)``."""

    bias_follows = True

    def geometry(self, node: WeightNode, shape: Shape) -> Geometry:
        """All that moves the window, with the defaults of the ONNX operator filled in."""
        window = read_window(node.attributes, shape)
        per_group(shape[0], window["group"], "outputs")
        return Geometry(node.op, node.slot, window, ("windows", *sorted(window.items())))

    def views(self, weight: NDArray[Any], geometry: Geometry) -> list[NDArray[Any]]:
        """``(M / group, C / group, k...)`` flattened and turned to (N, M), group by group."""
        groups = geometry.attributes["group"]
        inputs = math.prod(weight.shape[1:])
        return list(weight.reshape(groups, -1, inputs).swapaxes(1, 2))

    def blocks(self, geometry: Geometry, shape: Shape) -> tuple[tuple[int, int], ...]:
        """Inputs of one output, outputs of one group."""
        groups: int = geometry.attributes["group"]
        return ((math.prod(shape[1:]), shape[0] // groups),) * groups

    def columns(self, arrays: Arrays, geometry: Geometry, block: int) -> Floats:
        """C-contiguous ``(C / group * k..., B * out...)``: a view of windows, copied once."""
        return unfolded(window_view(_channels(arrays["x"], geometry, block), geometry))

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
        """Some samples at a time: the columns are larger than the tensor that they come from.

        Parameters
        ----------
        arrays, geometry, block, most, positions
            As for ``Op.parts``.
        """
        x = arrays["x"]
        kernel = geometry.attributes["kernel_shape"]
        channels = x.shape[1] // geometry.attributes["group"]
        inputs = channels * math.prod(kernel)
        if positions is not None:
            step = max(1, most // (max(channels, INDICES) * math.prod(kernel)))
            for start in range(0, len(positions), step):
                yield self._picked(x, geometry, block, positions[start : start + step])
            return
        size = max(1, inputs * math.prod(self.output_shape(x.shape[2:], geometry)))
        step = max(1, most // size)
        for start in range(0, len(x), step):
            chunk = {**arrays, "x": x[start : start + step]}
            yield from self.slices(chunk, geometry, block, math.ceil(size / most))

    def slices(
        self, arrays: Arrays, geometry: Geometry, block: int, count: int
    ) -> Iterator[Floats]:
        """The columns, those of a single large sample in slices of its first axis.

        Parameters
        ----------
        arrays, geometry, block
            As for ``Op.columns``.
        count
            Number of slices, about.
        """
        if count <= 1:
            yield self.columns(arrays, geometry, block)
            return
        windows = window_view(_channels(arrays["x"], geometry, block), geometry)
        step = max(1, windows.shape[2] // count)
        for start in range(0, windows.shape[2], step):
            yield unfolded(windows[:, :, start : start + step])

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
        sources = self._sources(np.stack(out), places, spatial, geometry)
        outside = ((sources < 0) | (sources >= np.array(spatial)[:, None, None])).any(axis=0)
        sources[:, outside] = 0
        indices = first + np.ravel_multi_index(tuple(sources), spatial)
        result = np.empty((channels, *indices.shape), x.dtype)
        for channel, plane in enumerate(result):
            np.take(flat[channel * size :], indices, out=plane, mode="clip")
        result[:, outside] = 0
        return working(result.reshape(-1, len(positions)))

    def _sources(
        self, out: Positions, places: Positions, spatial: Shape, geometry: Geometry
    ) -> Positions:
        """Where in the input (axes, K, P) places of the kernel (axes, K) lie for output positions.

        Outside of the input where they meet padding.
        """
        strides, dilations = step_arrays(geometry)
        margins = np.array([begin for begin, _ in conv_margins(spatial, geometry)])[:, None]
        sources: Positions = (places * dilations - margins)[..., None] + (out * strides)[:, None]
        return sources

    def output_shape(self, spatial: Sequence[int], geometry: Geometry) -> Shape:
        """Spatial shape of the output for an input of spatial shape `spatial`."""
        return conv_output_shape(spatial, geometry)

    def outputs(self, y: NDArray[Any], geometry: Geometry, block: int) -> Floats:
        """Columns (M, P): channels of the group first, the rest flattened."""
        y = working(_channels(y, geometry, block))
        return np.moveaxis(y, 1, 0).reshape(y.shape[1], -1)

    def output_axis(self, geometry: Geometry) -> int | None:
        """Channels."""
        return 1

    def is_depthwise(self, geometry: Geometry, shape: Shape) -> bool:
        """One input channel for each of several groups."""
        inputs, _ = self.blocks(geometry, shape)[0]
        return geometry.attributes["group"] > 1 and math.prod(shape[2:]) == inputs

    def factor_nodes(
        self, geometry: Geometry, first: Floats, second: Floats, fold: int = 1
    ) -> tuple[FactorNode, FactorNode] | None:
        """The window with r channels (N, r), and a convolution of single positions (r, M).

        With a fold, a window of its first axis and behind it one of its second.

        Parameters
        ----------
        geometry, first, second, fold
            As for ``Op.factor_nodes``.
        """
        window = dict(geometry.attributes)
        if window.pop("group") != 1:
            return None
        if fold > 1:
            return _separated(window, first, second)
        kernel = window["kernel_shape"]
        ones = (1,) * len(kernel)
        weights = (
            first.T.reshape(first.shape[1], -1, *kernel),
            second.T.reshape(*second.T.shape, *ones),
        )
        mode = window.pop("auto_pad")
        if mode != "NOTSET":
            window["auto_pad"] = mode
            del window["pads"]
        return (
            FactorNode("Conv", window, np.ascontiguousarray(weights[0]), 1),
            FactorNode("Conv", {"kernel_shape": ones}, np.ascontiguousarray(weights[1]), 1),
        )


def _separated(
    window: Mapping[str, Any], first: Floats, second: Floats
) -> tuple[FactorNode, FactorNode]:
    """Nodes of k x 1 windows (N / f, r), and of 1 x f ones (r, f M) behind them."""
    tall, wide = window["kernel_shape"]
    rank = first.shape[1]
    weights = (
        first.T.reshape(rank, -1, tall, 1),
        second.reshape(rank, wide, -1).transpose(2, 0, 1)[:, :, None],
    )
    nodes = []
    for axis, weight in enumerate(weights):
        facts: dict[str, Any] = {
            name: tuple(value if place == axis else 1 for place, value in enumerate(window[name]))
            for name in ("kernel_shape", "strides", "dilations")
        }
        if window["auto_pad"] == "NOTSET":
            pads = enumerate(window["pads"])
            facts["pads"] = tuple(pad if place % 2 == axis else 0 for place, pad in pads)
        else:
            facts["auto_pad"] = window["auto_pad"]
        nodes.append(FactorNode("Conv", facts, np.ascontiguousarray(weight), 1))
    return nodes[0], nodes[1]


class FusedConv(Fused, Conv):
    """onnxruntime's Conv with an activation, which comes after the bias and a summand Z."""

    bias_follows = False

    def parameters(self, attributes: Mapping[str, Any]) -> Mapping[str, Any]:
        """Those of ``activation_params``, in the order of the activation's own attributes."""
        names = PARAMETERS.get(attributes["activation"], ())
        return dict(zip(names, attributes.get("activation_params", ()), strict=False))

    def summand_slot(self, geometry: Geometry) -> int | None:
        """Z."""
        return 3


class ConvTranspose(Conv):
    """A weight ``(C, M / group, k...)`` that every input position spreads over the output.

    An output position is reached from an input position by at most one place of the kernel, so
    that its column has the input's values at some places and zeros at all others.
    """

    spreads = True
    factor_nodes = Op.factor_nodes

    def geometry(self, node: WeightNode, shape: Shape) -> Geometry:
        """As Conv, with ``output_padding`` and ``output_shape`` (() for none).

        Raises
        ------
        Unsupported
            Such a node, or such a weight, is not treated.
        """
        window = read_window(node.attributes, shape)
        per_group(shape[0], window["group"], "inputs")
        spatial = len(shape) - 2
        extra = tuple(node.attributes.get("output_padding", (0,) * spatial))
        sizes = tuple(node.attributes.get("output_shape", ()))[-spatial:]
        if len(extra) != spatial or len(sizes) not in (0, spatial) or min(extra) < 0:
            raise Unsupported("output_padding or output_shape do not match the number of axes")
        window |= {"output_padding": extra, "output_shape": sizes}
        return Geometry(node.op, node.slot, window, ("spread", *sorted(window.items())))

    def views(self, weight: NDArray[Any], geometry: Geometry) -> list[NDArray[Any]]:
        """Matrices (N, M) as ``(C / group, k..., M / group)``, group by group."""
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
        margins = [begin for begin, _ in spread_margins(spatial, geometry)]
        shape = (len(x), *kernel, x.shape[1], *out)
        result = np.zeros(shape, dtype=working_dtype(x.dtype))
        strides, dilations = (geometry.attributes[name] for name in ("strides", "dilations"))
        for place in np.ndindex(*kernel):
            source, target = [slice(None)] * 2, [slice(None), *place, slice(None)]
            for position, dilation, stride, begin, size, length in zip(
                place, dilations, strides, margins, spatial, out, strict=True
            ):
                offset = position * dilation - begin
                first = max(0, -(offset // stride))  # the least i with i * stride + offset >= 0
                last = max(first, min(size, (length - 1 - offset) // stride + 1))
                source.append(slice(first, last))
                target.append(slice(first * stride + offset, last * stride + offset, stride))
            result[tuple(target)] = x[tuple(source)]
        return result.reshape(len(x) * math.prod(kernel), -1)

    def slices(
        self, arrays: Arrays, geometry: Geometry, block: int, count: int
    ) -> Iterator[Floats]:
        """All columns: a slice of the output has no slice of the input to itself.

        Parameters
        ----------
        arrays, geometry, block, count
            As for ``Conv.slices``.
        """
        yield self.columns(arrays, geometry, block)

    def _sources(
        self, out: Positions, places: Positions, spatial: Shape, geometry: Geometry
    ) -> Positions:
        """Where in the input what places of the kernel spread came from, by output positions.

        Outside of the input where nothing did.
        """
        strides, dilations = step_arrays(geometry)
        margins = np.array([begin for begin, _ in spread_margins(spatial, geometry)])[:, None]
        spread = (out + margins)[:, None] - (places * dilations)[..., None]
        steps = strides[..., None]
        return np.where(spread % steps == 0, spread // steps, -1)

    def output_shape(self, spatial: Sequence[int], geometry: Geometry) -> Shape:
        """Spatial shape of the output for an input of spatial shape `spatial`."""
        rows = zip(full_sizes(spatial, geometry), spread_margins(spatial, geometry), strict=True)
        return tuple(max(0, size - sum(margin)) for size, margin in rows)


def _channels(x: NDArray[Any], geometry: Geometry, block: int) -> NDArray[Any]:
    """Channels of one group."""
    count = x.shape[1] // geometry.attributes["group"]
    return x[:, block * count : (block + 1) * count]


def conv_error(context: ErrorContext) -> ErrorGain:
    """Groups read and write channels of their own: the largest of their norms."""
    weight = context.value(1)
    if context.scale is not None:
        weight = weight * context.scale.reshape(-1, *(1,) * (weight.ndim - 1))
    _, strides, dilations = window(context.attributes, weight.shape[2:])
    groups = np.split(weight, context.attributes.get("group", 1))
    return context.first(
        max(context.norms.convolution(group, strides, dilations) for group in groups)
    )


CONVOLUTIONS: dict[str, OpSpec] = {
    "Conv": OpSpec(
        weight=Conv(),
        rank=rank_of_any(0, 1),
        error=conv_error,
        channels=convolution_channels,
        gradient=conv_gradient,
        fitted=(2,),
    ),
    "ConvTranspose": OpSpec(
        weight=ConvTranspose(),
        rank=rank_of_any(0, 1),
        channels=convolution_channels,
        gradient=conv_transpose_gradient,
        fitted=(2,),
    ),
    "com.microsoft.FusedConv": OpSpec(weight=FusedConv(), channels=convolution_channels),
}
