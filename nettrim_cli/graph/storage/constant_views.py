"""The way of a constant through the nodes that pass it on, as a view of what is stored."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from nettrim_cli.graph.ops import Grid, Unsupported
from nettrim_cli.graph.ops.context import LayoutContext
from nettrim_cli.graph.ops.layout_steps import Array, dequantized_step
from nettrim_cli.graph.storage.elements import (
    FLOATS,
    NO_NUMBERS,
    PRUNABLE,
    limits,
    type_name,
    widens,
)
from nettrim_cli.graph.storage.tensors import Holder, elem_type
from nettrim_cli.graph.storage.weight_view import (
    INTEGERS,
    Concatenated,
    StoredTensor,
    WeightView,
)

if TYPE_CHECKING:
    from nettrim_cli.graph.ir.flat_graph import Node
    from nettrim_cli.graph.ir.index import Index


def constant_view(index: Index, name: str) -> WeightView:
    """The view of a constant: that of what its producer reads, and a step more.

    Raises
    ------
    Unsupported
        It is no constant, stored sparse, of a type that is not treated, or computed.
    """
    if name not in index.constants:
        raise Unsupported("is not constant", "not-constant")
    if name in index.sparse:
        raise Unsupported("is stored as a sparse tensor")
    if name in index.initializers:
        return _stored(index, index.initializers[name])
    node = index.nodes[index.producers[name]]
    context = LayoutContext(index, node, node.output.index(name))
    if context.spec.stores:
        if node.holder is None:
            raise Unsupported("is stored in a kind of Constant that is not treated yet")
        return _stored(index, node.holder)
    if context.spec.join_axis is not None:
        return _joined(index, node, context.spec.join_axis(context))
    if context.spec.layout is None:
        raise Unsupported(f"is computed from constants by {node.op_type}", "computed-weight")
    source = index.view(node.input[0])
    layout = context.spec.layout(context)
    if isinstance(layout, Grid):
        return dequantized_view(index, source, node, layout)
    if isinstance(layout, int):
        return _cast(source, layout)
    return replace(source, steps=(*source.steps, *layout))


def passes_on(index: Index, node: Node, slot: int) -> bool:
    """Whether a node passes on the constant at an input, as far as its op tells."""
    spec = index.spec(node)
    return spec.join_axis is not None or (spec.layout is not None and slot == 0)


def dequantized_view(index: Index, view: WeightView, node: Node, grid: Grid) -> WeightView:
    """The view of integers as the real numbers that a node takes them for.

    Parameters
    ----------
    view
        That of the integers.
    node
        Whose inputs have scale and zero point.
    grid
        Which inputs these are, and how they meet the integers.

    Raises
    ------
    Unsupported
        They are no integers, or scale or zero point are not constant or do not fit.
    """
    if view.elem_type not in INTEGERS:
        raise _untreated_type(view.elem_type)
    values: list[Array] = [np.ones((), np.float32), np.zeros((), np.int32)]
    for position, slot in enumerate((grid.scale, grid.zero_point)):
        if slot is not None and slot < len(node.input) and node.input[slot]:
            if node.input[slot] not in index.constants:
                raise Unsupported("is on a grid that is not constant", "not-constant")
            values[position] = index.view(node.input[slot]).values()
    scale, zero = values
    if not grid.block:
        scale, zero = (array.reshape(()) if array.size == 1 else array for array in values)
    if zero.ndim and not scale.ndim:
        scale = np.full(zero.shape, scale)
    step = dequantized_step(view.shape, limits(view.elem_type), scale, zero, grid)
    target = grid.elem_type
    if not target and grid.scale is not None:
        target = index.view(node.input[grid.scale]).elem_type
    return replace(view, steps=(*view.steps, step), elem_type=require_float(target))


def require_float(elem_type: int) -> int:
    """The element type, where its numbers can be pruned.

    Raises
    ------
    Unsupported
        They cannot.
    """
    if elem_type in PRUNABLE:
        return elem_type
    if elem_type in FLOATS:
        raise _untreated_type(elem_type)
    name = type_name(elem_type)
    raise Unsupported(f"holds {name} values, not floating-point ones", "element-type")


def _untreated_type(elem_type: int) -> Unsupported:
    text = f"holds {type_name(elem_type)} values, which are not treated yet"
    return Unsupported(text, "element-type")


def _stored(index: Index, holder: Holder) -> WeightView:
    if elem_type(holder) in NO_NUMBERS:
        raise _untreated_type(elem_type(holder))
    return WeightView(StoredTensor(holder, index.external), (), elem_type(holder))


def _cast(source: WeightView, elem_type: int) -> WeightView:
    """The view of numbers in a wider type."""
    target = require_float(elem_type)
    if not widens(require_float(source.elem_type), target):
        raise Unsupported("is rounded by a Cast")
    return replace(source, elem_type=target)


def _joined(index: Index, node: Node, axis: int) -> WeightView:
    """The view of constants that a node joins along an axis."""
    views = tuple(index.view(name) for name in node.input)
    shapes = [view.shape for view in views]
    rank = len(shapes[0])
    if not -rank <= axis < rank or len({view.elem_type for view in views}) > 1:
        raise Unsupported("is joined of parts that do not fit")
    axis %= rank
    if len({(len(shape), *shape[:axis], *shape[axis + 1 :]) for shape in shapes}) > 1:
        raise Unsupported("is joined of parts that do not fit")
    return WeightView(Concatenated(views, axis), (), views[0].elem_type)
