"""Nodes written by calls: ``nodes.Mul(a, b)`` appends a Mul and gives the name of its output."""

from __future__ import annotations

from collections.abc import Callable, Iterable, MutableSequence
from functools import partial
from typing import Any

import onnx
from onnx import helper


class NodeWriter:
    """Appends nodes of the standard operators.

    Parameters
    ----------
    target
        Takes the nodes.
    new_name
        Makes the name of an output; None where every output is named.
    """

    def __init__(
        self, target: MutableSequence[onnx.NodeProto], new_name: Callable[[], str] | None = None
    ) -> None:
        self.target, self.new_name = target, new_name

    def __getattr__(self, op: str) -> Callable[..., str]:
        """A function that appends a node of an op: ``nodes.Mul(a, b)``."""
        if not op[:1].isupper():
            raise AttributeError(op)
        return partial(self.add, op)

    def add(self, op: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Append a node with one output, by default of a new name; the name."""
        if not output:
            assert self.new_name is not None
            output = self.new_name()
        self.append(op, inputs, [output], **attributes)
        return output

    def append(
        self, op: str, inputs: Iterable[str], outputs: Iterable[str], **attributes: Any
    ) -> None:
        """Append a node.

        Parameters
        ----------
        op
            The operator.
        inputs, outputs
            Names of tensors, empty for one that is left out.
        attributes
            Those that are None are left out.
        """
        attributes = {name: value for name, value in attributes.items() if value is not None}
        self.target.append(helper.make_node(op, list(inputs), list(outputs), **attributes))
