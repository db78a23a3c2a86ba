"""Widths by what they cost: against all combinations, and at the ends."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from nettrim_cli.graph.channels.units import UnitColumns, UnitGroup, UnitRows
from nettrim_cli.pruning.shrinking.allocation import SLOWER, WidthProblem
from nettrim_cli.pruning.shrinking.measurement import (
    RankCurve,
    Sensitivity,
    ShrinkingCosts,
    UnitCurve,
)
from nettrim_cli.pruning.shrinking.widths import BlockShape, candidate_widths, stored_weights
from nettrim_cli.pruning.shrinking.work import Products

UNITS = 6


class Odd:
    """Odd numbers of rows and columns take twice the time each."""

    def of(self, block, rows, columns, rank):
        odd = [1 + np.asarray(size) % 2 for size in (rows, columns)]
        return stored_weights(rows, columns, rank) / 84 * odd[0] * odd[1]


def costs_of(seed, work=None):
    """A chain of three layers of 5 x 6, 6 x 6 and 6 x 3 with random curves."""
    random = np.random.default_rng(seed)
    costs = ShrinkingCosts()
    for first, second in (("a", "b"), ("b", "c")):
        group = UnitGroup(
            first,
            UNITS,
            (UnitColumns(first, 0, np.arange(UNITS)[:, None]),),
            (UnitRows(second, 0, np.arange(UNITS)[:, None]),),
        )
        curve = np.append(0, np.cumsum(np.sort(random.exponential(size=UNITS))))[::-1]
        costs.units[first] = UnitCurve(group, random.permutation(UNITS), curve, curve)
    for name, shape in (("a", (5, 6)), ("b", (6, 6)), ("c", (6, 3))):
        Y = random.normal(size=shape) * np.geomspace(1, 0.1, shape[1])
        sensitivity = Sensitivity(np.array([1.0]), np.array([random.random()]))
        costs.ranks[name, 0] = RankCurve(Y.astype(np.float32), None, np.zeros(7), sensitivity)
        costs.columns[name, 0] = 10
    shapes = {
        ("a", 0): BlockShape(5, 6, {}, {"a": 1}),
        ("b", 0): BlockShape(6, 6, {"a": 1}, {"b": 1}),
        ("c", 0): BlockShape(6, 3, {"b": 1}, {}),
    }
    work = work or Products.of_blocks(shapes, costs.columns)
    return WidthProblem(costs, shapes, dict.fromkeys("abc", 1), work)


def combinations(problem):
    """Errors, sizes and times of all combinations of widths, with an axis for each width."""
    choices, units = problem.choices, problem.costs.units
    grid = np.meshgrid(*(choice.values for choice in choices.values()), indexing="ij")
    state = dict(zip(choices, grid, strict=True))
    errors = sum(curve.costs[state[name]] for name, curve in units.items())
    sizes = times = 0
    for block, shape in problem.shapes.items():
        name, ranks = block[0], state[block]
        widths = state.get(name, np.array(shape.columns))
        for width in np.unique(widths):
            stay = units[name].kept(width) if name in units else slice(None)
            curve = problem.costs.ranks[block].costs(stay)
            errors = errors + (widths == width) * curve[np.minimum(ranks, len(curve) - 1)]
        form = *shape.remaining({group: state[group] for group in units}, problem.totals), ranks
        sizes = sizes + stored_weights(*form)
        times = times + problem.shares.of(block, *form)
    return errors, sizes, times


def chosen(problem, widths):
    """Place of some widths among all combinations."""
    state = {**widths.units, **widths.ranks}  # other ranks are the dense ones
    return tuple(
        choice.values.tolist().index(state.get(name, choice.values[-1]))
        for name, choice in problem.choices.items()
    )


def test_widths_are_near_the_best_of_all_combinations() -> None:
    """One width is changed at a time, at whole prices: not the best, and never far from it."""
    total, ratios = 5 * 6 + 6 * 6 + 6 * 3, []
    for seed, share in itertools.product(range(8), (0.3, 0.5, 0.8)):
        problem = costs_of(seed)
        widths = problem.solve(int(share * total))
        errors, sizes, _ = combinations(problem)
        at = chosen(problem, widths)
        assert problem.size_of(widths) == sizes[at] <= share * total
        assert problem.error_of(widths) == pytest.approx(errors[at], rel=1e-12)
        ratios.append(errors[at] / errors[sizes <= share * total].min())
    assert max(ratios) <= 2.5  # of a handful of widths, a step is a lot
    assert np.mean(ratios) <= 1.3


@pytest.mark.parametrize("work", [None, Odd()])
def test_time_is_spent_nearly_as_well_as_by_all_combinations(work) -> None:
    ratios = []
    for seed, share in itertools.product(range(4), (0.3, 0.6)):
        problem = costs_of(seed, work)
        dense = problem.time({})
        widths = problem.in_time(share * dense)
        errors, _, times = combinations(problem)
        at = chosen(problem, widths)
        assert times[-1, -1, -1, -1, -1] == pytest.approx(dense, rel=1e-12)
        assert problem.time_of(widths) == pytest.approx(times[at], rel=1e-12)
        assert problem.time_of(widths) <= share * dense
        assert problem.error_of(widths) == pytest.approx(errors[at], rel=1e-12)
        ratios.append(errors[at] / errors[times <= share * dense].min())
    assert np.median(ratios) <= 1.3  # one width is changed at a time: now and then far off


def test_no_width_is_chosen_that_takes_longer_than_a_larger_one() -> None:
    for seed, share in itertools.product(range(3), (0.3, 0.6)):
        problem = costs_of(seed, Odd())
        widths = problem.solve(int(share * 84))
        state = {**widths.units, **{block: widths.ranks.get(block, 6) for block in problem.shapes}}
        for name in widths.units:
            times = [
                problem.time({**state, name: int(value)})
                for value in problem.choices[name].values
                if value >= state[name]
            ]
            assert times[0] <= (1 + SLOWER) * min(times)


def test_nothing_goes_where_all_may_stay() -> None:
    problem = costs_of(0)
    widths = problem.solve(10**6)
    assert dict(widths.units) == {"a": UNITS, "b": UNITS}
    assert not widths.ranks
    assert problem.error_of(widths) == 0


def test_the_errors_that_are_asked_for_bound_each_layer() -> None:
    problem = costs_of(1)
    for epsilon in (0.5, 1.0, 2.0):
        widths = problem.within(epsilon)
        for name, count in widths.units.items():
            curve = problem.costs.units[name]
            assert curve.relative[count] <= epsilon**2 / 2
            narrower = [value for value in problem.choices[name].values if value < count]
            assert all(curve.relative[value] > epsilon**2 / 2 for value in narrower)


@pytest.mark.parametrize("multiple", [1, 4, 16])
@pytest.mark.parametrize("most", [1, 2, 15, 16, 64, 300, 3072])
def test_candidate_widths(most, multiple) -> None:
    widths = candidate_widths(most, multiple)
    assert widths[0] == 1
    assert widths[-1] == most
    assert (np.diff(widths) > 0).all()
    assert all(width % multiple == 0 for width in widths[:-1] if width > max(8, multiple))
    assert len(widths) <= 50


def test_the_units_that_stay_are_the_last_to_be_removed() -> None:
    problem = costs_of(3)
    curve = problem.costs.units["a"]
    assert list(curve.kept(2)) == sorted(curve.order[-2:])
    assert len(curve.kept(UNITS)) == UNITS
