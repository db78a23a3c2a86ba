"""A walk over the graph in dataflow order: labels of units on the axes of all tensors.

How an op passes labels on is its entry's ``channels``.  Entries that have to go together are
united; at the end their connected components are the units.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from nettrim_cli.graph.channels.shapes import Sizes, sizes
from nettrim_cli.graph.ir.flat_graph import Node
from nettrim_cli.graph.ir.index import Index
from nettrim_cli.graph.layer import Layer, Site
from nettrim_cli.graph.model import Model
from nettrim_cli.graph.ops import Unsupported
from nettrim_cli.graph.ops.channel_context import (
    ChannelContext,
    Cut,
    Edit,
    Labels,
    Resized,
    varying,
)
from nettrim_cli.graph.storage.elements import RAW_DTYPES
from nettrim_cli.graph.storage.tensors import elem_type
from nettrim_cli.reasons import Reason

OUTPUT = Reason("fixed-width", "they are outputs of the model")
HANDED_OUT = Reason("fixed-width", "they are outputs of a subgraph")
CAPTURED = Reason("not-followed", "a subgraph reads them from outside")
Block = tuple[str, int]
"""Name of a layer, and one of its matrices."""


@dataclass
class Walk:
    """What a walk has found.

    Attributes
    ----------
    model
        The model.
    sizes
        Sizes of its tensors.
    labels
        By tensor.
    edits
        By number of the node: what changes in it where units go.
    columns, rows
        Labels of the columns (M,) and rows (N,) of layers' matrices.
    inside
        Labels that a layer passes on one by one.
    links
        Pairs of labels (2, K) that go together.
    refused
        Labels that have to stay, with reasons.
    counted
        For labels that stand for numbers of entries: the tensors' labels, and the axes.
    multiplied
        Products of two signals: the node's number, and labels of both, along the last axis what is
        summed over.
    weighed
        Products of weights of a head and signals, as probabilities and values: the node's number,
        and labels of the signals, entries of a head along the last axis.
    inner
        Whether such entries are units.
    """

    model: Model
    sizes: Sizes
    labels: dict[str, Labels] = field(default_factory=dict)
    edits: dict[int, list[Edit]] = field(default_factory=dict)
    columns: dict[Block, Labels] = field(default_factory=dict)
    rows: dict[Block, Labels] = field(default_factory=dict)
    inside: dict[str, Labels] = field(default_factory=dict)
    links: list[NDArray[np.int64]] = field(default_factory=list)
    refused: list[tuple[Labels, Reason]] = field(default_factory=list)
    counted: dict[int, tuple[tuple[Labels, int], ...]] = field(default_factory=dict)
    multiplied: list[tuple[int, tuple[Labels, Labels]]] = field(default_factory=list)
    weighed: list[tuple[int, Labels]] = field(default_factory=list)
    inner: bool = False
    count: int = 0


class _Units:
    """``ops.channel_context.Units``: writes down what rules say."""

    def __init__(self, walk: Walk) -> None:
        self.walk = walk

    def fresh(self, count: int) -> Labels:
        """New labels (N,), all different."""
        self.walk.count += count
        return np.arange(self.walk.count - count, self.walk.count, dtype=np.int64)

    def unite(self, first: Labels, second: Labels) -> None:
        """Entries with these labels, broadcast, go together."""
        pairs = np.stack([a.reshape(-1) for a in np.broadcast_arrays(first, second)])
        self.walk.links.append(pairs[:, pairs[0] != pairs[1]])

    def refuse(self, labels: Labels, reason: Reason) -> None:
        """Entries with these labels have to stay."""
        self.walk.refused.append((labels.reshape(-1), reason))

    def columns(self, layer: Layer, block: int) -> Labels:
        """Labels (M,) of the columns of a layer's matrix, new ones at first."""
        key = (layer.name, block)
        if key not in self.walk.columns:
            self.walk.columns[key] = self.fresh(layer.blocks[block][1])
        return self.walk.columns[key]

    def set_columns(self, layer: Layer, block: int, labels: Labels) -> None:
        """Say labels (M,) of the columns of a layer's matrix."""
        if (layer.name, block) in self.walk.columns:
            self.unite(self.columns(layer, block), labels)
        self.walk.columns[layer.name, block] = labels

    def read_rows(self, layer: Layer, block: int, labels: Labels) -> None:
        """Say labels (N,) of the rows of a layer's matrix, at one of its places."""
        key = (layer.name, block)
        if key in self.walk.rows:
            self.unite(self.walk.rows[key], labels)
        self.walk.rows.setdefault(key, labels)

    def keep_rows(self, layer: Layer, reason: Reason) -> None:
        """Say that the rows of a layer have to stay."""
        for block, (inputs, _) in enumerate(layer.blocks):
            rows = self.fresh(inputs)
            self.read_rows(layer, block, rows)
            self.refuse(rows, reason)

    def pass_through(self, layer: Layer, labels: Labels) -> None:
        """Say that a layer passes each of the units on by itself."""
        if layer.name in self.walk.inside:
            self.unite(self.walk.inside[layer.name], labels)
        self.walk.inside[layer.name] = labels

    def size_label(self, labels: Labels, axis: int) -> Labels:
        """A label (1,) for the number of entries along an axis of a tensor."""
        label = self.fresh(1)
        self.walk.counted[int(label[0])] = ((labels, axis),)
        return label

    def computed_size(self, sizes: Sequence[Labels]) -> Labels | None:
        """A label (1,) for what is computed of several sizes; None where one is no size."""
        counted = self.walk.counted
        numbers = [int(number) for labels in sizes for number in labels.reshape(-1)]
        if any(number not in counted for number in numbers):
            return None
        label = self.fresh(1)
        counted[int(label[0])] = tuple(source for number in numbers for source in counted[number])
        return label

    def sum_over(self, node: int, first: Labels, second: Labels) -> bool:
        """Whether entries along the last axis, over which a node of this number sums, are units."""
        if not self.walk.inner:
            return False
        self.walk.multiplied.append((node, (first, second)))
        heads = first.reshape(-1, first.shape[-1])
        self.unite(heads, heads[:1])
        self.unite(first, second)
        return True

    def share_heads(self, node: int, labels: Labels) -> bool:
        """Whether entries along the last axis are units, which a node of this number weighs."""
        if self.walk.inner:
            self.walk.weighed.append((node, labels))
            heads = labels.reshape(-1, labels.shape[-1])
            self.unite(heads, heads[:1])
        return self.walk.inner

    def is_fixed(self, name: str, axis: int) -> bool:
        """Whether the size of a tensor's axis is the same for all inputs of the model."""
        return self.walk.sizes.is_fixed(name, axis)


def walk(model: Model, *, inner: bool = False) -> Walk:
    """Labels of all tensors of a model, and what they mean; see ``Walk.inner``."""
    index = model.index
    result = Walk(model, sizes(index), inner=inner)
    units = _Units(result)
    sites: dict[int, list[tuple[Layer, Site]]] = {}
    for layer in model.layers:
        for site in layer.sites if layer.prunable else ():
            sites.setdefault(site.node, []).append((layer, site))
    for node in index.nodes:
        layers = sites.get(node.number, ())
        if all(name in index.constants for name in node.output if name) and not node.subgraphs:
            continue
        context = ChannelContext(
            index,
            node,
            units,
            layers,
            [_reaching(result, node, name) for name in node.input],
            [result.sizes.of(name) for name in node.input],
            [result.sizes.of(name) for name in node.output],
            [],
        )
        _visit(result, context, node)
        for name in node.subgraph_outputs:
            if name in result.labels:
                units.refuse(result.labels[name], HANDED_OUT)
    for name in index.outputs:
        if name in result.labels:
            units.refuse(result.labels[name], OUTPUT)
    return result


def _reaching(walk: Walk, node: Node, name: str) -> Labels | None:
    """Labels of what a node reads; what comes from outside of its subgraph stays."""
    labels, maker = walk.labels.get(name), walk.model.index.maker(name)
    if labels is None or maker is None or maker.parent is node.parent:
        return labels
    walk.refused.append((labels.reshape(-1), CAPTURED))
    return None


def _visit(walk: Walk, context: ChannelContext, node: Node) -> None:
    try:
        if node.subgraphs:
            raise Unsupported("it has a subgraph", "not-followed")
        if any(_is_shared(walk.model.index, layer) for layer, _ in context.layers):
            raise Unsupported("another subgraph reads its weights, too", "not-followed")
        outputs = context.spec.channels(context)
        _check_edits(walk, context, node)
    except Unsupported as refusal:
        _stop(walk, context, node, refusal.reason)
        return
    except (ArithmeticError, LookupError, TypeError, ValueError):  # numbers that mean nothing
        _stop(walk, context, node, Reason("not-followed", "its sizes do not go together"))
        return
    for name, labels in zip(node.output, outputs, strict=False):
        if name and labels is not None:
            walk.labels[name] = labels
    if context.edits:
        walk.edits[node.number] = context.edits


def _is_shared(index: Index, layer: Layer) -> bool:
    """Whether a layer stands in several graphs."""
    return len({id(index.nodes[site.node].parent) for site in layer.sites}) > 1


def _check_edits(walk: Walk, context: ChannelContext, node: Node) -> None:
    """Make sure that a node can be changed; raises Unsupported where it cannot."""
    if context.edits and (node.function or node.source is None):
        raise Unsupported("it is in a local function", "not-followed")
    for edit in context.edits:
        if isinstance(edit, Cut):
            _check_constant(walk.model.index, node.input[edit.slot])
        if not isinstance(edit, Resized):
            continue
        listed = context.integers("shape", edit.slot)
        for axis in varying(edit.labels):
            open_size = listed is not None and listed[axis] == -1
            if not (open_size or walk.sizes.is_fixed(node.output[0], axis)):
                raise Unsupported("it is given a size that changes", "not-followed")


def _check_constant(index: Index, name: str) -> None:
    """Make sure that a part of a constant can be stored; raises Unsupported where it cannot."""
    try:
        view = index.view(name)
    except Unsupported as refusal:
        raise refusal.about("a constant") from None
    holders = [leaf.holder for leaf in view.source.leaves]
    if not view.exact or any(elem_type(holder) not in RAW_DTYPES for holder in holders):
        raise Unsupported("a constant is of a type that cannot be cut", "not-followed")
    fed = {value.name for value in index.graph.input} if index.model.ir_version >= 4 else set()
    if any(isinstance(holder, TensorProto) and holder.name in fed for holder in holders):
        raise Unsupported("a constant is an input, too, that callers may feed", "fixed-width")


def _stop(walk: Walk, context: ChannelContext, node: Node, reason: Reason) -> None:
    """All that a node reads and makes has to stay."""
    units = _Units(walk)
    text = f"{node.op_type} '{node.title}': {reason.text}"
    refusal = Reason(reason.code if reason.code != "unsupported" else "not-followed", text)
    for name in {*node.input, *node.captured}:
        if name in walk.labels:
            units.refuse(walk.labels[name], refusal)
    for layer, _ in context.layers:
        units.keep_rows(layer, refusal)
        for block in range(len(layer.blocks)):
            units.refuse(units.columns(layer, block), refusal)
