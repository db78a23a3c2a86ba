"""Ops that take one signal entry by entry: activations, and other functions of one number."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from nettrim_cli.graph.layer import Floats
from nettrim_cli.graph.ops.channel_rules import entrywise, unary
from nettrim_cli.graph.ops.context import AffineContext, ErrorContext, ErrorGain
from nettrim_cli.graph.ops.error_rules import slope, steepest
from nettrim_cli.graph.ops.function_rules import plain, with_attributes
from nettrim_cli.graph.ops.gradients import elementwise as gradients
from nettrim_cli.graph.ops.gradients.context import zero
from nettrim_cli.graph.ops.rank_rules import first_length, first_rank
from nettrim_cli.graph.ops.spec import Attributes, Clipping, Function, OpSpec

LARGEST = float(np.finfo(np.float32).max)
SELU_ALPHA, SELU_GAMMA = 1.67326319217681884765625, 1.0507010221481323

# erf(x) = tanh(x p(x^2)) to 6e-8 where |x| <= ERF_END, and 1 to as much beyond: coefficients of p,
# fitted with the error of erf itself as the weight; its first terms are those of GELU's other form.
ERF = np.array(
    [
        1.58960926e-07,
        -5.98570236e-06,
        8.97126548e-05,
        -6.25719741e-04,
        -1.84383513e-04,
        1.02765481e-01,
        1.12837971,
    ],
    np.float32,
)
ERF_END = np.float32(3.9)


# ---- functions of arrays, in float32 as ONNX has them


def erf(x: Any) -> Any:
    """The error function in float32, exact to 2e-7; several times faster than SciPy's."""
    x = np.clip(np.asarray(x, np.float32), -ERF_END, ERF_END)
    square = np.square(x)
    value = ERF[0] * square
    for coefficient in ERF[1:-1]:
        value += coefficient
        value *= square
    value += ERF[-1]
    value *= x
    return np.tanh(value)


def sigmoid(x: Any) -> Any:
    """``1 / (1 + exp(-x))`` without overflow, small values to their last digits, too."""
    value = np.exp(np.minimum(x, 0))
    value /= np.float32(1) + np.exp(-np.abs(x))
    return value


def softplus(x: Any) -> Any:
    """``log(1 + exp(x))`` without overflow."""
    value = np.log1p(np.exp(-np.abs(x)))
    value += np.maximum(x, 0)
    return value


def gelu(x: Any) -> Any:
    """``x (1 + erf(x / sqrt 2)) / 2``."""
    value = erf(x * np.float32(math.sqrt(0.5)))
    value += np.float32(1)
    value *= np.float32(0.5) * x
    return value


def tanh_gelu(x: Any) -> Any:
    """``x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2``."""
    factor = np.float32(math.sqrt(2 / math.pi))
    return x * (1 + np.tanh(factor * (x + np.float32(0.044715) * x**3))) / 2


def swish(x: Any, alpha: float) -> Any:
    """``x sigmoid(alpha x)``."""
    return x * sigmoid(np.float32(alpha) * x)


def negative(x: Any, value: Any) -> Any:
    """`value` where x is below zero."""
    return np.where(x < 0, value, x)


def exponential(x: Any, alpha: float, gamma: float = 1.0, width: float = 1.0) -> Any:
    """``gamma * alpha * (exp(x / width) - 1)`` below zero, ``gamma * x`` above.

    Parameters
    ----------
    x
        Values, of any shape.
    alpha, gamma, width
        The functions ELU (alpha), SELU (alpha, gamma) and CELU (alpha, width) in one.
    """
    below = np.float32(alpha) * np.expm1(np.minimum(x, 0) / np.float32(width))
    return np.float32(gamma) * negative(x, below)


def hard_sigmoid(x: Any, alpha: float, beta: float) -> Any:
    """``alpha * x + beta``, cut to the range from 0 to 1."""
    return np.clip(np.float32(alpha) * x + np.float32(beta), 0, 1)


def clip(attributes: Attributes, x: Any, low: Any = None, high: Any = None) -> Any:
    """The values of x cut to a range.

    Parameters
    ----------
    attributes
        Tell the range by ``min`` and ``max`` in early operator sets.
    x
        Values, of any shape.
    low, high
        Inputs that tell the range in later ones.
    """
    low = attributes.get("min", -np.inf) if low is None else low
    high = attributes.get("max", np.inf) if high is None else high
    return np.minimum(np.maximum(x, np.float32(low)), np.float32(high))


# ---- rules


def activation(function: Function | None = None, **facts: Any) -> OpSpec:
    """An op whose output has the axes of its first input."""
    return OpSpec(rank=first_rank, function=function, **{"channels": unary} | facts)


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
        plain(lambda x: np.maximum(x, 0)),
        error=slope(1),
        clip=lambda context: Clipping(0.0, math.inf, "Relu"),
        gradient=gradients.by_slope(gradients.step_of_output),
    ),
    "Clip": activation(
        clip, error=slope(1), clip=clip_range, spreads=True, gradient=gradients.clip_gradient
    ),
    "LeakyRelu": activation(
        with_attributes(lambda x, alpha: negative(x, np.float32(alpha) * x), alpha=0.01),
        error=steepest("alpha", 0.01),
        gradient=gradients.leaky_gradient,
    ),
    "PRelu": activation(
        lambda attributes, x, a: negative(x, a * x),
        error=prelu_error,
        channels=entrywise,
        gradient=gradients.prelu_gradient,
    ),
    "ThresholdedRelu": activation(
        with_attributes(lambda x, alpha: np.where(x > alpha, x, 0), alpha=1.0),
        gradient=gradients.by_mask(gradients.above_threshold),
    ),
    "Elu": activation(
        with_attributes(exponential, alpha=1.0),
        error=steepest("alpha", 1.0),
        gradient=gradients.elu_gradient(1.0),
    ),
    "Celu": activation(
        with_attributes(lambda x, alpha: exponential(x, alpha, width=alpha), alpha=1.0),
        gradient=gradients.by_slope(gradients.celu_slope),
    ),
    "Selu": activation(
        with_attributes(exponential, alpha=SELU_ALPHA, gamma=SELU_GAMMA),
        gradient=gradients.elu_gradient(SELU_ALPHA, SELU_GAMMA),
    ),
    "Sigmoid": activation(
        plain(sigmoid),
        title="Sigmoid",
        error=slope(0.25),
        gate=lambda attributes: 1.1,
        probabilities=True,
        gradient=gradients.by_slope(gradients.sigmoid_slope),
    ),
    "HardSigmoid": activation(
        with_attributes(hard_sigmoid, alpha=0.2, beta=0.5),
        error=lambda context: context.first(abs(context.attributes.get("alpha", 0.2))),
        gate=hard_sigmoid_gate,
        affine=hard_sigmoid_scale,
        clip=lambda context: Clipping(0.0, 1.0, "HardSigmoid"),
        gradient=gradients.hard_sigmoid_gradient,
    ),
    "HardSwish": activation(
        plain(lambda x: x * hard_sigmoid(x, 1 / 6, 0.5)),
        title="HardSwish",
        error=slope(1.5),
        gradient=gradients.by_slope(gradients.hard_swish_slope),
    ),
    "Mish": activation(
        plain(lambda x: x * np.tanh(softplus(x))),
        title="Mish",
        error=slope(1.09),
        gradient=gradients.by_slope(gradients.mish_slope),
    ),
    "Swish": activation(
        with_attributes(swish, alpha=1.0),
        title="Silu",
        gradient=gradients.by_slope(gradients.swish_slope(1.0)),
    ),
    "Gelu": activation(  # the slope is 1.129 at x = 1.41, that of the tanh form alike
        lambda attributes, x: (
            tanh_gelu(x) if attributes.get("approximate", "none") == "tanh" else gelu(x)
        ),
        title="Gelu",
        error=slope(1.13),
        gradient=gradients.by_slope(gradients.gelu_slope),
    ),
    "Softplus": activation(
        plain(softplus),
        title="Softplus",
        error=slope(1),
        gradient=gradients.by_slope(gradients.softplus_slope),
    ),
    "Softsign": activation(
        plain(lambda x: x / (1 + np.abs(x))),
        error=slope(1),
        gradient=gradients.by_slope(gradients.softsign_slope),
    ),
    "Tanh": activation(
        plain(np.tanh),
        title="Tanh",
        error=slope(1),
        gradient=gradients.by_slope(gradients.tanh_slope),
    ),
    "Erf": activation(
        plain(erf),
        error=slope(2 / math.sqrt(math.pi)),
        gradient=gradients.by_slope(gradients.erf_slope),
    ),
    "com.microsoft.Gelu": OpSpec(
        function=plain(gelu),
        channels=unary,
        gradient=gradients.by_slope(gradients.gelu_slope),
    ),
    "com.microsoft.BiasGelu": OpSpec(
        function=lambda attributes, x, bias: gelu(x + bias),
        channels=entrywise,
        gradient=gradients.biased_gradient(gradients.gelu_slope),
    ),
    "com.microsoft.FastGelu": OpSpec(
        function=lambda attributes, x, bias=0: tanh_gelu(x + bias),
        channels=entrywise,
        gradient=gradients.biased_gradient(gradients.tanh_gelu_slope),
    ),
    "com.microsoft.QuickGelu": OpSpec(
        function=with_attributes(swish, alpha=1.702),
        title="QuickGelu",
        channels=unary,
        gradient=gradients.by_slope(gradients.swish_slope(1.702)),
    ),
}

UNARY: dict[str, OpSpec] = {
    "Neg": replace(
        activation(
            plain(np.negative),
            error=slope(1),
            linear=True,
            affine=negated,
            gradient=gradients.negated_gradient,
        ),
        length=first_length,
    ),
    "Abs": replace(
        activation(
            plain(np.abs), error=slope(1), gradient=gradients.by_slope(gradients.of("Sign"))
        ),
        length=first_length,
    ),
    "Exp": activation(plain(np.exp), gradient=gradients.by_slope(gradients.itself)),
    "Sqrt": activation(plain(np.sqrt), gradient=gradients.sqrt_gradient),
    "Log": activation(plain(np.log), gradient=gradients.log_gradient),
    "Reciprocal": activation(
        plain(lambda x: 1 / x), gradient=gradients.by_slope(gradients.reciprocal_slope)
    ),
    "Sin": activation(error=slope(1), gradient=gradients.by_slope(gradients.of("Cos"))),
    "Cos": activation(error=slope(1), gradient=gradients.by_slope(gradients.cos_slope)),
    "Atan": OpSpec(
        error=slope(1), channels=unary, gradient=gradients.by_slope(gradients.atan_slope)
    ),
    **dict.fromkeys(("Sign", "Not", "Floor", "Ceil", "Round", "IsNaN"), activation(gradient=zero)),
}

ELEMENTWISE = ACTIVATIONS | UNARY
