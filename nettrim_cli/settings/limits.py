"""Bounds on the sparsity of single layers, and the layers that a pattern stands for."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from fnmatch import fnmatchcase

from nettrim_cli.quantities import parse_fraction


@dataclass(frozen=True)
class Limit:
    """Bounds on the sparsity of the layers whose name matches a shell pattern."""

    pattern: str
    low: float
    high: float

    @classmethod
    def parse(cls, text: str) -> Limit:
        """Read ``PATTERN=LOW:HIGH``; an end that is left out is 0 or 1.

        Raises
        ------
        ValueError
            The text is not of this form, or not 0 <= LOW <= HIGH <= 1.
        """
        pattern, equals, ends = text.rpartition("=")
        low, colon, high = ends.partition(":")
        try:
            limit = cls(pattern, parse_fraction(low or "0"), parse_fraction(high or "1"))
        except ValueError:
            equals = ""
        if not (pattern and equals and colon and 0 <= limit.low <= limit.high <= 1):
            raise ValueError(
                f"{text!r} is no limit; write PATTERN=LOW:HIGH with sparsities, such as 'fc4=0:0.5'"
            )
        return limit


def check_limit(text: str) -> str:
    """Give the text of a limit unchanged, or raise ``ValueError`` as ``Limit.parse``."""
    Limit.parse(text)
    return text


def matching_names(pattern: str, names: Collection[str]) -> frozenset[str]:
    """The names that a pattern stands for.

    These are the name itself where it exists; else all names that match the shell pattern; else
    all names that match it with literal brackets, as in ``blocks[0].*``.
    """
    if pattern in names:
        return frozenset((pattern,))
    matches = (
        frozenset(name for name in names if fnmatchcase(name, shell_pattern))
        for shell_pattern in (pattern, pattern.replace("[", "[[]"))
    )
    return next(filter(None, matches), frozenset())
