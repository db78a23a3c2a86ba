"""What follows a layer: BatchNormalization and ReLU in their spellings."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from nettrim_cli.graph.index import STANDARD, Index, attributes
from nettrim_cli.graph.layer import Floats, Response
from nettrim_cli.graph.ops import Refusal

Affine = tuple[Floats, Floats]


@dataclass(frozen=True)
class _Next:
    """The one node that reads a tensor, and what it makes of it."""

    kind: str
    node: int
    slot: int
    output: str


def response(index: Index, tensor: str, *, op: str, size: int) -> Response:
    """What the network makes of the layer result `tensor` before anything else sees it.

    A BatchNormalization in inference form and then a ReLU (``Relu``, ``Clip`` from 0,
    ``Max`` with 0) are understood, each only where nothing else reads its input.

    Parameters
    ----------
    index
        The graph.
    tensor
        Name of the layer's result.
    op
        The layer's op, which tells where the outputs are (axis 1 or the last).
    size
        Number M of the layer's outputs.
    """
    channels_first = op in ("Conv", "Gemm") or index.rank(tensor) == 2
    affine: Affine | None = None
    words: list[str] = []
    following = _next(index, tensor)
    if following is not None and following.kind == "BatchNormalization" and channels_first:
        affine = _batch_normalization(index, following, size)
        if affine is not None:
            words.append(following.kind)
            tensor = following.output
            following = _next(index, tensor)
    ceiling, word = _ceiling(index, following)
    words.append(word or _words(index, tensor, following))
    return Response(
        relu=ceiling is not None,
        ceiling=math.inf if ceiling is None else ceiling,
        scale=None if affine is None else affine[0],
        shift=None if affine is None else affine[1],
        follows=", ".join(words),
    )


def _next(index: Index, tensor: str) -> _Next | None:
    """The only reader of a tensor, behind Identity and inference Dropout; None if several."""
    while True:
        use = index.only_user(tensor)
        if use is None:
            return None
        node = index.nodes[use.node]
        kind = node.op_type if node.domain in STANDARD else f"{node.domain}.{node.op_type}"
        output = node.output[0] if node.output else ""
        if not output or not (kind == "Identity" or (kind == "Dropout" and _idle(index, node))):
            return _Next(kind, use.node, use.slot, output)
        tensor = output


def _idle(index: Index, node: object) -> bool:
    """Whether a Dropout does nothing: it is not told to train."""
    inputs = list(getattr(node, "input", ()))
    if len(inputs) < 3 or not inputs[2]:
        return True
    holder = index.holder(inputs[2])
    return holder is not None and not index.external.read(holder).any()


def _batch_normalization(index: Index, following: _Next, size: int) -> Affine | None:
    """Scale and shift of an inference BatchNormalization, in float64.

    ``scale = gamma / sqrt(var + eps)``, ``shift = beta - mean * scale`` (ONNX operators).
    """
    node = index.nodes[following.node]
    given = attributes(node)
    training = given.get("training_mode", 0) or len([name for name in node.output if name]) > 1
    if index.opset < 9 or training or following.slot != 0 or len(node.input) != 5:
        return None
    values = []
    for name in node.input[1:]:
        if name not in index.constants:
            return None
        try:
            value = index.trace(name).values()
        except Refusal:
            return None
        if not np.isfinite(value).all():
            return None
        values.append(value.astype(np.float64))
    if any(value.shape != (size,) for value in values):
        return None
    gamma, beta, mean, variance = values
    variance = variance + given.get("epsilon", 1e-5)
    if not (variance > 0).all():
        return None
    scale = gamma / np.sqrt(variance)
    shift = beta - mean * scale
    return (scale, shift) if np.isfinite(scale).all() and np.isfinite(shift).all() else None


def _ceiling(index: Index, following: _Next | None) -> tuple[float | None, str]:
    """Upper end of a clipping to ``[0, ceiling]`` and its name in words; None if it is none."""
    if following is None:
        return None, ""
    node = index.nodes[following.node]
    if following.kind == "Relu":
        return math.inf, "Relu"
    if following.kind == "Max":
        others = [name for slot, name in enumerate(node.input) if slot != following.slot]
        if len(others) == 1 and index.number(others[0]) == 0 and _is_scalar(index, others[0]):
            return math.inf, "Max with 0"
    if following.kind == "Clip" and following.slot == 0:
        low, high = _bounds(index, node)
        if low == 0 and high is not None and high > 0:
            return high, "Clip from 0" if math.isinf(high) else f"Clip 0 to {high:g}"
    return None, ""


def _bounds(index: Index, node: object) -> tuple[float | None, float | None]:
    """Bounds of a Clip, each None where it is not constant."""
    largest = float(np.finfo(np.float32).max)
    if index.opset < 11:
        given = attributes(node)
        low, high = given.get("min", -math.inf), given.get("max", math.inf)
    else:
        names = [*getattr(node, "input", ()), "", ""]
        low = index.number(names[1]) if names[1] else -math.inf
        high = index.number(names[2]) if names[2] else math.inf
    return low, math.inf if high is not None and high >= largest else high


def _is_scalar(index: Index, name: str) -> bool:
    """Whether a constant has no axes that could add some to what it is broadcast with."""
    return len(index.trace(name).shape) <= 1


def _words(index: Index, tensor: str, following: _Next | None) -> str:
    """What reads a tensor, in words."""
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
