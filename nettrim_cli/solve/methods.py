"""The methods by name; a method solves one layer's problem."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from nettrim_cli.solve.admm import Progress
from nettrim_cli.solve.convex.variants import solve_convex
from nettrim_cli.solve.gram.l0 import solve_l0
from nettrim_cli.solve.problem import LayerProblem, Solution

METHODS: dict[str, Callable[[LayerProblem, Progress | None], Solution]] = {
    "l0": solve_l0,
    "net-trim": solve_convex,
    "one-sided": partial(solve_convex, one_sided=True),
    "reweighted": partial(solve_convex, one_sided=True, rounds=4),
}
