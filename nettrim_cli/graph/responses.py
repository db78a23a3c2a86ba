"""What follows a layer: constant scales and shifts, a residual connection, an activation.

Everything is followed only as far as nothing else reads what is passed on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from nettrim_cli.graph.activations import (
    FUNCTIONS,
    LINEAR,
    Elementwise,
    Step,
    is_activation,
    name_of,
)
from nettrim_cli.graph.flat import STANDARD
from nettrim_cli.graph.index import Index, attributes
from nettrim_cli.graph.layer import Floats, Response
from nettrim_cli.graph.ops import Refusal

Affine = tuple[Floats, Floats]
MOST_STEPS = 24  # nodes of an activation; the longest spelling of GELU has half as many


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


def response(index: Index, tensor: str, outputs: Outputs) -> Response:
    """What the network makes of the layer result `tensor` before anything else sees it.

    Understood are, in this order and each optional: constant factors and summands (a
    BatchNormalization in inference form, or Mul, Div, Add, Sub), the sum with another tensor,
    and a clipping or any other elementwise function, in however many nodes.

    Parameters
    ----------
    index
        The graph.
    tensor
        Name of the layer's result.
    """
    path = own_path(index, tensor, outputs)
    added = None if path.clips else _residual(index, path.tensor)
    offset = "" if added is None else added[1]
    if added is not None:
        path = _clipped(index, path.after(added[0], added[0].kind))
    found = None if path.clips else _activation(index, path.tensor, outputs)
    if found is not None:
        words = (*path.words, name_of(found))
    elif path.clips:
        words = path.words
    else:
        words = (*path.words, _words(index, path.tensor))
    return Response(
        relu=path.clips,
        floor=path.low if path.clips else 0.0,
        ceiling=path.high,
        activation=found,
        scale=path.scale,
        shift=path.shift,
        offset=offset,
        follows=", ".join(words),
    )


def own_path(index: Index, tensor: str, outputs: Outputs) -> Path:
    """Follow constant factors and summands, and then clippings to constant ranges."""
    path = _scaled(index, Path(tensor), outputs)
    following = _next(index, path.tensor)
    if following is not None and following.kind == "HardSigmoid":
        given = attributes(following.node)
        factor, constant = given.get("alpha", 0.2), given.get("beta", 0.5)
        scaled = path.scaled(np.full(outputs.size, factor), np.full(outputs.size, constant))
        return scaled.after(following, following.kind, low=0.0, high=1.0)
    return _clipped(index, path)


def _scaled(index: Index, path: Path, outputs: Outputs) -> Path:
    while (following := _next(index, path.tensor)) is not None:
        step = _affine(index, path.tensor, following, outputs)
        if step is None:
            break
        path = path.scaled(*step).after(following, following.kind)
    return path


def _clipped(index: Index, path: Path) -> Path:
    while (following := _next(index, path.tensor)) is not None:
        found = _range(index, following)
        if found is None:
            break
        (low, high), word = found
        low, high = (min(max(each, low), high) for each in (path.low, path.high))
        if low >= high:
            break
        path = path.after(following, word, low=low, high=high)
    return path


def _next(index: Index, tensor: str) -> Next | None:
    """The only reader of a tensor, behind Identity and inference Dropout; None if several."""
    passed: list[int] = []
    while True:
        use = index.only_user(tensor)
        if use is None:
            return None
        node = index.nodes[use.node]
        passed.append(use.node)
        kind, output = _kind(node), node.output[0] if node.output else ""
        if not output or not (kind == "Identity" or (kind == "Dropout" and _idle(index, node))):
            return Next(kind, node, use.slot, output, tuple(passed))
        tensor = output


def _kind(node: Any) -> str:
    kind: str = node.op_type
    return kind if node.domain in STANDARD else f"{node.domain}.{kind}"


def _idle(index: Index, node: Any) -> bool:
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
    constant = _constant(index, tensor, node.input[1 - following.slot], outputs)
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


def _constant(index: Index, tensor: str, name: str, outputs: Outputs) -> Floats | None:
    """A finite constant of one value, or one an output: () or (M, 1); None for anything else.

    It must not bring more axes than the tensor has that it is combined with.
    """
    if name not in index.constants:
        return None
    try:
        value = index.trace(name).values()
    except Refusal:
        return None
    rank = index.rank(tensor)
    if not np.isfinite(value).all() or value.ndim > (rank or 1):
        return None
    if value.size == 1:
        return np.asarray(value.reshape(()))
    axis = outputs.axis
    if axis > 0:
        if rank is None:
            return None
        axis -= rank
    wanted = (1,) * (value.ndim + axis) + (outputs.size,) + (1,) * (-1 - axis)
    return value.reshape(-1, 1) if value.shape == wanted else None


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


def _values(index: Index, name: str) -> Floats | None:
    """A finite constant, as far as it can be read."""
    if name not in index.constants:
        return None
    try:
        value: Floats = index.trace(name).values()
    except Refusal:
        return None
    return value if np.isfinite(value).all() else None


def _residual(index: Index, tensor: str) -> tuple[Next, str] | None:
    """The node that adds another tensor of as many axes, and that tensor."""
    following = _next(index, tensor)
    if following is None or following.kind not in ("Add", "Sum") or len(following.node.input) != 2:
        return None
    other = following.node.input[1 - following.slot]
    ranks = index.rank(tensor), index.rank(other)
    same = None in ranks or ranks[0] == ranks[1]
    return (following, other) if same and other and other not in index.constants else None


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
    return value if value is not None and len(index.trace(name).shape) <= 1 else None


def _activation(index: Index, tensor: str, outputs: Outputs) -> Elementwise | None:
    """The elementwise function that all readers of a tensor make of it together, if one.

    It ends at the last bend: constant factors and summands behind that are not part of it.
    """
    best: Elementwise | None = None
    for steps in _closed(index, tensor, outputs):
        others = [each for each in steps[-1].inputs if isinstance(each, int)]
        if steps[-1].op not in LINEAR or len(others) > 1:
            found = Elementwise(steps)
            best = found if is_activation(found, outputs.size) else best
    return best


def _closed(index: Index, tensor: str, outputs: Outputs) -> Iterator[tuple[Step, ...]]:
    """Programs from a tensor to each tensor through which alone the rest of the graph sees it."""
    region = _Region(index, tensor, outputs)
    while region.grow():
        if region.closed:
            yield tuple(region.steps)


@dataclass
class _Region:
    """Elementwise nodes behind a tensor, taken up one by one in dataflow order."""

    index: Index
    tensor: str
    outputs: Outputs
    steps: list[Step] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.numbers = {self.tensor: 0}
        self.waiting: set[int] = set()
        self.taken: set[int] = set()
        self.last = self.tensor
        self.open = self._take(self.tensor)

    @property
    def closed(self) -> bool:
        """Whether all that is not read inside comes out of the last step."""
        inner = [name for name in self.numbers if name != self.last]
        return not self.index.outputs.intersection(inner) and all(
            use.node in self.taken for name in inner for use in self.index.users(name)
        )

    def grow(self) -> bool:
        """Take up the first node that waits; whether that was possible."""
        if not self.open or not self.waiting or len(self.steps) >= MOST_STEPS:
            return False
        number = min(self.waiting)
        node = self.index.nodes[number]
        step = self._step(node)
        if step is None:
            return False
        self.waiting.discard(number)
        self.taken.add(number)
        self.steps.append(step)
        self.last = node.output[0]
        self.numbers[self.last] = len(self.steps)
        self.open = self._take(self.last)
        return True

    def _take(self, tensor: str) -> bool:
        """Let the readers of a tensor wait; False where a subgraph or the caller reads it."""
        users = self.index.users(tensor)
        self.waiting |= {use.node for use in users}
        return tensor not in self.index.outputs and all(use.slot >= 0 for use in users)

    def _step(self, node: Any) -> Step | None:
        kind = _kind(node)
        if kind == "Dropout" and _idle(self.index, node):
            return Step("Identity", (self.numbers[node.input[0]],))
        if kind not in FUNCTIONS or len(node.output) != 1:
            return None
        inputs: list[int | Floats] = []
        for name in node.input:
            if name in self.numbers:
                inputs.append(self.numbers[name])
                continue
            constant = _constant(self.index, self.tensor, name, self.outputs)
            if constant is None:
                return None
            inputs.append(constant.astype(np.float32))
        return Step(kind, tuple(inputs), attributes(node))


def _words(index: Index, tensor: str) -> str:
    """What reads a tensor, in words."""
    following = _next(index, tensor)
    if following is not None:
        return following.kind
    while True:
        names = ["output"] if tensor in index.outputs else []
        users = index.users(tensor)
        names += [index.nodes[use.node].op_type for use in users]
        if names == ["Identity"] or names == ["Dropout"]:
            tensor = index.nodes[users[0].node].output[0]
            continue
        return " + ".join(dict.fromkeys(names)) or "nothing"
