"""What a model itself tells of the range of its inputs and of its answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from nettrim_cli.graph.ir.flat_graph import Node
from nettrim_cli.graph.ir.index import Index
from nettrim_cli.graph.layer import Floats, Runnable
from nettrim_cli.graph.model import Model
from nettrim_cli.graph.ops import Unsupported
from nettrim_cli.graph.ops.context import AffineContext, NodeContext
from nettrim_cli.graph.ops.spec import OpSpec


@dataclass(frozen=True)
class Trained:
    """What training saw at a normalisation: ``mean`` and ``variance`` (C,) of each channel."""

    node: str
    tensor: str
    mean: NDArray[np.float64]
    variance: NDArray[np.float64]


@dataclass(frozen=True)
class _NumberContext(AffineContext):
    """A node that reads one signal, whose constants are single numbers."""

    def constant(self, slot: int) -> Floats | None:
        """A finite constant of one value (1,)."""
        value = self.graph.number(self.name(slot))
        return None if value is None or not np.isfinite(value) else np.array([value])

    def channels(self, slot: int) -> Floats | None:
        """None: nothing is known of channels."""
        return None


def first_normalization(model: Model) -> Trained | None:
    """The first normalisation by constants in the main graph that a layer alone precedes."""
    index = model.index
    reached = {tensor.name for tensor in model.inputs}
    results: set[str] = set()  # a layer that reads an input
    for node in index.flat.main_nodes:
        source, spec = node.input[0] if node.input else "", index.spec(node)
        if spec.mean_slot is not None and source in results and not trains(index, node):
            slots = slice(spec.mean_slot, spec.mean_slot + 2)
            mean, variance = (_constant(index, name) for name in node.input[slots])
            if mean is not None and variance is not None and (variance > 0).all():
                return Trained(node.title, source, mean, variance)
        if _is_layer(spec) and source in reached:
            results.update(node.output)
        elif source in reached and (spec.same_values or spec.clip is not None):
            reached.update(node.output)
    return None


def trains(index: Index, node: Node) -> bool:
    """Whether a node behaves as in training: by the batch that it is in, or at random."""
    rule = index.spec(node).trains
    return rule is not None and bool(rule(NodeContext(index, node)))


def first_factor(model: Model, name: str) -> float | None:
    """The size of what a model's input is multiplied by first, 1 where a layer reads it.

    None where nothing of the kind is known.
    """
    index = model.index
    for _ in range(len(index.flat.main_nodes)):
        readers = [node for node in index.flat.main_nodes if name in node.input]
        if len(readers) != 1:
            return None
        (node,) = readers
        spec = index.spec(node)
        if _is_layer(spec):
            return 1.0
        if spec.affine is not None and spec.clip is None:
            factors = spec.affine(_NumberContext(index, node, node.input.index(name), 1))
            if factors is None or factors[1].any() or not factors[0].all():
                return None
            return abs(float(factors[0][0]))
        if not spec.same_values:
            return None
        name = node.output[0]
    return None


def squashed(model: Model, output: str) -> str:
    """The op that makes an output of probabilities; empty for any other output."""
    node = model.index.maker(output)
    return node.op_type if node is not None and model.index.spec(node).probabilities else ""


def _is_layer(spec: OpSpec) -> bool:
    """Whether an op is a linear layer that gives out what its weight makes."""
    return spec.weight is not None and spec.weight.bias_follows


def with_outputs(model: Model, names: Sequence[str]) -> Runnable:
    """The model with more tensors, of whatever type, as its last outputs."""
    graph = model.proto.graph
    count = len(graph.output)
    for name in names:
        graph.output.append(onnx.ValueInfoProto(name=name))
    try:
        return model.runnable()
    finally:
        del graph.output[count:]


def _constant(index: Index, name: str) -> NDArray[np.float64] | None:
    try:
        value: NDArray[Any] = index.view(name).values()
    except Unsupported:  # not a stored one: nothing is known of it
        return None
    return value.astype(np.float64)
