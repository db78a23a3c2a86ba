"""What follows a layer: constant scales and shifts, a residual connection, an activation.

Everything is followed only as far as nothing else reads what is passed on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from nettrim_cli.graph.ir.flat_graph import Node
from nettrim_cli.graph.ir.index import Index
from nettrim_cli.graph.layer import Floats, Response
from nettrim_cli.graph.layers.elementwise import (
    Elementwise,
    Step,
    function_of,
    is_activation,
    name_of,
)
from nettrim_cli.graph.layers.paths import (
    Next,
    Outputs,
    Path,
    clipped,
    constant_of,
    is_idle,
    next_of,
    own_path,
)
from nettrim_cli.graph.ops import OPS, Applied, spec_of
from nettrim_cli.graph.ops.context import NodeContext

SUM = "Add"  # in words
MOST_STEPS = 24  # nodes of an activation; the longest spelling of GELU has half as many


def response(index: Index, tensor: str, outputs: Outputs, summand: str = "") -> Response:
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
    summand
        Name of a tensor that the layer's own node has added to it; empty for none.
    """
    offset = summand
    if summand:
        path = clipped(index, Path(tensor, words=(SUM,)))
    else:
        path = own_path(index, tensor, outputs)
        residual = None if path.clips else _residual(index, path.tensor)
        if residual is not None:
            following, offset = residual
            path = clipped(index, path.after(following, following.kind))
    activation = None if path.clips else _activation(index, path.tensor, outputs)
    if activation is not None:
        follows = (*path.words, name_of(activation))
    elif path.clips:
        follows = path.words
    else:
        follows = (*path.words, *words(index, path.tensor))
    return Response(
        relu=path.clips,
        floor=path.low if path.clips else 0.0,
        ceiling=path.high,
        activation=activation,
        scale=path.scale,
        shift=path.shift,
        offset=offset,
        follows=", ".join(follows),
    )


def applied(functions: Sequence[Applied], summand: str) -> Response:
    """What a node itself makes of its layer's result: it adds a tensor, and applies functions."""
    names = " + ".join(name for name, _ in functions)
    plain = Response(offset=summand, follows=f"{SUM}, {names}" if summand else names)
    op, attributes = functions[0]
    spec = spec_of(op)
    if len(functions) > 1 or spec.function is None:
        return plain
    if spec.clip is not None and spec.affine is None:
        low, high = function_of(op, attributes, np.array([-np.inf, np.inf]))
        return replace(plain, relu=True, floor=float(low), ceiling=float(high))
    return replace(plain, activation=Elementwise((Step(op, (0,), attributes),)))


def _residual(index: Index, tensor: str) -> tuple[Next, str] | None:
    """The node that adds another tensor of as many axes, and that tensor."""
    following = next_of(index, tensor)
    if following is None or not following.spec.adds or len(following.node.input) != 2:
        return None
    summand = following.node.input[1 - following.slot]
    ranks = index.rank(tensor), index.rank(summand)
    fits = bool(summand) and (None in ranks or ranks[0] == ranks[1])
    return (following, summand) if fits and summand not in index.constants else None


def _activation(index: Index, tensor: str, outputs: Outputs) -> Elementwise | None:
    """The elementwise function that all readers of a tensor make of it together, if one.

    It ends at the last bend: constant factors and summands behind that are not part of it.
    """
    best: Elementwise | None = None
    for steps in _closed(index, tensor, outputs):
        signals = [number for number in steps[-1].inputs if isinstance(number, int)]
        if not OPS[steps[-1].op].linear or len(signals) > 1:
            function = Elementwise(steps)
            best = function if is_activation(function, outputs.size) else best
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
        self.covered: set[int] = set()
        self.last = self.tensor
        self.open = self._take(self.tensor)

    @property
    def closed(self) -> bool:
        """Whether all that is not read inside comes out of the last step."""
        if not self.steps or self.numbers[self.last] != len(self.steps):
            return False
        inner = [name for name in self.numbers if name != self.last]
        return not self.index.outputs.intersection(inner) and all(
            use.node in self.covered for name in inner for use in self.index.users(name)
        )

    def grow(self) -> bool:
        """Take up the first node that waits; whether that was possible."""
        if not self.open or not self.waiting or len(self.steps) >= MOST_STEPS:
            return False
        number = min(self.waiting)
        node = self.index.nodes[number]
        source = self.numbers.get(node.input[0])
        if source is None or not is_idle(NodeContext(self.index, node)):
            step = self._step(node)
            if step is None:
                return False
            self.steps.append(step)
            source = len(self.steps)
        self.waiting.discard(number)
        self.covered.add(number)
        self.last = node.output[0]
        self.numbers[self.last] = source
        self.open = self._take(self.last)
        return True

    def _take(self, tensor: str) -> bool:
        """Let the readers of a tensor wait; False where a subgraph or the caller reads it."""
        users = self.index.users(tensor)
        self.waiting |= {use.node for use in users}
        return tensor not in self.index.outputs and all(use.slot >= 0 for use in users)

    def _step(self, node: Node) -> Step | None:
        context = NodeContext(self.index, node)
        if context.spec.function is None or len(node.output) != 1:
            return None
        inputs: list[int | Floats] = []
        for name in node.input:
            if name in self.numbers:
                inputs.append(self.numbers[name])
                continue
            constant = constant_of(self.index, self.tensor, name, self.outputs)
            if constant is None:
                return None
            inputs.append(constant.astype(np.float32))
        return Step(context.op, tuple(inputs), context.attributes)


def words(index: Index, tensor: str) -> tuple[str, ...]:
    """What reads a tensor, in words; behind changes of the number's type, what reads that."""
    passed: list[str] = []
    while (following := next_of(index, tensor)) is not None:
        rescales = bool(passed) and following.spec.linear
        if not following.spec.retypes and not rescales:
            return (*passed, following.kind)
        passed.append(following.kind)
        tensor = following.output
    while True:
        names = ["output"] if tensor in index.outputs else []
        nodes = [index.nodes[use.node] for use in index.users(tensor)]
        names += [node.op_type for node in nodes]
        if len(names) == len(nodes) == 1 and index.spec(nodes[0]).idle is not None:
            tensor = nodes[0].output[0]
            continue
        return (*passed, " + ".join(dict.fromkeys(names)) or "nothing")
