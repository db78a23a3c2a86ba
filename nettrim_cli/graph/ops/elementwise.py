"""Ops that take one signal entry by entry: activations, and other functions of one number."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from nettrim_cli.graph.layer import Floats
from nettrim_cli.graph.ops import functions as f
from nettrim_cli.graph.ops.context import AffineContext, ErrorContext, ErrorGain
from nettrim_cli.graph.ops.error_rules import slope, steepest
from nettrim_cli.graph.ops.importance_rules import to_first, widest
from nettrim_cli.graph.ops.rank_rules import first_length, first_rank
from nettrim_cli.graph.ops.spec import Attributes, Clipping, Function, OpSpec

LARGEST = float(np.finfo(np.float32).max)


def function_of_one(function: Function | None = None, **facts: Any) -> OpSpec:
    """An op whose output has the axes of its first input."""
    return OpSpec(rank=first_rank, function=function, **facts)


def activation(function: Function | None = None, **facts: Any) -> OpSpec:
    """An op that passes importance on channel by channel, as if it passed everything on."""
    return function_of_one(function, importance=to_first, width=widest, **facts)


def prelu_error(context: ErrorContext) -> ErrorGain:
    """The steepest of its slopes, 1 among them."""
    return context.first(max(1.0, float(np.abs(context.value(1)).max(initial=0))))


def hard_sigmoid_gate(attributes: Attributes) -> float | None:
    """``max(1, 2 - b)`` for x clip(a x + b, 0, 1) with 0 <= b <= 1."""
    offset = attributes.get("beta", 0.5)
    return 2.0 - offset if 0 <= offset <= 1 else None


def hard_sigmoid_scale(context: AffineContext) -> tuple[Floats, Floats]:
    """What is clipped: ``alpha * x + beta``."""
    factor, constant = (
        context.attributes.get(name, default) for name, default in (("alpha", 0.2), ("beta", 0.5))
    )
    return np.full(context.size, factor), np.full(context.size, constant)


def negated(context: AffineContext) -> tuple[Floats, Floats]:
    """Times -1."""
    ones = np.ones(context.size)
    return -ones, 0 * ones


def clip_range(context: AffineContext) -> Clipping | None:
    """Bounds by attributes or constants; the largest float32 is none."""
    low = context.number("min", 1, -math.inf)
    high = context.number("max", 2, math.inf)
    if context.slot or low is None or high is None:
        return None
    low = -math.inf if low <= -LARGEST else low
    high = math.inf if high >= LARGEST else high
    if low >= high or (low, high) == (-math.inf, math.inf):
        return None
    if math.isinf(high):
        return Clipping(low, high, f"Clip from {low:g}")
    return Clipping(low, high, f"Clip {low:g} to {high:g}")


ACTIVATIONS: dict[str, OpSpec] = {
    "Relu": activation(
        f.plain(lambda x: np.maximum(x, 0)),
        error=slope(1),
        clip=lambda context: Clipping(0.0, math.inf, "Relu"),
    ),
    "Clip": activation(f.clip, error=slope(1), clip=clip_range, spreads=True),
    "LeakyRelu": activation(
        f.with_attributes(lambda x, alpha: f.negative(x, np.float32(alpha) * x), alpha=0.01),
        error=steepest("alpha", 0.01),
    ),
    "PRelu": activation(lambda attributes, x, a: f.negative(x, a * x), error=prelu_error),
    "ThresholdedRelu": function_of_one(
        f.with_attributes(lambda x, alpha: np.where(x > alpha, x, 0), alpha=1.0)
    ),
    "Elu": activation(f.with_attributes(f.exponential, alpha=1.0), error=steepest("alpha", 1.0)),
    "Celu": activation(
        f.with_attributes(lambda x, alpha: f.exponential(x, alpha, width=alpha), alpha=1.0)
    ),
    "Selu": activation(
        f.with_attributes(f.exponential, alpha=1.67326319217681884765625, gamma=1.0507010221481323)
    ),
    "Sigmoid": activation(
        f.plain(f.sigmoid),
        title="Sigmoid",
        error=slope(0.25),
        gate=lambda attributes: 1.1,
        probabilities=True,
    ),
    "HardSigmoid": activation(
        f.with_attributes(f.hard_sigmoid, alpha=0.2, beta=0.5),
        error=lambda context: context.first(abs(context.attributes.get("alpha", 0.2))),
        gate=hard_sigmoid_gate,
        affine=hard_sigmoid_scale,
        clip=lambda context: Clipping(0.0, 1.0, "HardSigmoid"),
    ),
    "HardSwish": activation(
        f.plain(lambda x: x * f.hard_sigmoid(x, 1 / 6, 0.5)), title="HardSwish", error=slope(1.5)
    ),
    "Mish": activation(
        f.plain(lambda x: x * np.tanh(f.softplus(x))), title="Mish", error=slope(1.09)
    ),
    "Swish": activation(f.with_attributes(f.swish, alpha=1.0), title="Silu"),
    "Gelu": activation(  # the slope is 1.129 at x = 1.41, that of the tanh form alike
        lambda attributes, x: (
            f.tanh_gelu(x) if attributes.get("approximate", "none") == "tanh" else f.gelu(x)
        ),
        title="Gelu",
        error=slope(1.13),
    ),
    "Softplus": activation(f.plain(f.softplus), title="Softplus", error=slope(1)),
    "Softsign": function_of_one(f.plain(lambda x: x / (1 + np.abs(x))), error=slope(1)),
    "Tanh": activation(f.plain(np.tanh), title="Tanh", error=slope(1)),
    "Erf": activation(f.plain(f.erf), error=slope(2 / math.sqrt(math.pi))),
    "com.microsoft.Gelu": OpSpec(function=f.plain(f.gelu), width=widest),
    "com.microsoft.BiasGelu": OpSpec(function=lambda attributes, x, bias: f.gelu(x + bias)),
    "com.microsoft.FastGelu": OpSpec(function=lambda attributes, x, bias=0: f.tanh_gelu(x + bias)),
    "com.microsoft.QuickGelu": OpSpec(
        function=f.with_attributes(f.swish, alpha=1.702), title="QuickGelu"
    ),
}

UNARY: dict[str, OpSpec] = {
    "Neg": replace(
        activation(f.plain(np.negative), error=slope(1), linear=True, affine=negated),
        length=first_length,
    ),
    "Abs": replace(activation(f.plain(np.abs), error=slope(1)), length=first_length),
    "Exp": activation(f.plain(np.exp)),
    "Sqrt": activation(f.plain(np.sqrt)),
    "Log": function_of_one(f.plain(np.log)),
    "Reciprocal": function_of_one(f.plain(lambda x: 1 / x)),
    "Sin": function_of_one(error=slope(1)),
    "Cos": function_of_one(error=slope(1)),
    "Atan": OpSpec(error=slope(1)),
    **dict.fromkeys(("Sign", "Not", "Floor", "Ceil", "Round", "IsNaN"), function_of_one()),
}

ELEMENTWISE = ACTIVATIONS | UNARY
