"""Stored tensors of a model that may be fitted: weights of layers, and vectors beside them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.graph.ir.index import Index
from nettrim_cli.graph.layer import Layer
from nettrim_cli.graph.ops import Unsupported
from nettrim_cli.graph.storage.elements import cast
from nettrim_cli.graph.storage.tensors import elem_type

if TYPE_CHECKING:
    from nettrim_cli.graph.model import Model

COMPUTED = (1, 11)
"""Element types that are fitted, of ONNX: those that engines compute gradients with."""


@dataclass(frozen=True)
class Parameter:
    """A stored tensor that may be fitted.

    Attributes
    ----------
    name
        In the flat view.
    values
        As they are now.
    free
        Which of them may change; None for all.
    """

    name: str
    values: NDArray[Any]
    free: NDArray[np.bool_] | None = None


def parameters(model: Model, layers: Iterable[Layer]) -> list[Parameter]:
    """Weights of layers, where they are not zero, and all biases, scales and shifts.

    Parameters
    ----------
    model
        The network.
    layers
        Layers of it, prunable.
    """
    index = model.index
    stored = {id(index.holder(name)): name for name in _stored(index)}
    found: dict[str, Parameter] = {}
    for layer in layers:
        for site in layer.sites:
            name = index.nodes[site.node].input[site.geometry.slot]
            with suppress(Unsupported):
                for holder in sorted(index.weight_view(name).holders & {*stored}):
                    tensor = stored[holder]
                    values = index.view(tensor).values()
                    found.setdefault(tensor, Parameter(tensor, values, values != 0))
    for name in _vectors(index):
        if name in stored.values():
            found.setdefault(name, Parameter(name, index.view(name).values()))
    return list(found.values())


def with_values(model: Model, values: Mapping[str, NDArray[Any]]) -> Model:
    """A copy of a model with other values (N, ...) in stored tensors.

    Raises
    ------
    Unfit
        A value is not finite, or does not fit into the stored dtype.
    """
    clone = model.clone()
    for name, array in values.items():
        view = clone.index.view(name)
        view.store(cast(array, view.values().dtype))
    return clone


def _stored(index: Index) -> Iterator[str]:
    """Stored tensors of the main graph that can be inputs of a graph with gradients."""
    names = [tensor.name for tensor in index.graph.initializer]
    names += [node.output[0] for node in index.flat.main_nodes if node.holder is not None]
    for name in names:
        holder = index.holder(name)
        if holder is not None and elem_type(holder) in COMPUTED and name not in index.sparse:
            yield name


def _vectors(index: Index) -> Iterator[str]:
    """Constants with one axis of some length, at inputs that may be fitted."""
    for node in index.nodes:
        for slot in index.spec(node).fitted:
            name = node.input[slot] if slot < len(node.input) else ""
            if name in index.constants and _is_vector(index, name):
                yield name


def _is_vector(index: Index, name: str) -> bool:
    try:
        shape: Sequence[int] = index.view(name).shape
    except Unsupported:
        return False
    return sum(size > 1 for size in shape) == 1
