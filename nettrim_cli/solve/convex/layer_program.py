"""A layer's problem as the data of a convex program, in units that a solver can work in."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from nettrim_cli.solve.matrices import Matrix, norm
from nettrim_cli.solve.problem import LayerProblem
from nettrim_cli.solve.responses import Intervals

SMALL = 1 / 3  # root mean square of an input, relative to that of all, below which it is scaled
CHEAPEST = 1e-4  # price of a weight for the size of its input, relative to the median's


@dataclass(frozen=True)
class LayerProgram:
    """A layer's problem as a program: live outputs only, in units of the response.

    Attributes
    ----------
    X
        (N, P) inputs, each divided by its ``row_scale`` (N, 1).
    intervals
        (M', P) response set.
    prices
        (N, M') of the weights of these inputs.
    live
        (M,) outputs whose scale is not 0; the others do not depend on the weights.
    size
        ||Y||_F of the live outputs, to which a relative epsilon refers.
    dense_error
        Frobenius error that W makes on the shared entries.
    """

    X: Matrix
    intervals: Intervals
    prices: Matrix
    row_scale: Matrix
    live: Matrix
    size: float
    dense_error: float

    @classmethod
    def of(
        cls,
        X: Matrix,
        intervals: Intervals,
        prices: Matrix,
        live: Matrix,
        size: float,
        dense_error: float,
    ) -> LayerProgram:
        """The program with inputs that are not much smaller than the others.

        A bias of ones beside inputs of a millionth would leave these no say in the steps of ADMM.
        Prices go along, so the program is the same, but for weights that cost next to nothing:
        these cost ``CHEAPEST``, at which the objective changes by less than the tolerance.

        Parameters
        ----------
        X
            (N, P) inputs.
        prices
            (1, M') of their weights.
        intervals, live, size, dense_error
            As for the class.
        """
        sizes = np.sqrt(np.einsum("ij,ij->i", X, X, dtype=np.float64) / max(1, X.shape[1]))
        small = SMALL * math.sqrt(float(np.square(sizes).mean())) if len(X) else 0.0
        inside = (sizes > 0) & (sizes < small)
        scale = np.where(inside, sizes / (small or 1.0), 1.0)[:, None]
        costs = np.divide(1, sizes, out=np.full(len(X), math.nan), where=sizes > 0)
        median = float(np.nanmedian(costs)) if np.isfinite(costs).any() else 0.0
        least = CHEAPEST * median * sizes[:, None]  # for a weight of the input as it was
        row_prices = np.maximum(np.broadcast_to(prices, (len(X), prices.shape[1])), least * prices)
        X = np.asarray(X / scale, np.float32)
        return cls(X, intervals, row_prices / scale, scale, live, size, dense_error)


def as_program(problem: LayerProblem) -> LayerProgram:
    """The problem's sampled columns as data of a program; a linear layer's in Gram space.

    A linear response needs ``C = X X' = L L'`` and ``B = X Z'`` only: with L in place of X and
    ``(L^-1 B)'`` in place of Z, N + 1 columns stand for all P.  The last one holds what Z has
    outside the rows of X.
    """
    samples, outputs = problem.samples, problem.W.shape[1]
    scale = np.ones(outputs) if problem.scale is None else problem.scale.astype(np.float64)
    live = scale != 0
    X, W = samples.X[problem.rows], problem.W[:, live].astype(np.float32)
    Z: Matrix = samples.Z[live]
    prices = (1 / np.abs(scale[live]))[None]
    connection = samples.skip
    own_results: Matrix = W.T @ X
    if not problem.relu:
        size = norm(problem.pre_activation(samples.Z)[live])
        Z, own_results = Z * scale[live, None], own_results * scale[live, None]
        error = 0.0 if samples.inputs_exact else norm(own_results - Z)
        if X.shape[1] > len(X):
            X, Z = compressed(X, Z)
        return LayerProgram.of(X, Intervals.of_points(Z), prices, live, size, error)
    shift = None if problem.shift is None else problem.shift[live]
    skip = None if connection is None else connection.pruned[live]
    size = norm(problem.response(samples.Z, None if connection is None else connection.dense)[live])
    intervals = Intervals.of_response(
        Z,
        scale[live],
        shift,
        (problem.floor, problem.ceiling),
        None if samples.inputs_exact else own_results,
        skip=skip,
        missing=None if connection is None or connection.exact else connection.dense[live] - skip,
    )
    missed = intervals.residual(own_results * scale[live, None].astype(np.float32))
    error = 0.0 if samples.inputs_exact else norm(missed * intervals.active)
    return LayerProgram.of(X, intervals, prices, live, size, error)


def compressed(X: Matrix, Z: Matrix) -> tuple[Matrix, Matrix]:
    """N + 1 columns with the same C, B and ||z|| of each output as X (N, P) and Z (M, P).

    The last column holds what Z has outside the rows of X: no weights reach it.
    """
    basis, triangle = np.linalg.qr(X.T.astype(np.float64))
    inside = Z @ basis
    outside = np.linalg.norm(Z - inside @ basis.T, axis=1)
    columns = np.hstack([triangle.T, np.zeros((len(X), 1))])
    return columns.astype(np.float32), np.column_stack([inside, outside]).astype(np.float32)
