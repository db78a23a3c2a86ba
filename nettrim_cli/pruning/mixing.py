"""What a file's bytes are spent on: how many weights are left, zeros among them, bits of each.

Mixes are compared where their files have about as many bytes, by the output error that is measured
with each on held-out samples: first some numbers of bits, then some shares of zeros.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from nettrim_cli.evaluation.comparison import ReferenceOutputs
from nettrim_cli.pruning.compression import Compression
from nettrim_cli.report.result import Mix

if TYPE_CHECKING:
    from nettrim_cli.report.progress import Listener

ALL_BITS = 32
HALVINGS = 14  # of the interval that a sparsity is in
T = TypeVar("T")


def weight_bytes(density: float, bits: int | None) -> float:
    """Bytes that a weight of a matrix takes, zeros included, where places are coded well."""
    whole = bits or ALL_BITS
    parts = (share * math.log2(share) for share in (density, 1 - density) if share > 0)
    return min(whole, density * whole - sum(parts)) / 8


def best_mix(
    compression: Compression,
    sparsity: float,
    reference: ReferenceOutputs,
    listener: Listener,
    *,
    by_bytes: bool,
) -> Compression:
    """The compression with the mix of least error, of those that it may have.

    Parameters
    ----------
    compression
        With the mix that the others are compared with.
    sparsity
        At which that one is tried.
    reference
        The dense network on the held-out samples.
    listener
        Hears of the tries.
    by_bytes
        Whether all mixes have as many bytes, or the same sparsity.
    """
    bytes_allowed, errors = compression.stored_bytes(sparsity), dict[Mix, float]()

    def error(mix: Mix) -> float:
        """The measured output error with a mix."""
        if mix not in errors:
            tried = compression.mixed(mix)
            share = _sparsity_of(tried, bytes_allowed) if by_bytes else sparsity
            listener.stage(f"trying {mix}")
            errors[mix] = reference.compare(tried.compress(share, None).result.model).error
            listener.message(f"{mix}: output error {errors[mix]:.2%} on held-out samples")
        return errors[mix]

    best = compression.mix
    best = _climb([replace(best, bits=bits) for bits in compression.bits], best, error)
    best = _climb([replace(best, zeros=share) for share in compression.zeros], best, error)
    return compression.mixed(best)


def _climb(ladder: Sequence[T], start: T, error: Callable[[T], float]) -> T:
    """The step of a ladder whose neighbours' errors are larger, from a step on."""
    place = ladder.index(start)
    for direction in (1, -1):
        moved = False
        while 0 <= place + direction < len(ladder) and (
            error(ladder[place + direction]) < error(ladder[place])
        ):
            place, moved = place + direction, True
        if moved:
            break
    return ladder[place]


def _sparsity_of(compression: Compression, size: float) -> float:
    """The sparsity at which a network's weights take about so many bytes."""
    low, high = compression.limits()
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        larger = compression.stored_bytes(middle) > size
        low, high = (middle, high) if larger else (low, middle)
    return high
