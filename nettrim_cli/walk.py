"""The way through a network: each group of layers in dataflow order, with its samples.

In the parallel scheme one stream runs, the dense network's.  In a cascade a second one forks off
at the first pruned layer and runs with the weights pruned so far.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.data.calibration import Batch
from nettrim_cli.data.recorder import Stream
from nettrim_cli.data.statistics import collect
from nettrim_cli.graph.layer import Geometry, Layer
from nettrim_cli.graph.model import Model
from nettrim_cli.graph.segments import Segments, build, depends_on
from nettrim_cli.solve.task import Samples, Task


@dataclass(frozen=True)
class Stage:
    """Layers that read equal columns of one tensor."""

    input: str
    geometry: Geometry
    layers: tuple[Layer, ...]


def stages(layers: Sequence[Layer]) -> list[Stage]:
    """Group layers, in dataflow order, by what they read."""
    groups: dict[object, list[Layer]] = {}
    for layer in layers:
        groups.setdefault((layer.input, layer.geometry.key), []).append(layer)
    return [Stage(found[0].input, found[0].geometry, tuple(found)) for found in groups.values()]


def dense_matrix(model: Model, layer: Layer) -> NDArray[np.float32]:
    """(N+1, M) weights with the bias, or zeros, in the last row."""
    weight, bias = model.weight(layer)
    last = np.zeros(weight.shape[1]) if bias is None else bias
    return np.vstack([weight, last[None]]).astype(np.float32)


def layer_task(dense: Model, layer: Layer, samples: Samples) -> Task:
    """What a solver is to know of a layer; the target is left to the caller."""
    whole = dense_matrix(dense, layer)
    response = layer.response
    return Task(
        W=whole if layer.has_bias else whole[:-1],
        has_bias=layer.has_bias,
        samples=samples,
        scale=response.scale,
        shift=response.shift,
        relu=response.relu,
        ceiling=response.ceiling,
    )


def walk(
    dense: Model,
    pruned: Model | None,
    plan: Sequence[Stage],
    batches: Iterable[tuple[Batch, bool]],
    *,
    threads: int,
    seed: int,
) -> Iterator[tuple[Stage, list[Samples]]]:
    """Yield each stage with the samples of its layers.

    Parameters
    ----------
    pruned
        The model whose weights the caller changes stage by stage (cascade); None for parallel.
    batches
        With a flag that says whether the batch is held out.
    """
    graph = dense.proto.graph
    pieces = Segments(graph, [[stage.input] for stage in plan]).pieces
    stream = Stream.read(batches, threads=threads)
    second: Stream | None = None
    touched: set[str] = set()
    for stage, piece in zip(plan, pieces):
        made = {name for at in piece.nodes for name in graph.node[at].output}
        if pruned is not None and second is None and made & touched:
            second = stream.fork()
        edges = (piece.inputs, piece.outputs, piece.needed)
        stream.advance(partial(build, dense.proto, piece, external=dense.external), *edges)
        if pruned is not None and second is not None:
            second.advance(partial(build, pruned.proto, piece, external=pruned.external), *edges)
        exact = second is None or stage.input not in touched
        reached = stream if second is None else second
        weights = [dense_matrix(dense, layer) for layer in stage.layers]
        found = collect(
            reached.places,
            stream.places,
            stage.input,
            stage.geometry,
            weights,
            exact=exact,
            seed=seed,
        )
        yield stage, found
        found.clear()  # sums and factorisations go before the next stage's are made
        if pruned is not None:
            changed = {layer.output for layer in stage.layers if _differs(dense, pruned, layer)}
            touched |= depends_on(graph, changed)


def _differs(dense: Model, pruned: Model, layer: Layer) -> bool:
    """Whether the layer's weights were changed."""
    return not np.array_equal(dense_matrix(dense, layer), dense_matrix(pruned, layer))
