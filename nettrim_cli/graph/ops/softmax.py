"""A Softmax that is spelled out in other ops: ``Exp(x - max x) / sum``."""

from __future__ import annotations

from nettrim_cli.graph.ops.context import Graph, NodeContext


def origin(graph: Graph, name: str, *, spreading: bool = False) -> str:
    """Where numbers come from, perhaps by way of ops that spread a sum or a maximum to scores."""
    while (node := maker(graph, name)) is not None and (
        node.spec.same_numbers or (spreading and node.spec.spreads)
    ):
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
    total = maker(graph, origin(graph, division.name(1), spreading=True))
    if exponential is None or total is None or (exponential.op, total.op) != ("Exp", "ReduceSum"):
        return ""
    if origin(graph, total.name(0)) != name:
        return ""
    difference = exponential.maker(0)
    if difference is None or not difference.spec.subtracts:
        return exponential.name(0)
    greatest = maker(graph, origin(graph, difference.name(1), spreading=True))
    shifted = greatest is not None and greatest.op == "ReduceMax"
    return difference.name(0) if shifted else exponential.name(0)
