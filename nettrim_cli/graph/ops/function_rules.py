"""Values of elementwise ops as functions of a node's attributes and of arrays."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from nettrim_cli.graph.ops.context import NodeContext
from nettrim_cli.graph.ops.spec import Attributes, Function


def plain(function: Callable[..., Any]) -> Function:
    """A function of one array, without attributes."""
    return lambda attributes, x: function(x)


def with_attributes(function: Callable[..., Any], **defaults: float) -> Function:
    """A function of arrays, and of attributes by keyword."""

    def apply(attributes: Attributes, *inputs: Any) -> Any:
        """The function's values, with defaults for attributes that the node has not."""
        named = {name: attributes.get(name, value) for name, value in defaults.items()}
        return function(*inputs, **named)

    return apply


def always(_: NodeContext) -> bool:
    """Whatever the node."""
    return True


def folded(function: Callable[[Any, Any], Any]) -> Function:
    """A function of two arrays applied to any number of them."""
    return lambda attributes, *inputs: functools.reduce(function, inputs)
