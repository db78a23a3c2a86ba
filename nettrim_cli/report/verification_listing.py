"""A file held against a report, on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nettrim_cli.report import formatting, text_table
from nettrim_cli.report.terminal import BAD, FAINT, GOOD
from nettrim_cli.report.verification_result import WORDS, Verification

if TYPE_CHECKING:
    from rich.console import Console

STYLES = {True: GOOD, False: BAD, None: FAINT}


def show_verification(verification: Verification, console: Console) -> None:
    """Print the outcome, then what was looked at, failures first."""
    style = f"bold {STYLES[verification.passed]}"
    text_table.paragraph(formatting.clean(verification.verdict), console, style, hanging=3)
    text_table.blank(console)
    width = max(len(WORDS[finding.passed]) for finding in verification.findings)
    for finding in sorted(verification.findings, key=lambda finding: finding.passed is not False):
        text = f"{WORDS[finding.passed]:{width}}  {formatting.clean(finding.text)}"
        text_table.paragraph(text, console, STYLES[finding.passed], hanging=width + 3)


def complaint(verification: Verification) -> str:
    """What failed, in one line."""
    return " ".join(finding.text for finding in verification.findings if finding.passed is False)
