"""Jobs are pure values: solved elsewhere they give the same weights."""

from __future__ import annotations

import pickle
import weakref
from dataclasses import replace

import numpy as np
import onnx
import pytest

from nettrim_cli import Settings
from nettrim_cli.data.dataset import Batch, Calibration
from nettrim_cli.data.sample_set import SampleSet
from nettrim_cli.errors import WrongUsage
from nettrim_cli.execution.executor import silent
from nettrim_cli.execution.serial import SerialExecutor
from nettrim_cli.graph.model import Model
from nettrim_cli.pruning.context import Context
from nettrim_cli.pruning.layer_job import (
    ErrorBudget,
    LayerJob,
    UnitsBudget,
    ZerosBudget,
    solve_layer,
)
from nettrim_cli.pruning.layerwise import WarmStart, prune_pass
from nettrim_cli.pruning.propagation import layer_problem, propagate, stages
from nettrim_cli.pruning.selection import bits_of, select
from nettrim_cli.report.progress import Silent
from nettrim_cli.settings import METHODS
from nettrim_cli.solve.problem import LayerProblem
from tests.support.effort import thinned
from tests.support.networks import NETWORKS, input_samples, save_data
from tests.support.options import QUICK
from tests.support.small import build, normal


def jobs_of(name: str, method: str) -> list[LayerJob]:
    """A job for each layer of a network, at half of its weights."""
    dense = Model(NETWORKS[name]())
    x = input_samples(dense.proto, 48)
    batches = [(Batch({"x": x[:40]}, 40, None), False), (Batch({"x": x[40:]}, 8, None), True)]
    jobs = []
    for stage in propagate(dense, None, stages(dense.layers), batches, threads=1, seed=0):
        for layer, samples in stage:
            blocks = enumerate(samples)
            problems = [layer_problem(dense, layer, block, number) for number, block in blocks]
            budget = BUDGETS[method](layer)
            known = method if method in METHODS else "l0"
            jobs.append(LayerJob(tuple(problems), budget, (0, layer.parameters), known))
    return jobs


def units(layer):
    """Every second input of each block, at a rank of 2."""
    rows = tuple(np.arange(0, inputs, 2) for inputs, _ in layer.blocks)
    return UnitsBudget(rows, (2,) * len(rows), (1,) * len(rows))


BUDGETS = {
    **dict.fromkeys(METHODS, lambda layer: ErrorBudget(0.3)),
    "l0": lambda layer: ZerosBudget(layer.parameters // 2),
    "units": units,
}


@pytest.mark.parametrize("method", BUDGETS)
@pytest.mark.parametrize("name", thinned(["attention", "mlp", "residual"], 3))
def test_a_job_gives_the_same_weights_after_pickling(name, method) -> None:
    jobs = jobs_of(name, method)
    assert jobs
    for job in jobs:
        here = solve_layer(job)
        sent = pickle.loads(pickle.dumps(job))  # what was factorised of it stays here
        there = pickle.loads(pickle.dumps(solve_layer(sent)))
        for one, other in zip(here.solutions, there.solutions, strict=True):
            assert np.array_equal(one.U, other.U)
            assert (one.status, one.tuned) == (other.status, other.tuned)


@pytest.mark.parametrize("bits", [16, 8, 6, 4, 3])
def test_weights_of_few_bits_are_those_that_were_found_but_for_rounding(bits) -> None:
    for job in jobs_of("attention", "l0"):
        whole, rounded = solve_layer(job), solve_layer(replace(job, bits=bits))
        for problem, one, other in zip(
            job.problems, whole.solutions, rounded.solutions, strict=True
        ):
            first, second = (
                solution.U[:-1] if problem.has_bias else solution.U for solution in (one, other)
            )
            assert not second[first == 0].any()
            size = np.abs(first).max(axis=0, initial=0)
            steps = size / {16: 1000, 8: 30, 6: 8, 4: 1.5, 3: 0.5}[bits]
            assert np.all(np.abs(first - second) <= steps)


def test_inputs_that_go_are_not_read() -> None:
    for job in jobs_of("mlp", "units"):
        (solution,), (problem,) = solve_layer(job).solutions, job.problems
        U = solution.U[: problem.W.shape[0] - problem.has_bias]
        assert not U[1::2].any()
        assert U[::2].any(axis=1).all()
        assert np.linalg.matrix_rank(U, tol=1e-4 * np.abs(U).max()) <= 2


def test_what_was_factorised_does_not_travel() -> None:
    (job,) = jobs_of("mlp", "l0")[:1]
    size = len(pickle.dumps(job))
    solve_layer(job)
    assert len(pickle.dumps(job)) == size


@pytest.mark.parametrize("bounds", [(0, 40), (180, 192), (0, 192)])
def test_bounds_hold_whatever_the_error(bounds) -> None:
    """Where the fewest weights within epsilon are out of bounds, the zeros are the nearest."""
    job = replace(jobs_of("mlp", "l0")[0], budget=ErrorBudget(0.3), bounds=bounds)
    (solution,) = solve_layer(job).solutions
    zeros = np.count_nonzero(solution.U[:-1] == 0)
    assert bounds[0] <= zeros <= bounds[1]
    free = solve_layer(replace(job, bounds=(0, job.problems[0].weight_count))).solutions[0]
    wanted = np.count_nonzero(free.U[:-1] == 0)
    assert zeros == min(max(wanted, bounds[0]), bounds[1])


def test_a_problem_is_free_when_its_layer_is_stored(tmp_path) -> None:
    """Three layers read one tensor, and each problem caches responses of all its columns."""
    dense = Model(NETWORKS["attention"]())
    data = save_data(tmp_path / "calib.h5", dense.proto, 60)
    problems: list[weakref.ref[LayerProblem]] = []
    alive: list[int] = []

    def counted(job: LayerJob) -> LayerJob:
        problems.extend(weakref.ref(problem) for problem in job.problems)
        return job

    class Counting(SerialExecutor):
        def map(self, function, jobs):
            for result in super().map(function, map(counted, jobs)):
                alive.append(sum(problem() is not None for problem in problems))
                yield result

    settings = Settings(**QUICK)
    with Calibration.open(data, dense.inputs) as calibration:
        samples = SampleSet(calibration, np.arange(48), np.arange(48, 60), 16)
        executor = Counting(silent)
        context = Context(dense, dense.layers, settings, samples, 1, Silent(), executor)
        assert max(len(stage.layers) for stage in context.stages) == 3
        zeros = {layer.name: layer.parameters // 2 for layer in dense.layers}
        prune_pass(context, samples, zeros, {}, WarmStart())
    assert alive == [1] * len(dense.layers)


def quantised(*, both: bool) -> onnx.ModelProto:
    """Two products with weights of 8 bits, the second one only if asked for."""
    second = "v = DequantizeLinear(q2, s, z)" if both else "v = Identity(w2)"
    tensors = {"q2": normal(24, 4, seed=2)} if both else {"w2": normal(24, 4, seed=2)}
    integers = {
        name: np.rint(40 * values).clip(-127, 127).astype(np.int8)
        for name, values in {"q1": normal(16, 24, seed=1), **tensors}.items()
        if name.startswith("q")
    }
    reals = {name: values for name, values in tensors.items() if name.startswith("w")}
    text = f"""g (float[N,16] x) => (float[N,4] y) {{
        u = DequantizeLinear(q1, s, z)
        a = MatMul(x, u)
        h = Relu(a)
        {second}
        y = MatMul(h, v)
    }}"""
    scale, zero = np.array(0.01, np.float32), np.array(0, np.int8)
    return build(text, s=scale, z=zero, **integers, **reals)


def test_integers_keep_their_own_bits() -> None:
    model = Model(quantised(both=False))
    settings = Settings(sparsity=0.5, bits=4)
    chosen, _ = select(model, settings)
    assert [bits_of(layer, settings) for layer in chosen] == [None, 4]
    with pytest.raises(WrongUsage, match="--bits 4 has no meaning"):
        select(Model(quantised(both=True)), settings)
