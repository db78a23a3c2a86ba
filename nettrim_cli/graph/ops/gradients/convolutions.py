"""Gradients of convolutions and of windows that are reduced.

With ``y = conv(x, W)`` the gradient of x is a transposed convolution of that of y.  The gradient
of W is a convolution of x by the gradient of y, where samples take the place of channels, and
strides that of dilations.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nettrim_cli.graph.ops.base import Unsupported
from nettrim_cli.graph.ops.gradients.context import GradientContext, Sizes

NARROW = 8  # channels


@dataclass(frozen=True)
class Window:
    """How a window moves: a number for each spatial axis.

    Attributes
    ----------
    begin, end
        Margins.
    sizes
        Of the axes that it moves over.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begin: tuple[int, ...]
    end: tuple[int, ...]
    sizes: Sizes

    @property
    def left_over(self) -> tuple[int, ...] | None:
        """Entries at the end of each axis that no window reaches; None for sizes not known."""
        spans = self._spans
        return None if spans is None else tuple(span % stride for span, stride in spans)

    @property
    def places(self) -> tuple[int, ...] | None:
        """How many places it has along each axis; None for sizes not known."""
        spans = self._spans
        return None if spans is None else tuple(span // stride + 1 for span, stride in spans)

    @property
    def _spans(self) -> list[tuple[int, int]] | None:
        """How far it can move along each axis, and the stride; None for sizes not known."""
        sizes = [size for size in self.sizes if isinstance(size, int)]
        if len(sizes) < len(self.sizes):
            return None
        rows = zip(
            sizes, self.begin, self.end, self.kernel, self.dilations, self.strides, strict=True
        )
        return [(n + b + e - d * (k - 1) - 1, s) for n, b, e, k, d, s in rows]


def window_of(context: GradientContext, kernel: Sequence[int], sizes: Sizes) -> Window:
    """The window of a node.

    Parameters
    ----------
    context
        Of the node.
    kernel
        Its shape.
    sizes
        Of the spatial axes of what it reads.

    Raises
    ------
    Unsupported
        Margins depend on sizes that are not known.
    """
    count, attributes = len(kernel), context.attributes
    strides, dilations = (
        tuple(attributes.get(name, (1,) * count)) for name in ("strides", "dilations")
    )
    mode = attributes.get("auto_pad", "NOTSET")
    pads = tuple(attributes.get("pads", (0,) * 2 * count))
    if mode == "VALID":
        pads = (0,) * 2 * count
    elif mode in ("SAME_UPPER", "SAME_LOWER"):
        pads = _same_pads(mode, kernel, strides, dilations, sizes)
    return Window(tuple(kernel), strides, dilations, pads[:count], pads[count:], sizes)


def _same_pads(
    mode: str,
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    sizes: Sizes,
) -> tuple[int, ...]:
    begins, ends = [], []
    for size, k, s, d in zip(sizes, kernel, strides, dilations, strict=True):
        if not isinstance(size, int):
            raise Unsupported("has margins that depend on the size of the image")
        total = max(0, (-(-size // s) - 1) * s + d * (k - 1) + 1 - size)
        small, large = total // 2, total - total // 2
        begins.append(small if mode == "SAME_UPPER" else large)
        ends.append(large if mode == "SAME_UPPER" else small)
    return (*begins, *ends)


# ---- convolutions


def conv_gradient(context: GradientContext) -> Mapping[int, str]:
    """Of the image, the kernel and the bias."""
    gradient = context.gradient
    shape, pair = _kernel(context), (context.name(), gradient)
    window, group = window_of(context, shape[2:], context.sizes()[2:]), _group(context)
    parts = {}
    if 0 in context.wanted:
        parts[0] = data_gradient(context, gradient, context.name(1), window, group)
    if 1 in context.wanted:
        parts[1] = _kernel_gradient(context, pair, context.sizes()[1], window)
    return parts | _bias_gradient(context)


def conv_transpose_gradient(context: GradientContext) -> Mapping[int, str]:
    """A convolution of the gradient; for the kernel, image and gradient change places.

    Raises
    ------
    Unsupported
        Margins are computed of a wanted size.
    """
    if context.attributes.get("auto_pad", "NOTSET") != "NOTSET" or (
        "output_shape" in context.attributes
    ):
        raise Unsupported("computes its margins")
    shape = _kernel(context)
    sizes = context.sizes_of(context.y)[2:]
    window, group = window_of(context, shape[2:], sizes), _group(context)
    parts = {}
    if 0 in context.wanted:
        parts[0] = context.g.Conv(
            context.gradient,
            context.name(1),
            strides=window.strides,
            dilations=window.dilations,
            pads=[*window.begin, *window.end],
            group=group,
        )
    if 1 in context.wanted:
        pair, sizes = (context.gradient, context.name()), context.sizes_of(context.y)
        parts[1] = _kernel_gradient(context, pair, sizes[1], window)
    return parts | _bias_gradient(context)


def _kernel(context: GradientContext) -> tuple[int, ...]:
    shape = context.fixed_sizes(1)
    if shape is None:
        raise Unsupported("has a kernel whose shape is not known")
    return shape


def _group(context: GradientContext) -> int:
    return int(context.attributes.get("group", 1))


def _bias_gradient(context: GradientContext) -> dict[int, str]:
    if 2 not in context.wanted:
        return {}
    axes = [0, *range(2, len(context.sizes()))]
    return {2: context.g.total(context.gradient, axes, keepdims=False)}


def data_gradient(
    context: GradientContext, gradient: str, kernel: str, window: Window, group: int
) -> str:
    """The gradient of an image from that of its convolution.

    Parameters
    ----------
    context
        Of the node.
    gradient
        Of the convolution.
    kernel
        Name of the kernel (M, C / group, k...).
    window, group
        How it moved.
    """
    g, extra = context.g, window.left_over
    moves = {"strides": window.strides, "dilations": window.dilations, "group": group}
    if extra is not None:
        pads = [*window.begin, *window.end]
        padding = extra if any(extra) else None
        return g.ConvTranspose(gradient, kernel, pads=pads, output_padding=padding, **moves)
    full = g.ConvTranspose(gradient, kernel, **moves)
    axes = g.constant(range(2, 2 + len(window.kernel)))
    wanted, got = (g.Gather(g.shape(name), axes, axis=0) for name in (context.name(), full))
    end = g.Sub(g.Add(wanted, g.constant(window.begin)), got)
    begin = g.constant([0, 0, *(-size for size in window.begin), 0, 0])
    return g.Pad(full, g.Concat(begin, end, axis=0))


def _kernel_gradient(
    context: GradientContext, pair: tuple[str, str], channels: int | str | None, window: Window
) -> str:
    """The gradient (M, C / group, k...) of a kernel.

    Parameters
    ----------
    context
        Of the node.
    pair
        The image (N, C, ...), and what the kernel makes of it (N, M, ...) or its gradient.
    channels
        C.
    window
        How the kernel moved over the image.
    """
    g, count, group = context.g, len(window.kernel), _group(context)
    if group == 1 and window.places is not None:
        narrow = isinstance(channels, int) and channels <= NARROW
        return _kernel_gradient_by_places(context, pair, window, window.places, narrow=narrow)
    swap = [1, 0, *range(2, 2 + count)]
    image, by = (g.Transpose(name, perm=swap) for name in pair)
    if group > 1:
        image = _grouped(context, image, channels, group)
    result = g.Conv(
        image,
        by,
        strides=window.dilations,
        dilations=window.strides,
        pads=[*window.begin, *window.end],
        group=group,
    )
    rows = zip(window.left_over or window.kernel, window.dilations, strict=True)
    if window.left_over is None or any(left >= dilation for left, dilation in rows):
        starts, axes = g.constant([0] * count), g.constant(range(2, 2 + count))
        result = g.Slice(result, starts, g.constant(window.kernel), axes)
    return g.Transpose(result, perm=swap)


def _kernel_gradient_by_places(
    context: GradientContext,
    pair: tuple[str, str],
    window: Window,
    places: tuple[int, ...],
    *,
    narrow: bool,
) -> str:
    """A product of matrices for each entry of the kernel, which engines run faster.

    Parameters
    ----------
    context
        Of the node.
    pair, window
        As in ``_kernel_gradient``.
    places
        How many places the window has along each axis.
    narrow
        Whether channels are so few that all entries together make one product.
    """
    g, count = context.g, len(window.kernel)
    swap = [1, 0, *range(2, 2 + count)]
    image, by = (g.Transpose(name, perm=swap) for name in pair)
    if any((*window.begin, *window.end)):
        pads = [0, 0, *window.begin, 0, 0, *window.end]
        image = g.Pad(image, g.constant(pads))
    rows, axes = g.constant([0, -1]), g.constant(range(2, 2 + count))
    by = g.Reshape(by, rows)
    parts = []
    for entry in np.ndindex(*window.kernel):
        starts = np.multiply(entry, window.dilations)
        ends = starts + np.multiply(np.subtract(places, 1), window.strides) + 1
        bounds = (g.constant(values) for values in (starts, ends))
        piece = g.Slice(image, *bounds, axes, g.constant(window.strides))
        parts.append(g.Reshape(piece, rows))
    size = len(parts)
    if not narrow:
        parts = [g.Gemm(by, part, transB=1) for part in parts]
    joined = g.Concat(*parts, axis=0 if narrow else 1)
    product = g.Gemm(by, joined, transB=1) if narrow else joined
    split = g.Reshape(product, g.constant([0, size, -1]))
    turned = g.Transpose(split, perm=[0, 2, 1])
    return g.Reshape(turned, g.constant([0, 0, *window.kernel]))


def _grouped(context: GradientContext, image: str, channels: int | str | None, group: int) -> str:
    """An image (C, N, ...) as (C / group, group N, ...)."""
    if not isinstance(channels, int):
        raise Unsupported("has groups of channels whose number is not known")
    g, spatial = context.g, len(context.sizes()) - 2
    width, shape = channels // group, g.shape(image)
    sizes = g.Slice(shape, g.constant([2]), g.constant([2 + spatial]))
    if width > 1:
        split = g.Concat(g.constant([group, width, -1]), sizes, axis=0)
        order = [1, 0, *range(2, 3 + spatial)]
        image = g.Transpose(g.Reshape(image, split), perm=order)
    joined = g.Concat(g.constant([width, -1]), sizes, axis=0)
    return g.Reshape(image, joined)


# ---- windows that are reduced


def max_pool_gradient(context: GradientContext) -> Mapping[int, str]:
    """For the entry that each window's maximum is."""
    g, flat = context.g, context.g.constant([-1])
    attributes = {k: v for k, v in context.attributes.items() if k != "storage_order"}
    _, places = g.add_many("MaxPool", [context.name()], 2, **attributes)
    size = g.Reshape(g.size(context.name()), g.constant([1]))
    zeros = g.Expand(context.number_like(0.0), size)
    updates = (g.Reshape(name, flat) for name in (places, context.gradient))
    total = g.ScatterElements(zeros, *updates, axis=0, reduction="add")
    return {0: context.reshaped(total)}


def average_pool_gradient(context: GradientContext) -> Mapping[int, str]:
    """Spread over each window, in parts for as many entries as it met.

    Raises
    ------
    Unsupported
        The number of windows is rounded up.
    """
    if context.attributes.get("ceil_mode", 0):
        raise Unsupported("rounds the number of windows up")
    g, kernel = context.g, context.attributes["kernel_shape"]
    count = len(kernel)
    window = window_of(context, kernel, context.sizes()[2:])
    shape = g.shape(context.name())
    spatial = g.Gather(shape, g.constant(range(2, 2 + count)), axis=0)
    lead = g.constant([-1, 1])
    ones = context.number_like(np.ones((1, 1, *kernel)))
    gradient = context.gradient
    if context.attributes.get("count_include_pad", 0) or not any((*window.begin, *window.end)):
        gradient = context.scaled(gradient, 1 / math.prod(kernel))
    else:
        image = g.Concat(g.constant([1, 1]), spatial, axis=0)
        entries = g.Conv(
            g.Expand(context.number_like(1.0), image),
            ones,
            strides=window.strides,
            dilations=window.dilations,
            pads=[*window.begin, *window.end],
        )
        gradient = g.Div(gradient, entries)
    places = g.Gather(g.shape(context.y), g.constant(range(2, 2 + count)), axis=0)
    single = g.Reshape(gradient, g.Concat(lead, places, axis=0))
    return {0: context.reshaped(data_gradient(context, single, ones, window, 1))}
