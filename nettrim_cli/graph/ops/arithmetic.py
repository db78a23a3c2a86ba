"""Ops that combine several signals entry by entry: sums, products, comparisons, choices."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from nettrim_cli.graph.layer import Floats
from nettrim_cli.graph.ops.base import Unsupported
from nettrim_cli.graph.ops.channel_rules import entrywise as entrywise_channels
from nettrim_cli.graph.ops.context import (
    AffineContext,
    ErrorContext,
    ErrorGain,
)
from nettrim_cli.graph.ops.error_rules import entrywise
from nettrim_cli.graph.ops.function_rules import folded
from nettrim_cli.graph.ops.gradients import elementwise as gradients
from nettrim_cli.graph.ops.gradients.context import zero
from nettrim_cli.graph.ops.rank_rules import broadcast_length, broadcast_rank
from nettrim_cli.graph.ops.softmax import softmax_scores
from nettrim_cli.graph.ops.spec import Clipping, ClipRule, OpSpec

Affine = tuple[Floats, Floats]


def broadcast(**facts: Any) -> OpSpec:
    """An op whose output has the axes of its inputs, broadcast against each other."""
    return OpSpec(
        rank=broadcast_rank, length=broadcast_length, channels=entrywise_channels, **facts
    )


def mixture(function: Callable[[Any, Any], Any] | None, **facts: Any) -> OpSpec:
    """An op on any number of inputs: of two at a time."""
    applied = None if function is None else folded(function)
    return broadcast(function=applied, **facts)


def product_error(context: ErrorContext) -> ErrorGain:
    """A constant's largest entry; or ``x * gate(x)``, a function of x alone."""
    if len(context.changed) > 1:
        return _gate_error(context)
    (slot,) = context.changed
    largest = float(np.abs(context.value(1 - slot)).max(initial=0))
    return ErrorGain({slot: largest * math.sqrt(context.growth(slot))})


def _gate_error(context: ErrorContext) -> ErrorGain:
    for slot in (0, 1):
        gate = context.maker(1 - slot)
        if gate is None or gate.spec.gate is None or list(gate.node.input) != [context.name(slot)]:
            continue
        slope = gate.spec.gate(gate.attributes)
        if slope is not None:
            return ErrorGain({slot: slope, 1 - slot: 0.0})
    raise Unsupported("it multiplies two changed tensors")


def quotient_error(context: ErrorContext) -> ErrorGain:
    """By the least entry of a constant.

    Raises
    ------
    Unsupported
        The divisor is changed, or zero.
    """
    if 1 in context.changed:
        raise Unsupported("it divides by a changed tensor")
    least = float(np.abs(context.value(1)).min(initial=math.inf))
    if least == 0:
        raise Unsupported("it divides by zero")
    return ErrorGain({0: math.sqrt(context.growth(0)) / least})


def where_error(context: ErrorContext) -> ErrorGain:
    """Entries come from one of two inputs.

    Raises
    ------
    Unsupported
        The condition is changed.
    """
    if 0 in context.changed:
        raise Unsupported("a changed tensor steers it")
    return entrywise(joint=True)(context)


def _operand(context: AffineContext) -> Floats | None:
    """The constant (M,) that the layer's result is combined with."""
    return context.constant(1 - context.slot) if context.count == 2 else None


def sum_affine(context: AffineContext) -> Affine | None:
    """A constant summand."""
    constant = _operand(context)
    return None if constant is None else (np.ones(context.size), 1.0 * constant)


def difference_affine(context: AffineContext) -> Affine | None:
    """A constant that is taken off, or that the result is taken off from."""
    constant = _operand(context)
    if constant is None:
        return None
    ones = np.ones(context.size)
    return (-ones, 1.0 * constant) if context.slot else (ones, -1.0 * constant)


def product_affine(context: AffineContext) -> Affine | None:
    """A constant factor."""
    constant = _operand(context)
    return None if constant is None else (constant, np.zeros(context.size))


def quotient_affine(context: AffineContext) -> Affine | None:
    """A constant divisor without zeros."""
    constant = _operand(context)
    if constant is None or context.slot or not constant.all():
        return None
    return 1 / constant, np.zeros(context.size)


def bound(name: str) -> ClipRule:
    """A cut at one constant: from it by "Max", up to it by "Min"."""

    def rule(context: AffineContext) -> Clipping | None:
        """The range, None where the other input is no constant number."""
        value = context.stored(1 - context.slot) if context.count == 2 else None
        if value is None or value.size != 1 or value.ndim > 1:  # axes would be added
            return None
        end = float(value.reshape(()))
        ends = (end, math.inf) if name == "Max" else (-math.inf, end)
        return Clipping(*ends, f"{name} with {end:g}")

    return rule


ARITHMETIC: dict[str, OpSpec] = {
    "Add": mixture(
        np.add,
        error=entrywise(joint=False),
        gradient=gradients.sum_gradient,
        fitted=(0, 1),
        linear=True,
        adds=True,
        affine=sum_affine,
        spreads=True,
    ),
    "Sum": mixture(
        np.add,
        error=entrywise(joint=False),
        gradient=gradients.sum_gradient,
        fitted=(0, 1),
        linear=True,
        adds=True,
    ),
    "Sub": mixture(
        np.subtract,
        error=entrywise(joint=False),
        gradient=gradients.difference_gradient,
        fitted=(0, 1),
        linear=True,
        subtracts=True,
        affine=difference_affine,
    ),
    "Mean": mixture(
        None,
        error=entrywise(joint=False, factor=lambda context: 1 / context.count),
        gradient=gradients.mean_gradient,
    ),
    "Max": mixture(
        np.maximum,
        error=entrywise(joint=True),
        gradient=gradients.extreme_gradient,
        clip=bound("Max"),
        spreads=True,
    ),
    "Min": mixture(
        np.minimum,
        error=entrywise(joint=True),
        gradient=gradients.extreme_gradient,
        clip=bound("Min"),
    ),
    "Mul": broadcast(
        function=folded(np.multiply),
        error=product_error,
        gradient=gradients.product_gradient,
        fitted=(0, 1),
        linear=True,
        affine=product_affine,
    ),
    "Div": broadcast(
        function=folded(np.divide),
        error=quotient_error,
        gradient=gradients.quotient_gradient,
        linear=True,
        affine=quotient_affine,
        scores=softmax_scores,
    ),
    "Pow": broadcast(
        function=folded(np.power),
        gradient=gradients.power_gradient,
    ),
    "Where": broadcast(error=where_error, gradient=gradients.where_gradient),
    "Mod": broadcast(),
    **dict.fromkeys(
        (
            *("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"),
            *("And", "Or", "Xor"),
        ),
        broadcast(gradient=zero),
    ),
}
