"""Refits on fixed supports: a factorisation for each neuron against conjugate gradients for all.

What ``solve.gram.refit`` chooses by: seconds of both over a range of shapes and densities,
and how far conjugate gradients are from the exact weights.
"""

from __future__ import annotations

import time

import numpy as np

from benchmarks.common import arguments, blas_threads, machine, print_table, write_json
from nettrim_cli.solve.gram.refit import refit_exactly, refit_iteratively

SHAPES = ((300, 1000), (785, 300), (1536, 384), (4608, 512))
KEPT = (0.05, 0.1, 0.3, 0.5)


def main() -> None:
    """Run it."""
    parser = arguments(__doc__)
    parser.add_argument("--steps", type=int, default=20, help="of conjugate gradients")
    options = parser.parse_args()
    print(machine(options.threads))
    cells = []
    with blas_threads(options.threads):
        for inputs, outputs in SHAPES:
            cells += [measure(inputs, outputs, kept, options.steps) for kept in KEPT]
    headers = ["inputs", "outputs", "kept", "exact s", "CG s", "exact / CG", "CG's distance"]
    print_table(headers, [list(each.values()) for each in cells])
    write_json(options.json, cells)


def measure(inputs: int, outputs: int, kept: float, steps: int) -> dict[str, float]:
    """Both on correlated inputs (64 common causes) and random supports."""
    random = np.random.default_rng(0)
    causes = random.standard_normal((inputs, 64), np.float32)
    A = causes @ causes.T / 64 + np.float32(0.05) * np.eye(inputs, dtype=np.float32)
    size = np.sqrt(np.diag(A))
    A /= np.outer(size, size)
    rhs = A @ random.standard_normal((inputs, outputs), np.float32)
    support = random.random(rhs.shape) < kept
    begun = time.perf_counter()
    exact = refit_exactly(A, rhs, support, np.zeros_like(rhs))
    between = time.perf_counter()
    near = refit_iteratively(A.__matmul__, rhs, support, np.zeros_like(rhs), steps)
    ended = time.perf_counter()
    return {
        "inputs": inputs,
        "outputs": outputs,
        "kept": kept,
        "exact": between - begun,
        "iterative": ended - between,
        "ratio": (between - begun) / (ended - between),
        "distance": float(np.linalg.norm(near - exact) / np.linalg.norm(exact)),
    }


if __name__ == "__main__":
    main()
