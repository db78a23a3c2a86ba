"""Samples made of samples."""

from __future__ import annotations

import numpy as np
import pytest

from nettrim_cli.data.augmentation import SHIFT, Recipe, augmented, image_axes


def recipe(count=64, seed=0) -> Recipe:
    return Recipe.draw(count, np.random.default_rng(seed))


def test_features_stay_within_those_of_both_samples() -> None:
    values = np.random.default_rng(1).standard_normal((64, 5)).astype(np.float32)
    drawn = recipe()
    made = augmented({"x": values}, {"x": -values}, {"x": 0}, drawn)["x"]
    partners = -values[drawn.partners]
    assert (made <= np.maximum(values, partners) + 1e-6).all()
    assert (made >= np.minimum(values, partners) - 1e-6).all()
    assert made.dtype == np.float32


def test_all_inputs_of_a_sample_are_mixed_alike() -> None:
    values = np.random.default_rng(1).standard_normal((64, 5)).astype(np.float32)
    feeds = {"x": values, "double": 2 * values.T}
    made = augmented(feeds, feeds, {"x": 0, "double": 1}, recipe())
    np.testing.assert_allclose(made["double"].T, 2 * made["x"], rtol=1e-5, atol=1e-6)


def test_inputs_without_samples_stay() -> None:
    feeds = {"x": np.ones((4, 3), np.float32), "rate": np.array(16000)}
    assert augmented(feeds, feeds, {"x": 0}, recipe(4))["rate"] is feeds["rate"]


@pytest.mark.parametrize("channels_last", [False, True])
def test_an_image_is_moved_a_little_and_keeps_its_values(channels_last) -> None:
    images = np.random.default_rng(2).standard_normal((64, 3, 20, 30)).astype(np.float32)
    fed = np.ascontiguousarray(images.transpose(0, 2, 3, 1)) if channels_last else images
    drawn = recipe()
    made = augmented({"x": fed}, {"x": fed}, {"x": 0}, drawn)["x"]
    made = made.transpose(0, 3, 1, 2) if channels_last else made
    alone = np.flatnonzero((drawn.weights == 1) & (drawn.cuts == 1))
    assert len(alone) > 10
    for at in alone:
        moves = [
            (dy, dx)
            for dy in range(-2, 3)
            for dx in range(-3, 4)
            if np.array_equal(made[at], np.roll(images[at], (dy, dx), (1, 2)))
        ]
        assert len(moves) == 1
    assert round(SHIFT * 20) == 2
    assert round(SHIFT * 30) == 3


def test_a_joined_image_is_of_two() -> None:
    images = np.ones((64, 1, 16, 16), np.float32)
    drawn = recipe()
    made = augmented({"x": images}, {"x": 2 * images}, {"x": 0}, drawn)["x"]
    for at in np.flatnonzero(drawn.cuts < 1):
        own = np.mean(made[at] == 1)
        assert set(np.unique(made[at])) <= {1, 2}
        assert own == pytest.approx(round(16 * drawn.cuts[at]) / 16)


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((5, 3, 32, 48), (2, 3)),
        ((5, 32, 48, 3), (1, 2)),
        ((5, 1, 28, 28), (2, 3)),
        ((5, 16, 4, 32), None),  # attention, not pixels
        ((5, 32, 48), None),
        ((5, 7), None),
    ],
)
def test_what_is_taken_for_an_image(shape, axes) -> None:
    assert image_axes(shape) == axes
