"""A file held against a report, as plain values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from nettrim_cli.report.plain import Facts
from nettrim_cli.report.saving import Saved

if TYPE_CHECKING:
    from nettrim_cli.report.document import Document

WORDS = {True: "passed", False: "failed", None: "not checked"}


@dataclass(frozen=True)
class Finding(Facts):
    """One thing that was looked at.

    Attributes
    ----------
    what
        ``output``, ``layers``, ``model``, ``data``, ``error`` or ``accuracy``.
    passed
        Whether it is as the report says; None where that could not be told.
    text
        The same in a sentence.
    """

    what: str
    passed: bool | None
    text: str


@dataclass(frozen=True)
class Verification(Saved):
    """A pruned model held against the report of its run.

    Attributes
    ----------
    model, report
        Both files.
    findings
        All that was looked at, in its order.
    version
        Of nettrim.
    """

    kind: ClassVar[str] = "verify"
    derived: ClassVar[tuple[str, ...]] = ("passed",)

    model: str
    report: str
    findings: tuple[Finding, ...]
    version: str

    @property
    def passed(self) -> bool:
        """Whether nothing is otherwise than the report says."""
        return all(finding.passed is not False for finding in self.findings)

    @property
    def verdict(self) -> str:
        """The outcome in a sentence."""
        failed = sum(finding.passed is False for finding in self.findings)
        if not failed:
            return f"{self.model} is as {self.report} says."
        return f"{self.model} is not as {self.report} says, in {failed} of {len(self.findings)}."

    def document(self) -> Document:
        """What people read of it."""
        from nettrim_cli.report.document import Document, Table

        rows = [(WORDS[finding.passed], finding.text) for finding in self.findings]
        table = Table(("", "finding"), "ll", rows)
        return Document("nettrim verify", self.verdict, table, self.passed)

    def rows(self) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
        """A row for each finding."""
        rows = [(each.what, each.passed, each.text) for each in self.findings]
        return ("what", "passed", "text"), rows
