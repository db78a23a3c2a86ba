"""Proved bounds on operator norms.

Every norm here is an upper bound that holds for the matrix as given, rounding included: a value
guessed from below proves nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.linalg import LinAlgError, lapack

from nettrim_cli.solve.matrices import Matrix

WIDEST = 4096  # inputs or outputs up to which one factorisation proves the norm
SLACK = 1e-5  # by which the guess is raised before it is proved; doubled until it holds
ROUNDING = 1e-9  # relative margin over singular values from LAPACK, far above their error
UNIT = 2.0**-53
GRIDS = (32, 16, 8)  # frequencies to an axis, the finest one that is affordable
AFFORDABLE = 3e8  # frequencies x inputs x outputs x the smaller of the two, a convolution


def operator_norm(A: Matrix) -> float:
    """Upper bound on the spectral norm ``||A||_2`` of A (N, M), at most 1e-4 above it up to WIDEST.

    ``s I - G`` with ``G = A'A`` (the smaller Gram matrix) is positive definite if its Cholesky
    factorisation runs to the end with ``gamma_(n+1) / (1 - gamma_(n+1))`` times its trace taken
    off the diagonal (Rump, "Verification of positive definiteness", BIT 46, 2006); G's own
    rounding is at most ``gamma_K ||A||_F^2`` (Higham, "Accuracy and Stability", 3.5).  So the
    guess of s may come from anywhere: Lanczos.  Wider matrices are cut into blocks, for which
    ``||A||^2 <= sum ||A_i||^2``.

    Parameters
    ----------
    A
        (N, M), finite.

    Returns
    -------
    float
        Never more than ``||A||_F`` and ``sqrt(||A||_1 ||A||_inf)`` (both raised by ROUNDING).
    """
    A = np.asarray(A, np.float64)
    if A.size == 0 or not A.any():
        return 0.0
    largest = float(np.abs(A).max())
    A = A / largest  # squares stay within the range of float64
    if A.shape[0] < A.shape[1]:
        A = A.T
    crude = (1 + ROUNDING) * min(
        math.sqrt(float(np.square(A).sum())),
        math.sqrt(float(np.abs(A).sum(axis=0).max() * np.abs(A).sum(axis=1).max())),
    )
    if A.shape[1] > WIDEST:
        cuts = range(0, A.shape[1], WIDEST)
        parts = [operator_norm(A[:, start : start + WIDEST]) for start in cuts]
        return largest * (1 + ROUNDING) * min(crude, math.hypot(*parts))
    return largest * (1 + ROUNDING) * min(crude, math.sqrt(_largest_eigenvalue(A)))


def _largest_eigenvalue(A: Matrix) -> float:
    """Proved upper bound on the largest eigenvalue of ``A'A``; inf if none was found."""
    rows, n = A.shape
    G = A.T @ A
    trace = float(np.trace(G))
    guess = _guess(G)
    for doubling in range(20):
        bound = guess * (1 + SLACK * 2**doubling)
        margin = 2 * ((n + 3) * n * bound + (rows + 2) * trace) * UNIT
        shifted = -G
        shifted[np.diag_indices(n)] += bound - margin
        if lapack.dpotrf(shifted.T, lower=1, overwrite_a=1)[1] == 0:
            return float(bound)
    return math.inf


def _guess(G: Matrix) -> float:
    """Estimate of the largest eigenvalue, without proof."""
    n = len(G)
    if n > 64:
        from scipy.sparse.linalg import ArpackError, eigsh  # a quarter of all that a run imports

        start = np.random.default_rng(0).standard_normal(n)
        try:
            return float(eigsh(G, 1, which="LA", v0=start, tol=1e-6, return_eigenvectors=False)[0])
        except (ArpackError, LinAlgError):
            pass
    return float(np.linalg.eigvalsh(G)[-1])


def convolution_norm(kernel: Matrix, strides: Sequence[int], dilations: Sequence[int]) -> float:
    """Upper bound on the norm of a zero-padded convolution as an operator on whole images.

    The smaller of two bounds that hold for images of any size and any padding with zeros:

    - ``||K||_2 sqrt(window_overlap)`` with K the (C*k..., M) matrix of the unfolded convolution:
      the windows' squares add up to at most ``window_overlap`` times the image's.
    - ``sup ||K(theta)||_2`` over all frequencies: the image, continued by zeros, meets a block
      Laurent operator with this symbol, of which the convolution keeps some outputs
      (Sedghi, Gupta, Long, arXiv 1805.10408, for the circular case).  A stride is a convolution
      of stride 1 over the image's phases as channels.  On a grid of n frequencies to an axis,
      ``max / cos(pi d / n)`` bounds a real trigonometric polynomial of degree d, here
      ``|u' K(theta) v|^2`` along one axis (M. Riesz: next to its maximum such a polynomial is at
      least ``max * cos(d t)``).

    Parameters
    ----------
    kernel
        (M, C, k...) of one group.
    strides, dilations
        One for each axis of the image.
    """
    sizes = kernel.shape[2:]
    unfolded = operator_norm(kernel.reshape(len(kernel), -1))
    folded = unfolded * math.sqrt(window_overlap(sizes, strides, dilations))
    if math.prod(sizes) == 1 or any(
        s > 1 and d > 1 for s, d in zip(strides, dilations, strict=True)
    ):
        return folded
    phases = _phases(np.asarray(kernel, np.float64), strides)
    degrees = [size - 1 for size in phases.shape[2:]]
    for points in GRIDS:
        grid = [points if degree else 1 for degree in degrees]
        work = math.prod(grid) * math.prod(phases.shape[:2]) * min(phases.shape[:2])
        if all(n > 2 * d for n, d in zip(grid, degrees, strict=True)) and work <= AFFORDABLE:
            excess = math.prod(
                math.cos(math.pi * d / n) for d, n in zip(degrees, grid, strict=True)
            )
            return min(folded, (1 + ROUNDING) * _peak(phases, grid) / math.sqrt(excess))
    return folded


def _peak(phases: Matrix, grid: Sequence[int]) -> float:
    """The largest singular value of the symbol on a grid of frequencies.

    At -theta a real kernel has the conjugate symbol: half of the last axis is enough.
    """
    symbols = np.fft.rfftn(phases, s=grid, axes=tuple(range(2, phases.ndim)))
    stack = np.moveaxis(symbols.reshape(*phases.shape[:2], -1), -1, 0)
    turned = np.conj(np.swapaxes(stack, 1, 2))
    grams = stack @ turned if phases.shape[0] <= phases.shape[1] else turned @ stack
    return math.sqrt(max(0.0, float(np.linalg.eigvalsh(grams)[:, -1].max())))


def window_overlap(kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]) -> int:
    """The largest number of windows that read one entry of an image.

    Along an axis tap j reads entry ``s p + d j``: the taps that can meet a given entry differ by
    multiples of ``s / gcd(s, d)``.
    """
    return math.prod(
        -(-k * math.gcd(s, d) // s) for k, s, d in zip(kernel, strides, dilations, strict=True)
    )


def _phases(kernel: Matrix, strides: Sequence[int]) -> Matrix:
    """(M, C * s..., ceil(k/s)...) kernel of stride 1 on the phases of the image."""
    for axis, stride in enumerate(strides, 2):
        missing = -kernel.shape[axis] % stride
        widths = [(0, missing if other_axis == axis else 0) for other_axis in range(kernel.ndim)]
        kernel = np.pad(kernel, widths)
        shape = kernel.shape
        kernel = kernel.reshape(*shape[:axis], shape[axis] // stride, stride, *shape[axis + 1 :])
        kernel = np.moveaxis(kernel, axis + 1, 2)
        kernel = kernel.reshape(shape[0], shape[1] * stride, *kernel.shape[3:])
    return kernel
