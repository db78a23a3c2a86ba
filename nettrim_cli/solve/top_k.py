"""Which entries of a matrix are the largest, and sums over its blocks: the work of the proxes.

ADMM does it once an iteration, so it is passes over whole arrays; the order of magnitudes is looked
at for few entries only.
"""

from __future__ import annotations

import functools
import math

import numpy as np

from nettrim_cli.solve.matrices import Matrix

SAMPLE = 1 << 13  # entries whose order brackets the threshold of a large matrix


def largest(magnitude: Matrix, keep: int) -> Matrix:
    """Mark exactly ``keep`` entries of largest magnitude; ties go to the earlier entry."""
    if keep >= magnitude.size:
        return np.ones(magnitude.shape, bool)
    if keep <= 0:
        return np.zeros(magnitude.shape, bool)
    flat = magnitude.ravel()
    bar = _ranked(flat, keep)
    mask = flat >= bar
    excess = int(np.count_nonzero(mask)) - keep
    if excess > 0:
        mask[np.flatnonzero(flat == bar)[-excess:]] = False
    return np.asarray(mask.reshape(magnitude.shape))


def _ranked(flat: Matrix, rank: int) -> float:
    """The ``rank``-th largest value.

    Two values of a sample bracket it, so that few entries need ordering (Floyd and Rivest 1975);
    where they do not, all entries are ordered.
    """
    if flat.size >= SAMPLE:
        sample = flat[:: max(4, flat.size // SAMPLE) | 1]
        share = rank / flat.size
        at = (1 - share) * sample.size
        slack = 4 * math.sqrt(sample.size * share * (1 - share)) + 2
        ends = max(0, int(at - slack)), min(sample.size - 1, int(at + slack))
        low, high = np.partition(sample, ends)[list(ends)]
        above = flat > high
        between = flat[(flat >= low) ^ above]
        left = rank - int(np.count_nonzero(above))
        if 0 < left <= between.size:
            flat, rank = between, left
    return float(np.partition(flat, flat.size - rank)[flat.size - rank])


def largest_of_each(groups: Matrix, n: int) -> Matrix:
    """Mark the n largest along the middle axis; ties go to the earlier.

    The n-th largest is found by n rounds of comparing whole planes.
    """
    if n == 0 or n == groups.shape[1]:
        return np.full(groups.shape, n > 0)
    planes = list(np.moveaxis(groups, 1, 0))
    for _ in range(n - 1):
        top, rest = planes[0], []
        for plane in planes[1:]:
            rest.append(np.minimum(top, plane))
            top = np.maximum(top, plane)
        planes = rest
    top = functools.reduce(np.maximum, planes)
    mask: Matrix = groups >= top[:, None]
    if np.count_nonzero(mask) > n * top.size:
        at, column = np.nonzero(np.count_nonzero(mask, axis=1) > n)
        few, bar = groups[at, :, column], top[at, column, None]
        ties = few == bar
        spare = n - np.count_nonzero(few > bar, axis=1)
        mask[at, :, column] = (few > bar) | (ties & (np.cumsum(ties, axis=1) <= spare[:, None]))
    return mask


def masked(V: Matrix, mask: Matrix) -> Matrix:
    """V where marked, 0 elsewhere; on the bits, which needs no branches and makes no nan."""
    bits: Matrix = V.view(f"i{V.itemsize}")
    kept: Matrix = bits * mask
    return kept.view(V.dtype)


def block_sums(A: Matrix, height: int | None, width: int | None) -> Matrix:
    """Sum of each block."""
    if height is None:
        A = A.sum(axis=0, keepdims=True)
    elif height > 1:
        whole = len(A) - len(A) % height
        parts = [A[:whole].reshape(whole // height, height, A.shape[1]).sum(axis=1)]
        A = np.vstack(parts + [A[whole:].sum(axis=0, keepdims=True)] * (whole < len(A)))
    if width is None:
        A = A.sum(axis=1, keepdims=True)
    elif width > 1:
        whole = A.shape[1] - A.shape[1] % width
        parts = [A[:, :whole].reshape(len(A), whole // width, width) @ np.ones(width, A.dtype)]
        A = np.hstack(parts + [A[:, whole:].sum(axis=1, keepdims=True)] * (whole < A.shape[1]))
    return A


def spread(blocks: Matrix, shape: tuple[int, ...], height: int | None, width: int | None) -> Matrix:
    """Each block's value at its entries; whole sides are left to broadcasting."""
    for axis, side in enumerate((height, width)):
        if side is not None and side > 1:
            blocks = np.repeat(blocks, side, axis=axis)
    return np.broadcast_to(blocks[: shape[0], : shape[1]], shape)
