"""Gradients of normalisations and of Softmax."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nettrim_cli.graph.ops.base import Unsupported
from nettrim_cli.graph.ops.gradients.context import GradientContext, sum_to

EPSILON = 1e-5


def _epsilon(context: GradientContext, default: float = EPSILON) -> float:
    return float(context.attributes.get("epsilon", default))


def _by_channel(context: GradientContext, name: str) -> str:
    """A tensor (C,) as (C, 1, ...), which meets axis 1 of the input."""
    rank = len(context.sizes())
    if rank <= 2:
        return name
    return context.g.Reshape(name, context.g.constant([-1, *(1,) * (rank - 2)]))


def batch_gradient(context: GradientContext) -> Mapping[int, str]:
    """With the stored mean and variance, as in inference.

    Raises
    ------
    Unsupported
        It normalises by the batch.
    """
    if context.spec.trains is None or context.spec.trains(context):
        raise Unsupported("normalises by the batch")
    g, gradient = context.g, context.gradient
    x, gamma, _, mean, variance = context.node.input
    deviation = g.Sqrt(g.Add(variance, context.number_like(_epsilon(context), 4)))
    inverse = g.Reciprocal(deviation)
    scale = g.Mul(gamma, inverse)
    axes = [0, *range(2, len(context.sizes()))]
    parts = {}
    if 0 in context.wanted:
        parts[0] = g.Mul(gradient, _by_channel(context, scale))
    if context.wanted - {0}:
        parts[2] = total = g.total(gradient, axes, keepdims=False)
        parts[3] = g.Neg(g.Mul(total, scale))
    if context.wanted & {1, 4}:
        moments = g.total(g.Mul(gradient, x), axes, keepdims=False)
        centred = g.Sub(moments, g.Mul(mean, total))
        parts[1] = g.Mul(centred, inverse)
        steep = g.Mul(g.Mul(parts[1], inverse), scale)
        parts[4] = context.scaled(steep, -0.5)
    return parts


def _standardised(
    context: GradientContext, x: str, axes: Sequence[int], epsilon: float, *, centred: bool = True
) -> tuple[str, str]:
    """Standardised values, and the inverse deviations."""
    g = context.g
    if centred:
        x = g.Sub(x, g.mean(x, axes))
    square = g.mean(g.Mul(x, x), axes)
    deviation = g.Sqrt(g.Add(square, context.number_like(epsilon)))
    inverse = g.Reciprocal(deviation)
    return g.Mul(x, inverse), inverse


def _before_standardising(
    context: GradientContext,
    gradient: str,
    values: str,
    inverse: str,
    axes: Sequence[int],
    *,
    centred: bool = True,
) -> str:
    """``r (g - mean(g) - z mean(g z))`` with standardised z and inverse deviation r.

    Parameters
    ----------
    context
        Of the node.
    gradient
        Of the standardised values.
    values, inverse
        They, and the inverse deviations.
    axes
        Axes over which they are standardised.
    centred
        Whether the mean was taken off.
    """
    g = context.g
    along = g.mean(g.Mul(gradient, values), axes)
    rest = g.Sub(gradient, g.Mul(values, along))
    if centred:
        rest = g.Sub(rest, g.mean(gradient, axes))
    return g.Mul(rest, inverse)


def _layer_gradient(context: GradientContext, *, centred: bool) -> Mapping[int, str]:
    g, gradient, rank = context.g, context.gradient, len(context.sizes())
    first = context.attributes.get("axis", -1) % rank
    axes = list(range(first, rank))
    values, inverse = _standardised(
        context, context.name(), axes, _epsilon(context), centred=centred
    )
    parts = {}
    if 0 in context.wanted:
        inner = g.Mul(gradient, context.name(1))
        parts[0] = _before_standardising(context, inner, values, inverse, axes, centred=centred)
    sizes = context.sizes_of(context.name())
    if 1 in context.wanted:
        parts[1] = sum_to(context, g.Mul(gradient, values), sizes, context.name(1))
    if 2 in context.wanted:
        parts[2] = sum_to(context, gradient, sizes, context.name(2))
    return parts


def layer_gradient(context: GradientContext) -> Mapping[int, str]:
    """Over the last axes, each sample by itself."""
    return _layer_gradient(context, centred=True)


def rms_gradient(context: GradientContext) -> Mapping[int, str]:
    """The same without taking the mean off."""
    return _layer_gradient(context, centred=False)


def instance_gradient(context: GradientContext) -> Mapping[int, str]:
    """Over the positions of each channel."""
    g, gradient, rank = context.g, context.gradient, len(context.sizes())
    axes = list(range(2, rank))
    values, inverse = _standardised(context, context.name(), axes, _epsilon(context))
    parts = {}
    if 0 in context.wanted:
        inner = g.Mul(gradient, _by_channel(context, context.name(1)))
        parts[0] = _before_standardising(context, inner, values, inverse, axes)
    return parts | _channel_parts(context, gradient, values)


def _channel_parts(context: GradientContext, gradient: str, values: str) -> dict[int, str]:
    """Gradients of the scale and the shift of each channel."""
    g, axes = context.g, [0, *range(2, len(context.sizes()))]
    parts = {}
    if 1 in context.wanted:
        parts[1] = g.total(g.Mul(gradient, values), axes, keepdims=False)
    if 2 in context.wanted:
        parts[2] = g.total(gradient, axes, keepdims=False)
    return parts


def group_gradient(context: GradientContext) -> Mapping[int, str]:
    """Over groups of channels.

    Raises
    ------
    Unsupported
        Scales are those of groups, as before opset 21.
    """
    if context.graph.opset < 21:
        raise Unsupported("scales groups of channels")
    g, gradient = context.g, context.gradient
    split = g.constant([0, context.attributes["num_groups"], -1])
    grouped = g.Reshape(context.name(), split)
    values, inverse = _standardised(context, grouped, [2], _epsilon(context))
    parts = {}
    if 0 in context.wanted:
        scaled = g.Mul(gradient, _by_channel(context, context.name(1)))
        inner = g.Reshape(scaled, split)
        parts[0] = context.reshaped(_before_standardising(context, inner, values, inverse, [2]))
    return parts | _channel_parts(context, gradient, context.reshaped(values))


def unit_gradient(context: GradientContext) -> Mapping[int, str]:
    """``(g - y sum(g y)) / |x|`` of vectors of length 1.

    Raises
    ------
    Unsupported
        The length is a sum of absolute values.
    """
    if context.attributes.get("p", 2) != 2:
        raise Unsupported("divides by a sum of absolute values")
    g, x = context.g, context.name()
    axes = [context.attributes.get("axis", -1) % len(context.sizes())]
    length = g.Sqrt(g.total(g.Mul(x, x), axes, keepdims=True))
    along = g.total(g.Mul(context.gradient, context.y), axes, keepdims=True)
    rest = g.Sub(context.gradient, g.Mul(context.y, along))
    return {0: g.Div(rest, length)}


def softmax_gradient(context: GradientContext) -> Mapping[int, str]:
    """``y (g - sum(g y))``."""
    g, axes = context.g, [context.attributes.get("axis", -1) % len(context.sizes())]
    along = g.total(g.Mul(context.gradient, context.y), axes, keepdims=True)
    return {0: g.Mul(context.y, g.Sub(context.gradient, along))}


def log_softmax_gradient(context: GradientContext) -> Mapping[int, str]:
    """``g - exp(y) sum(g)``."""
    g, axes = context.g, [context.attributes.get("axis", -1) % len(context.sizes())]
    total = g.total(context.gradient, axes, keepdims=True)
    return {0: g.Sub(context.gradient, g.Mul(g.Exp(context.y), total))}
