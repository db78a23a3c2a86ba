"""Ops that set the scale of a signal: normalisations, Softmax, and Dropout, which only trains."""

from __future__ import annotations

from typing import Any

import numpy as np

from nettrim_cli.graph.layer import Floats
from nettrim_cli.graph.ops.base import Unsupported
from nettrim_cli.graph.ops.channel_context import ChannelContext, Counted
from nettrim_cli.graph.ops.channel_rules import ChannelRule, Outputs, mixed
from nettrim_cli.graph.ops.context import (
    AffineContext,
    ErrorContext,
    ErrorGain,
    NodeContext,
)
from nettrim_cli.graph.ops.error_rules import slope
from nettrim_cli.graph.ops.function_rules import always
from nettrim_cli.graph.ops.gradients import normalization as gradients
from nettrim_cli.graph.ops.gradients.context import zero
from nettrim_cli.graph.ops.gradients.elementwise import dropout_gradient
from nettrim_cli.graph.ops.rank_rules import first_rank
from nettrim_cli.graph.ops.spec import OpSpec

EPSILON = 1e-5


def trains_by_batch(context: NodeContext) -> bool:
    """Told by an attribute; before opset 14 by further results."""
    return bool(context.attributes.get("training_mode", 0)) or context.results > 1


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


def batch_channels(context: ChannelContext) -> Outputs:
    """Each channel by itself.

    Raises
    ------
    Unsupported
        It is trained.
    """
    labels = context.of()
    if trains_by_batch(context):
        raise Unsupported("it normalises by the batch", "not-followed")
    if labels is not None:
        for slot in range(1, 5):
            context.cut(slot, labels, (1,))
    return (labels,)


def dropout_channels(context: ChannelContext) -> Outputs:
    """All entries alike, unless it trains.

    Raises
    ------
    Unsupported
        It may be told to train.
    """
    if dropout_trains(context) is not False:
        raise Unsupported("it may be told to train", "not-followed")
    return (context.of(),) * len(context.node.output)


def instance_channels(context: ChannelContext) -> Outputs:
    """Entries of one channel are mixed."""
    labels = context.of()
    if labels is None:
        return ()
    labels = mixed(context, labels, range(2, labels.ndim))
    for slot in range(1, context.count):
        context.cut(slot, labels, (1,))
    return (labels,)


def group_channels(context: ChannelContext) -> Outputs:
    """Neighbouring channels are mixed, and go as a whole.

    Raises
    ------
    Unsupported
        Another axis has units.
    """
    labels = context.of()
    if labels is None:
        return ()
    if labels.shape != (1, labels.size, *(1,) * (labels.ndim - 2)):
        raise Unsupported("it mixes units of another axis", "mixed")
    groups = labels.reshape(context.attributes["num_groups"], -1)
    context.units.unite(groups, groups[:, :1])
    context.edits.append(Counted("num_groups", groups[:, 0]))
    for slot in (1, 2):
        per_group = context.shape(slot) == (len(groups),)
        context.cut(slot, groups[:, 0] if per_group else labels, (0,) if per_group else (1,))
    return (labels,)


def mixing(usual: int, *, to_end: bool = False, before: int = 0) -> ChannelRule:
    """A rule for ops that mix entries along the attribute ``axis``, and those behind it.

    Parameters
    ----------
    usual
        The axis where none is given.
    to_end
        Whether all axes behind it are mixed, too.
    before
        Version of the operators up to which they are in any case, from axis 1 on by default.
    """

    def rule(context: ChannelContext) -> Outputs:
        """The labels, refused where nothing else tells units apart."""
        labels = context.of()
        if labels is None:
            return ()
        early = context.graph.opset < before
        axis = context.attributes.get("axis", 1 if early else usual) % labels.ndim
        labels = mixed(context, labels, range(axis, labels.ndim if to_end or early else axis + 1))
        for slot in range(1, context.count):
            context.cut(slot, labels)
        return (labels,)

    return rule


def normalization(**facts: Any) -> OpSpec:
    """An op whose output has the axes of its input."""
    return OpSpec(rank=first_rank, **facts)


NORMALIZATION: dict[str, OpSpec] = {
    "BatchNormalization": normalization(
        error=batch_error,
        affine=batch_affine,
        mean_slot=3,
        trains=trains_by_batch,
        channels=batch_channels,
        gradient=gradients.batch_gradient,
        fitted=(1, 2),
    ),
    "LayerNormalization": normalization(
        channels=mixing(-1, to_end=True),
        gradient=gradients.layer_gradient,
        fitted=(1, 2),
    ),
    "InstanceNormalization": normalization(
        channels=instance_channels,
        gradient=gradients.instance_gradient,
        fitted=(1, 2),
    ),
    "LRN": normalization(channels=mixing(1)),
    # v' J v = Var_p(v) <= (max v - min v)^2 / 4 <= ||v||^2 / 2 (Popoviciu)
    "Softmax": normalization(
        error=slope(0.5),
        probabilities=True,
        channels=mixing(-1, before=13),
        gradient=gradients.softmax_gradient,
    ),
    "Dropout": normalization(
        error=dropout_error,
        idle=lambda context: dropout_trains(context) is False,
        trains=dropout_trains,
        channels=dropout_channels,
        steady=always,
        gradient=dropout_gradient,
    ),
    "GroupNormalization": normalization(
        channels=group_channels, gradient=gradients.group_gradient, fitted=(1, 2)
    ),
    "RMSNormalization": normalization(
        channels=mixing(-1, to_end=True), gradient=gradients.rms_gradient, fitted=(1,)
    ),
    "LpNormalization": normalization(channels=mixing(-1), gradient=gradients.unit_gradient),
    "LogSoftmax": normalization(
        channels=mixing(-1, before=13), gradient=gradients.log_softmax_gradient
    ),
    "Hardmax": normalization(channels=mixing(-1, before=13), gradient=zero),
}
