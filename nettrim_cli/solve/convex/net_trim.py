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
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from nettrim_cli.solve.admm import Progress, admm
from nettrim_cli.solve.convex.program import Outcome, solve
from nettrim_cli.solve.convex.sample_space import ALPHA, UNIT, SampleResponse
from nettrim_cli.solve.levels import smallest_epsilon
from nettrim_cli.solve.matrices import Matrix, norm
from nettrim_cli.solve.penalties import LogSum, WeightedL1
from nettrim_cli.solve.problem import LayerProblem, Limits, Solution, Status
from nettrim_cli.solve.responses import Intervals, NormBall

PROBE_ITERATIONS = 40
RHO = 17.0
FAR = 0.05  # violation, relative to epsilon, of weights that are not worth writing
MORE = (0.02, 0.1, 0.3, 1.0)  # of what is left up to ||Y||, where a count was missed
TROUBLE = {
    Status.INFEASIBLE: "proved: weights that keep its responses within epsilon have an "
    "l1 norm above {bound:.3g}",
    Status.NOT_FINITE: "the solver left the range of numbers",
}


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


def solve_net_trim(
    task: LayerProblem, look: Progress | None = None, *, one_sided: bool = False, rounds: int = 1
) -> Solution:
    """Solve the paper's program for a layer.

    Parameters
    ----------
    one_sided
        Epsilon is for all entries together, the inactive ones included: the same guarantee with
        a larger set, so never more weights' norm.
    rounds
        More than one for reweighted l1: each next round's prices are the tangent of a sum of
        logarithms at the last one's weights (see LogSum), and each is a convex program.

    Returns
    -------
    Solution
        ``solved`` with gap and violation within the task's tolerance, else another status; gap
        is relative to the objective, violation to epsilon.  With
        ``task.keep`` epsilon is searched for, to within half a per cent of the weights.
    """
    if task.samples.unusable_reason:
        return Solution(task.W, Status.DENSE, note=task.samples.unusable_reason)
    if task.keep is not None and task.keep >= task.weight_count:
        return Solution(task.W, Status.SOLVED, note="kept whole: no zeros are asked for")
    layer = as_program(task)
    with threadpool_limits(1):
        if task.keep is not None:
            epsilon = _epsilon_for(task, layer, task.keep, look, one_sided=one_sided)
        elif task.samples.inputs_exact or layer.own == 0:
            assert task.epsilon is not None
            epsilon = task.epsilon * layer.size
        else:
            epsilon = task.gamma * layer.own
        response = SampleResponse(
            layer.X, layer.intervals, NormBall(epsilon), strict=not one_sided, threads=task.threads
        )
        rho, prices = start_rho(response, layer), layer.prices / response.unit
        known = float((np.abs(task.W[:, layer.live]) * layer.prices).sum())
        found = _solved(response, prices, rho, look, task.limits, known, rounds)
        U = _weights(task, layer, response, found.S)
        for share in MORE:
            if task.keep is None or _count(task, U) <= task.keep:
                break
            epsilon += share * (layer.size - epsilon)
            response.fit = NormBall(epsilon)
            found = _solved(response, prices, rho, look, task.limits, known, rounds)
            U = _weights(task, layer, response, found.S)
    if found.status in TROUBLE:
        note = TROUBLE[found.status].format(bound=found.bound)
        return Solution(task.W, found.status, found.iterations, note=note)
    status, note = found.status, ""
    if task.keep is None and status is not Status.SOLVED and found.violation > FAR:
        note = (  # the dense weights keep epsilon, whichever it is
            f"not solved: after {found.iterations} iterations {found.violation:.0%} outside of "
            "epsilon, within which the dense weights are"
        )
        return Solution(task.W, Status.DENSE, found.iterations, note=note)
    if task.keep is not None and _count(task, U) > task.keep:
        status = Status.INACCURATE
        note = f"its constraints need more weights than the {task.keep:,} asked for"
    return Solution(U, status, found.iterations, found.gap, found.violation, note)


def _solved(
    response: SampleResponse,
    prices: Matrix,
    rho: float,
    look: Progress | None,
    limits: Limits,
    known: float,
    rounds: int,
) -> Outcome:
    """One convex program after the other, each with the tangent at the last one's weights."""
    found = solve(response, WeightedL1(prices), rho, look, limits, known)
    for _ in range(rounds - 1):
        if found.status in TROUBLE:
            break
        tangent, before = LogSum.of(found.S, prices).tangent(found.S), found.iterations
        found = solve(response, tangent, rho, look, limits, known, start=found.S)
        found.iterations += before
    return found


def _count(task: LayerProblem, U: Matrix) -> int:
    """Weights that are not zero, the bias not counted."""
    return int(np.count_nonzero(U[:-1] if task.has_bias else U))


def as_program(task: LayerProblem) -> Layer:
    """The task's kept columns as data of a program; a linear layer's in Gram space.

    A linear response needs ``C = X X' = L L'`` and ``B = X Z'`` only: with L in place of X and
    ``(L^-1 B)'`` in place of Z, N columns and one for the rest of Z stand for all P.
    """
    samples, outputs = task.samples, task.W.shape[1]
    scale = np.ones(outputs) if task.scale is None else task.scale.astype(np.float64)
    live = scale != 0
    X, W = samples.X[task.rows], task.W[:, live].astype(np.float32)
    Z: Matrix = samples.Z[live]
    prices = (1 / np.abs(scale[live]))[None]
    offset = samples.skip
    own: Matrix = W.T @ X
    if not task.relu:
        size = norm(task.pre_activation(samples.Z)[live])
        Z, own = Z * scale[live, None], own * scale[live, None]
        error = 0.0 if samples.inputs_exact else norm(own - Z)
        if X.shape[1] > len(X):
            X, Z = _compressed(X, Z)
        return Layer(X, Intervals.of_points(Z), prices, live, size, error)
    shift = None if task.shift is None else task.shift[live]
    reached = None if offset is None else offset.pruned[live]
    size = norm(task.response(samples.Z, None if offset is None else offset.dense)[live])
    intervals = Intervals.of_response(
        Z,
        scale[live],
        shift,
        task.ceiling,
        None if samples.inputs_exact else own,
        floor=task.floor,
        skip=reached,
        missing=None if offset is None or offset.exact else offset.dense[live] - reached,
    )
    missed = intervals.residual(own * scale[live, None].astype(np.float32))
    error = 0.0 if samples.inputs_exact else norm(missed * intervals.active)
    return Layer(X, intervals, prices, live, size, error)


def _compressed(X: Matrix, Z: Matrix) -> tuple[Matrix, Matrix]:
    """N + 1 columns with the same C, B and ||z|| of each output.

    The last column holds what Z has outside the rows of X: no weights reach it.
    """
    basis, triangle = np.linalg.qr(X.T.astype(np.float64))
    inside = Z @ basis
    outside = np.linalg.norm(Z - inside @ basis.T, axis=1)
    columns = np.hstack([triangle.T, np.zeros((len(X), 1))])
    return columns.astype(np.float32), np.column_stack([inside, outside]).astype(np.float32)


def _weights(task: LayerProblem, layer: Layer, response: SampleResponse, S: Matrix) -> Matrix:
    """The task's U: outputs without influence are zero, their bias stays."""
    U = np.zeros(task.W.shape)
    scale = 1.0 if task.scale is None else task.scale[layer.live]
    U[:, layer.live] = S.astype(np.float64) / response.unit / scale
    if task.has_bias:
        U[-1, ~layer.live] = task.W[-1, ~layer.live]
    return U


def start_rho(response: SampleResponse, layer: Layer) -> float:
    """Scale-free: the same program in other units of X and Y takes the same steps.

    Multipliers of weights are of the size of the prices, weights of the size of the responses;
    RHO is for responses a quarter as large (root mean square) as the largest input.
    """
    size, largest = layer.size / math.sqrt(max(1, layer.prices.size)), response.unit / UNIT
    ratio = float(np.median(layer.prices)) * largest / (4 * size) if size > 0 else 1.0
    return RHO / response.unit**2 * ratio


def _epsilon_for(
    task: LayerProblem, layer: Layer, keep: int, look: Progress | None, *, one_sided: bool
) -> float:
    """The smallest epsilon whose solution has at most ``keep`` weights, by short solves."""
    response = SampleResponse(
        layer.X, layer.intervals, NormBall(layer.size), strict=not one_sided, threads=task.threads
    )
    prices = layer.prices / response.unit
    V, rho = np.zeros((len(layer.X), prices.shape[1]), np.float32), start_rho(response, layer)

    def weights(share: float) -> int:
        nonlocal V
        response.fit = NormBall(share * layer.size)
        S, V, _ = admm(
            response,
            WeightedL1(prices),
            start=V,
            schedule=(rho,) * PROBE_ITERATIONS,
            alpha=ALPHA,
            callback=lambda done, *_: look(done, PROBE_ITERATIONS) if look else None,
        )
        return _count(task, _weights(task, layer, response, S))

    return layer.size * smallest_epsilon(weights, keep, max(1, task.weight_count // 200))
