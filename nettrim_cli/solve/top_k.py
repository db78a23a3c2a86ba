"""The largest entries of a matrix, and sums over its blocks, as the penalties' proxes need them.

ADMM calls these once an iteration, so they pass over arrays as a whole and sort few entries only.
"""

from __future__ import annotations

import functools
import math

import numpy as np

from nettrim_cli.solve.matrices import Matrix

SAMPLE = 1 << 13  # entries whose order brackets the threshold of a large matrix


def top_k_mask(magnitude: Matrix, keep: int) -> Matrix:
    """Mask (N, M) of exactly ``keep`` entries of largest magnitude; ties go to the earlier entry.

    Parameters
    ----------
    magnitude
        (N, M), not negative.
    keep
        Number of entries.
    """
    if keep >= magnitude.size:
        return np.ones(magnitude.shape, bool)
    if keep <= 0:
        return np.zeros(magnitude.shape, bool)
    flat = magnitude.ravel()
    threshold = _ranked(flat, keep)
    mask = flat >= threshold
    excess = int(np.count_nonzero(mask)) - keep
    if excess > 0:
        mask[np.flatnonzero(flat == threshold)[-excess:]] = False
    return np.asarray(mask.reshape(magnitude.shape))


def _ranked(flat: Matrix, rank: int) -> float:
    """The ``rank``-th largest value.

    Two values of a sample bracket it, so that few entries need ordering (Floyd and Rivest 1975);
    where they do not, all entries are ordered.
    """
    if flat.size >= SAMPLE:
        sample = flat[:: max(4, flat.size // SAMPLE) | 1]
        share = rank / flat.size
        position = (1 - share) * sample.size
        slack = 4 * math.sqrt(sample.size * share * (1 - share)) + 2
        ends = max(0, int(position - slack)), min(sample.size - 1, int(position + slack))
        low, high = np.partition(sample, ends)[list(ends)]
        above = flat > high
        bracketed = flat[(flat >= low) ^ above]
        remaining = rank - int(np.count_nonzero(above))
        if 0 < remaining <= bracketed.size:
            flat, rank = bracketed, remaining
    return float(np.partition(flat, flat.size - rank)[flat.size - rank])


def group_top_k_mask(groups: Matrix, n: int) -> Matrix:
    """Mask (G, m, M) of the n largest of each group; ties go to the earlier.

    The n-th largest comes from n rounds of comparing planes (G, M).

    Parameters
    ----------
    groups
        (G, m, M): G groups of m entries in each of M columns, not negative.
    n
        Number of entries of a group.
    """
    if n == 0 or n == groups.shape[1]:
        return np.full(groups.shape, n > 0)
    planes = list(np.moveaxis(groups, 1, 0))
    for _ in range(n - 1):
        top, smaller = planes[0], []
        for plane in planes[1:]:
            smaller.append(np.minimum(top, plane))
            top = np.maximum(top, plane)
        planes = smaller
    top = functools.reduce(np.maximum, planes)
    mask: Matrix = groups >= top[:, None]
    if np.count_nonzero(mask) > n * top.size:
        group, column = np.nonzero(np.count_nonzero(mask, axis=1) > n)
        values, threshold = groups[group, :, column], top[group, column, None]
        above, ties = values > threshold, values == threshold
        spare = n - np.count_nonzero(above, axis=1)
        mask[group, :, column] = above | (ties & (np.cumsum(ties, axis=1) <= spare[:, None]))
    return mask


def apply_mask(V: Matrix, mask: Matrix) -> Matrix:
    """V (N, M) where the mask (N, M) is true, 0 elsewhere.

    It works on the bits, which needs no branches and makes no nan.
    """
    bits: Matrix = V.view(f"i{V.itemsize}")
    masked: Matrix = bits * mask
    return masked.view(V.dtype)


def block_sums(A: Matrix, height: int | None, width: int | None) -> Matrix:
    """Sum of each block of A (N, M); None is the length of a side.

    The last blocks of a side may be smaller.
    """
    if height is None:
        A = A.sum(axis=0, keepdims=True)
    elif height > 1:
        full = len(A) - len(A) % height
        parts = [A[:full].reshape(full // height, height, A.shape[1]).sum(axis=1)]
        A = np.vstack(parts + [A[full:].sum(axis=0, keepdims=True)] * (full < len(A)))
    if width is None:
        A = A.sum(axis=1, keepdims=True)
    elif width > 1:
        full = A.shape[1] - A.shape[1] % width
        parts = [A[:, :full].reshape(len(A), full // width, width) @ np.ones(width, A.dtype)]
        A = np.hstack(parts + [A[:, full:].sum(axis=1, keepdims=True)] * (full < A.shape[1]))
    return A


def expand_blocks(
    blocks: Matrix, shape: tuple[int, ...], height: int | None, width: int | None
) -> Matrix:
    """The value of each block at its entries, a read-only view where possible.

    Parameters
    ----------
    blocks
        (ceil(N / height), ceil(M / width)) values, see ``block_sums``.
    shape
        (N, M).
    height, width
        Sides of a block; None is the length of the side.
    """
    for axis, side in enumerate((height, width)):
        if side is not None and side > 1:
            blocks = np.repeat(blocks, side, axis=axis)
    return np.broadcast_to(blocks[: shape[0], : shape[1]], shape)
