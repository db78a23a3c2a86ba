"""Scores of queries and keys of a lower rank.

Scores are ``q'k``.  With second moments ``Q = L_q L_q'`` and ``K = L_k L_k'`` and the singular
values ``L_q' L_k = U S V'``, the scores ``(A'q)'(B'k)`` with

    A = L_k V_r S_r^-1/2,    B = L_q U_r S_r^-1/2

have the least squared error over all pairs of rank r: the sum of the squares of the other singular
values.  This is balanced truncation (Moore, 1981) of a product in place of a system.
"""

from __future__ import annotations

import numpy as np

from nettrim_cli.solve.matrices import Matrix

DAMPING = 1e-7  # added to the second moments, relative to their mean


def balanced(Q: Matrix, K: Matrix) -> tuple[Matrix, Matrix, Matrix]:
    """Bases in which the first r entries of queries and keys have the best scores of rank r.

    Parameters
    ----------
    Q, K
        (D, D) second moments of queries and keys.

    Returns
    -------
    A, B, errors
        (d, d) both, with ``A B' = I``; (d+1,) mean squared error of the scores of rank 0, 1, ...

    Raises
    ------
    numpy.linalg.LinAlgError
        The second moments are no numbers, or zero.
    """
    lower = []
    for moments in (Q, K):
        damped = moments.astype(np.float64)
        damped[np.diag_indices_from(damped)] += DAMPING * np.trace(damped) / len(damped)
        lower.append(np.linalg.cholesky(damped))
    U, powers, V = np.linalg.svd(lower[0].T @ lower[1])
    roots = np.sqrt(powers)
    A, B = lower[1] @ V.T / roots, lower[0] @ U / roots
    return A, B, np.append(np.cumsum(powers[::-1] ** 2)[::-1], 0.0)
