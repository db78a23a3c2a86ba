"""Elementwise functions of a tensor, as small programs of ONNX operators on plain arrays.

Exporters write one activation in many ways (GELU as one op, by ``Erf``, by ``Tanh``); as a
program each of them is simply computed.  One more operator is one more line in ``FUNCTIONS``.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.graph.layer import Floats

Given = Mapping[str, Any]
Function = Callable[..., Any]


@dataclass(frozen=True)
class Step:
    """One operator of a program.

    Attributes
    ----------
    op
        Key in ``FUNCTIONS``.
    inputs
        Each the number of an earlier result (0 is the argument) or a constant: (), or (M, 1) with
        a value for each output of the layer.
    given
        Attributes of the node.
    """

    op: str
    inputs: tuple[int | Floats, ...]
    given: Given = field(default_factory=dict)


@dataclass(frozen=True)
class Elementwise:
    """A function of one argument; its last step's result is the value."""

    steps: tuple[Step, ...]

    def __call__(self, A: Floats) -> NDArray[np.float32]:
        """Apply it to (M, P) results of the layer, in float32, some columns at a time."""
        if A.size <= BLOCK_VALUES:
            return self._of_block(A)
        result = np.empty_like(A, np.float32)
        step = max(1, BLOCK_VALUES // len(A))
        for at in range(0, A.shape[1], step):
            result[:, at : at + step] = self._of_block(A[:, at : at + step])
        return result

    def _of_block(self, A: Floats) -> NDArray[np.float32]:
        results: list[Any] = [np.asarray(A, np.float32)]
        with np.errstate(all="ignore"):
            for step in self.steps:
                inputs = [results[each] if isinstance(each, int) else each for each in step.inputs]
                results.append(FUNCTIONS[step.op](step.given, *inputs))
        return np.asarray(results[-1], np.float32)


BLOCK_VALUES = 1 << 17  # that a core's own cache holds, with what is made of them

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


def erf(x: Any) -> Any:
    """The error function in float32, exact to 2e-7; several times faster than SciPy's."""
    x = np.clip(np.asarray(x, np.float32), -ERF_END, ERF_END)
    square = np.square(x)
    value = ERF[0] * square
    for each in ERF[1:-1]:
        value += each
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


def _gelu(x: Any, tanh: bool) -> Any:
    """The two forms of ONNX' Gelu."""
    if tanh:
        factor = np.float32(math.sqrt(2 / math.pi))
        return x * (1 + np.tanh(factor * (x + np.float32(0.044715) * x**3))) / 2
    value = erf(x * np.float32(math.sqrt(0.5)))
    value += np.float32(1)
    value *= np.float32(0.5) * x
    return value


def _negative(x: Any, value: Any) -> Any:
    """`value` where x is below zero."""
    return np.where(x < 0, value, x)


def _exponential(x: Any, alpha: float, gamma: float = 1.0, width: float = 1.0) -> Any:
    """``gamma * alpha * (exp(x / width) - 1)`` below zero, ``gamma * x`` above."""
    below = np.float32(alpha) * np.expm1(np.minimum(x, 0) / np.float32(width))
    return np.float32(gamma) * _negative(x, below)


def _clip(given: Given, x: Any, low: Any = None, high: Any = None) -> Any:
    low = given.get("min", -np.inf) if low is None else low
    high = given.get("max", np.inf) if high is None else high
    return np.minimum(np.maximum(x, np.float32(low)), np.float32(high))


def _hard_sigmoid(x: Any, alpha: float, beta: float) -> Any:
    return np.clip(np.float32(alpha) * x + np.float32(beta), 0, 1)


def _folded(function: Function) -> Function:
    """An operator of two arguments applied to any number of them."""
    return lambda given, *inputs: functools.reduce(function, inputs)


FUNCTIONS: dict[str, Function] = {
    "Add": _folded(np.add),
    "Sum": _folded(np.add),
    "Sub": _folded(np.subtract),
    "Mul": _folded(np.multiply),
    "Div": _folded(np.divide),
    "Max": _folded(np.maximum),
    "Min": _folded(np.minimum),
    "Pow": _folded(np.power),
    "Identity": lambda given, x: x,
    "Neg": lambda given, x: -x,
    "Abs": lambda given, x: np.abs(x),
    "Reciprocal": lambda given, x: 1 / x,
    "Sqrt": lambda given, x: np.sqrt(x),
    "Exp": lambda given, x: np.exp(x),
    "Log": lambda given, x: np.log(x),
    "Erf": lambda given, x: erf(x),
    "Tanh": lambda given, x: np.tanh(x),
    "Sigmoid": lambda given, x: sigmoid(x),
    "Softplus": lambda given, x: softplus(x),
    "Softsign": lambda given, x: x / (1 + np.abs(x)),
    "Relu": lambda given, x: np.maximum(x, 0),
    "Clip": _clip,
    "LeakyRelu": lambda given, x: _negative(x, np.float32(given.get("alpha", 0.01)) * x),
    "PRelu": lambda given, x, slope: _negative(x, slope * x),
    "ThresholdedRelu": lambda given, x: np.where(x > given.get("alpha", 1.0), x, 0),
    "Elu": lambda given, x: _exponential(x, given.get("alpha", 1.0)),
    "Celu": lambda given, x: _exponential(
        x, given.get("alpha", 1.0), width=given.get("alpha", 1.0)
    ),
    "Selu": lambda given, x: _exponential(
        x, given.get("alpha", 1.67326319217681884765625), given.get("gamma", 1.0507010221481323)
    ),
    "HardSigmoid": lambda given, x: _hard_sigmoid(
        x, given.get("alpha", 0.2), given.get("beta", 0.5)
    ),
    "HardSwish": lambda given, x: x * _hard_sigmoid(x, 1 / 6, 0.5),
    "Mish": lambda given, x: x * np.tanh(softplus(x)),
    "Swish": lambda given, x: x * sigmoid(np.float32(given.get("alpha", 1.0)) * x),
    "Gelu": lambda given, x: _gelu(x, given.get("approximate", "none") == "tanh"),
    "com.microsoft.Gelu": lambda given, x: _gelu(x, tanh=False),
    "com.microsoft.BiasGelu": lambda given, x, bias: _gelu(x + bias, tanh=False),
    "com.microsoft.FastGelu": lambda given, x, bias=0: _gelu(x + bias, tanh=True),
    "com.microsoft.QuickGelu": lambda given, x: (
        x * sigmoid(np.float32(given.get("alpha", 1.702)) * x)
    ),
}
"""What each operator makes of its attributes and inputs (ONNX operators, opsets 7 and later)."""

LINEAR = ("Add", "Sum", "Sub", "Mul", "Div", "Neg", "Identity")
"""Operators that leave an affine function affine when their other inputs are constants."""

GRID = np.linspace(-30, 30, 241, dtype=np.float32)


def is_activation(function: Elementwise, outputs: int) -> bool:
    """Whether values stay finite, grow no faster than linearly, and are no affine function."""
    values = function(np.broadcast_to(GRID, (outputs, GRID.size))).astype(np.float64)
    if values.shape != (outputs, GRID.size) or not np.isfinite(values).all():
        return False
    ends, halfway = np.abs(values[:, [0, -1]]), np.abs(values[:, [60, 180]])
    tame = bool((ends <= 3 * halfway + 3 * (1 + np.abs(values[:, [120]]))).all())
    bent = np.abs(np.diff(values, 2)).max(initial=0) > 1e-4 * np.abs(np.diff(values)).max(initial=0)
    return tame and bool(bent)


def name_of(function: Elementwise) -> str:
    """Name of a program, whatever its spelling, up to a positive factor; its ops if it has none."""
    found = function(GRID[None])
    if len(found) == 1:
        for name, (op, given) in NAMES.items():
            known = np.asarray(FUNCTIONS[op](given, GRID), np.float64)
            factor = float(np.vdot(known, found[0]) / np.vdot(known, known))
            if factor > 0 and np.allclose(found[0], factor * known, rtol=1e-3, atol=1e-3 * factor):
                return name
    return ", ".join(step.op.removeprefix("com.microsoft.") for step in function.steps)


NAMES: dict[str, tuple[str, Given]] = {
    **{op: (op, {}) for op in ("Gelu", "HardSwish", "Mish", "Softplus", "Sigmoid", "Tanh")},
    "Silu": ("Swish", {}),
    "QuickGelu": ("com.microsoft.QuickGelu", {}),
}
"""Functions that are written in several ways; both forms of GELU have one name."""
