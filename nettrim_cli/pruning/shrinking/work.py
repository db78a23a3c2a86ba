"""What layers of some widths take of the time: counted in products, or measured in the engine."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.data.dataset import Batch
from nettrim_cli.data.engine import Engine
from nettrim_cli.errors import NettrimError
from nettrim_cli.graph.analysis.tensor_sizes import shapes
from nettrim_cli.graph.channels.alone import lone_nodes
from nettrim_cli.graph.channels.factors import can_factorize
from nettrim_cli.graph.layer import Layer
from nettrim_cli.graph.model import Model
from nettrim_cli.latency.cache import LatencyCache
from nettrim_cli.latency.nodes import NodeLatencies, node_latencies
from nettrim_cli.pruning.shrinking.widths import (
    Block,
    BlockShape,
    Sizes,
    candidate_widths,
    pays,
    stored_weights,
)
from nettrim_cli.settings import Settings

ROWS, COLUMNS = 5, 14  # sizes of a node that are measured, at most
FEWEST_PRODUCTS = 1 << 18  # of a call; a smaller network takes the time that any call takes
LARGEST = 1 << 24  # weights of a node that is measured
THREADS = 1  # as for what --speedup measures

Floats = NDArray[np.float64]


class Work(Protocol):
    """Shares of the time that all blocks take in the dense network."""

    def of(self, block: Block, rows: Sizes, columns: Sizes, rank: Sizes) -> Floats:
        """The share of a block of some size, elementwise; of low rank where that pays.

        Parameters
        ----------
        block
            A layer's name, and the number of its block.
        rows, columns, rank
            Sizes, (K,) or one.
        """


@dataclass(frozen=True)
class Products:
    """Time as the number of products.

    Attributes
    ----------
    shares
        Of one weight, by block.
    folds
        Rows of a block that are put beside each other before a rank is taken.
    """

    shares: Mapping[Block, float]
    folds: Mapping[Block, int] = field(default_factory=dict)

    @classmethod
    def of_blocks(
        cls, shapes: Mapping[Block, BlockShape], columns: Mapping[Block, int]
    ) -> Products:
        """Blocks of some shapes, with how many columns each reads."""
        reads = {block: max(1, columns.get(block, 1)) for block in shapes}
        total = sum(shape.rows * shape.columns * reads[b] for b, shape in shapes.items())
        folds = {block: shape.fold for block, shape in shapes.items()}
        return cls({block: count / total for block, count in reads.items()}, folds)

    def of(self, block: Block, rows: Sizes, columns: Sizes, rank: Sizes) -> Floats:
        """The share of a block.

        Parameters
        ----------
        block, rows, columns, rank
            As for ``Work.of``, (K,) or one.
        """
        weights = stored_weights(rows, columns, rank, self.folds.get(block, 1))
        return np.asarray(self.shares[block] * weights)


@dataclass(frozen=True)
class MeasuredWork:
    """Time as it was measured.

    Attributes
    ----------
    nodes
        Latencies of a block's node and of those of both its factors, where they are known.
    products
        For all other blocks, which take as long for a product as those of `nodes` on average.
    total, measured
        Seconds of the blocks in `nodes` in the dense network, and their share of the products.
    """

    nodes: Mapping[Block, tuple[NodeLatencies, NodeLatencies, NodeLatencies]]
    products: Products
    total: float
    measured: float

    def of(self, block: Block, rows: Sizes, columns: Sizes, rank: Sizes) -> Floats:
        """The share of a block.

        Parameters
        ----------
        block, rows, columns, rank
            As for ``Work.of``, (K,) or one.
        """
        if block not in self.nodes:
            return self.products.of(block, rows, columns, rank)
        node, first, second = self.nodes[block]
        fold = self.products.folds.get(block, 1)
        whole = node.at(rows, columns)
        factors = first.at(np.floor_divide(rows, fold), rank)
        factors = factors + second.at(np.multiply(rank, fold), columns)
        seconds = np.where(pays(rows, columns, rank, fold), factors, whole)
        return np.asarray(seconds / self.total * self.measured)


def measures_time(settings: Settings) -> bool:
    """Whether widths are chosen by measured time: always asked for, or where time is the point."""
    timed = settings.speedup is not None or settings.batch != 1
    return settings.widths == "measured" or (settings.widths == "auto" and timed)


def measured_work(
    model: Model,
    layers: Sequence[Layer],
    blocks: Mapping[Block, BlockShape],
    multiples: Mapping[str, int],
    products: Products,
    batch: Batch,
) -> Work:
    """The time of layers as measured on this machine; products where that tells nothing.

    Parameters
    ----------
    model
        The dense network.
    layers, blocks
        The layers, and the shapes of their blocks.
    multiples
        Of what the larger widths of each layer are multiples, by its name.
    products
        The products.
    batch
        Samples of a call.
    """
    chosen = [layer for layer in layers if can_factorize(model, layer)]
    cache = LatencyCache(THREADS)
    try:
        sizes = tensor_shapes(model, chosen, batch)
        if sum(_products(layer, sizes) for layer in chosen) < FEWEST_PRODUCTS:
            return products
        nodes = _measure(chosen, blocks, sizes, multiples, cache)
    except NettrimError:  # the engine makes no such model
        return products
    cache.save()
    seconds = sum(float(first.at(*_size(blocks[block]))) for block, (first, *_) in nodes.items())
    share = sum(products.shares[block] * math.prod(_size(blocks[block])) for block in nodes)
    return MeasuredWork(nodes, products, seconds, share) if nodes else products


def tensor_shapes(
    model: Model, layers: Sequence[Layer], batch: Batch
) -> dict[str, tuple[int, ...]]:
    """Shapes of what layers read and make for a batch, by tensor.

    Raises
    ------
    EngineFailed
        The engine does not run the network so.
    """
    tensors = {name for layer in layers for name in (layer.input, layer.sites[0].result)}
    fed = {name: value.shape for name, value in batch.feeds.items() if name in tensors}
    engine = Engine(shapes(model, tensors), threads=1)
    told = zip(engine.outputs, engine.run(batch.feeds), strict=True)
    return fed | {name[: name.rindex(":")]: tuple(map(int, value)) for name, value in told}


def _size(shape: BlockShape) -> tuple[int, int]:
    return shape.rows, shape.columns


def _products(layer: Layer, sizes: Mapping[str, tuple[int, ...]]) -> int:
    """Products of a layer in a call; 0 where its shapes are not known."""
    made = sizes.get(layer.sites[0].result, (0,))
    return layer.blocks[0][0] * math.prod(made)


def _measure(
    layers: Sequence[Layer],
    blocks: Mapping[Block, BlockShape],
    sizes: Mapping[str, tuple[int, ...]],
    multiples: Mapping[str, int],
    cache: LatencyCache,
) -> dict[Block, tuple[NodeLatencies, NodeLatencies, NodeLatencies]]:
    """Latencies of layers whose shapes are known; of equal nodes once, at the sizes of all."""
    nodes = {}
    largest: dict[str, tuple[int, int, int]] = {}
    for layer in layers:
        result, (inputs, outputs) = layer.sites[0].result, layer.blocks[0]
        if layer.input not in sizes or result not in sizes or inputs * outputs > LARGEST:
            continue
        shape = blocks[layer.name, 0]
        fold, rank = shape.fold, shape.rank
        parts = lone_nodes(layer, sizes[layer.input], sizes[result], fold)
        most = (inputs, outputs), (inputs // fold, rank), (rank * fold, outputs)
        for node, size in zip(parts, most, strict=True):
            known = largest.get(node.key, (0, 0, 1))
            multiple = multiples[layer.name]
            largest[node.key] = max(known[0], size[0]), max(known[1], size[1]), multiple
        nodes[layer.name, 0] = parts
    latencies = {}
    for key, node in {node.key: node for parts in nodes.values() for node in parts}.items():
        inputs, outputs, multiple = largest[key]
        rows = [node.step * size for size in _grid(inputs // node.step, multiple, ROWS)]
        columns = _grid(outputs, multiple, COLUMNS)
        latencies[key] = node_latencies(node, rows, columns, THREADS, cache)
    return {
        block: (latencies[node.key], latencies[first.key], latencies[second.key])
        for block, (node, first, second) in nodes.items()
    }


def _grid(most: int, multiple: int, count: int) -> list[int]:
    """Some of the candidate widths, the least and the largest among them."""
    widths = candidate_widths(most, multiple)
    logs = np.log(widths)
    levels = np.linspace(logs[0], logs[-1], count)
    return sorted({int(widths[np.argmin(np.abs(logs - log))]) for log in levels})
