"""A prunable layer, as plain picklable data: what the other wings know of the graph."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Geometry:
    """How an op reads its input tensor: all that is needed to turn it into columns.

    Attributes
    ----------
    op
        Key in ``nettrim_cli.graph.ops.OPS``.
    attributes
        Plain values (ints, floats, strings, tuples of them), defaults filled in; includes
        ``kernel_shape`` for convolutions.
    """

    op: str
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal for two layers that read equal columns from the same tensor."""
        reading = {k: v for k, v in self.attributes.items() if k in READING}
        kind = "Conv" if self.op == "Conv" else "rows"
        return (kind, tuple(sorted(reading.items())))


READING = ("kernel_shape", "strides", "pads", "dilations", "auto_pad", "transA")


@dataclass(frozen=True)
class Response:
    """What the network makes of the layer's result before anything else sees it.

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
class Layer:
    """One layer of a model.

    Attributes
    ----------
    name
        Unique in the model; what ``--include`` and ``--exclude`` match and reports print.
    op
        ONNX op type.
    input
        Name of the tensor that the layer reads.
    output
        Name of the tensor that carries the layer's result, bias included.
    weight_shape
        Shape of the weight as stored in the file.
    shape
        (N, M) of the matrix U: inputs, outputs; (0, 0) where it is not known.
    has_bias
        Whether the layer has a bias that may be changed.
    dtype
        numpy's name of the weight's dtype.
    refusal
        Why the layer is left alone; empty for a prunable layer.
    """

    name: str
    op: str
    input: str
    output: str
    weight_shape: tuple[int, ...]
    shape: tuple[int, int]
    has_bias: bool
    dtype: str
    geometry: Geometry
    response: Response = field(default_factory=Response)
    refusal: str = ""

    @property
    def prunable(self) -> bool:
        """Whether the layer can be treated at all."""
        return not self.refusal

    @property
    def parameters(self) -> int:
        """Number of weights, bias not counted."""
        return math.prod(self.weight_shape)


@dataclass(frozen=True)
class Tensor:
    """A declared input or output of a model: ``None`` or a name stands for a free axis."""

    name: str
    dtype: str
    shape: tuple[int | str | None, ...] | None
