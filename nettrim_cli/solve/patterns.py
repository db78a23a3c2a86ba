"""Patterns of zeros by the names that users give them."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

from nettrim_cli.solve.penalties import KeepBlocks, KeepLargest, KeepNOfM, SupportConstraint

PATTERNS: dict[str, Callable[..., SupportConstraint]] = {
    "unstructured": lambda shape, keep: KeepLargest(keep),
    r"(\d+):(\d+)": lambda shape, keep, n, m: KeepNOfM(n, m),
    r"(\d+)x(\d+)": lambda shape, keep, h, w: KeepBlocks(_blocks_within(shape, keep, h, w), h, w),
    "rows": lambda shape, keep: KeepBlocks(_blocks_within(shape, keep, 1, None), 1, None),
    "columns": lambda shape, keep: KeepBlocks(_blocks_within(shape, keep, None, 1), None, 1),
}
"""Builders by form, of the shape of the weights, the number to keep, and the form's numbers."""


def checked_pattern(name: str) -> str:
    """A pattern that a user may ask for, ``2:4`` or ``1x4``, as it is.

    Raises
    ------
    ValueError
        The text is no such pattern, or one that leaves nothing to choose.
    """
    match = re.fullmatch(r"(\d{1,4})([:x])(\d{1,4})", name)
    first, second = (int(match[1]), int(match[3])) if match else (0, 0)
    if match and (0 < first < second if match[2] == ":" else first * second > 1):
        return name
    raise ValueError(
        f"{name!r} is none: N:M with N below M, such as 2:4, or HxW in weights, such as 1x4"
    )


def pattern(name: str, shape: tuple[int, int], keep: int) -> SupportConstraint:
    """The penalty of a pattern: "unstructured", "2:4", "1x4", "4x4", "rows" or "columns".

    Parameters
    ----------
    name
        As a user writes it.
    shape
        (N, M) of the weights.
    keep
        Largest number of weights.  It bounds the number of blocks, of whatever size; an n:m
        pattern has a share of its own and ignores it.

    Raises
    ------
    ValueError
        The name is no pattern.
    """
    for form, build in PATTERNS.items():
        if match := re.fullmatch(form, name):
            return build(shape, keep, *map(int, match.groups()))
    raise ValueError(f"{name!r} is no pattern such as unstructured, 2:4, 1x4, 4x4, rows, columns")


def _blocks_within(shape: tuple[int, int], keep: int, height: int | None, width: int | None) -> int:
    """The largest number of blocks of which any choice has at most ``keep`` entries."""
    sides = (
        np.minimum(step, total - np.arange(0, total, step))
        for total, step in (
            (n, side or max(1, n)) for n, side in zip(shape, (height, width), strict=True)
        )
    )
    sizes = np.sort(np.multiply.outer(*sides), axis=None)[::-1]
    return int(np.searchsorted(np.cumsum(sizes), keep, side="right"))
