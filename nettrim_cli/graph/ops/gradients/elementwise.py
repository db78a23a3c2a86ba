"""Gradients of functions of one number, and of those of several signals entry by entry."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from nettrim_cli.graph.ops.base import Unsupported
from nettrim_cli.graph.ops.gradients.context import GradientContext, GradientRule, sum_to

Slope = Callable[[GradientContext, str], str]
"""Derivative at an input of that name."""


def by_slope(slope: Slope) -> GradientRule:
    """The gradient times the derivative at the first input."""

    def rule(context: GradientContext) -> Mapping[int, str]:
        """Entry by entry."""
        return {0: context.g.Mul(context.gradient, slope(context, context.name()))}

    return rule


def by_mask(condition: Callable[[GradientContext, str], str]) -> GradientRule:
    """The gradient where a condition on the first input holds, else 0."""

    def rule(context: GradientContext) -> Mapping[int, str]:
        """Entry by entry."""
        mask = condition(context, context.name())
        nothing = context.number_like(0.0)
        return {0: context.g.Where(mask, context.gradient, nothing)}

    return rule


def to_first(context: GradientContext) -> Mapping[int, str]:
    """The gradient as it is."""
    return {0: context.gradient}


# ---- slopes


def positive(context: GradientContext, x: str) -> str:
    """Whether x is above zero."""
    return context.g.Greater(x, context.number_like(0.0))


def above_threshold(context: GradientContext, x: str) -> str:
    """Whether x is above ``alpha``."""
    return context.g.Greater(x, context.number_like(context.attributes.get("alpha", 1.0)))


def of(op: str) -> Slope:
    """An op of the first input."""
    return lambda context, x: context.g.add(op, x)


def itself(context: GradientContext, _: str) -> str:
    """The output."""
    return context.y


def step_of_output(context: GradientContext, _: str) -> str:
    """1 where the output is above zero, which it is never below; faster than a choice."""
    return context.g.Sign(context.y)


def cos_slope(context: GradientContext, x: str) -> str:
    """``-sin(x)``."""
    return context.g.Neg(context.g.Sin(x))


def clip_gradient(context: GradientContext) -> Mapping[int, str]:
    """Where nothing is cut; for a bound that is an input, where it cuts."""
    g, nothing, parts = context.g, context.number_like(0.0), {}
    gradient = context.gradient
    for name, slot, op in (("min", 1, "Less"), ("max", 2, "Greater")):
        bound = context.name(slot)
        if name in context.attributes:
            bound = context.number_like(context.attributes[name])
        if bound:
            outside = g.add(op, context.name(), bound)
            if slot in context.wanted:
                cut = g.Where(outside, gradient, nothing)
                parts[slot] = context.summed(cut, slot)
            gradient = g.Where(outside, nothing, gradient)
    return {0: gradient} | parts


def leaky_gradient(context: GradientContext) -> Mapping[int, str]:
    """A fixed slope below zero."""
    below = context.scaled(context.gradient, context.attributes.get("alpha", 0.01))
    mask = positive(context, context.name())
    return {0: context.g.Where(mask, context.gradient, below)}


def prelu_gradient(context: GradientContext) -> Mapping[int, str]:
    """Slopes below zero are an input, whose gradient is that of the negative part."""
    g, gradient = context.g, context.gradient
    x, slope = context.node.input
    mask, result = positive(context, x), {}
    if 0 in context.wanted:
        result[0] = g.Where(mask, gradient, g.Mul(gradient, slope))
    if 1 in context.wanted:
        below = g.Min(x, context.number_like(0.0))
        result[1] = context.summed(g.Mul(gradient, below), 1)
    return result


def elu_gradient(alpha: float, gamma: float = 1.0) -> GradientRule:
    """``gamma`` above zero, ``gamma alpha exp(x)`` below; the constants are defaults."""

    def rule(context: GradientContext) -> Mapping[int, str]:
        """By attributes."""
        g, x, attributes = context.g, context.name(), context.attributes
        a, c = attributes.get("alpha", alpha), attributes.get("gamma", gamma)
        nothing = context.number_like(0.0)
        low = context.scaled(g.Exp(g.Min(x, nothing)), a)
        slope = g.Where(positive(context, x), context.number_like(1.0), low)
        return {0: context.scaled(g.Mul(context.gradient, slope), c)}

    return rule


def celu_slope(context: GradientContext, x: str) -> str:
    """``exp(min(x, 0) / alpha)``."""
    low = context.g.Min(x, context.number_like(0.0))
    alpha = context.attributes.get("alpha", 1.0)
    return context.g.Exp(context.scaled(low, 1 / alpha))


def sigmoid_slope(context: GradientContext, _: str) -> str:
    """``y (1 - y)``."""
    return _logistic_slope(context, context.y)


def _logistic_slope(context: GradientContext, y: str) -> str:
    rest = context.g.Sub(context.number_like(1.0), y)
    return context.g.Mul(y, rest)


def hard_sigmoid_gradient(context: GradientContext) -> Mapping[int, str]:
    """``alpha`` between the cuts."""
    g, y = context.g, context.y
    inside = g.And(
        g.Greater(y, context.number_like(0.0)),
        g.Less(y, context.number_like(1.0)),
    )
    slope = context.scaled(context.gradient, context.attributes.get("alpha", 0.2))
    return {0: g.Where(inside, slope, context.number_like(0.0))}


def hard_swish_slope(context: GradientContext, x: str) -> str:
    """0 below -3, 1 above 3, ``x / 3 + 1 / 2`` between."""
    g = context.g
    middle = g.Add(context.scaled(x, 1 / 3), context.number_like(0.5))
    low = g.Less(x, context.number_like(-3.0))
    high = g.Greater(x, context.number_like(3.0))
    upper = g.Where(high, context.number_like(1.0), middle)
    return g.Where(low, context.number_like(0.0), upper)


def swish_slope(alpha: float) -> Slope:
    """``s + alpha x s (1 - s)`` with ``s = sigmoid(alpha x)``."""

    def slope(context: GradientContext, x: str) -> str:
        """By attributes."""
        g, factor = context.g, context.attributes.get("alpha", alpha)
        scaled = context.scaled(x, factor)
        s = g.Sigmoid(scaled)
        return g.Add(s, g.Mul(scaled, _logistic_slope(context, s)))

    return slope


def tanh_slope(context: GradientContext, _: str) -> str:
    """``1 - y^2``."""
    y = context.y
    return context.g.Sub(context.number_like(1.0), context.g.Mul(y, y))


def erf_slope(context: GradientContext, x: str) -> str:
    """``2 / sqrt(pi) exp(-x^2)``."""
    g = context.g
    bell = g.Exp(g.Neg(g.Mul(x, x)))
    return context.scaled(bell, 2 / math.sqrt(math.pi))


def gelu_slope(context: GradientContext, x: str) -> str:
    """``P(x) + x p(x)`` with the normal distribution P and its density p; or of the tanh form."""
    if context.attributes.get("approximate", "none") == "tanh":
        return tanh_gelu_slope(context, x)
    g, one = context.g, context.number_like(1.0)
    erf = g.Erf(context.scaled(x, math.sqrt(0.5)))
    half = context.scaled(g.Add(erf, one), 0.5)
    bell = g.Exp(context.scaled(g.Mul(x, x), -0.5))
    return g.Add(half, context.scaled(g.Mul(x, bell), 1 / math.sqrt(2 * math.pi)))


def tanh_gelu_slope(context: GradientContext, x: str) -> str:
    """``(1 + t) / 2 + x (1 - t^2) u' / 2`` with ``t = tanh(u)``."""
    g, one = context.g, context.number_like(1.0)
    square = g.Mul(x, x)
    factor = math.sqrt(2 / math.pi)
    cubic = g.Add(context.scaled(square, 0.044715), one)
    t = g.Tanh(context.scaled(g.Mul(x, cubic), factor))
    inner = context.scaled(g.Add(context.scaled(square, 3 * 0.044715), one), factor)
    bend = g.Mul(g.Sub(one, g.Mul(t, t)), g.Mul(x, inner))
    return context.scaled(g.Add(g.Add(t, one), bend), 0.5)


def mish_slope(context: GradientContext, x: str) -> str:
    """``t + x (1 - t^2) sigmoid(x)`` with ``t = tanh(softplus(x))``."""
    g = context.g
    t = g.Tanh(g.Softplus(x))
    rest = g.Sub(context.number_like(1.0), g.Mul(t, t))
    return g.Add(t, g.Mul(g.Mul(x, rest), g.Sigmoid(x)))


def softplus_slope(context: GradientContext, x: str) -> str:
    """``sigmoid(x)``."""
    return context.g.Sigmoid(x)


def softsign_slope(context: GradientContext, x: str) -> str:
    """``1 / (1 + |x|)^2``."""
    g = context.g
    sum_ = g.Add(g.Abs(x), context.number_like(1.0))
    return g.Reciprocal(g.Mul(sum_, sum_))


def sqrt_gradient(context: GradientContext) -> Mapping[int, str]:
    """``g / (2 y)``."""
    return {0: context.scaled(context.g.Div(context.gradient, context.y), 0.5)}


def log_gradient(context: GradientContext) -> Mapping[int, str]:
    """``g / x``."""
    return {0: context.g.Div(context.gradient, context.name())}


def reciprocal_slope(context: GradientContext, _: str) -> str:
    """``-y^2``."""
    return context.g.Neg(context.g.Mul(context.y, context.y))


def atan_slope(context: GradientContext, x: str) -> str:
    """``1 / (1 + x^2)``."""
    g = context.g
    return g.Reciprocal(g.Add(g.Mul(x, x), context.number_like(1.0)))


def negated_gradient(context: GradientContext) -> Mapping[int, str]:
    """``-g``."""
    return {0: context.g.Neg(context.gradient)}


# ---- several signals


def sum_gradient(context: GradientContext) -> Mapping[int, str]:
    """The gradient for each summand."""
    return {slot: context.summed(context.gradient, slot) for slot in context.wanted}


def mean_gradient(context: GradientContext) -> Mapping[int, str]:
    """An equal part for each."""
    gradient = context.scaled(context.gradient, 1 / context.count)
    return {slot: context.summed(gradient, slot) for slot in context.wanted}


def difference_gradient(context: GradientContext) -> Mapping[int, str]:
    """With the other sign for what is taken off."""
    parts = {}
    for slot in context.wanted:
        gradient = context.summed(context.gradient, slot)
        parts[slot] = context.g.Neg(gradient) if slot else gradient
    return parts


def product_gradient(context: GradientContext) -> Mapping[int, str]:
    """Times the other factor."""
    return {
        slot: context.summed(context.g.Mul(context.gradient, context.name(1 - slot)), slot)
        for slot in context.wanted
    }


def quotient_gradient(context: GradientContext) -> Mapping[int, str]:
    """``g / b``, and ``-g y / b`` for the divisor."""
    g, parts = context.g, {}
    gradient = g.Div(context.gradient, context.name(1))
    for slot in context.wanted:
        slope = g.Neg(g.Mul(gradient, context.y)) if slot else gradient
        parts[slot] = context.summed(slope, slot)
    return parts


def power_gradient(context: GradientContext) -> Mapping[int, str]:
    """``g b a^(b - 1)``, and ``g y log(a)`` for the exponent."""
    g, (base, exponent), parts = context.g, context.node.input, {}
    if 0 in context.wanted:
        power = context.number(" ", 1, 1.0)
        if power is None:
            lower = g.Pow(base, g.Sub(exponent, context.number_like(1.0, 1)))
            inner = g.Mul(lower, g.CastLike(exponent, base))
        elif power == 2:
            inner = context.scaled(base, 2.0)
        else:
            inner = context.scaled(g.Pow(base, context.number_like(power - 1)), power)
        parts[0] = context.summed(g.Mul(context.gradient, inner), 0)
    if 1 in context.wanted:
        slope = g.Mul(context.y, g.Log(base))
        parts[1] = context.summed(g.Mul(context.gradient, slope), 1)
    return parts


def where_gradient(context: GradientContext) -> Mapping[int, str]:
    """For the input that was taken."""
    g, nothing = context.g, context.number_like(0.0, 1)
    parts = {}
    for slot in context.wanted - {0}:
        pair = (context.gradient, nothing) if slot == 1 else (nothing, context.gradient)
        parts[slot] = context.summed(g.Where(context.name(), *pair), slot)
    return parts


def extreme_gradient(context: GradientContext) -> Mapping[int, str]:
    """For inputs that are the largest (or smallest)."""
    g, parts = context.g, {}
    for slot in context.wanted:
        chosen = g.Equal(context.name(slot), context.y)
        gradient = g.Where(chosen, context.gradient, context.number_like(0.0))
        parts[slot] = context.summed(gradient, slot)
    return parts


def biased_gradient(slope: Slope) -> GradientRule:
    """Of an activation of the sum of two inputs."""

    def rule(context: GradientContext) -> Mapping[int, str]:
        """The same for both, but for the shape."""
        g, x = context.g, context.name()
        if context.name(1):
            x = g.Add(x, context.name(1))
        gradient = g.Mul(context.gradient, slope(context, x))
        parts = {0: gradient}
        if 1 in context.wanted:
            parts[1] = sum_to(context, gradient, context.sizes(), context.name(1))
        return parts

    return rule


def cast_gradient(context: GradientContext) -> Mapping[int, str]:
    """Cast back; nothing from or to integers."""
    floats = context.graph.float_types
    types = [context.facts.types.get(name, 1) for name in (context.name(), context.y)]
    if not all(kind in floats for kind in types):
        return {}
    return {0: context.g.Cast(context.gradient, to=types[0])}


def dropout_gradient(context: GradientContext) -> Mapping[int, str]:
    """As it is, unless it trains.

    Raises
    ------
    Unsupported
        It trains, or may be told to.
    """
    if context.spec.trains is None or context.spec.trains(context) is not False:
        raise Unsupported("may be told to train")
    return {0: context.gradient}
