"""What a file's bytes are spent on: how many weights are left, zeros among them, bits of each.

Mixes are compared where their files have about as many bytes, by the output error that is measured
with each on held-out samples: first some numbers of bits, then some shares of zeros.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from nettrim_cli.evaluation.comparison import ReferenceOutputs, stored_bytes
from nettrim_cli.graph.compact.gaps import best_code
from nettrim_cli.graph.compact.values import element_bytes
from nettrim_cli.pruning.compression import Compression
from nettrim_cli.report.result import Mix

if TYPE_CHECKING:
    from nettrim_cli.report.progress import Listener

DRAWN = 1 << 14  # weights of a matrix that tells the bytes of gaps
ALL_BITS, INTEGER_BITS = 32, 8  # of 7 bits, each takes a byte
HALVINGS = 14  # of the interval that a sparsity is in
T = TypeVar("T")


def weight_bytes(density: float, bits: int | None) -> float:
    """Bytes that a weight takes in a compact file, of a matrix with zeros anywhere."""
    size = element_bytes(INTEGER_BITS if bits == 7 else bits or ALL_BITS)
    return min(size, _scattered_bytes(round(density, 3), size))


@cache
def _scattered_bytes(density: float, element_bytes: float) -> float:
    """Bytes of a weight, zeros included, as gaps and values of so many bytes."""
    filled = np.flatnonzero(np.random.default_rng(0).random(DRAWN) < density)
    coded = best_code(filled, DRAWN, element_bytes)
    return math.inf if coded is None else coded[0] / DRAWN


def best_mix(
    compression: Compression,
    sparsity: float,
    reference: ReferenceOutputs,
    listener: Listener,
    *,
    by_bytes: bool,
) -> Compression:
    """The compression with the mix of least error, of those that it may have.

    Bytes that were only about equal are made up for: an error is taken as falling in proportion.

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
    bytes_allowed, costs = compression.stored_bytes(sparsity), dict[Mix, float]()

    def cost(mix: Mix) -> float:
        """The measured output error with a mix, times the bytes of a compact file if they count."""
        if mix not in costs:
            tried = compression.mixed(mix)
            share = _sparsity_of(tried, bytes_allowed) if by_bytes else sparsity
            listener.stage(f"trying {mix}")
            model = tried.compress(share, None).result.model
            error, size = reference.compare(model).error, stored_bytes(model, compact=True)
            listener.message(f"{mix}: output error {error:.2%} on held-out samples, {size:,} bytes")
            costs[mix] = error * size if by_bytes else error
        return costs[mix]

    best = compression.mix
    best = _climb([replace(best, bits=bits) for bits in compression.bits], best, cost)
    best = _climb([replace(best, zeros=share) for share in compression.zeros], best, cost)
    return compression.mixed(best)


def _climb(ladder: Sequence[T], start: T, cost: Callable[[T], float]) -> T:
    """The step of a ladder whose neighbours cost more, from a step on."""
    place = ladder.index(start)
    for direction in (1, -1):
        moved = False
        while 0 <= place + direction < len(ladder) and (
            cost(ladder[place + direction]) < cost(ladder[place])
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
