"""Models of one node alone: a layer, or the second of the two that a low rank makes of it.

They are what is timed where widths are chosen; their weights mean nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from nettrim_cli.graph import ops
from nettrim_cli.graph.channels.factors import made_node
from nettrim_cli.graph.layer import Geometry, Layer, Runnable
from nettrim_cli.graph.ops.base import FactorNode, Shape

OPSET, IR_VERSION = 13, 8  # all these nodes are in it


@dataclass(frozen=True)
class LoneNode:
    """The node of a layer that can be factorised, or that of one of its factors, of any size.

    Attributes
    ----------
    geometry
        The layer's.
    taps
        Rows of the layer to a channel of its input.
    shape
        Of the tensor that the node reads; the size along `axis` follows from the rows.
    axis
        Along which the channels lie.
    factor
        Number of the factor, 0 or 1; None for the layer's own node.
    fold
        Rows of the layer that are put beside each other before it is factorised.
    """

    geometry: Geometry
    taps: int
    shape: Shape
    axis: int
    factor: int | None = None
    fold: int = 1

    @property
    def step(self) -> int:
        """Rows to a channel."""
        return (self.taps, self.taps // self.fold, self.fold)[_place(self.factor)]

    @property
    def key(self) -> str:
        """Equal for nodes that take the same time for so many rows and columns."""
        node, free = self._node(self.step, 1), list(self.shape)
        free[self.axis] = 0
        facts = sorted((name, str(value)) for name, value in node.attributes.items())
        return f"{node.op_type} {node.slot} {self.step} {free} {facts}"

    def model(self, rows: int, columns: int) -> Runnable:
        """A model of the node with a weight of so many rows and columns, from ``x`` to ``y``."""
        node = self._node(rows, columns)
        weight = numpy_helper.from_array(np.full(node.weight.shape, 0.01, np.float32), "w")
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, self.input_shape(rows))
        y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
        graph = helper.make_graph([made_node(node, "x", "w", "y")], "alone", [x], [y], [weight])
        opset = helper.make_opsetid("", OPSET)
        model = helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION)
        return Runnable(model.SerializeToString())

    def input_shape(self, rows: int) -> Shape:
        """Shape of ``x`` for so many rows."""
        sizes = list(self.shape)
        sizes[self.axis] = rows // self.step
        return tuple(sizes)

    def _node(self, rows: int, columns: int) -> FactorNode:
        fold = 1 if self.factor is None else self.fold
        if self.factor == 1:
            shapes = (self.taps // fold, rows // fold), (rows // fold, fold * columns)
        else:  # the first of two is what the layer is
            shapes = (rows, columns), (columns, fold)
        first, second = (np.zeros(shape, np.float32) for shape in shapes)
        nodes = ops.weight_op(self.geometry).factor_nodes(self.geometry, first, second, fold)
        assert nodes is not None
        return nodes[self.factor or 0]


def _place(factor: int | None) -> int:
    return 0 if factor is None else 1 + factor


def lone_nodes(
    layer: Layer, reads: Shape, makes: Shape, fold: int = 1
) -> tuple[LoneNode, LoneNode, LoneNode]:
    """The node of a layer that can be factorised, and those of both factors.

    Parameters
    ----------
    reads, makes
        Shapes of the layer's input and output.
    fold
        Rows that are put beside each other before it is factorised.
    """
    axis = ops.output_axis(layer.geometry)  # channels lie there in front of the layer, too
    assert axis is not None
    taps = layer.blocks[0][0] // reads[axis]
    between = makes if fold == 1 else (*makes[:-1], reads[-1])
    return (
        LoneNode(layer.geometry, taps, reads, axis),
        LoneNode(layer.geometry, taps, reads, axis, 0, fold),
        LoneNode(layer.geometry, taps, between, axis, 1, fold),
    )
