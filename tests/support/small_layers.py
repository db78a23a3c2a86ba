"""Small layers with known data, for the solver tests."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nettrim_cli.solve.methods import METHODS
from nettrim_cli.solve.problem import LayerProblem, Limits
from nettrim_cli.solve.samples import LayerSamples


def with_ones(x):
    return np.vstack([x, np.ones((1, x.shape[1]), x.dtype)]).astype(np.float32)


def correlated(random, inputs, columns, rank=None):
    """Inputs that share a few common causes, as activations do."""
    causes = random.normal(size=(rank or max(1, inputs // 3), columns))
    mix = random.normal(size=(inputs, len(causes)))
    return np.maximum(mix @ causes + 0.5 * random.normal(size=(inputs, columns)), 0)


def make_task(x, weights, *, holdout=None, pruned=None, bias=None, holdout_pruned=None, **options):
    """A task from dense inputs x (N, P); `pruned` is what the pruned network delivers there."""
    weights = np.asarray(weights)
    matrix = weights if bias is None else np.vstack([weights, np.asarray(bias)[None]])
    whole = np.vstack([weights, np.zeros((1, weights.shape[1])) if bias is None else [bias]])
    exact = pruned is None
    holdout = np.zeros((len(x), 0)) if holdout is None else holdout
    X = with_ones(x if exact else pruned)
    holdout_X = with_ones(holdout if holdout_pruned is None else holdout_pruned)
    Z = (whole.T @ with_ones(x)).astype(np.float32)
    holdout_Z = (whole.T @ with_ones(holdout)).astype(np.float32)
    wide = X.astype(np.float64)
    B = wide @ wide.T @ whole if exact else wide @ Z.T.astype(np.float64)
    spread = None if exact else np.std(x, axis=1)
    samples = LayerSamples(wide @ wide.T, B, X, Z, holdout_X, holdout_Z, exact, spread)
    return LayerProblem(matrix, bias is not None, samples, **options)


def random_task(seed, inputs=12, outputs=5, columns=60, *, bias=True, cascade=False, **options):
    random = np.random.default_rng(seed)
    x = correlated(random, inputs, columns + 40)
    x, held = x[:, :columns], x[:, columns:]
    W = random.normal(size=(inputs, outputs)) / np.sqrt(inputs)
    b = 0.3 * random.normal(size=outputs) if bias else None
    noise = (0.9 + 0.2 * random.random((inputs, 1))) if cascade else None
    reached = None if noise is None else x * noise
    holdout_reached = None if noise is None else held * noise
    return make_task(
        x, W, holdout=held, bias=b, pruned=reached, holdout_pruned=holdout_reached, **options
    )


def support_size(task, U):
    return int(np.count_nonzero(U[:-1] if task.has_bias else U))


def strict_program(task, gamma=None):
    """The paper's constraints in float64: points, where they hold, V, where it bounds, ceiling."""
    X = task.samples.X[task.rows].astype(np.float64)
    scale = np.ones(task.W.shape[1]) if task.scale is None else np.asarray(task.scale, float)
    shift = np.zeros_like(scale) if task.shift is None else np.asarray(task.shift, float)
    Z = task.samples.Z.astype(np.float64) * scale[:, None]
    A = Z + shift[:, None]
    omega = (A > 0) & (task.ceiling > A) if task.relu else np.ones(A.shape, bool)
    own = scale[:, None] * (task.W.astype(np.float64).T @ X)
    V = np.broadcast_to(-shift[:, None], Z.shape) if task.samples.inputs_exact else own
    top = task.ceiling - shift[:, None] + 0 * V
    if not task.samples.inputs_exact:
        top = np.minimum(own, top)
    return X, Z, A, omega, V, top, scale, own


def strict_violation(task, U, epsilon):
    """Distance of weights from the paper's set, from its definition."""
    X, Z, A, omega, V, top, scale, _ = strict_program(task)
    result = scale[:, None] * (U.T @ X)
    live = scale != 0
    on = np.linalg.norm(((result - Z) * omega)[live])
    below = np.where((A <= 0) & task.relu, np.maximum(result - V, 0), 0)
    above = np.where((task.ceiling <= A) & task.relu, np.maximum(top - result, 0), 0)
    off = np.linalg.norm((below + above)[live])
    return float(np.hypot(max(0.0, on - epsilon), off))


def solve_to(task, tolerance=None, *, one_sided=False):
    """The paper's program, or its one-sided form, to a tolerance of gap and violation."""
    if tolerance is not None:
        task = replace(task, limits=Limits(tolerance=tolerance, iterations=20_000))
    return METHODS["one-sided" if one_sided else "net-trim"](task, None)
