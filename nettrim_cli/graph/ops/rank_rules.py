"""Rules for numbers of axes, and of entries of lists, that ops of several families share."""

from __future__ import annotations

from nettrim_cli.graph.ops.context import NodeContext
from nettrim_cli.graph.ops.spec import CountRule


def first_rank(context: NodeContext) -> int | None:
    """As many axes as the first input."""
    return context.rank()


def first_length(context: NodeContext) -> int | None:
    """As many entries as the first input."""
    return context.length()


def fixed(count: int) -> CountRule:
    """The same count for any input."""
    return lambda context: count


def rank_of_any(*slots: int) -> CountRule:
    """Inputs that have as many axes as the output: the first whose rank is known."""

    def rule(context: NodeContext) -> int | None:
        """The first rank that is known; None for none."""
        ranks = (context.rank(slot) for slot in slots or range(context.count))
        return next((rank for rank in ranks if rank is not None), None)

    return rule


def broadcast_rank(context: NodeContext) -> int | None:
    """The largest of all ranks."""
    ranks = [rank for slot in range(context.count) if (rank := context.rank(slot)) is not None]
    return max(ranks) if ranks and len(ranks) == context.count else None


def broadcast_length(context: NodeContext) -> int | None:
    """The largest of all lengths, scalars among them."""
    slots = range(context.count)
    lengths = [1 if context.rank(slot) == 0 else context.length(slot) for slot in slots]
    ready = [length for length in lengths if length is not None]
    return max(ready) if ready and len(ready) == context.count else None


def product_rank(context: NodeContext) -> int | None:
    """Of a product of stacks of matrices, or vectors."""
    first, second = context.rank(0), context.rank(1)
    if not first or not second:
        return None
    return max(first, second, 2) - (first == 1) - (second == 1)


def listed_rank(slot: int) -> CountRule:
    """As many axes as a list has entries; before opset 5 the list is an attribute."""

    def rule(context: NodeContext) -> int | None:
        """Number of the listed sizes; None where it is not known."""
        shape = context.attributes.get("shape")
        return context.length(slot) if shape is None else len(shape)

    return rule


def more_axes(sign: int) -> CountRule:
    """An axis more, or less, for each that is listed."""

    def rule(context: NodeContext) -> int | None:
        """The rank with those axes; None where it is not known."""
        axes, rank = context.integers("axes", 1), context.rank()
        return None if axes is None or rank is None else rank + sign * len(axes)

    return rule
