"""Ops that reduce windows, axes or whole images to one value each, or spread them out."""

from __future__ import annotations

import math
from collections.abc import Set
from typing import Any

import numpy as np

from nettrim_cli.graph.ops.base import Unsupported
from nettrim_cli.graph.ops.channel_context import ChannelContext, Labels
from nettrim_cli.graph.ops.channel_layout import resize_channels, same_size_channels
from nettrim_cli.graph.ops.channel_rules import Outputs, mixed
from nettrim_cli.graph.ops.context import (
    ErrorContext,
    ErrorGain,
    NodeContext,
)
from nettrim_cli.graph.ops.error_rules import copies, slope, total
from nettrim_cli.graph.ops.function_rules import always
from nettrim_cli.graph.ops.gradients import layout as gradients
from nettrim_cli.graph.ops.gradients.context import zero
from nettrim_cli.graph.ops.gradients.convolutions import average_pool_gradient, max_pool_gradient
from nettrim_cli.graph.ops.rank_rules import first_rank
from nettrim_cli.graph.ops.spec import OpSpec
from nettrim_cli.graph.ops.windows import window


def max_pool_error(context: ErrorContext) -> ErrorGain:
    """Of each window only the largest change counts, and an entry is in `uses` windows."""
    shape = window(context.attributes, context.attributes["kernel_shape"])
    return context.first(math.sqrt(context.norms.uses(*shape)))


def average_pool_error(context: ErrorContext) -> ErrorGain:
    """Rows of the matrix add up to 1, columns to uses / least: the norm's square is below."""
    attributes = context.attributes
    kernel, strides, dilations = window(attributes, attributes["kernel_shape"])
    least = math.prod(kernel)
    pads = attributes.get("pads", (0,) * 2 * len(kernel))
    padding = attributes.get("auto_pad", "NOTSET")
    if padding not in ("NOTSET", "VALID") or attributes.get("ceil_mode", 0):
        least = 1
    elif any(pads) and not attributes.get("count_include_pad", 0):
        halves = pads[: len(kernel)], pads[len(kernel) :]
        margins = [begin + end for begin, end in zip(*halves, strict=True)]
        rows = zip(kernel, margins, dilations, strict=True)
        least = math.prod(max(1, k - margin) if d == 1 else 1 for k, margin, d in rows)
    return context.first(math.sqrt(context.norms.uses(kernel, strides, dilations) / least))


def leaves_out_margins(context: NodeContext) -> bool:
    """Whether means are of entries alone, and not of zeros around them."""
    padded = any(context.attributes.get("pads", ())) or context.attributes.get(
        "auto_pad", "NOTSET"
    ) not in ("NOTSET", "VALID")
    counted = padded or bool(context.attributes.get("ceil_mode", 0))
    return not (counted and context.attributes.get("count_include_pad", 0))


def stays_inside(context: NodeContext) -> bool:
    """Whether nothing is made up for what lies outside."""
    mode = context.attributes.get("coordinate_transformation_mode", "half_pixel")
    return bool(mode != "tf_crop_and_resize")


def reduced_rank(context: NodeContext) -> int | None:
    """Without the listed axes, unless they are kept."""
    if context.attributes.get("keepdims", 1):
        return context.rank()
    axes, rank = context.integers("axes", 1), context.rank()
    return None if not axes or rank is None else rank - len(axes)


def position_rank(context: NodeContext) -> int | None:
    """An axis less, unless it is kept."""
    rank = context.rank()
    return None if rank is None else rank - (not context.attributes.get("keepdims", 1))


def pool_channels(context: ChannelContext) -> Outputs:
    """Windows run over all axes but the first two."""
    labels = context.of()
    return () if labels is None else (mixed(context, labels, range(2, labels.ndim)),)


def reduction_channels(context: ChannelContext) -> Outputs:
    """Entries along the listed axes are mixed, and the axes may go.

    Raises
    ------
    Unsupported
        The axes are not known.
    """
    labels = context.of()
    if labels is None:
        return ()
    axes = context.integers("axes", 1)
    if axes is None and context.name(1):
        raise Unsupported("it reduces axes that are not constant", "not-followed")
    idle = bool(context.attributes.get("noop_with_empty_axes", 0))
    listed = {axis % labels.ndim for axis in axes or (() if idle else range(labels.ndim))}
    return _without(context, mixed(context, labels, listed), listed)


def position_channels(context: ChannelContext) -> Outputs:
    """Entries along one axis are compared."""
    labels = context.of()
    if labels is None:
        return ()
    axis = context.attributes.get("axis", 0) % labels.ndim
    return _without(context, mixed(context, labels, [axis]), {axis})


def _without(context: ChannelContext, labels: Labels, axes: Set[int]) -> Outputs:
    """Labels behind a reduction, none where units had to stay."""
    if any(labels.shape[axis] > 1 for axis in axes):
        return ()
    if context.attributes.get("keepdims", 1):
        return (labels,)
    return (np.squeeze(labels, tuple(axes)),)


def cumulative_channels(context: ChannelContext) -> Outputs:
    """Entries along one axis are summed up.

    Raises
    ------
    Unsupported
        The axis is not known.
    """
    labels, axis = context.of(), context.stored(1)
    if axis is None:
        raise Unsupported("its axis is not constant", "not-followed")
    return () if labels is None else (mixed(context, labels, [int(axis.reshape(()))]),)


def pool(**facts: Any) -> OpSpec:
    """An op that keeps channels and the number of axes."""
    usual = {"channels": pool_channels}
    return OpSpec(rank=first_rank, **usual | facts)


def reduction(**facts: Any) -> OpSpec:
    """An op over listed axes."""
    return OpSpec(rank=reduced_rank, channels=reduction_channels, **facts)


POOLING: dict[str, OpSpec] = {
    "MaxPool": pool(error=max_pool_error, steady=always, gradient=max_pool_gradient),
    "AveragePool": pool(
        error=average_pool_error, steady=leaves_out_margins, gradient=average_pool_gradient
    ),
    "GlobalAveragePool": pool(
        error=copies, steady=always, gradient=gradients.global_average_gradient
    ),
    "GlobalMaxPool": pool(
        error=slope(1), steady=always, gradient=gradients.global_maximum_gradient
    ),
    "LpPool": OpSpec(rank=first_rank, channels=pool_channels),
    "Resize": pool(
        channels=resize_channels, steady=stays_inside, gradient=gradients.resized_gradient
    ),
    "Upsample": pool(channels=same_size_channels, steady=always),
    "ReduceMean": reduction(error=copies, steady=always, gradient=gradients.mean_gradient),
    "ReduceSum": reduction(error=total, gradient=gradients.total_gradient),
    "ReduceMax": reduction(
        error=slope(1),
        steady=always,
        gradient=gradients.extreme_gradient,
    ),
    "ReduceMin": reduction(error=slope(1), steady=always, gradient=gradients.extreme_gradient),
    "ReduceL2": reduction(error=slope(1), gradient=gradients.by_kept(lambda g, x, y: g.Div(x, y))),
    "ReduceL1": reduction(gradient=gradients.by_kept(lambda g, x, y: g.Sign(x))),
    "ReduceLogSum": reduction(gradient=gradients.log_sum_gradient),
    "ReduceLogSumExp": reduction(gradient=gradients.by_kept(lambda g, x, y: g.Exp(g.Sub(x, y)))),
    "ReduceProd": reduction(gradient=gradients.product_gradient),
    "ReduceSumSquare": reduction(gradient=gradients.sum_of_squares_gradient),
    "ArgMax": OpSpec(rank=position_rank, channels=position_channels, gradient=zero),
    "ArgMin": OpSpec(rank=position_rank, channels=position_channels, gradient=zero),
    "CumSum": OpSpec(
        rank=first_rank, channels=cumulative_channels, gradient=gradients.running_sum_gradient
    ),
}
