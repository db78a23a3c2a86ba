"""The paper's program to the letter: l1 under the strict ReLU set, bias included, no refit.

    minimise ||U||_1   subject to   U'X in the strict set of the layer's responses

(Aghasi, Abdi, Romberg, "Fast Convex Pruning of Deep Neural Networks", arXiv 1806.06457.)  A layer
that no ReLU follows has the set ``||U'X - Z||_F <= epsilon``.

Parallel, and where nothing before the layer was pruned: epsilon is a share of ||Y||_F and inactive
results stay below V = 0.  Cascade: X is what the pruned layers deliver, V = W'X, and epsilon is
gamma times the error that W itself makes on Omega, so that W is feasible.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from nettrim_cli.solve.constrained import Program
from nettrim_cli.solve.responses import Intervals
from nettrim_cli.solve.search import smallest_share
from nettrim_cli.solve.task import Matrix, Solution, Status, Task, norm

GAP = VIOLATION = 5e-3
INACCURATE = 5e-2
ITERATIONS, CHECK = 400, 10
PROBE_ITERATIONS = 40

Look = Callable[[int, int], None]


@dataclass(frozen=True)
class Layer:
    """A task as a program: live outputs only, in units of the response.

    Attributes
    ----------
    live
        Outputs whose scale is not 0; the others do not depend on the weights.
    size
        ||Y||_F of the live outputs, to which a relative epsilon refers.
    own
        Frobenius error that W makes on the shared entries.
    """

    X: Matrix
    intervals: Intervals
    prices: Matrix
    live: Matrix
    size: float
    own: float


def solve_net_trim(task: Task, look: Look | None = None) -> Solution:
    """Solve the paper's program for a layer.

    Returns
    -------
    Solution
        ``solved`` with gap and violation within 0.5 %, ``inaccurate`` within 5 %, or
        ``max-iterations``; gap is relative to the objective, violation to epsilon.  With
        ``task.keep`` epsilon is searched for, to within half a per cent of the weights.
    """
    layer = as_program(task)
    with threadpool_limits(1):
        if task.keep is not None:
            epsilon = _epsilon_for(task, layer, task.keep, look)
        elif task.samples.exact or layer.own == 0:
            assert task.epsilon is not None
            epsilon = task.epsilon * layer.size
        else:
            epsilon = task.gamma * layer.own
        program = _program(task, layer, epsilon)
        gap, violation, iterations = solve(program, _start_rho(task, layer), look)
    if max(gap, violation) <= GAP:
        status = Status.SOLVED
    else:
        accurate = max(gap, violation) <= INACCURATE
        status = Status.INACCURATE if accurate else Status.MAX_ITERATIONS
    return Solution(_weights(task, layer, program), status, iterations, gap, violation)


def solve(program: Program, rho: float, look: Look | None = None) -> tuple[float, float, int]:
    """Iterate until gap and violation are small; rho follows the larger of the two.

    Returns
    -------
    gap, violation, iterations
        Relative duality gap, violation relative to epsilon.
    """
    best, done = -math.inf, 0
    gap = violation = math.inf
    while done < ITERATIONS:
        begun = done
        program.iterate(rho, CHECK, look and (lambda n, at=begun: look(at + n, ITERATIONS)))
        done += CHECK
        best = max(best, program.bound())
        objective, reach = program.objective, max(program.epsilon, 1e-12)
        gap = abs(objective - best) / objective if objective > 0 else 0.0
        violation = program.violation() / reach
        if max(gap, violation) <= GAP:
            break
        if done % (2 * CHECK) == 0:
            rho *= min(2.0, max(0.5, (violation / max(gap, 1e-4)) ** 0.4))
    return gap, violation, done


def as_program(task: Task) -> Layer:
    """The task's kept columns as data of a program; a linear layer's in Gram space.

    A linear response needs ``C = X X' = L L'`` and ``B = X Z'`` only: with L in place of X and
    ``(L^-1 B)'`` in place of Z, N columns stand for all P.
    """
    samples, outputs = task.samples, task.W.shape[1]
    scale = np.ones(outputs) if task.scale is None else task.scale.astype(np.float64)
    live = scale != 0
    X, Z, W = samples.X[task.rows], samples.Z[live], task.W[:, live].astype(np.float32)
    prices = (1 / np.abs(scale[live]))[None]
    own = W.T @ X
    if not task.relu:
        Z, own = Z * scale[live, None], own * scale[live, None]
        error = 0.0 if samples.exact else norm(own - Z)
        if X.shape[1] > len(X):
            X, Z = _compressed(X, Z)
        return Layer(X, Intervals.of_points(Z), prices, live, norm(samples.Z[live]), error)
    shift = None if task.shift is None else task.shift[live]
    intervals = Intervals.of_response(
        Z, scale[live], shift, task.ceiling, None if samples.exact else own
    )
    missed = intervals.residual(own * scale[live, None].astype(np.float32))
    error = 0.0 if samples.exact else norm(missed * intervals.active)
    return Layer(X, intervals, prices, live, norm(task.respond(samples.Z)[live]), error)


def _compressed(X: Matrix, Z: Matrix) -> tuple[Matrix, Matrix]:
    """N columns with the same C and B; what Z has outside the rows of X is left out."""
    basis, triangle = np.linalg.qr(X.T.astype(np.float64))
    return triangle.T.astype(np.float32), (Z @ basis).astype(np.float32)


def _program(task: Task, layer: Layer, epsilon: float) -> Program:
    return Program(layer.X, layer.intervals, layer.prices, epsilon, threads=task.threads)


def _weights(task: Task, layer: Layer, program: Program) -> Matrix:
    """The task's U: outputs without influence are zero, their bias stays."""
    U = np.zeros(task.W.shape)
    scale = 1.0 if task.scale is None else task.scale[layer.live]
    U[:, layer.live] = program.solution / scale
    if task.has_bias:
        U[-1, ~layer.live] = task.W[-1, ~layer.live]
    return U


def _start_rho(task: Task, layer: Layer) -> float:
    """A penalty of the right order, 20 ||W||_1 / ||Y||_F^2 (measured on the sample models)."""
    return 20 * float(np.abs(task.W).sum(dtype=np.float64)) / max(layer.size, 1e-30) ** 2


def _epsilon_for(task: Task, layer: Layer, keep: int, look: Look | None) -> float:
    """The smallest epsilon whose solution has at most ``keep`` weights, by short solves."""
    program = _program(task, layer, layer.size)
    rho = _start_rho(task, layer)

    def weights(share: float) -> int:
        program.epsilon = share * layer.size
        program.iterate(rho, PROBE_ITERATIONS, look and (lambda n: look(n, PROBE_ITERATIONS)))
        U = _weights(task, layer, program)
        return int(np.count_nonzero(U[:-1] if task.has_bias else U))

    return layer.size * smallest_share(weights, keep, max(1, task.weights // 200))
