"""The way of a layer's result through nodes that read nothing but it and constants."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nettrim_cli.graph import ops
from nettrim_cli.graph.ir.flat_graph import Node
from nettrim_cli.graph.ir.index import Index, Use
from nettrim_cli.graph.layer import Floats, Layer, Site
from nettrim_cli.graph.ops.context import AffineContext, Graph, NodeContext
from nettrim_cli.graph.ops.spec import Clipping, OpSpec


@dataclass(frozen=True)
class Outputs:
    """Where the layer's outputs are in its result: the axis, from the end if below 0; how many."""

    axis: int
    size: int


@dataclass(frozen=True)
class Next:
    """The one node that reads a tensor, and what it makes of it.

    Attributes
    ----------
    kind
        Its op type, after the domain's name where that is not the standard one.
    passed
        The nodes up to it, it included: idle ones before it.
    """

    kind: str
    spec: OpSpec
    node: Node
    slot: int
    output: str
    passed: tuple[int, ...]


@dataclass(frozen=True)
class Path:
    """The way of a layer's result through nodes that read nothing but it and constants.

    Attributes
    ----------
    tensor
        What comes out.
    nodes
        Those on the way, in dataflow order.
    scale, shift
        (M,) factors and constants, None for 1 and 0.
    low, high
        Range to which is clipped after that.
    words
        The ops, for people.
    """

    tensor: str
    nodes: tuple[int, ...] = ()
    scale: Floats | None = None
    shift: Floats | None = None
    low: float = -math.inf
    high: float = math.inf
    words: tuple[str, ...] = ()

    @property
    def clips(self) -> bool:
        """Whether any value is cut off."""
        return self.low > -math.inf or self.high < math.inf

    def scaled(self, factor: Floats, constant: Floats) -> Path:
        """The path with a factor and a summand (M,) more."""
        scale = factor if self.scale is None else self.scale * factor
        shift = constant if self.shift is None else self.shift * factor + constant
        return replace(self, scale=scale, shift=shift)

    def after(self, following: Next, word: str, **changes: Any) -> Path:
        """The path behind one more node."""
        nodes, words = (*self.nodes, *following.passed), (*self.words, word)
        return replace(self, tensor=following.output, nodes=nodes, words=words, **changes)


@dataclass(frozen=True)
class _ReaderContext(AffineContext):
    """A node that reads `tensor`, whose `axis` has the outputs of a layer."""

    tensor: str
    axis: int

    def constant(self, slot: int) -> Floats | None:
        """A finite constant of one value, or one an output, as (M,) in float64."""
        outputs = Outputs(self.axis, self.size)
        value = constant_of(self.graph, self.tensor, self.name(slot), outputs)
        if value is None:
            return None
        return np.broadcast_to(value.ravel().astype(np.float64), (self.size,))

    def channels(self, slot: int) -> Floats | None:
        """A finite constant (M,), where the outputs are channels."""
        if self.axis != 1 and (self.graph.rank(self.tensor) or 0) + self.axis != 1:
            return None
        value = self.stored(slot)
        fits = value is not None and value.shape == (self.size,) and np.isfinite(value).all()
        return value if fits else None


def own_path(index: Index, tensor: str, outputs: Outputs) -> Path:
    """Follow constant factors and summands, and then clippings to constant ranges."""
    path = Path(tensor)
    while (following := next_of(index, path.tensor)) is not None:
        factors = _affine(index, path.tensor, following, outputs)
        if factors is None:
            break
        clip = _clipping(index, following)
        if clip is not None:
            limits = {"low": clip.low, "high": clip.high}
            return path.scaled(*factors).after(following, clip.words, **limits)
        path = path.scaled(*factors).after(following, following.kind)
    return clipped(index, path)


def clipped(index: Index, path: Path) -> Path:
    """Follow clippings to constant ranges, one inside the other."""
    while (following := next_of(index, path.tensor)) is not None:
        clip = None if following.spec.affine is not None else _clipping(index, following)
        if clip is None:
            break
        low, high = (min(max(end, clip.low), clip.high) for end in (path.low, path.high))
        if low >= high:
            break
        path = path.after(following, clip.words, low=low, high=high)
    return path


def next_of(index: Index, tensor: str) -> Next | None:
    """The only reader of a tensor, behind idle nodes; None if several."""
    passed: list[int] = []
    while True:
        use = index.only_user(tensor)
        if use is None:
            return None
        node = index.nodes[use.node]
        context = NodeContext(index, node)
        passed.append(use.node)
        output = node.output[0] if node.output else ""
        if not output or use.slot or not is_idle(context):
            return Next(context.op, context.spec, node, use.slot, output, tuple(passed))
        tensor = output


def is_idle(context: NodeContext) -> bool:
    """Whether a node gives out its first input as it is."""
    return context.spec.idle is not None and context.spec.idle(context)


def _affine(
    index: Index, tensor: str, following: Next, outputs: Outputs
) -> tuple[Floats, Floats] | None:
    """Factors and summands (M,) of a node, finite, in float64; None where it is no such node."""
    if following.spec.affine is None:
        return None
    return following.spec.affine(
        _ReaderContext(index, following.node, following.slot, outputs.size, tensor, outputs.axis)
    )


def _clipping(index: Index, following: Next) -> Clipping | None:
    """The range that a node clips to; None if it is no such node."""
    rule = following.spec.clip
    return None if rule is None else rule(AffineContext(index, following.node, following.slot, 1))


def constant_of(graph: Graph, tensor: str, name: str, outputs: Outputs) -> Floats | None:
    """A finite constant of one value, or one an output: () or (M, 1); None for anything else.

    It must not bring more axes than the tensor has that it is combined with.

    Parameters
    ----------
    tensor
        Name of what it is combined with.
    name
        Its own name.
    outputs
        Where the layer's outputs are in the tensor.
    """
    if name not in graph.constants:
        return None
    try:
        value = graph.view(name).values()
    except ops.Unsupported:
        return None
    if not np.isfinite(value).all() or value.ndim > (graph.rank(tensor) or 1):
        return None
    if value.size == 1:
        return np.asarray(value.reshape(()))
    axis = from_end(graph, tensor, outputs.axis)
    if axis is None:
        return None
    shape = (1,) * (value.ndim + axis) + (outputs.size,) + (1,) * (-1 - axis)
    return value.reshape(-1, 1) if value.shape == shape else None


def from_end(graph: Graph, tensor: str, axis: int | None) -> int | None:
    """An axis of a tensor counted from the end, below 0; None where that is not known."""
    if axis is None or axis < 0:
        return axis
    rank = graph.rank(tensor)
    return None if rank is None else axis - rank


def mean_use(index: Index, tensor: str, outputs: Outputs) -> Use | None:
    """The use of the mean that a normalisation takes off a tensor, if nothing else reads that."""
    following = next_of(index, tensor)
    if following is None or following.spec.mean_slot is None:
        return None
    if _affine(index, tensor, following, outputs) is None:
        return None
    return Use(following.passed[-1], following.spec.mean_slot)


def response_path(index: Index, layer: Layer, site: Site) -> tuple[tuple[int, ...], str]:
    """Nodes from a layer's site to its response, in dataflow order, and the response's name.

    These are the layer's own node, the addition of its bias, constant factors and summands (folded
    into ``layer.response.scale``) and clippings, which never enlarge a distance.  What
    ``layer.response`` knows beyond these passes by the rules of its nodes.  No other node reads
    what is passed on between them.
    """
    last = index.producers.get(site.output, site.node)
    nodes = (site.node,) if last == site.node else (site.node, last)
    response, axis = layer.response, ops.output_axis(site.geometry)
    if axis is None or (response.scale is None and not response.relu):
        return nodes, site.output
    path = own_path(index, site.output, Outputs(axis, layer.shape[1]))
    return (*nodes, *path.nodes), path.tensor
