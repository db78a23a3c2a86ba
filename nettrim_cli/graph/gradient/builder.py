"""Appends nodes to a graph under new names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from nettrim_cli.graph.ir.node_writer import NodeWriter

PREFIX = "grad:"


class Builder(NodeWriter):
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
        super().__init__(graph.node, self._new_name)
        self.graph, self.opset = graph, opset
        self.prefix = PREFIX
        while any(name.startswith(self.prefix) for name in taken):
            self.prefix += ":"
        self._count = 0
        self._constants: dict[tuple[Any, ...], str] = {}
        self._shapes: dict[str, str] = {}
        self._sizes: dict[str, str] = {}

    def add_many(self, op: str, inputs: Sequence[str], count: int, **attributes: Any) -> list[str]:
        """Append a node with some outputs; their names."""
        names = [self._new_name() for _ in range(count)]
        self.append(op, inputs, names, **attributes)
        return names

    def nested(self, graph: onnx.GraphProto) -> Builder:
        """What adds nodes to a graph inside of this one."""
        inner = Builder(graph, self.opset, set())
        inner.prefix = f"{self._new_name()}:"
        return inner

    def split(self, count: int, *inputs: str, **attributes: Any) -> list[str]:
        """Append a Split; the names of its parts."""
        return self.add_many("Split", inputs, count, **attributes)

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
        if name not in self._shapes:
            self._shapes[name] = self.Shape(name)
        return self._shapes[name]

    def size(self, name: str) -> str:
        """Number of entries of a tensor."""
        if name not in self._sizes:
            self._sizes[name] = self.Size(name)
        return self._sizes[name]

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

    def _new_name(self) -> str:
        self._count += 1
        return f"{self.prefix}{self._count}"
