"""A prunable layer as plain picklable data; the other rooms know the graph by it alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.reasons import NO_REASON, Reason

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Geometry:
    """How an op reads its weight and its tensors: all that is needed to turn them into matrices.

    Attributes
    ----------
    op
        Key in ``nettrim_cli.graph.ops.OPS``.
    slot
        Which input of the node is the weight.
    attributes
        Plain values (ints, floats, strings, tuples of them), defaults filled in.
    key
        Equal for two layers that read equal columns from the same tensors.
    """

    op: str
    slot: int = 1
    attributes: Mapping[str, Any] = field(default_factory=dict)
    key: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Response:
    """The function of the layer's result that the network computes before any node reads it.

    The response of output ``j`` is ``act(scale[j] * z[j] + shift[j] + r)`` with z the layer's own
    result (bias included) and r an entry of the tensor ``offset`` of the same shape.

    Attributes
    ----------
    relu, floor, ceiling
        Whether act clips to the range from ``floor`` to ``ceiling``; either may be infinite.
    activation
        Any other act, on (M, P) arrays; None for the identity.
    scale, shift
        (M,) constants: a BatchNormalization in whatever spelling; None for 1 and 0.
    offset
        Name of a tensor that is added, as a residual connection does; empty for none.
    """

    relu: bool = False
    floor: float = 0.0
    ceiling: float = math.inf
    activation: Callable[[Floats], Floats] | None = None
    scale: Floats | None = None
    shift: Floats | None = None
    offset: str = ""
    follows: str = ""  # the ops in words: "BatchNormalization, Relu", "Softmax", "output"


@dataclass(frozen=True)
class Site:
    """A node that reads the weight of a layer.

    Attributes
    ----------
    node
        Number of the node in the model's flat view.
    reads
        Tensors that the columns are made of, by role (see ``ops.reads``).
    output
        Tensor that carries the result, bias included.
    result
        The same tensor, if it is known to be ``U.T @ X`` and the bias alone; else empty.
    scope
        Key of the subgraph that the node is in; () for the main graph.
    """

    node: int
    geometry: Geometry
    reads: Mapping[str, str]
    output: str
    result: str = ""
    scope: tuple[int, ...] = ()

    @property
    def key(self) -> tuple[Any, ...]:
        """A key that is equal for sites with equal columns: of equal tensors, and as often."""
        return (self.geometry.key, self.scope, *sorted(self.reads.items()))


@dataclass(frozen=True)
class Layer:
    """One layer of a model: a stored weight, and the places that read it.

    Attributes
    ----------
    name
        Unique in the model; what ``--include`` and ``--exclude`` match and reports print.
    op
        ONNX op type.
    weight_shape
        Shape of the weight as its nodes read it.
    sites
        The nodes that read it, in dataflow order; only the first for a layer that is left alone.
    blocks
        (N, M) of each matrix U in it: inputs, outputs; empty where they are not known.
    has_bias
        Whether the layer has a bias that may be changed.
    dtype
        numpy's name of the stored weight's dtype.
    depthwise
        Whether it is a depthwise convolution, which is pruned only if asked for by name.
    refusal
        Why the layer is left alone; empty for a prunable layer.
    """

    name: str
    op: str
    weight_shape: tuple[int, ...]
    sites: tuple[Site, ...]
    blocks: tuple[tuple[int, int], ...]
    has_bias: bool
    dtype: str
    response: Response = field(default_factory=Response)
    depthwise: bool = False
    refusal: Reason = NO_REASON

    @property
    def prunable(self) -> bool:
        """Whether the layer can be pruned."""
        return not self.refusal

    @property
    def parameters(self) -> int:
        """Number of weights, bias not counted."""
        return math.prod(self.weight_shape)

    @property
    def geometry(self) -> Geometry:
        """How the first site reads the weight; the others read it in the same way."""
        return self.sites[0].geometry

    @property
    def input(self) -> str:
        """Tensor that the first site's columns are made from."""
        return next(iter(self.sites[0].reads.values()), "")

    @property
    def output(self) -> str:
        """Tensor that carries the first site's result."""
        return self.sites[0].output

    @property
    def shape(self) -> tuple[int, int]:
        """(N, M): inputs of a block, outputs of all of them; (0, 0) where they are not known."""
        if not self.blocks:
            return 0, 0
        return self.blocks[0][0], sum(outputs for _, outputs in self.blocks)

    def split_blocks(self, outputs: NDArray[Any]) -> list[NDArray[Any]]:
        """Split an array (M, ...) over the outputs of all blocks into one part per block."""
        ends = np.cumsum([size for _, size in self.blocks])
        return np.split(outputs, ends[:-1])


@dataclass(frozen=True)
class Tensor:
    """A declared input or output of a model: ``None`` or a name stands for a free axis."""

    name: str
    dtype: str
    shape: tuple[int | str | None, ...] | None


@dataclass(frozen=True)
class Runnable:
    """A model as the engine takes it.

    Attributes
    ----------
    payload
        Serialized ModelProto.
    folder
        Where its external data are; empty if there are none.
    replaced
        Initializers of the main graph that have other values than the file: the elements as
        stored, in the tensor's shape, and ONNX's number of the element type.
    external_bytes
        Size of all values outside the payload.
    """

    payload: bytes
    folder: str = ""
    replaced: Mapping[str, tuple[NDArray[Any], int]] = field(default_factory=dict)
    external_bytes: int = 0
