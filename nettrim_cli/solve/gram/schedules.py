"""Schedules of rho, the penalty of ADMM.

Each rho of a schedule costs an inverse and each iteration a product.  So a schedule has few values
of rho with several iterations each; small layers get more, as they cost next to nothing.
benchmarks/layers.py and benchmarks/gram.py measure the choices.
"""

from __future__ import annotations

import math

RHO_LEVELS = (0.02, 0.05, 0.12, 0.25, 0.5, 1.2)
TALL_RHO_LEVELS = (0.05, 0.25, 1.2)  # for layers whose inverses cost more than iterations
PATH_RHO = 0.5  # of paths, where the count falls instead of rho growing
ITERATIONS = 60
SEARCH_ITERATIONS = 30  # while the count is searched for
MAX_FACTOR = 4  # times these iterations for a small layer
SMALL = 1e8  # multiplications of a product, above which a layer gets no more iterations


def rho_schedule(iterations: int, inputs: int, outputs: int) -> tuple[float, ...]:
    """Rho of each iteration, as many for each level; a small layer gets more iterations."""
    size = float(inputs) ** 2 * max(1, outputs)
    levels = TALL_RHO_LEVELS if size > SMALL and inputs >= 4 * outputs else RHO_LEVELS
    factor = min(MAX_FACTOR, max(1.0, math.sqrt(SMALL / max(1.0, size))))
    return tuple(rho for rho in levels for _ in range(round(iterations * factor / len(levels))))
