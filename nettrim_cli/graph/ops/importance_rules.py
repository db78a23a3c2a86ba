"""Rules for importance that ops of several families share.

An error of variance v in one channel of a tensor makes some error in the model's outputs; the
*energy* of the channel is how much of it for a v of 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from nettrim_cli.graph.ops.context import Energy, ImportanceContext

ONE = np.ones(1)


def fitted(energy: Energy, channels: int) -> Energy:
    """Energy (C,) of `channels` channels, from (K,) of flattened ones.

    Several entries of one channel are summed up.
    """
    if energy.size in (1, channels):
        return energy
    if energy.size % channels == 0:
        return np.asarray(energy.reshape(channels, -1).sum(axis=1))
    return np.asarray(energy.mean(keepdims=True))


def mean(context: ImportanceContext) -> Mapping[int, Energy]:
    """Every input gets the mean: the channels cannot be followed."""
    average = np.mean([energy.mean() for energy in context.energies if energy is not None])
    return dict.fromkeys(range(context.count), average * ONE)


def to_all(context: ImportanceContext) -> Mapping[int, Energy]:
    """Every input gets what the first output has."""
    return dict.fromkeys(range(context.count), context.energy)


def to_first(context: ImportanceContext) -> Mapping[int, Energy]:
    """The first input gets what the first output has."""
    return {0: context.energy}


def scaled(energy: Energy, factor: Energy) -> Energy:
    """Energy (C,) before factors (C,), or (1,) where either is the same for all channels."""
    squares = np.square(factor)
    if energy.size > 1 and squares.size > 1:
        energy = fitted(energy, squares.size)
    return np.asarray(energy * squares)


def widest(widths: Sequence[int | None]) -> int | None:
    """As many channels as the widest input is known to have."""
    return max((width for width in widths if width is not None), default=None)


def joined_width(widths: Sequence[int | None]) -> int | None:
    """The channels of all inputs together."""
    ready = [width for width in widths if width is not None]
    return sum(ready) if len(ready) == len(widths) else None
