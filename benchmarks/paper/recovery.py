"""Planted sparse neurons: from how many Gaussian samples the program finds them."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from scipy.optimize import linprog

from benchmarks.common import Matrix
from benchmarks.paper.networks import Cells
from nettrim_cli.solve.methods import METHODS
from nettrim_cli.solve.problem import LayerProblem, Limits
from nettrim_cli.solve.recovery import half_success, samples_needed, theorem_samples
from nettrim_cli.solve.samples import LayerSamples

INPUTS = 100
NONZEROS = (3, 6, 12, 25)
DRAWS = 30  # neurons to each number of samples
STEPS = (0.65, 0.8, 0.9, 1.0, 1.1, 1.2, 1.4, 1.6)  # of the expected middle
EPSILON = 3e-3  # of nettrim's solves, with more iterations than in a run: such layers take them
LIMITS = Limits(1e-3, iterations=20_000)
FOUND = 0.05  # relative error of a neuron that counts as found


def cells() -> Cells:
    """Shares of neurons that are found, and where half of them are, for each number of weights."""
    return {f"recovery {s}": partial(row, s) for s in NONZEROS}


def row(s: int) -> dict[str, Any]:
    """Shares of neurons that both find, at numbers of samples around the expected middle."""
    middle = half_success(s, INPUTS, relu=True)
    counts = [round(step * middle) for step in STEPS]
    shares: dict[str, list[float]] = {"nettrim": [], "linear program": []}
    for count in counts:
        found = np.mean([both(s, count, draw) for draw in range(DRAWS)], axis=0)
        shares["nettrim"].append(float(found[0]))
        shares["linear program"].append(float(found[1]))
    facts: dict[str, Any] = {
        "nonzeros": s,
        "samples": counts,
        **shares,
        "half": {name: half(counts, found) for name, found in shares.items()},
        "dimension": middle,
        "width": samples_needed(s, INPUTS, relu=True),
        "theorem": theorem_samples(s, INPUTS),
    }
    return facts


def both(s: int, samples: int, draw: int) -> tuple[bool, bool]:
    """Whether nettrim finds a random neuron, and whether the linear program does."""
    random = np.random.default_rng([s, samples, draw])
    w = np.zeros(INPUTS)
    w[random.choice(INPUTS, s, replace=False)] = random.standard_normal(s)
    X = random.standard_normal((INPUTS, samples))
    ours = METHODS["net-trim"](layer(X, w[:, None]), None)
    exact, size = linear_program(X, w), FOUND * np.linalg.norm(w)
    near = bool(np.linalg.norm(ours.U[:, 0] - w) <= size) and not ours.status.leaves_dense
    return near, bool(np.linalg.norm(exact - w) <= size)


def layer(X: Matrix, W: Matrix) -> LayerProblem:
    """The program of ReLU neurons W (N, M) on X (N, P), hardly an error allowed, no bias."""
    inputs = np.vstack([X, np.ones(X.shape[1])]).astype(np.float32)
    Z = (W.T @ X).astype(np.float32)
    none = inputs[:, :0], Z[:, :0]
    whole = inputs.astype(np.float64)
    samples = LayerSamples(whole @ whole.T, whole @ Z.T, inputs, Z, *none, True)
    return LayerProblem(W, False, samples, relu=True, epsilon=EPSILON, limits=LIMITS)


def linear_program(X: Matrix, w: Matrix) -> Matrix:
    """The same program of one neuron, by HiGHS."""
    z, both_signs = X.T @ w, np.hstack([X.T, -X.T])
    active = z > 0
    solved = linprog(
        np.ones(2 * len(w)),
        A_ub=both_signs[~active],
        b_ub=np.zeros(int((~active).sum())),
        A_eq=both_signs[active],
        b_eq=z[active],
    )
    return np.full(len(w), np.nan) if solved.x is None else solved.x[: len(w)] - solved.x[len(w) :]


def half(counts: list[int], shares: list[float]) -> float:
    """Samples at which half are found, between the first such number and the one before."""
    at = next(k for k, share in enumerate(shares) if share >= 0.5)
    if at == 0:
        return float(counts[0])
    low, high = shares[at - 1], shares[at]
    return counts[at - 1] + (0.5 - low) / (high - low) * (counts[at] - counts[at - 1])
