"""Gradients of matrix products."""

from __future__ import annotations

from collections.abc import Mapping

from nettrim_cli.graph.ops.base import Unsupported
from nettrim_cli.graph.ops.gradients.context import GradientContext, sum_to


def gemm_gradient(context: GradientContext) -> Mapping[int, str]:
    """``g B'`` and ``A' g``, turned as the operands are, and the sum of g for the third."""
    g, gradient, (a, b) = context.g, context.gradient, context.node.input[:2]
    alpha, beta = (context.attributes.get(name, 1.0) for name in ("alpha", "beta"))
    turned_a, turned_b = (context.attributes.get(name, 0) for name in ("transA", "transB"))
    parts = {}
    if 0 in context.wanted:
        if turned_a:
            parts[0] = g.Gemm(b, gradient, alpha=alpha, transA=turned_b, transB=1)
        else:
            parts[0] = g.Gemm(gradient, b, alpha=alpha, transB=1 - turned_b)
    if 1 in context.wanted:
        if turned_b:
            parts[1] = g.Gemm(gradient, a, alpha=alpha, transA=1, transB=turned_a)
        else:
            parts[1] = g.Gemm(a, gradient, alpha=alpha, transA=1 - turned_a)
    if 2 in context.wanted:
        parts[2] = context.scaled(context.summed(gradient, 2), beta)
    return parts


def matmul_gradient(context: GradientContext) -> Mapping[int, str]:
    """``g B'`` and ``A' g``, summed over the copies of a stack.

    Raises
    ------
    Unsupported
        A vector meets a stack of matrices.
    """
    ranks = [len(context.sizes(slot)) for slot in (0, 1)]
    if min(ranks) < 2:
        return _vector_gradient(context, ranks)
    parts = {}
    if 0 in context.wanted:
        parts[0] = _stack_gradient(context)
    if 1 in context.wanted and ranks[1] == 2:
        parts[1] = _matrix_gradient(context, ranks[0])
    elif 1 in context.wanted:
        turned = _turned(context, context.name(0), ranks[0])
        product = context.g.MatMul(turned, context.gradient)
        sizes = (*context.sizes_of(context.y)[:-2], *context.sizes(1)[-2:])
        parts[1] = sum_to(context, product, sizes, context.name(1))
    return parts


def _stack_gradient(context: GradientContext) -> str:
    """Of the left operand."""
    turned = _turned(context, context.name(1), len(context.sizes(1)))
    product = context.g.MatMul(context.gradient, turned)
    sizes = (*context.sizes_of(context.y)[:-2], *context.sizes(0)[-2:])
    return sum_to(context, product, sizes, context.name(0))


def _matrix_gradient(context: GradientContext, rank: int) -> str:
    """Of a right operand with two axes: one product over all rows."""
    g, operands = context.g, []
    for name, sizes in (
        (context.name(0), context.sizes(0)),
        (context.gradient, context.sizes_of(context.y)),
    ):
        if rank > 2:
            last = sizes[-1]
            if isinstance(last, int):
                width = g.constant([last])
            else:
                width = g.Gather(g.shape(name), g.constant([rank - 1]), axis=0)
            name = g.Reshape(name, g.Concat(g.constant([-1]), width, axis=0))
        operands.append(name)
    return g.Gemm(*operands, transA=1)


def _turned(context: GradientContext, name: str, rank: int) -> str:
    order = [*range(rank - 2), rank - 1, rank - 2]
    return context.g.Transpose(name, perm=order)


def _vector_gradient(context: GradientContext, ranks: list[int]) -> Mapping[int, str]:
    """Where an operand is a vector: that of matrices with one row or column."""
    if max(ranks) > 2:
        raise Unsupported("multiplies a vector by a stack of matrices")
    g = context.g
    shapes = ([1, -1], [-1, 1])
    a, b = (
        g.Reshape(name, g.constant(shape)) if rank == 1 else name
        for name, rank, shape in zip(context.node.input, ranks, shapes, strict=True)
    )
    rows = 1 if ranks[0] == 1 else -1
    gradient = g.Reshape(context.gradient, g.constant([rows, 1 if ranks[1] == 1 else -1]))
    parts = {}
    if 0 in context.wanted:
        parts[0] = context.reshaped(g.Gemm(gradient, b, transB=1), 0)
    if 1 in context.wanted:
        parts[1] = context.reshaped(g.Gemm(a, gradient, transA=1), 1)
    return parts


def einsum_gradient(context: GradientContext) -> Mapping[int, str]:
    """The output changes places with an input.

    Raises
    ------
    Unsupported
        An axis of an input is summed up alone, repeated, or not named.
    """
    equation = context.attributes["equation"].replace(" ", "")
    left, arrow, result = equation.partition("->")
    terms = left.split(",")
    if not arrow or "." in equation or any(len({*term}) < len(term) for term in terms):
        raise Unsupported("has axes that are repeated or not named")
    parts = {}
    for slot in context.wanted:
        rest = [
            (term, name)
            for i, (term, name) in enumerate(zip(terms, context.node.input, strict=True))
            if i != slot
        ]
        names = [context.gradient, *(name for _, name in rest)]
        read = [result, *(term for term, _ in rest)]
        if not {*terms[slot]} <= {*"".join(read)}:
            raise Unsupported("sums up an axis of one input alone")
        turned = f"{','.join(read)}->{terms[slot]}"
        parts[slot] = context.g.Einsum(*names, equation=turned)
    return parts
