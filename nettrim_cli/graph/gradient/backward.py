"""The backward pass: gradients handed back node by node, in reverse order.

What has no rule is a boundary: nothing is known of the gradient of anything before it, and
parameters there stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from nettrim_cli.graph.gradient.builder import Builder
from nettrim_cli.graph.gradient.flat_model import FlatModel
from nettrim_cli.graph.ir.flat_graph import Node, depends_on
from nettrim_cli.graph.ops import Unsupported
from nettrim_cli.graph.ops.gradients.context import GradientContext, GradientRule

Guess = Callable[[str, str], str]
"""Of a tensor before a boundary, and of a gradient behind it: a gradient; empty for none."""


@dataclass(frozen=True)
class Boundary:
    """A node that gradients do not come through.

    Attributes
    ----------
    node, op
        Its title, and its op.
    reason
        What about it is not treated.
    """

    node: str
    op: str
    reason: str


@dataclass(frozen=True)
class Gradients:
    """Gradients of tensors, and what they do not come through.

    Attributes
    ----------
    names
        Names of the gradients, by tensor; none of a tensor without.
    boundaries
        In reverse order.
    guessed
        Tensors before a boundary.
    """

    names: Mapping[str, str]
    boundaries: tuple[Boundary, ...]
    guessed: frozenset[str] = frozenset()


def backward(
    model: FlatModel,
    g: Builder,
    seeds: Mapping[str, str],
    wanted: Collection[str],
    guess: Guess | None = None,
) -> Gradients:
    """Append the backward pass to a graph that has the forward pass.

    Parameters
    ----------
    model
        The forward pass.
    g
        Appends to the same graph.
    seeds
        Gradients of some of its tensors, by name.
    wanted
        Tensors whose gradients are asked for.
    guess
        What stands for the gradient before a boundary; no gradients are told there by default.
    """
    walk = _Walk(model, g, wanted, guess)
    for name, seed in seeds.items():
        walk.add(name, seed)
    for node in reversed(model.index.flat.main_nodes):
        walk.hand_back(node)
    names = {name: walk.total(name) for name in wanted if guess or name not in walk.cut}
    return Gradients(
        {k: v for k, v in names.items() if v}, tuple(walk.boundaries), frozenset(walk.cut)
    )


class _Walk:
    """Gradients that have been handed back so far.

    Attributes
    ----------
    cut
        Tensors whose gradient is not known.
    """

    def __init__(
        self, model: FlatModel, g: Builder, wanted: Collection[str], guess: Guess | None
    ) -> None:
        self.model, self.g, self.guess = model, g, guess
        self.active = depends_on(model.index.flat.main_nodes, wanted)
        self.parts: dict[str, list[str]] = {}
        self.cut: set[str] = set()
        self.boundaries: list[Boundary] = []

    def add(self, name: str, gradient: str) -> None:
        """Take up a part of the gradient of a tensor."""
        self.parts.setdefault(name, []).append(gradient)

    def total(self, name: str) -> str:
        """The gradient of a tensor; empty for none."""
        parts = self.parts.get(name)
        if not parts:
            return ""
        self.parts[name] = [self.g.sum_of(parts)]
        return self.parts[name][0]

    def hand_back(self, node: Node) -> None:
        """From the outputs of a node to its inputs."""
        if self.active.isdisjoint(node.reads):
            return
        if not self.cut.isdisjoint(node.output):
            self.cut |= self.active & node.reads
            if self.guess is None:
                return
        gradients = [self.total(name) if name else "" for name in node.output]
        if not any(gradients):
            return
        slots = (slot for slot, name in enumerate(node.input) if name in self.active)
        context = GradientContext(
            self.model.index, node, self.g, gradients, frozenset(slots), self.model.facts
        )
        try:
            parts = _rule(context, node)(context)
        except Unsupported as refusal:
            self.cut |= self.active & node.reads
            op = node.op_type if not node.domain else f"{node.domain}.{node.op_type}"
            self.boundaries.append(Boundary(node.title, op, refusal.reason.text))
            self._guess(node, next(filter(None, gradients)))
            return
        for slot, gradient in parts.items():
            if slot in context.wanted:
                self.add(node.input[slot], gradient)

    def _guess(self, node: Node, behind: str) -> None:
        """Go on before a boundary, where that is wanted."""
        for name in sorted(self.active & node.reads) if self.guess else ():
            assert self.guess is not None
            if gradient := self.guess(name, behind):
                self.add(name, gradient)


def _rule(context: GradientContext, node: Node) -> GradientRule:
    if context.spec.gradient is None or node.subgraphs:
        raise Unsupported("has no rule")
    return context.spec.gradient
