"""Appends nodes to a graph under new names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

PREFIX = "grad:"


class Builder:
    """Nodes that are added to a graph.

    Parameters
    ----------
    graph
        Takes the nodes, and the constants that they read.
    opset
        Version of the standard operators, 16 or more.
    taken
        Names that are not free.
    """

    def __init__(self, graph: onnx.GraphProto, opset: int, taken: set[str]) -> None:
        self.graph, self.opset = graph, opset
        self.prefix = PREFIX
        while any(name.startswith(self.prefix) for name in taken):
            self.prefix += ":"
        self._count = 0
        self._constants: dict[tuple[Any, ...], str] = {}
        self._shared: dict[tuple[str, ...], str] = {}

    def __getattr__(self, op: str) -> Callable[..., str]:
        """A function that appends a node of an op: ``g.Mul(a, b)`` is ``g.add("Mul", a, b)``."""
        if not op[:1].isupper():
            raise AttributeError(op)
        return partial(self.add, op)

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        """Append a node with one output, whose name is returned."""
        return self.add_many(op, inputs, 1, **attributes)[0]

    def add_many(
        self, op: str, inputs: Sequence[str], count: int, *, domain: str = "", **attributes: Any
    ) -> list[str]:
        """Append a node with some outputs.

        Parameters
        ----------
        op, domain
            Of the node; attributes that are None are left out.
        inputs
            Names of tensors, empty for one that is left out.
        count
            Number of outputs.

        Returns
        -------
        list
            Their names.
        """
        names = [self._new_name() for _ in range(count)]
        given = {name: value for name, value in attributes.items() if value is not None}
        node = helper.make_node(op, list(inputs), names, domain=domain, **given)
        self.graph.node.append(node)
        return names

    def constant(self, values: Any, elem_type: int = TensorProto.INT64) -> str:
        """Name of a constant; equal ones are stored once."""
        array: NDArray[Any] = np.asarray(values, helper.tensor_dtype_to_np_dtype(elem_type))
        key = (elem_type, array.shape, array.tobytes())
        if key not in self._constants:
            name = self._constants[key] = self._new_name()
            self.graph.initializer.append(numpy_helper.from_array(array, name))
        return self._constants[key]

    def shape(self, name: str) -> str:
        """Sizes of a tensor, computed once."""
        return self._once("Shape", name)

    def size(self, name: str) -> str:
        """Number of entries of a tensor."""
        return self._once("Size", name)

    def total(self, name: str, axes: Sequence[int], *, keepdims: bool) -> str:
        """Sum over axes; the tensor itself for none."""
        if not axes:
            return name
        return self.ReduceSum(name, self.constant(axes), keepdims=int(keepdims))

    def mean(self, name: str, axes: Sequence[int]) -> str:
        """Mean over axes, which are kept."""
        if self.opset < 18:
            return self.ReduceMean(name, axes=list(axes), keepdims=1)
        return self.ReduceMean(name, self.constant(axes), keepdims=1)

    def sum_of(self, names: Sequence[str]) -> str:
        """Sum of tensors of one shape."""
        return names[0] if len(names) == 1 else self.Sum(*names)

    def _once(self, op: str, name: str) -> str:
        if (op, name) not in self._shared:
            self._shared[op, name] = self.add(op, name)
        return self._shared[op, name]

    def _new_name(self) -> str:
        self._count += 1
        return f"{self.prefix}{self._count}"
