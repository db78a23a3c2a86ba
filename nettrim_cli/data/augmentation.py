"""More samples out of few: mixtures and shifted copies, for which the dense network has answers.

A layer is fitted to what the dense network makes of its inputs, so any input near the data
will do, labelled or not.  Mixtures are those of mixup (Zhang et al., arXiv 1710.09412), joined
halves those of CutMix (Yun et al., arXiv 1905.04899), both without labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.data.formats.base import Array

MIXED, JOINED = 0.25, 0.25  # shares of the samples; all images are shifted
LEAST_WEIGHT = 0.5  # of the first sample in a mixture
LEAST_PIXELS = 8  # along both axes of what is taken for an image
MOST_CHANNELS = 4  # in the last axis of an image whose channels come last
SHIFT = 0.1  # of an image's size, at most


@dataclass(frozen=True)
class Recipe:
    """What becomes of some samples; the same for all inputs of a model.

    Attributes
    ----------
    partners
        (P,) places of the samples that are mixed in.
    weights
        (P,) of the samples themselves; 1 leaves them as they are.
    cuts
        (P,) where along an axis an image goes on as its partner, as a share; 1 for nowhere.
    upright
        (P,) bool, whether that axis is the image's height.
    shifts
        (P, 2) along height and width, as shares of SHIFT.
    """

    partners: NDArray[np.int64]
    weights: NDArray[np.float64]
    cuts: NDArray[np.float64]
    upright: NDArray[np.bool_]
    shifts: NDArray[np.float64]

    @classmethod
    def draw(cls, count: int, random: np.random.Generator) -> Recipe:
        """A recipe for `count` samples."""
        kind = random.random(count)
        mixed, joined = kind < MIXED, (kind >= MIXED) & (kind < MIXED + JOINED)
        return cls(
            random.permutation(count),
            np.where(mixed, random.uniform(LEAST_WEIGHT, 1, count), 1.0),
            np.where(joined, random.random(count), 1.0),
            random.random(count) < 0.5,
            random.uniform(-1, 1, (count, 2)),
        )


def augmented(
    feeds: Mapping[str, Array],
    partner_feeds: Mapping[str, Array],
    axes: Mapping[str, int],
    recipe: Recipe,
) -> dict[str, Array]:
    """Samples made of two batches.

    Parameters
    ----------
    feeds, partner_feeds
        The samples and those to mix in: model input -> array, of equal shapes.
    axes
        Axis of the samples in each input that has one; the other inputs stay as they are.
    recipe
        For as many samples as the batches have.
    """
    mixed = dict(feeds)
    for name, axis in axes.items():
        values = np.moveaxis(feeds[name], axis, 0)
        partners = np.moveaxis(partner_feeds[name], axis, 0)[recipe.partners]
        mix = _images if image_axes(values.shape) else _mixtures
        mixed[name] = np.ascontiguousarray(np.moveaxis(mix(values, partners, recipe), 0, axis))
    return mixed


def mixtures(
    feeds: Mapping[str, Array],
    partner_feeds: Mapping[str, Array],
    axes: Mapping[str, int],
    places: NDArray[np.int64],
    weights: NDArray[np.float64],
) -> dict[str, Array]:
    """Convex combinations of the samples of two batches.

    Parameters
    ----------
    feeds, partner_feeds, axes
        As in ``augmented``.
    places
        (P,) of the samples that are mixed in.
    weights
        (P,) of the samples themselves.
    """
    mixed = dict(feeds)
    for name, axis in axes.items():
        shape = [1] * feeds[name].ndim
        shape[axis] = -1
        share = weights.reshape(shape).astype(feeds[name].dtype)
        partners = np.take(partner_feeds[name], places, axis)
        mixed[name] = share * feeds[name] + (1 - share) * partners
    return mixed


def image_axes(shape: tuple[int, ...]) -> tuple[int, int] | None:
    """Axes of height and width in (P, C, H, W) or (P, H, W, C); None where these are no images."""
    if len(shape) != 4:
        return None
    height, width = (1, 2) if shape[-1] <= MOST_CHANNELS else (2, 3)
    return (height, width) if min(shape[height], shape[width]) >= LEAST_PIXELS else None


def _mixtures(values: Array, partners: Array, recipe: Recipe) -> Array:
    """Convex combinations, (P, ...); of samples that an image's recipe joins, too."""
    weights = np.where(recipe.cuts < 1, np.maximum(recipe.cuts, 1 - recipe.cuts), recipe.weights)
    weights = weights.reshape(-1, *(1,) * (values.ndim - 1)).astype(values.dtype)
    return np.asarray(weights * values + (1 - weights) * partners)


def _images(values: Array, partners: Array, recipe: Recipe) -> Array:
    """Mixed or joined images, (P, ...), each moved a little; what leaves on one side comes back."""
    axes = image_axes(values.shape)
    assert axes is not None
    weights = recipe.weights.reshape(-1, 1, 1, 1).astype(values.dtype)
    mixed = np.asarray(weights * values + (1 - weights) * partners)
    for axis, upright in zip(axes, (True, False), strict=True):
        joined = np.flatnonzero((recipe.cuts < 1) & (recipe.upright == upright))
        beyond = np.arange(values.shape[axis]) >= np.rint(
            recipe.cuts[joined, None] * values.shape[axis]
        )
        beyond = np.expand_dims(beyond, [place for place in (1, 2, 3) if place != axis])
        mixed[joined] = np.where(beyond, partners[joined], mixed[joined])
    for axis, shares in zip(axes, recipe.shifts.T, strict=True):
        shifts = np.rint(shares * max(1, SHIFT * values.shape[axis])).astype(np.int64)
        for shift in np.unique(shifts[shifts != 0]):
            mixed[shifts == shift] = np.roll(mixed[shifts == shift], shift, axis)
    return mixed
