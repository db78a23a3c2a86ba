"""Warnings of a run, with stable codes.

A new kind of warning is one line in ``SEVERITIES``; its text is written where the fact is known.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar

from nettrim_cli.report.plain import Facts


class Severity(IntEnum):
    """How much of a result a warning calls into question, the most severe first."""

    CRITICAL = 0  # the figures may mean nothing
    WARNING = 1  # a part of the figures, or of the network, is not to be relied on
    NOTE = 2  # what would help
    INFORMATION = 3  # what was decided for the user, or was asked for


@dataclass(frozen=True)
class Diagnostic(Facts):
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

    derived: ClassVar[tuple[str, ...]] = ("severity",)

    code: str
    text: str
    brief: str = ""

    def __post_init__(self) -> None:
        """Check the code.

        Raises
        ------
        ValueError
            The code is not in ``SEVERITIES``.
        """
        if self.code not in SEVERITIES:
            raise ValueError(f"{self.code!r} is no code of a warning")

    @property
    def severity(self) -> Severity:
        """Severity of the code."""
        return SEVERITIES[self.code]


def ordered(diagnostics: Iterable[Diagnostic]) -> tuple[Diagnostic, ...]:
    """Warnings without repetitions, the most severe first, otherwise in their order."""
    return tuple(sorted(dict.fromkeys(diagnostics), key=lambda diagnostic: diagnostic.severity))


SEVERITIES = {
    "random-samples": Severity.CRITICAL,
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
    "time-limit": Severity.NOTE,
    "rounded-outputs": Severity.NOTE,
    "default-target": Severity.INFORMATION,
    "integers": Severity.INFORMATION,
    "floats-stay": Severity.INFORMATION,
    "augmented": Severity.INFORMATION,
    "final-fit": Severity.INFORMATION,
    "forecast": Severity.INFORMATION,
}
