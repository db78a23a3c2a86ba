"""What a person should know of a run before they rely on it: warnings with stable codes.

A new kind of warning is one line in ``SEVERITIES``; what it says is put together where the fact is
known.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum


class Severity(IntEnum):
    """How much of a result a warning calls into question; the most severe come first."""

    CRITICAL = 0  # the figures may mean nothing
    WARNING = 1  # a part of the figures, or of the network, is not to be relied on
    NOTE = 2  # what would help
    INFORMATION = 3  # what was decided for the user, or was asked for


@dataclass(frozen=True)
class Diagnostic:
    """A warning.

    Attributes
    ----------
    code
        One of ``SEVERITIES``; it never changes its meaning, so that programs may read it.
    text
        For people: the dataset, sample or layer, what was found, and what to do.
    brief
        A few words for the verdict where this limits the result, such as ``few samples for fc3``.
    """

    code: str
    text: str
    brief: str = ""

    def __post_init__(self) -> None:
        """Refuse a code that is not in the table."""
        if self.code not in SEVERITIES:
            raise ValueError(f"{self.code!r} is no code of a warning")

    @property
    def severity(self) -> Severity:
        """By the code."""
        return SEVERITIES[self.code]

    def as_dict(self) -> dict[str, str]:
        """Plain values, for JSON."""
        return {"code": self.code, "severity": self.severity.name.lower(), "text": self.text}


def ordered(found: Iterable[Diagnostic]) -> tuple[Diagnostic, ...]:
    """Each once, the most severe first, otherwise in the order in which they came."""
    return tuple(sorted(dict.fromkeys(found), key=lambda each: each.severity))


SEVERITIES = {
    "labels-at-chance": Severity.CRITICAL,
    "constant-labels": Severity.CRITICAL,
    "constant-output": Severity.CRITICAL,
    "dead-output": Severity.CRITICAL,
    "not-finite-output": Severity.CRITICAL,
    "one-answer": Severity.WARNING,
    "training-mode": Severity.WARNING,
    "untrained-range": Severity.WARNING,
    "saturated-output": Severity.WARNING,
    "nan-output": Severity.WARNING,
    "dominant-samples": Severity.WARNING,
    "copied-samples": Severity.WARNING,
    "unused-labels": Severity.WARNING,
    "unseen-branch": Severity.WARNING,
    "not-solved": Severity.WARNING,
    "not-finite": Severity.WARNING,
    "empty-layer": Severity.WARNING,
    "dropped-samples": Severity.WARNING,
    "few-held-out": Severity.NOTE,
    "unseen-layer": Severity.NOTE,
    "unscaled-input": Severity.NOTE,
    "constant-input": Severity.NOTE,
    "labels-by-another-name": Severity.NOTE,
    "few-samples": Severity.NOTE,
    "augmented": Severity.INFORMATION,
    "final-fit": Severity.INFORMATION,
    "forecast": Severity.INFORMATION,
}
