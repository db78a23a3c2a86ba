"""A Softmax that is spelled out in other ops: ``Exp(x - max x) / sum``."""

from __future__ import annotations

from collections.abc import Callable

from nettrim_cli.graph.ops.context import Graph, NodeContext
from nettrim_cli.graph.ops.spec import OpSpec


def same_numbers(spec: OpSpec) -> bool:
    """Whether an op changes no values, but perhaps their type."""
    return spec.same_values or spec.retypes == "cast"


def _spreads(spec: OpSpec) -> bool:
    """Whether an op may stand between a sum or a maximum and the scores that it meets."""
    return same_numbers(spec) or spec.spreads


def origin(graph: Graph, name: str, passes: Callable[[OpSpec], bool] = same_numbers) -> str:
    """Where a tensor comes from, back over some ops."""
    while (node := maker(graph, name)) is not None and passes(node.spec):
        signals = (slot for slot in range(node.count) if node.name(slot))
        slot = next((slot for slot in signals if not node.is_constant(slot)), None)
        if slot is None:
            break
        name = node.name(slot)
    return name


def maker(graph: Graph, name: str) -> NodeContext | None:
    """The node that makes a tensor."""
    node = graph.maker(name)
    return None if node is None else NodeContext(graph, node)


def softmax_scores(division: NodeContext) -> str:
    """What the Softmax reads that ends with a division; empty for other divisions."""
    graph = division.graph
    name = origin(graph, division.name(0))
    exponential = maker(graph, name)
    total = maker(graph, origin(graph, division.name(1), _spreads))
    if exponential is None or total is None or (exponential.op, total.op) != ("Exp", "ReduceSum"):
        return ""
    if origin(graph, total.name(0)) != name:
        return ""
    difference = exponential.maker(0)
    if difference is None or difference.op != "Sub":
        return exponential.name(0)
    greatest = maker(graph, origin(graph, difference.name(1), _spreads))
    shifted = greatest is not None and greatest.op == "ReduceMax"
    return difference.name(0) if shifted else exponential.name(0)
