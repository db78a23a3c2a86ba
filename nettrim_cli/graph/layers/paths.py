"""The way of a layer's result through nodes that read nothing but it and constants."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nettrim_cli.graph import ops
from nettrim_cli.graph.ir.flat_graph import STANDARD
from nettrim_cli.graph.ir.index import Index, attributes
from nettrim_cli.graph.layer import Floats, Layer, Site
from nettrim_cli.graph.ops import Unsupported

Affine = tuple[Floats, Floats]


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
        The nodes up to it, it included: Identity and idle Dropout before it.
    """

    kind: str
    node: Any
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
        """The path with a factor and a summand more."""
        scale = factor if self.scale is None else self.scale * factor
        shift = constant if self.shift is None else self.shift * factor + constant
        return replace(self, scale=scale, shift=shift)

    def after(self, following: Next, word: str, **changes: Any) -> Path:
        """The path behind one more node."""
        nodes, words = (*self.nodes, *following.passed), (*self.words, word)
        return replace(self, tensor=following.output, nodes=nodes, words=words, **changes)


def own_path(index: Index, tensor: str, outputs: Outputs) -> Path:
    """Follow constant factors and summands, and then clippings to constant ranges."""
    path = _scaled(index, Path(tensor), outputs)
    following = next_of(index, path.tensor)
    if following is not None and following.kind == "HardSigmoid":
        given = attributes(following.node)
        factor, constant = given.get("alpha", 0.2), given.get("beta", 0.5)
        scaled = path.scaled(np.full(outputs.size, factor), np.full(outputs.size, constant))
        return scaled.after(following, following.kind, low=0.0, high=1.0)
    return clipped(index, path)


def _scaled(index: Index, path: Path, outputs: Outputs) -> Path:
    while (following := next_of(index, path.tensor)) is not None:
        step = _affine(index, path.tensor, following, outputs)
        if step is None:
            break
        path = path.scaled(*step).after(following, following.kind)
    return path


def clipped(index: Index, path: Path) -> Path:
    """Follow clippings to constant ranges, one inside the other."""
    while (following := next_of(index, path.tensor)) is not None:
        found = _range(index, following)
        if found is None:
            break
        (low, high), word = found
        low, high = (min(max(each, low), high) for each in (path.low, path.high))
        if low >= high:
            break
        path = path.after(following, word, low=low, high=high)
    return path


def next_of(index: Index, tensor: str) -> Next | None:
    """The only reader of a tensor, behind Identity and inference Dropout; None if several."""
    passed: list[int] = []
    while True:
        use = index.only_user(tensor)
        if use is None:
            return None
        node = index.nodes[use.node]
        passed.append(use.node)
        kind, output = kind_of(node), node.output[0] if node.output else ""
        if not output or not (kind == "Identity" or (kind == "Dropout" and is_idle(index, node))):
            return Next(kind, node, use.slot, output, tuple(passed))
        tensor = output


def kind_of(node: Any) -> str:
    """Op type, after the domain's name where that is not the standard one."""
    kind: str = node.op_type
    return kind if node.domain in STANDARD else f"{node.domain}.{kind}"


def is_idle(index: Index, node: Any) -> bool:
    """Whether a Dropout does nothing: it is not told to train."""
    if len(node.input) < 3 or not node.input[2]:
        return True
    holder = index.holder(node.input[2])
    return holder is not None and not index.external.read(holder).any()


def _affine(index: Index, tensor: str, following: Next, outputs: Outputs) -> Affine | None:
    """Factors and summands (M,) of a node, finite, in float64; None where it is no such node."""
    node, ones = following.node, np.ones(outputs.size)
    if following.kind == "BatchNormalization":
        return _batch_normalization(index, tensor, following, outputs)
    if following.kind == "Neg":
        return -ones, 0 * ones
    if following.kind not in ("Add", "Sub", "Mul", "Div") or len(node.input) != 2:
        return None
    constant = constant_of(index, tensor, node.input[1 - following.slot], outputs)
    if constant is None or (following.kind == "Div" and (following.slot or not constant.all())):
        return None
    constant = np.broadcast_to(constant.ravel().astype(np.float64), (outputs.size,))
    if following.kind == "Mul":
        return constant, 0 * ones
    if following.kind == "Div":
        return 1 / constant, 0 * ones
    sign = -1.0 if following.kind == "Sub" else 1.0
    first = following.slot == 0
    return (ones if first else sign * ones), (sign * constant if first else 1.0 * constant)


def constant_of(index: Index, tensor: str, name: str, outputs: Outputs) -> Floats | None:
    """A finite constant of one value, or one an output: () or (M, 1); None for anything else.

    It must not bring more axes than the tensor has that it is combined with.
    """
    if name not in index.constants:
        return None
    try:
        value = index.view(name).values()
    except Unsupported:
        return None
    if not np.isfinite(value).all() or value.ndim > (index.rank(tensor) or 1):
        return None
    if value.size == 1:
        return np.asarray(value.reshape(()))
    axis = from_end(index, tensor, outputs.axis)
    if axis is None:
        return None
    wanted = (1,) * (value.ndim + axis) + (outputs.size,) + (1,) * (-1 - axis)
    return value.reshape(-1, 1) if value.shape == wanted else None


def from_end(index: Index, tensor: str, axis: int | None) -> int | None:
    """An axis of a tensor counted from the end, below 0; None where that is not known."""
    if axis is None or axis < 0:
        return axis
    rank = index.rank(tensor)
    return None if rank is None else axis - rank


def _batch_normalization(
    index: Index, tensor: str, following: Next, outputs: Outputs
) -> Affine | None:
    """Scale and shift of an inference BatchNormalization, in float64.

    ``scale = gamma / sqrt(var + eps)``, ``shift = beta - mean * scale`` (ONNX operators).
    """
    node = following.node
    given = attributes(node)
    training = given.get("training_mode", 0) or len([name for name in node.output if name]) > 1
    if index.opset < 7 or training or following.slot != 0 or len(node.input) != 5:
        return None
    if outputs.axis != 1 and (index.rank(tensor) or 0) + outputs.axis != 1:
        return None
    values = []
    for name in node.input[1:]:
        value = _values(index, name)
        if value is None or value.shape != (outputs.size,):
            return None
        values.append(value.astype(np.float64))
    gamma, beta, mean, variance = values
    variance = variance + given.get("epsilon", 1e-5)
    if not (variance > 0).all():
        return None
    scale = gamma / np.sqrt(variance)
    return scale, beta - mean * scale


def normalization(index: Index, tensor: str, outputs: Outputs) -> Next | None:
    """The inference BatchNormalization that reads a tensor, if nothing else does."""
    following = next_of(index, tensor)
    if following is None or following.kind != "BatchNormalization":
        return None
    known = _batch_normalization(index, tensor, following, outputs)
    return None if known is None else following


def _values(index: Index, name: str) -> Floats | None:
    """A finite constant, as far as it can be read."""
    if name not in index.constants:
        return None
    try:
        value: Floats = index.view(name).values()
    except Unsupported:
        return None
    return value if np.isfinite(value).all() else None


def _range(index: Index, following: Next) -> tuple[tuple[float, float], str] | None:
    """Ends of a clipping and its name in words; None if it is none."""
    node, kind = following.node, following.kind
    if kind == "Relu":
        return (0.0, math.inf), kind
    if kind in ("Max", "Min"):
        others = [name for slot, name in enumerate(node.input) if slot != following.slot]
        bound = _scalar(index, others[0]) if len(others) == 1 else None
        if bound is None:
            return None
        ends = (bound, math.inf) if kind == "Max" else (-math.inf, bound)
        return ends, f"{kind} with {bound:g}"
    if kind == "Clip" and following.slot == 0:
        low, high = _bounds(index, node)
        if low is None or high is None or low >= high or (low, high) == (-math.inf, math.inf):
            return None
        if math.isinf(high):
            return (low, high), f"Clip from {low:g}"
        return (low, high), f"Clip {low:g} to {high:g}"
    return None


def _bounds(index: Index, node: Any) -> tuple[float | None, float | None]:
    """Bounds of a Clip, each None where it is not constant."""
    largest = float(np.finfo(np.float32).max)
    if index.opset < 11:
        given = attributes(node)
        low, high = given.get("min", -math.inf), given.get("max", math.inf)
    else:
        names = [*node.input, "", ""]
        low = index.number(names[1]) if names[1] else -math.inf
        high = index.number(names[2]) if names[2] else math.inf
    low = -math.inf if low is not None and low <= -largest else low
    return low, math.inf if high is not None and high >= largest else high


def _scalar(index: Index, name: str) -> float | None:
    """A constant of one value that has no axes to add to what it is broadcast with."""
    value = index.number(name)
    return value if value is not None and len(index.view(name).shape) <= 1 else None


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
