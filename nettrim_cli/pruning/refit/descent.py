"""Steps against a gradient, each entry's as long as the curvature along it allows.

The objective is a sum of squares, whose Hessian is about ``J'J`` (Gauss and Newton).  Its diagonal
comes from random signs s: ``E (J's)^2`` (Bekas, Kokiopoulou, Saad, Appl. Numer. Math. 57, 2007).
Of a layer it is nearly the second moments of its inputs times the weights of its outputs, as in
K-FAC (Martens and Grosse, arXiv 1503.05671), so means over rows and columns take off the noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from nettrim_cli.pruning.refit.batches import FitBatch
from nettrim_cli.pruning.refit.entries import Entries, Vector
from nettrim_cli.pruning.refit.objective import Array, Objective

MOMENTUM = 0.9
WARM_UP = 0.1  # share of the steps in which the rate rises
LEAST_CURVATURE = 1e-2  # of the mean
PROBE = 3e-3  # length of a step along which a difference is taken, of the weights' own
ITERATIONS = 4  # towards the largest eigenvalue


class Descent:
    """Entries on their way.

    Parameters
    ----------
    entries
        Where it starts.
    metric
        (E,) squared length of a move of each entry, in which the curvature is 1 at most.

    Attributes
    ----------
    vector
        (E,) where it is.
    """

    def __init__(self, entries: Entries, metric: Vector) -> None:
        self.vector = entries.start.copy()
        self._metric, self._mean = metric, np.zeros_like(metric)

    def step(self, gradient: Vector, rate: float) -> None:
        """Move against the mean (E,) gradient of the last steps.

        With a rate of ``2 (1 + MOMENTUM) / (1 - MOMENTUM)`` it would no longer converge.
        """
        self._mean *= MOMENTUM
        self._mean += (1 - MOMENTUM) * gradient
        self.vector -= rate * self._mean / self._metric


def rate_at(step: int, steps: int, highest: float) -> float:
    """A rate that rises for a while and then falls to 0, as half of a cosine."""
    share = (step + 1) / steps
    if share < WARM_UP:
        return highest * share / WARM_UP
    return highest * (1 + math.cos(math.pi * (share - WARM_UP) / (1 - WARM_UP))) / 2


def metric(
    objective: Objective, entries: Entries, batches: Sequence[FitBatch], of_a_step: int = 1
) -> Vector:
    """(E,) diagonal of the Gauss-Newton matrix, scaled so that none of its eigenvalues exceeds 1.

    Parameters
    ----------
    objective
        At the start.
    entries
        What changes.
    batches
        Some samples.
    of_a_step
        How many of them are as many as a step takes.
    """
    start, random = _Start(objective, entries), np.random.default_rng(0)
    total = np.zeros_like(entries.start)
    for batch in batches:
        answers = start.answers(batch)
        signs = [
            random.choice([-1.0, 1.0], answer.shape).astype(answer.dtype) for answer in answers
        ]
        total += np.square(start.along(batch, answers, signs)) * max(1, len(answers[0]))
    diagonal = entries.separable(total / len(batches))
    diagonal = np.maximum(diagonal, LEAST_CURVATURE * diagonal.mean())
    if not diagonal.any():
        return np.ones_like(diagonal)
    move = random.standard_normal(len(diagonal)) / np.sqrt(diagonal)
    return np.asarray(diagonal * largest_eigenvalue(start, batches[:of_a_step], diagonal, move))


class _Start:
    """The Gauss-Newton matrix where the descent starts.

    Parameters
    ----------
    objective, entries
        As in ``metric``.
    """

    def __init__(self, objective: Objective, entries: Entries) -> None:
        self._objective, self._entries = objective, entries
        self._values = entries.arrays(entries.start)

    def answers(self, batch: FitBatch) -> list[Array]:
        """What the network answers."""
        return self._objective.answers(self._values, batch.feeds)

    def along(
        self, batch: FitBatch, answers: Sequence[Array], residuals: Sequence[Array]
    ) -> Vector:
        """(E,) gradient of the objective where answers differ from their targets by so much."""
        targets = [answer - residual for answer, residual in zip(answers, residuals, strict=True)]
        gradients = self._objective.gradients(self._values, batch.feeds, targets)[1]
        return self._entries.vector(gradients)

    def product(self, batch: FitBatch, move: Vector) -> Vector:
        """The matrix times a move (E,): a difference of answers, handed back."""
        answers, start = self.answers(batch), self._entries.start
        share = PROBE * float(np.linalg.norm(start) / np.linalg.norm(move))
        moved = self._objective.answers(self._entries.arrays(start + share * move), batch.feeds)
        changes = [
            ((after - before) / share).astype(before.dtype)
            for before, after in zip(answers, moved, strict=True)
        ]
        return self.along(batch, answers, changes)


def largest_eigenvalue(
    start: _Start, batches: Sequence[FitBatch], diagonal: Vector, move: Vector
) -> float:
    """Largest eigenvalue of the Gauss-Newton matrix over its diagonal, by von Mises' iteration.

    Parameters
    ----------
    start
        Has the matrix.
    batches
        Its samples.
    diagonal
        (E,) of the matrix.
    move
        (E,) to begin with.
    """
    value = 1.0
    for _ in range(ITERATIONS):
        products = [start.product(batch, move) for batch in batches]
        image = np.mean(products, axis=0) / diagonal
        value = math.sqrt(_squared(image, diagonal) / _squared(move, diagonal))
        if not value > 0:
            return 1.0
        move = image / value
    return value


def _squared(move: Vector, diagonal: Vector) -> float:
    return float(np.square(move) @ diagonal)
