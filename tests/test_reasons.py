"""Reasons why layers are not pruned as asked: every code is made somewhere, and documented."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nettrim_cli.data.layer_samples import CHANGING
from nettrim_cli.graph.model import Model
from nettrim_cli.pipeline import prune
from nettrim_cli.pruning import curve_job
from nettrim_cli.pruning.layer_reports import joined
from nettrim_cli.pruning.selection import select
from nettrim_cli.reasons import CODES, NO_REASON, Reason
from nettrim_cli.settings import Settings
from nettrim_cli.solve.convex import net_trim
from nettrim_cli.solve.convex.net_trim import solve_net_trim
from nettrim_cli.solve.convex.program import solve
from nettrim_cli.solve.gram.l0 import solve_l0
from nettrim_cli.solve.methods import METHODS
from nettrim_cli.solve.problem import LayerProblem, Limits, Solution, Status
from tests.support.networks import mlp, save_data, save_model
from tests.support.options import PLAIN
from tests.support.small import build, normal
from tests.support.small_layers import make_task, random_task

ROOT = Path(__file__).parents[1]
W = normal(2, 2)
REFUSED = {  # nodes and tensors of networks with a layer that the graph refuses
    "unsupported": ("y = Gemm<alpha = 0.0>(x, w)", {"w": W}),
    "not-constant": ("y = Gemm(x, w, x)", {"w": W}),
    "computed-weight": ("v = Mul(w, w) y = MatMul(x, v)", {"w": W}),
    "constant-input": ("c = MatMul(w, w) y = Add(c, x)", {"w": W}),
    "shared-weight": ("v = Mul(w, x) y = MatMul(v, w)", {"w": W}),
    "element-type": ("y = MatMul(x, w)", {"w": W.astype(int)}),
    "empty": ("y = MatMul(x, w)", {"w": W[:, :0]}),
    "weights-not-finite": ("y = MatMul(x, w)", {"w": W * np.nan}),
}


def test_a_code_that_is_not_in_the_list_is_a_defect() -> None:
    for code, text in (("nosuch", "text"), ("", "text"), ("excluded", "")):
        with pytest.raises(ValueError, match="code of a reason"):
            Reason(code, text)


def test_a_reason_is_true_and_reads_as_its_text() -> None:
    assert Reason("excluded", "matched by --exclude")
    assert str(Reason("excluded", "matched by --exclude")) == "matched by --exclude"
    assert not NO_REASON
    assert str(NO_REASON) == ""


def test_every_code_is_documented_and_no_other() -> None:
    text = (ROOT / "docs" / "usage.md").read_text("utf-8")
    part = text.split("## What is not pruned")[1].split("\n## ")[0]
    assert tuple(re.findall(r"^\| `([a-z-]+)` \|", part, re.MULTILINE)) == CODES


def written_codes() -> Iterator[str]:
    """Codes that stand in the package, in calls that take one."""
    for path in (ROOT / "nettrim_cli").rglob("*.py"):
        text = path.read_text("utf-8")
        if not re.search(r"Reason\(|Unsupported\(|reason=", text):
            continue
        for node in ast.walk(ast.parse(text)):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
                continue
            arguments = {"Reason": node.args[:1], "Unsupported": node.args[1:]}
            codes = arguments.get(node.func.id, [])
            codes += [each.value for each in node.keywords if each.arg == "reason"]
            yield from (each.value for each in codes if isinstance(each, ast.Constant))


def test_every_code_that_is_written_is_in_the_list() -> None:
    assert set(written_codes()) | {"unsupported"} == set(CODES)


@pytest.mark.parametrize("code", REFUSED)
def test_what_the_graph_refuses(code) -> None:
    nodes, tensors = REFUSED[code]
    proto = build(f"g (float[n,2] x) => (float[n,m] y) {{ {nodes} }}", **tensors)
    assert Model(proto).layers[0].refusal.code == code


LEFT_OUT = {"not-included": {"include": "q"}, "excluded": {"exclude": "p"}, "depthwise": {}}


@pytest.mark.parametrize("code", LEFT_OUT)
def test_what_the_settings_leave_out(code) -> None:
    text = """g (float[n,2,3,3] x) => (float[n,4] y)
    { [p] p = Conv<group = 2>(x, k) f = Flatten(p) [q] y = MatMul(f, w) }"""
    model = Model(build(text, k=normal(2, 1, 3, 3), w=normal(2, 4)))
    settings = {name: (pattern,) for name, pattern in LEFT_OUT[code].items()}
    (chosen,), (left,) = select(model, Settings(sparsity=0.5, **settings))
    assert (chosen.name, left.name, left.reason) == ("q", "p", code)
    assert left.note


def unusable() -> dict[str, LayerProblem]:
    """Problems whose samples no solver can use."""
    problem = random_task(0, epsilon=0.1)
    samples = problem.samples
    changes = {
        "unreached": {"X": samples.X[:, :0]},
        "signals-not-finite": {"C": samples.C * np.inf},
        "changing-shapes": {"incomplete_reason": CHANGING},
    }
    return {
        code: replace(problem, samples=replace(samples, **change))
        for code, change in changes.items()
    }


@pytest.mark.parametrize("method", ["l0", "net-trim"])
@pytest.mark.parametrize("code", unusable())
def test_what_the_samples_do_not_tell(code, method) -> None:
    found = METHODS[method](unusable()[code], None)
    assert (found.status, found.reason) == (Status.DENSE, code)
    assert found.note == unusable()[code].samples.unusable_reason.text


def impossible(**options) -> LayerProblem:
    """An input that is always 1 and has to give 1 and at most 0."""
    x = np.array([[1, 1, 1, -1, -1, -1]])
    problem = make_task(x, np.ones((1, 1)), pruned=abs(x), relu=True, **options)
    return replace(problem, samples=replace(problem.samples, inputs_exact=True))


UNSOLVED = {
    "infeasible": (impossible(epsilon=0.1), Status.INFEASIBLE),
    "limit": (random_task(6, relu=True, epsilon=0.1, limits=Limits(iterations=3)), Status.DENSE),
    "more-weights": (
        random_task(6, relu=True, keep=1, cascade=True, bias=False),
        Status.INACCURATE,
    ),
}


@pytest.mark.parametrize("code", UNSOLVED)
def test_what_the_convex_solver_does_not_reach(code) -> None:
    problem, status = UNSOLVED[code]
    found = solve_net_trim(problem)
    assert (found.status, found.reason) == (status, code)
    assert found.note
    assert np.array_equal(found.U, problem.W) == status.leaves_dense


def test_a_solver_that_leaves_the_range_of_numbers(monkeypatch) -> None:
    def leaves(*arguments, **options):
        return replace(solve(*arguments, **options), status=Status.NOT_FINITE)

    monkeypatch.setattr(net_trim, "solve", leaves)
    found = solve_net_trim(random_task(6, relu=True, epsilon=0.1))
    assert (found.status, found.reason) == (Status.NOT_FINITE, "solver-not-finite")


def test_weights_that_are_not_sparser_within_epsilon() -> None:
    assert solve_l0(random_task(0, epsilon=0.0)).reason == "not-sparser"


def test_errors_that_are_no_numbers() -> None:
    x, weights = np.ones((3, 5)), np.ones((3, 2))
    problem = make_task(-x, weights, pruned=x, relu=True, shift=np.ones(2), keep=0)
    assert solve_l0(problem).reason == "errors-not-finite"


def fails(problem, *_):
    raise np.linalg.LinAlgError("no finite inverse")


def overflows(problem, *_):
    return Solution(np.full(problem.W.shape, 1e300), Status.SOLVED)


@pytest.mark.parametrize(
    ("code", "place", "original", "other", "target"),
    [
        ("not-solved", METHODS, solve_l0, fails, {"epsilon": 0.1}),
        ("out-of-range", METHODS, solve_l0, overflows, {"epsilon": 0.1}),
        ("not-measured", vars(curve_job), curve_job.error_curve, fails, {"sparsity": 0.6}),
    ],
)
def test_what_fails_on_one_layer(
    code, place, original, other, target, tmp_path, monkeypatch
) -> None:
    def sometimes(problem, *arguments):
        last = problem.W.shape[1] == 4
        return other(problem) if last else original(problem, *arguments)

    monkeypatch.setitem(place, "l0" if place is METHODS else "error_curve", sometimes)
    model = save_model(tmp_path / "model.onnx", mlp())
    data = save_data(tmp_path / "calib.h5", mlp(), 150)
    layers = prune(model, data, settings=Settings(**target, **PLAIN)).layers
    assert [layer.reason for layer in layers] == ["", "", code]
    assert [layer.pruned for layer in layers] == [True, True, False]
    assert layers[-1].note


def test_a_block_that_stays_dense_gives_its_reason_to_the_layer() -> None:
    problem = random_task(0)
    solved = Solution(problem.W, Status.SOLVED, note="repairs 50%")
    dense = Solution.dense(problem, Reason("not-sparser", "no sparser weights within epsilon"))
    found = joined([solved, dense])
    assert found.note == "1 of 2 blocks stay dense: no sparser weights within epsilon"
    assert (found.status, found.reason) == (Status.SOLVED, "not-sparser")
    assert joined([dense, dense]).note == dense.note
    assert joined([solved, solved]).reason == ""
