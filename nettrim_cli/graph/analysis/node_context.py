"""A node as the rules of ``error_gain`` see it, and what a rule answers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.graph import ops
from nettrim_cli.graph.ir.index import Index, attributes
from nettrim_cli.graph.layer import Floats, Layer, Site
from nettrim_cli.graph.layers.paths import Outputs, own_path
from nettrim_cli.graph.ops import Unsupported

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Norms:
    """Upper bounds on operator norms, by the wing that can prove them.

    Attributes
    ----------
    matrix
        Of a matrix.
    convolution
        Of a convolution with an (M, C, k...) kernel, strides and dilations, over whole images.
    uses
        How many windows of a kernel shape, strides and dilations read one entry, at most.
    """

    matrix: Callable[[Floats], float]
    convolution: Callable[[Floats, Sequence[int], Sequence[int]], float]
    uses: Callable[[Sequence[int], Sequence[int], Sequence[int]], int]


@dataclass(frozen=True)
class ErrorGain:
    """Factor of each changed input, by slot; `joint` where the squares add up."""

    factors: Mapping[int, float]
    joint: bool = False

    def error(self, errors: Mapping[int, float]) -> float:
        """Bound on the output's error for errors of the inputs."""
        parts = [factor * errors[slot] for slot, factor in self.factors.items()]
        return math.hypot(*parts) if self.joint else math.fsum(parts)


@dataclass(frozen=True)
class NodeContext:
    """A node with what its rule may ask for.

    Attributes
    ----------
    changed
        Slots whose tensor carries an error.
    shapes
        Shapes of the tensors as they were when the samples ran, one mapping a kind of batch.
    scale
        (M,) factors on the outputs that are folded into a linear node's weight; None for 1.
    """

    index: Index
    number: int
    changed: tuple[int, ...]
    shapes: Sequence[Shapes]
    norms: Norms
    scale: Floats | None = None

    @property
    def node(self) -> Any:
        """The protobuf message."""
        return self.index.nodes[self.number]

    @property
    def given(self) -> dict[str, Any]:
        """Plain attributes."""
        return attributes(self.node)

    def value(self, slot: int) -> NDArray[Any]:
        """Finite constant of a slot; raises Unsupported where it is none."""
        names = self.node.input
        if slot >= len(names) or names[slot] not in self.index.constants:
            raise Unsupported("it joins a changed tensor with another signal")
        try:
            with np.errstate(invalid="ignore"):  # a signalling NaN stays a NaN
                found = self.index.view(names[slot]).values().astype(np.float64)
        except Unsupported as refusal:
            raise Unsupported(f"its constant {refusal}") from None
        if not np.isfinite(found).all():
            raise Unsupported("its constants are not finite")
        return found

    def shape_pairs(self, slot: int) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
        """Shapes of an input and of the first output, a pair a kind of batch."""
        name, out = self.node.input[slot], self.node.output[0]
        if not self.shapes or any(name not in each or out not in each for each in self.shapes):
            raise Unsupported("the shapes of its tensors are not known")
        return [(each[name], each[out]) for each in self.shapes]

    def growth(self, slot: int) -> float:
        """Entries of the output for one entry of an input, at most: copies by broadcasting."""
        return max(math.prod(out) / max(1, math.prod(x)) for x, out in self.shape_pairs(slot))

    def shrinkage(self, slot: int) -> float:
        """Entries of an input for one entry of the output, at most."""
        return max(math.prod(x) / max(1, math.prod(out)) for x, out in self.shape_pairs(slot))

    def first_only(self) -> None:
        """Refuse errors of any input but the first."""
        if self.changed != (0,):
            raise Unsupported("a changed tensor steers it")


def response_path(index: Index, layer: Layer, site: Site) -> tuple[tuple[int, ...], str]:
    """Nodes from a layer's site to its response, in dataflow order, and the response's name.

    These are the layer's own node, the ``Add`` of its bias, constant factors and summands (folded
    into ``layer.response.scale``) and clippings, which never enlarge a distance.  What
    ``layer.response`` knows beyond these passes by the rules of its nodes.  Nobody else reads
    what is passed on between them.
    """
    last = index.producers.get(site.output, site.node)
    nodes = (site.node,) if last == site.node else (site.node, last)
    response, axis = layer.response, ops.output_axis(site.geometry)
    if axis is None or (response.scale is None and not response.relu):
        return nodes, site.output
    path = own_path(index, site.output, Outputs(axis, layer.shape[1]))
    return (*nodes, *path.nodes), path.tensor
