"""What a node does to an error of its inputs: at most so many times the error comes out.

Errors are Frobenius norms of the difference between a tensor of the pruned network and the
same tensor of the dense one, over all samples.  A rule answers for one op how they pass: the
factor for each input that carries an error, and whether the results add up (triangle
inequality) or their squares do (disjoint entries).  What is in no rule, or not covered by it,
ends the proof with a reason.

One more op is one more line in ``RULES``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from nettrim_cli.graph.analysis.node_context import ErrorGain, NodeContext
from nettrim_cli.graph.ir.flat_graph import STANDARD
from nettrim_cli.graph.ir.index import attributes
from nettrim_cli.graph.ops import Unsupported
from nettrim_cli.graph.storage.elements import FLOATS

Rule = Callable[[NodeContext], ErrorGain]


def effect(place: NodeContext) -> ErrorGain:
    """How errors pass through a node.

    Raises
    ------
    Unsupported
        Nothing is proved behind this node; a clause that says why.
    """
    node = place.node
    rule = RULES.get(node.op_type) if node.domain in STANDARD else None
    if rule is None:
        raise Unsupported("no bound is known for it")
    found = rule(place)
    if not all(math.isfinite(each) for each in found.factors.values()):
        raise Unsupported("its bound is infinite")
    return found


def _slope(value: float) -> Rule:
    """An elementwise function with derivatives up to `value`."""
    return lambda place: _first(place, value)


def _first(place: NodeContext, factor: float) -> ErrorGain:
    place.first_only()
    return ErrorGain({0: factor})


def _steepest(name: str, default: float, times: float = 1.0) -> Rule:
    """An elementwise function with slopes of 1 and of an attribute, all times a factor."""
    return lambda p: _first(p, times * max(1.0, abs(p.given.get(name, default))))


def _prelu(place: NodeContext) -> ErrorGain:
    return _first(place, max(1.0, float(np.abs(place.value(1)).max(initial=0))))


def _cast(place: NodeContext) -> ErrorGain:
    if place.given.get("to") not in FLOATS:
        raise Unsupported("it rounds to whole numbers")
    return _first(place, 1.0)


def _dropout(place: NodeContext) -> ErrorGain:
    slots = place.node.input[2:3]
    if slots and slots[0]:
        holder = place.index.holder(slots[0])
        if holder is None or place.index.external.read(holder).any():
            raise Unsupported("it may be told to train")
    return _first(place, 1.0)


def _pad(place: NodeContext) -> ErrorGain:
    if place.given.get("mode", "constant") != "constant":
        raise Unsupported("it copies its margins")
    return _first(place, 1.0)


def _gather(place: NodeContext) -> ErrorGain:
    holder = place.index.holder(place.node.input[1])
    if holder is None:
        raise Unsupported("what it picks is not constant")
    picked = place.index.external.read(holder).ravel()
    axis = place.given.get("axis", 0)
    copies = max(
        int(np.unique(picked % x[axis], return_counts=True)[1].max(initial=0))
        for x, _ in place.shape_pairs(0)
    )
    return _first(place, math.sqrt(copies))


def _copies(place: NodeContext) -> ErrorGain:
    """Entries are repeated; or averaged, which is the adjoint but for the factor."""
    return _first(place, math.sqrt(place.growth(0)))


def _sum(place: NodeContext) -> ErrorGain:
    return _first(place, math.sqrt(place.shrinkage(0)))


def _max_pool(place: NodeContext) -> ErrorGain:
    """Of each window only the largest change counts, and an entry is in `uses` windows."""
    return _first(place, math.sqrt(place.norms.uses(*_window(place.given))))


def _average_pool(place: NodeContext) -> ErrorGain:
    """Rows of the matrix add up to 1, columns to uses / least: the norm's square is below."""
    given = place.given
    kernel, strides, dilations = _window(given)
    least = math.prod(kernel)
    pads = given.get("pads", (0,) * 2 * len(kernel))
    if given.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID") or given.get("ceil_mode", 0):
        least = 1
    elif any(pads) and not given.get("count_include_pad", 0):
        margins = [a + b for a, b in zip(pads, pads[len(kernel) :], strict=False)]
        least = math.prod(
            max(1, k - m) if d == 1 else 1
            for k, m, d in zip(kernel, margins, dilations, strict=False)
        )
    return _first(place, math.sqrt(place.norms.uses(kernel, strides, dilations) / least))


def _window(given: Mapping[str, Any]) -> tuple[Sequence[int], Sequence[int], Sequence[int]]:
    kernel = given["kernel_shape"]
    ones = (1,) * len(kernel)
    return kernel, given.get("strides", ones), given.get("dilations", ones)


def _together(joint: bool, factor: Callable[[NodeContext], float] = lambda place: 1.0) -> Rule:
    """Inputs that meet entry by entry, each repeated to the output's shape."""

    def rule(place: NodeContext) -> ErrorGain:
        each = factor(place)
        return ErrorGain(
            {slot: each * math.sqrt(place.growth(slot)) for slot in place.changed}, joint
        )

    return rule


def _concat(place: NodeContext) -> ErrorGain:
    return ErrorGain(dict.fromkeys(place.changed, 1.0), joint=True)


def _where(place: NodeContext) -> ErrorGain:
    if 0 in place.changed:
        raise Unsupported("a changed tensor steers it")
    return _together(joint=True)(place)


def _mul(place: NodeContext) -> ErrorGain:
    """A constant's largest entry; or ``x * sigmoid(x)``, a function of x alone."""
    if len(place.changed) > 1:
        return _gate(place)
    (slot,) = place.changed
    largest = float(np.abs(place.value(1 - slot)).max(initial=0))
    return ErrorGain({slot: largest * math.sqrt(place.growth(slot))})


def _gate(place: NodeContext) -> ErrorGain:
    """Slope at most 1.1 for x sigmoid(x); max(1, 2 - b) for x clip(a x + b, 0, 1), 0 <= b <= 1."""
    for slot, other in ((0, 1), (1, 0)):
        made = place.index.producers.get(place.node.input[other])
        gate = None if made is None else place.index.nodes[made]
        if gate is None or list(gate.input) != [place.node.input[slot]]:
            continue
        if gate.op_type == "Sigmoid":
            return ErrorGain({slot: 1.1, other: 0.0})
        offset = attributes(gate).get("beta", 0.5)
        if gate.op_type == "HardSigmoid" and 0 <= offset <= 1:
            return ErrorGain({slot: 2.0 - offset, other: 0.0})
    raise Unsupported("it multiplies two changed tensors")


def _div(place: NodeContext) -> ErrorGain:
    if 1 in place.changed:
        raise Unsupported("it divides by a changed tensor")
    least = float(np.abs(place.value(1)).min(initial=math.inf))
    if least == 0:
        raise Unsupported("it divides by zero")
    return ErrorGain({0: math.sqrt(place.growth(0)) / least})


def _batch_normalization(place: NodeContext) -> ErrorGain:
    given = place.given
    if (
        place.index.opset < 9
        or given.get("training_mode", 0)
        or len([name for name in place.node.output if name]) > 1
    ):
        raise Unsupported("it normalises by the batch")
    gamma, _, _, variance = (place.value(slot) for slot in range(1, 5))
    deviation = np.sqrt(variance + given.get("epsilon", 1e-5))
    return _first(place, float(np.abs(gamma / deviation).max(initial=0)))


def _gemm(place: NodeContext) -> ErrorGain:
    if 0 in place.changed and 1 in place.changed:
        raise Unsupported("it multiplies two changed tensors")
    given, factors = place.given, {}
    for slot in place.changed:
        if slot == 2:
            factors[2] = abs(given.get("beta", 1.0)) * math.sqrt(place.growth(2))
            continue
        weight = place.value(1 - slot)
        if slot == 0 and place.scale is not None:
            turned = weight.T if given.get("transB", 0) else weight
            weight = turned * place.scale
        factors[slot] = abs(given.get("alpha", 1.0)) * place.norms.matrix(weight)
    return ErrorGain(factors)


def _matmul(place: NodeContext) -> ErrorGain:
    """A constant's norm, the largest of a stack; a stack also repeats what it multiplies."""
    if len(place.changed) > 1:
        raise Unsupported("it multiplies two changed tensors")
    (slot,) = place.changed
    weight = np.atleast_2d(place.value(1 - slot))
    if weight.ndim > 2:
        pairs = place.shape_pairs(slot)
        if any(len(x) < 2 for x, _ in pairs):
            raise Unsupported("it multiplies a vector by a stack of matrices")
        copies = max(math.prod(out[:-2]) / max(1, math.prod(x[:-2])) for x, out in pairs)
        stack = weight.reshape(-1, *weight.shape[-2:])
        return ErrorGain({slot: max(map(place.norms.matrix, stack)) * math.sqrt(copies)})
    if slot == 0 and place.scale is not None:
        weight = weight * place.scale
    return ErrorGain({slot: place.norms.matrix(weight)})


def _conv(place: NodeContext) -> ErrorGain:
    """Groups read and write channels of their own: the largest of their norms."""
    weight = place.value(1)
    if place.scale is not None:
        weight = weight * place.scale.reshape(-1, *(1,) * (weight.ndim - 1))
    _, strides, dilations = _window({"kernel_shape": weight.shape[2:], **place.given})
    groups = np.split(weight, place.given.get("group", 1))
    return _first(place, max(place.norms.convolution(each, strides, dilations) for each in groups))


def _unmoved(place: NodeContext) -> ErrorGain:
    return ErrorGain(dict.fromkeys(place.changed, 0.0))


RULES: dict[str, Rule] = {
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose"), _slope(1)),
    **dict.fromkeys(("Slice", "Split", "DepthToSpace", "SpaceToDepth", "Identity"), _slope(1)),
    **dict.fromkeys(("Relu", "Clip", "Tanh", "Abs", "Neg", "Sin", "Cos", "Atan"), _slope(1)),
    **dict.fromkeys(("Softplus", "Softsign"), _slope(1)),
    "Sigmoid": _slope(0.25),
    "Erf": _slope(2 / math.sqrt(math.pi)),
    "Gelu": _slope(1.13),  # 1.129 at x = 1.41, the tanh form alike
    "HardSwish": _slope(1.5),
    "Mish": _slope(1.09),
    "Softmax": _slope(0.5),  # v' J v = Var_p(v) <= (max v - min v)^2 / 4 <= ||v||^2 / 2 (Popoviciu)
    "HardSigmoid": lambda place: _first(place, abs(place.given.get("alpha", 0.2))),
    "LeakyRelu": _steepest("alpha", 0.01),
    "Elu": _steepest("alpha", 1.0),
    "PRelu": _prelu,
    "Cast": _cast,
    "Dropout": _dropout,
    "Pad": _pad,
    "Gather": _gather,
    "Shape": _unmoved,
    "Expand": _copies,
    "Tile": _copies,
    "GlobalAveragePool": _copies,
    "ReduceMean": _copies,
    "ReduceSum": _sum,
    "GlobalMaxPool": _slope(1),
    "ReduceMax": _slope(1),
    "ReduceMin": _slope(1),
    "ReduceL2": _slope(1),
    "MaxPool": _max_pool,
    "AveragePool": _average_pool,
    "Concat": _concat,
    "Add": _together(joint=False),
    "Sub": _together(joint=False),
    "Sum": _together(joint=False),
    "Mean": _together(joint=False, factor=lambda place: 1 / len(place.node.input)),
    "Max": _together(joint=True),
    "Min": _together(joint=True),
    "Where": _where,
    "Mul": _mul,
    "Div": _div,
    "BatchNormalization": _batch_normalization,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Conv": _conv,
}
