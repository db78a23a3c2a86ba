"""Rules for how errors pass that ops of several families share.

Errors are Frobenius norms of the difference between two versions of a tensor.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from nettrim_cli.graph.ops.context import ErrorContext, ErrorGain
from nettrim_cli.graph.ops.spec import ErrorRule


def slope(value: float) -> ErrorRule:
    """An elementwise function with derivatives up to `value`."""
    return lambda context: context.first(value)


def steepest(name: str, default: float) -> ErrorRule:
    """An elementwise function with slopes of 1 and of an attribute."""
    return lambda c: c.first(max(1.0, abs(c.attributes.get(name, default))))


def copies(context: ErrorContext) -> ErrorGain:
    """Entries are repeated; or averaged, which is the adjoint but for the factor."""
    return context.first(math.sqrt(context.growth(0)))


def total(context: ErrorContext) -> ErrorGain:
    """Entries are summed up: the root of how many, by Cauchy and Schwarz."""
    return context.first(math.sqrt(context.shrinkage(0)))


def unmoved(context: ErrorContext) -> ErrorGain:
    """No value comes through."""
    return ErrorGain(dict.fromkeys(context.changed, 0.0))


def side_by_side(context: ErrorContext) -> ErrorGain:
    """Inputs that fill entries of their own."""
    return ErrorGain(dict.fromkeys(context.changed, 1.0), joint=True)


def entrywise(
    *, joint: bool, factor: Callable[[ErrorContext], float] = lambda context: 1.0
) -> ErrorRule:
    """Inputs that meet entry by entry, each repeated to the output's shape."""

    def rule(context: ErrorContext) -> ErrorGain:
        """Factors of the changed inputs."""
        share = factor(context)
        return ErrorGain(
            {slot: share * math.sqrt(context.growth(slot)) for slot in context.changed}, joint
        )

    return rule
