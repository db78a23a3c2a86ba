"""Choice of inputs: groups of rows of V that stay for all outputs; all other rows are zero.

This removes hidden units and channels.  It works in Gram space (see ``system``):

    minimise  F(V) = <V, A V> / 2 - <rhs, V>   over V with at most ``keep`` groups of rows

Three methods choose the groups, and one closed form refits the weights on them:

- ``greedy``: backward elimination.  It removes the group G whose removal raises F least after
  the other groups are refitted: by ``tr(V_G' H_GG^-1 V_G) / 2``, with H the inverse of A on the
  remaining rows (the optimal brain surgeon of Hassibi and Stork, 1993, for blocks).
- ``admm``: ADMM with the penalty that keeps the groups of largest norm.
- ``convex``: the l2,1 norm at the price that leaves ``keep`` groups (group lasso, Yuan and Lin
  2006).

Greedy is the default: on the layers of the sample models it has the least error, and up to 4,608
inputs it takes less time than ADMM with inverses of its own (benchmarks/groups.py).

All three depend on the outputs through ``rhs rhs'`` alone, which an orthogonal mixture of the
outputs does not change.  So N outputs can stand for M, and greedy needs the N x N products of rows.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy.linalg

from nettrim_cli.solve.admm import admm
from nettrim_cli.solve.gram.system import inverse_of
from nettrim_cli.solve.matrices import Matrix
from nettrim_cli.solve.penalties import BlockNorm, KeepBlocks
from nettrim_cli.solve.top_k import top_k_mask

Inverse = Callable[[float], Matrix]  # (A + rho I)^-1 by rho

SCHEDULE = (0.1,) * 8 + (0.2,) * 6 + (0.4,) * 6 + (0.8,) * 5 + (2.0,) * 5
PATH_RHO, PATH_ALPHA, PATH_STEPS, PATH_TRIES = 0.4, 1.7, 20, 12
LAZY = 16  # H and K are updated after the removal of one group in so many


def remove_groups(
    A: Matrix,
    rhs: Matrix,
    keep: int,
    *,
    groups: Matrix | int = 1,
    method: str = "greedy",
    inverse: Inverse | None = None,
) -> tuple[Matrix, Matrix]:
    """Keep the best ``keep`` groups of inputs and refit the weights on them.

    Parameters
    ----------
    A
        (N, N) symmetric positive definite, the damped Gram matrix (``GramSystem.A``), in units
        in which its diagonal is about 1.
    rhs
        (N, M), so that the dense weights are ``A^-1 rhs``.
    keep
        Groups that stay, at most all; below 0 is 0.
    groups
        (G, g) rows of each group, every row in exactly one; a number g stands for g consecutive
        rows a group, such as a channel's.
    method
        Key of ``METHODS``.
    inverse
        ``(A + rho I)^-1`` by rho, where it is at hand (``GramSystem.inverse``).

    Returns
    -------
    V, mask
        (N, M) in the dtype of rhs, 0 outside the groups that stay; (G,) bool, which stay.

    Raises
    ------
    ValueError
        The groups are no partition of the rows into equal parts, or the method is unknown.
    numpy.linalg.LinAlgError
        A is not positive definite.
    """
    order = _order(groups, len(A))
    if method not in METHODS:
        raise ValueError(f"method {method!r} is none of {', '.join(METHODS)}")
    if keep >= len(order):
        mask = np.ones(len(order), bool)
    elif keep <= 0:
        mask = np.zeros(len(order), bool)
    else:
        mask = METHODS[method](_System(A, rhs, order, inverse), keep)
    return refit_rows(A, rhs, np.sort(order[mask], axis=None)), mask


def refit_rows(A: Matrix, rhs: Matrix, rows: Matrix) -> Matrix:
    """Minimise F over V (N, M) that is 0 outside some rows: ``V_R = A_RR^-1 rhs_R``, by Cholesky.

    Raises
    ------
    numpy.linalg.LinAlgError
        A is not positive definite on the rows.
    """
    V = np.zeros_like(rhs)
    if len(rows):
        inner = A[np.ix_(rows, rows)].astype(np.float64)
        factor = scipy.linalg.cho_factor(inner, lower=True, overwrite_a=True, check_finite=False)
        V[rows] = scipy.linalg.cho_solve(factor, rhs[rows].astype(np.float64))
    return V


class _System:
    """A problem with the rows of each group made consecutive and few outputs.

    Attributes
    ----------
    size
        Rows of a group.
    rhs
        (N, min(N, M)) float32 with the products of rows that rhs has.
    inverse
        ``(A + rho I)^-1`` by rho, float32, cached.
    """

    def __init__(self, A: Matrix, rhs: Matrix, order: Matrix, inverse: Inverse | None) -> None:
        self.size, rows = order.shape[1], order.ravel()
        inverse_at = inverse or functools.partial(inverse_of, A)
        if np.array_equal(rows, np.arange(len(A))):
            self.inverse = functools.cache(inverse_at)
        else:
            self.inverse = functools.cache(lambda rho: inverse_at(rho)[np.ix_(rows, rows)])
        outputs = rhs[rows].astype(np.float32)
        if outputs.shape[1] > len(A):
            outputs = np.asarray(np.linalg.qr(outputs.T, mode="r")).T
        self.rhs = outputs

    def solve(self, target: Matrix, rho: float) -> Matrix:
        """Argmin over V (N, M) of F plus ``rho/2 ||V - target||_F^2``, for ADMM."""
        return np.asarray(self.inverse(rho) @ (self.rhs + np.float32(rho) * target))


def removal_order(
    A: Matrix, rhs: Matrix, *, groups: Matrix | int = 1, inverse: Inverse | None = None
) -> tuple[Matrix, Matrix]:
    """The path of greedy backward elimination down to no groups.

    Parameters
    ----------
    A, rhs, groups, inverse
        See ``remove_groups``: (N, N), (N, M), (G, g).

    Returns
    -------
    order, rises
        (G,) groups in the order of their removal, and by how much each raises F after a refit of
        the remaining ones.  The last k of the order are those that greedy keeps with ``keep=k``;
        the sum of the rises before them is its error.
    """
    order, rises = _eliminate([Reader.of(_System(A, rhs, _order(groups, len(A)), inverse))], 0)
    return order, rises[0]


def joint_removal_order(
    readers: Sequence[Reader], weights: Sequence[float]
) -> tuple[Matrix, Matrix]:
    """The path of greedy backward elimination of units that several layers read.

    Parameters
    ----------
    readers
        One for each layer; they are used up.
    weights
        What a rise of each reader's F counts.

    Returns
    -------
    order, rises
        (G,) units in the order of their removal, and (R, G) by how much each raises the F of each
        reader, after a refit of the remaining ones.
    """
    return _eliminate(readers, 0, weights)


def greedy(system: _System, keep: int) -> Matrix:
    """Remove the cheapest group, one after the other, until ``keep`` remain."""
    mask = np.ones(len(system.rhs) // system.size, bool)
    mask[_eliminate([Reader.of(system)], keep)[0]] = False
    return mask


@dataclass
class Reader:
    """A layer that reads units, as elimination knows it.

    Attributes
    ----------
    H, K
        (n, n) float64, on the remaining rows of units, g consecutive ones a unit: blocks of the
        inverse of A, and ``V V'``.
    size
        Rows of a unit, g.
    units
        Number of units, G.
    """

    H: Matrix
    K: Matrix
    size: int
    units: int

    @classmethod
    def of(cls, system: _System) -> Reader:
        """A problem in which every row is one of a group."""
        H = system.inverse(0.0).astype(np.float64)
        V = H @ system.rhs
        return cls(H, V @ V.T, system.size, len(H) // system.size)

    @classmethod
    def of_rows(cls, H: Matrix, V: Matrix, rows: Matrix) -> Reader:
        """A layer some rows of which are those of units.

        Parameters
        ----------
        H
            (N, N) inverse of A.
        V
            (N, M) its weights.
        rows
            (G, g) rows of each unit, all different.
        """
        order = rows.ravel()
        V = V[order].astype(np.float64)
        return cls(H[np.ix_(order, order)].astype(np.float64), V @ V.T, rows.shape[1], len(rows))


def _eliminate(
    readers: Sequence[Reader], keep: int, weights: Sequence[float] = (1.0,)
) -> tuple[Matrix, Matrix]:
    """Groups in the order of their removal, and (R, G) what each costs each reader.

    With ``K = V V'`` the price of a group is ``tr(H_GG^-1 K_GG)``.  Its removal takes ``H_:G P'``
    from H and ``P Q' + Q P'`` from K, where ``P = H_:G H_GG^-1`` and ``Q = K_:G - P K_GG / 2``.
    The choice needs the diagonal blocks of H and K only.  Their other blocks are updated after some
    groups, by matrix products without the removed rows.
    """
    remaining = np.arange(readers[0].units)
    order, rises = [remaining[:0]], [np.zeros((len(readers), 0))]
    while len(remaining) > keep:
        removed, prices = _remove(
            readers, weights, len(remaining), min(len(remaining) - keep, 1 + len(remaining) // LAZY)
        )
        order.append(remaining[removed])
        rises.append(prices / 2)
        remaining = np.delete(remaining, removed)
    return np.concatenate(order), np.hstack(rises)


def _remove(
    readers: Sequence[Reader], weights: Sequence[float], units: int, count: int
) -> tuple[Matrix, Matrix]:
    """Remove ``count`` of the units from all readers: their numbers, and (R, count) prices."""
    removals = [_Removal(reader, units, count) for reader in readers]
    remaining = np.arange(units)
    removed, prices = np.empty(count, int), np.empty((len(readers), count))
    for i in range(count):
        rises = np.array([removal.prices(remaining) for removal in removals])
        position = np.argmin(weights @ rises)
        removed[i], prices[:, i] = remaining[position], rises[:, position]
        for removal in removals:
            removal.take(remaining[position])
        remaining = np.delete(remaining, position)
    for removal in removals:
        removal.finish(remaining)
    return removed, prices


class _Removal:
    """Some groups on their way out of a reader."""

    def __init__(self, reader: Reader, units: int, count: int) -> None:
        self.reader, self.done = reader, 0
        size = reader.size
        self.H_blocks = _diagonal(reader.H, size, units)
        self.K_blocks = _diagonal(reader.K, size, units)
        self.changes, self.P, self.Q = (np.zeros((len(reader.H), count * size)) for _ in range(3))

    def prices(self, remaining: Matrix) -> Matrix:
        """Price (G,) of each of the remaining groups."""
        solved = np.linalg.solve(self.H_blocks[remaining], self.K_blocks[remaining])
        return np.asarray(solved.trace(axis1=1, axis2=2))

    def take(self, group: int) -> None:
        """Note the removal of a group."""
        H, K, g = self.reader.H, self.reader.K, self.reader.size
        changes, P, Q = self.changes, self.P, self.Q
        rows, old = slice(group * g, group * g + g), slice(self.done * g)
        new = slice(old.stop, old.stop + g)
        h = H[:, rows] - changes[:, old] @ P[rows, old].T
        k = K[:, rows] - P[:, old] @ Q[rows, old].T - Q[:, old] @ P[rows, old].T
        p = np.linalg.solve(self.H_blocks[group], h.T).T
        q = k - p @ (self.K_blocks[group] / 2)
        changes[:, new], P[:, new], Q[:, new] = h, p, q
        h, p, q = (block.reshape(-1, g, g) for block in (h, p, q))
        mixed = p @ q.transpose(0, 2, 1)
        self.H_blocks -= h @ p.transpose(0, 2, 1)
        self.K_blocks -= mixed + mixed.transpose(0, 2, 1)
        self.done += 1

    def finish(self, remaining: Matrix) -> None:
        """Leave H and K (N, N) of the remaining groups in the reader."""
        reader, g = self.reader, self.reader.size
        kept = (remaining[:, None] * g + np.arange(g)).ravel()
        changes, P, Q = self.changes[kept], self.P[kept], self.Q[kept]
        reader.H, reader.K = reader.H[np.ix_(kept, kept)], reader.K[np.ix_(kept, kept)]
        reader.H -= changes @ P.T
        reader.K -= np.hstack([P, Q]) @ np.hstack([Q, P]).T


def by_admm(system: _System, keep: int) -> Matrix:
    """ADMM from the dense weights, with rho growing as for scattered zeros."""
    start = system.inverse(0.0) @ system.rhs
    penalty = KeepBlocks(keep, system.size, None)
    _, V, _ = admm(system, penalty, start=start, schedule=SCHEDULE)
    return np.asarray(penalty.support(V)[:: system.size, 0])


def by_norm(system: _System, keep: int) -> Matrix:
    """Bisect the logarithm of the price of l2,1 until ``keep`` groups remain, warm started.

    No price above the polar of rhs leaves any group.  Where no price leaves exactly ``keep``, the
    groups of largest norm at the last price that leaves more are chosen.
    """
    norms = BlockNorm(np.ones((1, 1), np.float32), system.size, None)
    low, high = 0.0, norms.polar(system.rhs)
    price, V, chosen = high / 8, np.zeros_like(system.rhs), None
    for _ in range(PATH_TRIES):
        penalty = replace(norms, weights=norms.weights * np.float32(price))
        S, V, _ = admm(
            system, penalty, start=V, schedule=(PATH_RHO,) * PATH_STEPS, alpha=PATH_ALPHA
        )
        sizes = norms.norms(S)[:, 0]
        if np.count_nonzero(sizes) >= keep:
            low, chosen = price, sizes
        else:
            high = price
        if np.count_nonzero(sizes) == keep:
            break
        price = math.sqrt(low * high) if low else high / 8
    if chosen is None:
        chosen = norms.norms(system.inverse(0.0) @ system.rhs)[:, 0]
    return top_k_mask(chosen, keep)


METHODS: dict[str, Callable[[_System, int], Matrix]] = {
    "greedy": greedy,
    "admm": by_admm,
    "convex": by_norm,
}


def _order(groups: Matrix | int, inputs: int) -> Matrix:
    """(G, g) rows of each group."""
    if isinstance(groups, (int, np.integer)):
        if groups < 1 or inputs % groups:
            raise ValueError(f"{inputs} inputs are not groups of {groups}")
        return np.arange(inputs).reshape(-1, groups)
    if groups.ndim != 2 or not np.array_equal(np.sort(groups, axis=None), np.arange(inputs)):
        raise ValueError(f"the groups are no partition of {inputs} inputs")
    return groups


def _diagonal(A: Matrix, g: int, count: int) -> Matrix:
    """(count, g, g) first diagonal blocks."""
    number, end = np.arange(count), count * g
    return A[:end, :end].reshape(count, g, count, g)[number, :, number]
