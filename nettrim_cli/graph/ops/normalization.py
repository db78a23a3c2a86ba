"""Ops that set the scale of a signal: normalisations, Softmax, and Dropout, which only trains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nettrim_cli.graph.layer import Floats
from nettrim_cli.graph.ops.base import Unsupported
from nettrim_cli.graph.ops.context import (
    AffineContext,
    Energy,
    ErrorContext,
    ErrorGain,
    ImportanceContext,
    NodeContext,
)
from nettrim_cli.graph.ops.error_rules import slope
from nettrim_cli.graph.ops.importance_rules import ONE, scaled, to_first, widest
from nettrim_cli.graph.ops.rank_rules import first_rank
from nettrim_cli.graph.ops.spec import OpSpec

EPSILON = 1e-5


def trains_by_batch(context: NodeContext) -> bool:
    """Told by an attribute; before opset 14 by further results."""
    return bool(context.attributes.get("training_mode", 0)) or context.results > 1


def gamma_importance(context: ImportanceContext) -> Mapping[int, Energy]:
    """By the factor gamma, where it is constant."""
    gamma = context.channels(1)
    return {0: scaled(context.energy, ONE if gamma is None else gamma)}


def batch_importance(context: ImportanceContext) -> Mapping[int, Energy]:
    """By gamma, and by the variance where it is constant."""
    gamma, variance = context.channels(1), context.channels(4)
    factor = ONE if gamma is None else gamma
    if variance is not None:
        factor = factor / np.sqrt(variance + context.attributes.get("epsilon", EPSILON))
    return {0: scaled(context.energy, factor)}


def batch_error(context: ErrorContext) -> ErrorGain:
    """The largest of its constant factors.

    Raises
    ------
    Unsupported
        It normalises by the batch.
    """
    if context.graph.opset < 9 or trains_by_batch(context):
        raise Unsupported("it normalises by the batch")
    gamma, _, _, variance = (context.value(slot) for slot in range(1, 5))
    deviation = np.sqrt(variance + context.attributes.get("epsilon", EPSILON))
    return context.first(float(np.abs(gamma / deviation).max(initial=0)))


def batch_affine(context: AffineContext) -> tuple[Floats, Floats] | None:
    """Scale and shift (M,) in inference.

    ``scale = gamma / sqrt(var + eps)``, ``shift = beta - mean * scale`` (ONNX operators).
    """
    if context.graph.opset < 7 or trains_by_batch(context) or context.slot or context.count != 5:
        return None
    values = [context.channels(slot) for slot in range(1, 5)]
    gamma, beta, mean, variance = (
        None if value is None else value.astype(np.float64) for value in values
    )
    if gamma is None or beta is None or mean is None or variance is None:
        return None
    variance = variance + context.attributes.get("epsilon", EPSILON)
    if not (variance > 0).all():
        return None
    scale = gamma / np.sqrt(variance)
    return scale, beta - mean * scale


def dropout_trains(context: NodeContext) -> bool | None:
    """Told by an input."""
    if not context.name(2):
        return False
    flag = context.stored(2)
    return None if flag is None else bool(flag.any())


def dropout_error(context: ErrorContext) -> ErrorGain:
    """None, unless it trains.

    Raises
    ------
    Unsupported
        It may be told to train.
    """
    if dropout_trains(context) is not False:
        raise Unsupported("it may be told to train")
    return context.first(1.0)


def normalization(**facts: Any) -> OpSpec:
    """An op whose output has the axes of its input."""
    return OpSpec(rank=first_rank, **facts)


NORMALIZATION: dict[str, OpSpec] = {
    "BatchNormalization": normalization(
        importance=batch_importance,
        width=widest,
        error=batch_error,
        affine=batch_affine,
        mean_slot=3,
        trains=trains_by_batch,
    ),
    "LayerNormalization": normalization(importance=gamma_importance),
    "InstanceNormalization": normalization(importance=gamma_importance),
    "LRN": normalization(importance=to_first, width=widest),
    # v' J v = Var_p(v) <= (max v - min v)^2 / 4 <= ||v||^2 / 2 (Popoviciu)
    "Softmax": normalization(error=slope(0.5), probabilities=True),
    "Dropout": normalization(
        importance=to_first,
        width=widest,
        error=dropout_error,
        idle=lambda context: dropout_trains(context) is False,
        trains=dropout_trains,
    ),
    **dict.fromkeys(
        (
            *("GroupNormalization", "RMSNormalization", "LpNormalization"),
            *("LogSoftmax", "Hardmax"),
        ),
        normalization(),
    ),
}
