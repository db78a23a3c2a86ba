"""Ops that change the type of numbers: casts, and grids of integers that stand for real numbers."""

from __future__ import annotations

from nettrim_cli.graph.ops.base import Grid, Unsupported
from nettrim_cli.graph.ops.channel_rules import unary
from nettrim_cli.graph.ops.context import ErrorContext, ErrorGain, LayoutContext
from nettrim_cli.graph.ops.gradients.elementwise import cast_gradient
from nettrim_cli.graph.ops.rank_rules import first_length, first_rank
from nettrim_cli.graph.ops.spec import OpSpec


def cast_error(context: ErrorContext) -> ErrorGain:
    """Rounding to another floating-point type is no error of the layers.

    Raises
    ------
    Unsupported
        It rounds to whole numbers.
    """
    if context.attributes.get("to") not in context.graph.float_types:
        raise Unsupported("it rounds to whole numbers")
    return context.first(1.0)


def dequantized(context: LayoutContext) -> Grid:
    """Scale and zero point per tensor, along an axis, or by blocks."""
    attributes = context.attributes
    return Grid(
        scale=1,
        zero_point=2,
        axes=(attributes.get("axis", 1),),
        block=attributes.get("block_size", 0),
        elem_type=attributes.get("output_dtype", 0),
    )


QUANTIZATION: dict[str, OpSpec] = {
    "Cast": OpSpec(
        layout=lambda context: int(context.attributes.get("to", 0)),
        retypes="cast",
        rank=first_rank,
        length=first_length,
        error=cast_error,
        channels=unary,
        steady=lambda context: context.attributes.get("to") in context.graph.float_types,
        gradient=cast_gradient,
    ),
    "DequantizeLinear": OpSpec(
        layout=dequantized,
        retypes="grid",
        rank=first_rank,
        channels=unary,
    ),
    "QuantizeLinear": OpSpec(retypes="grid", rank=first_rank, channels=unary),
    "DynamicQuantizeLinear": OpSpec(rank=first_rank),
}
