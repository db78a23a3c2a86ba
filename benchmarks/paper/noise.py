"""Accuracy of dense and pruned networks on images with noise, as the authors' code adds it."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from benchmarks.common import Matrix
from benchmarks.paper.networks import Cells, accuracy, experiment, scores

LEVELS = tuple(round(0.25 * k, 2) for k in range(17))  # norm of the noise to the image's, 0 to 4
GAINS = (0.02, 0.1, 0.3)
IMAGES = 2000
REPEATS = 3


def cells() -> Cells:
    """A network for each gain, and the dense one."""
    return {"noise dense": partial(measured, None)} | {
        f"noise {gain:g}": partial(measured, gain) for gain in GAINS
    }


def measured(gain: float | None) -> dict[str, Any]:
    """Accuracy at each level of noise."""
    with experiment("mlp") as chosen:
        network = chosen.run.context.dense
        if gain is not None:
            network = chosen.pruned("parallel", gain).model
        images, labels = (values[:IMAGES] for values in chosen.test)
    found = [
        np.mean(
            [
                accuracy(scores(network, noisy(images, level, repeat)), labels)
                for repeat in range(REPEATS)
            ]
        )
        for level in LEVELS
    ]
    return {"epsilon": gain, "levels": LEVELS, "accuracy": [*map(float, found)]}


def noisy(images: Matrix, level: float, repeat: int) -> Matrix:
    """Images with Gaussian noise whose norm is ``level`` times that of each image."""
    noise = np.random.default_rng(repeat).standard_normal(images.shape)
    axes = tuple(range(1, images.ndim))
    sizes = [np.sqrt(np.square(each).sum(axis=axes, keepdims=True)) for each in (images, noise)]
    return (images + level * noise * sizes[0] / sizes[1]).astype(images.dtype)
