"""Random degenerate layers, and an independent judgement of what a solver made of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from nettrim_cli.solve.convex.sample_space import EXACT
from nettrim_cli.solve.problem import TOLERANCE, Status
from tests.support.conic import Program, optimum
from tests.support.small_layers import correlated, make_task, support_size

SINGLE = float(np.finfo(np.float32).eps)


def pick(random, *choices):
    """One of the choices; the first twice as often as each other."""
    return choices[max(0, int(random.integers(-1, len(choices))))]


def odd_inputs(random, inputs, columns):
    """(N, P) inputs with up to three things wrong with them, in any unit."""
    x = correlated(random, inputs, columns, rank=int(random.integers(1, inputs + 1)))
    for _ in range(int(random.integers(0, 4))):
        some = random.random(inputs) < 0.3
        fault = random.integers(0, 9)
        if fault == 0:
            x[some] = 0  # dead
        elif fault == 1:
            x[some] = x[random.integers(0, inputs)]  # duplicated
        elif fault == 2:
            x[some] = x[0] * (1 + 1e-6 * random.normal(size=columns))  # nearly
        elif fault == 3:
            x[some] = float(random.normal())  # constant
        elif fault == 4:
            x *= 10.0 ** random.uniform(-4, 4, (inputs, 1))
        elif fault == 5:
            x[:, random.random(columns) < 0.5] = 0
        elif fault == 6:
            x = x[:, :1] @ np.ones((1, columns))  # one sample over and over
        elif fault == 7:
            x = x - x.mean()
        elif random.random() < 0.2:
            x[:] = 0
    return x * 10.0 ** pick(random, 0, 0, -8, -3, 3, 8)


def odd_weights(random, inputs, outputs):
    """(N, M) weights in float16, 32 or 64, with dead neurons."""
    W = random.normal(size=(inputs, outputs)) * 10.0 ** pick(random, 0, 0, -8, -2, 2, 8)
    W[:, random.random(outputs) < 0.1] *= 0
    W[:, random.random(outputs) < 0.1] *= 1e-6
    negative = random.random(outputs) < 0.1
    W[:, negative] = -np.abs(W[:, negative])  # never active after a ReLU
    if random.random() < 0.05:
        W[:] = 0
    return W.astype(np.float16 if np.abs(W).max() < 6e4 and random.random() < 0.3 else np.float32)


def odd_layer(seed):
    """A task, degenerate in several ways at once."""
    random = np.random.default_rng([3, seed])
    inputs, outputs, columns = (int(random.integers(1, most)) for most in (16, 7, 50))
    inputs, outputs = pick(random, inputs, inputs, inputs, 1), pick(random, outputs, outputs, 1)
    columns = pick(random, columns, columns, columns, 1, 2, max(1, inputs // 2))
    x, W = odd_inputs(random, inputs, columns), odd_weights(random, inputs, outputs)
    size = float(np.abs(W.astype(float).T @ x).max())
    bias = size * random.normal(size=outputs) * 10.0 ** pick(random, 0, 0, -6, 4, 7)
    bias = pick(random, None, bias, bias)
    if bias is not None and W.dtype == np.float16:
        bias = np.clip(bias, -6e4, 6e4).astype(np.float16)
    held = pick(random, None, x[:, : columns // 3] * 1.1, x)
    change = pick(random, None, None, None, 0.8 + 0.4 * random.random((inputs, 1)))
    reached = None if change is None else x * change
    holdout_reached = None if change is None or held is None else held * change
    options = {"relu": bool(random.random() < 0.6), "gamma": pick(random, 1.05, 1.0, 3.0)}
    if random.random() < 0.3:
        options["scale"] = random.normal(size=outputs) * pick(random, 1, 1e-3, 1e3)
        options["scale"] *= random.random(outputs) < 0.8
        options["shift"] = size * random.normal(size=outputs)
    if random.random() < 0.25 and size > 0:
        options["ceiling"] = size * pick(random, 0.5, 1e-3, 10)
    total = inputs * outputs
    keep = pick(random, int(random.integers(0, total + 1)), 0, 1, total - 1, total)
    epsilon = pick(random, 0.05, 0.05, 0.3, 1e-3, 1.0, 5.0, 1e6, 0.0, 1e-7)
    options |= pick(random, {"epsilon": epsilon}, {"keep": keep})
    return make_task(
        x, W, bias=bias, holdout=held, pruned=reached, holdout_pruned=holdout_reached, **options
    )


@dataclass(frozen=True)
class Judgement:
    """What is wrong with a solution (nothing: empty), and whether optimality could be judged."""

    wrong: list[str]
    conclusive: bool = True


def error_of(task, U, X, Z):
    """Relative response error in float64, and how much of it rounding to float32 explains."""
    scale = np.ones(len(Z)) if task.scale is None else np.asarray(task.scale, float)
    shift = np.zeros(len(Z)) if task.shift is None else np.asarray(task.shift, float)
    X, Z, U = X[task.rows].astype(float), Z.astype(float), U.astype(float)

    def respond(each):
        A = scale[:, None] * each + shift[:, None]
        return np.clip(A, 0, task.ceiling) if task.relu else A

    Y, terms = respond(Z), np.abs(scale)[:, None] * (np.abs(U).T @ np.abs(X))
    terms += np.abs(scale[:, None] * Z) + np.abs(shift)[:, None]
    top, size = np.linalg.norm(respond(U.T @ X) - Y), np.linalg.norm(Y)
    if size == 0:
        return (np.inf, np.inf) if top > 0 else (0.0, 0.0)
    return top / size, 4 * SINGLE * np.linalg.norm(terms) / size


def judge(task, found, method):
    """Judge a solution by what every solution promises, and by what its method does."""
    U, wrong = found.U, []
    if U.shape != task.W.shape:
        return Judgement([f"shape {U.shape}"])
    if not np.isfinite(U).all():
        return Judgement(["not finite"])
    if found.status.leaves_dense:
        if not (np.array_equal(U, task.W) and found.note):
            wrong.append("dense, but other weights or no reason")
        if method == "l0" and task.epsilon is not None and zeros_do(task):
            wrong.append("dense, but zeros are within epsilon")
        if found.status is Status.INFEASIBLE and own_violation(task, method) == 0:
            wrong.append("said to be infeasible, but the dense weights are feasible")
        return Judgement(wrong)
    said = found.note and found.status is not Status.SOLVED
    if task.keep is not None and support_size(task, U) > task.keep and not said:
        wrong.append(f"{support_size(task, U)} weights, {task.keep} asked for")
    dead = ~task.samples.X[:-1].any(axis=1)
    weights = U[:-1] if task.has_bias else U
    if weights[dead].any() and not np.array_equal(U, task.W):
        wrong.append("dead inputs have weights")
    if method in ("net-trim", "one-sided"):  # of the others no norm is least
        judgement = judge_program(task, found, one_sided=method == "one-sided")
        return replace(judgement, wrong=wrong + judgement.wrong)
    return Judgement(wrong + (judge_errors(task, U) if method == "l0" else []))


def own_violation(task, method):
    """How far the dense weights are outside the program's set, but for rounding to float32."""
    live = slice(None) if task.scale is None else np.asarray(task.scale) != 0
    program = Program.of(
        task, one_sided=method == "one-sided", epsilon=None if task.keep is None else 0.0
    )
    W = task.W[:, live].astype(float)
    terms = np.abs(program.scale)[:, None] * (np.abs(W).T @ np.abs(program.X))
    return max(0.0, program.violation(W) - 4 * SINGLE * np.linalg.norm(terms))


def zeros_do(task):
    """Whether weights of zero with the dense bias are within epsilon, and sparser than W."""
    U = np.zeros(task.W.shape)
    if task.has_bias:
        U[-1] = task.W[-1]
    strict = [sum(error_of(task, U, *each)) <= task.epsilon for each in data(task).values()]
    return all(strict) and support_size(task, task.W) > 0


def data(task):
    """X and Z by name, of the sets that have any columns."""
    samples = task.samples
    sets = {
        "calibration": (samples.X, samples.Z),
        "held-out": (samples.holdout_X, samples.holdout_Z),
    }
    return {name: each for name, each in sets.items() if each[0].shape[1]}


def judge_errors(task, U):
    """Judge the default method's claim: both errors within epsilon, beside what arrived."""
    sets, wrong = data(task), []
    if task.epsilon is None:
        return wrong
    arrived, _ = error_of(task, task.W, *list(sets.values())[-1])
    allowed = task.epsilon if task.samples.inputs_exact else np.hypot(task.epsilon, arrived)
    for name, each in sets.items():
        error, slack = error_of(task, U, *each)
        if error > allowed * (1 + 1e-5) + slack:
            wrong.append(f"{name} error {error:.3g}, {allowed:.3g} allowed")
    return wrong


def judge_program(task, found, *, one_sided):
    """Judge the convex methods: violation from its definition, gap against the conic solver.

    For a count of weights epsilon is what these weights make of it: then the violation, which is
    relative to an epsilon of at most ||Y||, is the part off Omega, and the optimum for any larger
    epsilon is no larger.
    """
    if found.gap is None or found.violation is None:
        return Judgement([])
    wrong, live = [], slice(None) if task.scale is None else np.asarray(task.scale) != 0
    if found.status is Status.SOLVED and max(found.gap, found.violation) > TOLERANCE:
        wrong.append(f"solved with gap {found.gap:.2g}, violation {found.violation:.2g}")
    U = found.U[:, live].astype(float)
    program = Program.of(task, one_sided=one_sided, epsilon=0.0)
    ends = np.where(np.isfinite(program.lower), program.lower, program.upper)
    terms = np.abs(program.scale)[:, None] * (np.abs(U).T @ np.abs(program.X)) + np.abs(ends)
    slack, shared = (8 * SINGLE * np.linalg.norm(each) for each in (terms, terms[program.shared]))
    if task.keep is None:
        program = Program.of(task, one_sided=one_sided)
        points = np.linalg.norm(ends[program.lower == program.upper])
        most = max(program.epsilon, EXACT * points, 1e-30)
        T = program.results(U)
        error = np.linalg.norm(T - np.clip(T, program.lower, program.upper))
        told = program.epsilon >= EXACT * points
        if told and error > program.epsilon * (1 + 1e-5) + slack:
            wrong.append(f"outside of epsilon: {error / program.epsilon:.6f} of it")
        if not task.samples.inputs_exact and program.epsilon <= shared:
            return Judgement(wrong, conclusive=False)  # W's own error is but rounding
    else:
        R = program.results(U) - np.clip(program.results(U), program.lower, program.upper)
        made = float(np.linalg.norm(R[program.shared])) / (1 + found.violation)
        program = replace(program, epsilon=made)
        most = max(np.linalg.norm(task.response(task.samples.Z)[live].astype(float)), 1e-30)
    violation = program.violation(U)
    if violation > (1.01 if task.keep is None else 2) * found.violation * most + slack:
        wrong.append(f"violation {violation:.3g} of {most:.3g}, said to be {found.violation:.3g}")
    value = float(np.abs(U).sum())
    if found.status is not Status.SOLVED or value == 0:
        return Judgement(wrong)
    # all that rounding explains is granted: the optimum of the smaller set
    best = optimum(replace(program, epsilon=max(0.0, program.epsilon - shared)))
    if abs(best.value - best.bound) > 1e-3 * best.value:
        return Judgement(wrong, conclusive=False)
    if value * (1 - TOLERANCE) > best.value * 1.002:
        wrong.append(f"l1 norm {value:.5g}, optimum {best.value:.5g} to {best.bound:.5g}")
    return Judgement(wrong)
