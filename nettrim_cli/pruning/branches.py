"""Which branch of an If all samples take."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from numpy.typing import NDArray

from nettrim_cli.data.engine import Engine
from nettrim_cli.graph.gradient.fit_graph import scores_graph
from nettrim_cli.graph.model import Model

Array = NDArray[Any]


def constant_branches(
    model: Model, batches: Iterable[Mapping[str, Array]], threads: int
) -> dict[str, bool]:
    """What the conditions of an If are that are the same on all batches, by its first output.

    Gradients come through the branch that all samples take.

    Parameters
    ----------
    model
        A network; only its main graph is looked at.
    batches
        Inputs.
    threads
        Threads of the engine.
    """
    nodes = [node for node in model.index.flat.main_nodes if node.op_type == "If"]
    if not nodes:
        return {}
    names = {node.output[0]: node.input[0] for node in nodes}
    conditions = [*dict.fromkeys(names.values())]
    engine = Engine(scores_graph(model.index, conditions), threads=threads)
    rows = [[bool(value.all()) for value in engine.run(feeds, conditions)] for feeds in batches]
    same = {
        name: values[0]
        for name, values in zip(conditions, zip(*rows, strict=True), strict=True)
        if len(set(values)) == 1
    }
    return {output: same[name] for output, name in names.items() if name in same}
