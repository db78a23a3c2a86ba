"""A run in two lines: what was asked, reached and lost; how sure that is, and what limits it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nettrim_cli.report import formatting
from nettrim_cli.report.diagnostic import Severity

if TYPE_CHECKING:
    from nettrim_cli.report.result import Report

LIMITS = 2  # named in the second line
HALF_STEP = 5e-4  # of a share of zeros, as shown


@dataclass(frozen=True)
class Verdict:
    """What a person acts on.

    Attributes
    ----------
    reached
        Whether the target is reached.
    outcome
        The first line: what was asked, whether it was reached, and what was lost.
    sureness
        The second line: on how many samples, what holds for new ones, and what limits the result.
    """

    reached: bool
    outcome: str
    sureness: str

    @property
    def lines(self) -> tuple[str, str]:
        """Both lines."""
        return self.outcome, self.sureness

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"reached": self.reached, "lines": list(self.lines)}


def verdict(report: Report) -> Verdict:
    """Judge a run by its report."""
    reached = is_reached(report)
    word = "Reached" if reached else "Not reached"
    return Verdict(reached, f"{word}: {_asked(report)} {_lost(report)}".strip(), _sureness(report))


def asked(report: Report) -> tuple[str, float]:
    """Name and value of the target."""
    target = report.target
    return report.asked if target is None else (target.name, target.wanted)


def is_reached(report: Report) -> bool:
    """Whether what was asked is there."""
    name, wanted = asked(report)
    if name == "sparsity":
        return report.sparsity >= wanted - HALF_STEP
    if name in ("epsilon", "pattern"):
        return not any(each.code == "not-solved" for each in report.warnings)
    return report.target is not None and report.target.met


def _asked(report: Report) -> str:
    """What there is, beside what was asked."""
    name, wanted = asked(report)
    zeros = f"{formatting.percent(report.sparsity)} % zeros"
    target = report.target
    if name == "sparsity":
        return f"{zeros}, {formatting.plain_percent(wanted)} % asked."
    if name == "pattern":
        return f"pattern {report.settings['pattern']}, {zeros}."
    if name == "epsilon" or target is None:
        return f"{zeros}, each layer allowed an error of {formatting.plain_percent(wanted)} %."
    if name == "max_bytes":
        sizes = (formatting.size(int(each)) for each in (target.reached, wanted))
        return "{} gzipped, {} allowed, {}.".format(*sizes, zeros)
    if name == "max_error":
        return f"{zeros} within an output error of {formatting.plain_percent(wanted)} %."
    unit = (
        "points of accuracy" if report.comparison.reference.accuracy is not None else "% of answers"
    )
    return f"{zeros} for at most {formatting.plain_percent(wanted)} {unit}."


def _lost(report: Report) -> str:
    """What the network lost, on the held-out samples."""
    comparison, parts = report.comparison, []
    before, after = comparison.reference.accuracy, comparison.candidate.accuracy
    if before is not None and after is not None:
        text = formatting.points(before, after)
        same = "accuracy unchanged"
        parts.append(same if text == "unchanged" else text.replace("points", "points of accuracy"))
    elif comparison.drop is not None:
        share = f"{formatting.percent(comparison.drop, 2)} % of" if comparison.drop else "no"
        parts.append(f"{share} answers changed")
    if comparison.outputs:
        parts.append(f"output error {formatting.error(comparison.error)} %")
    text = ", ".join(parts)
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _sureness(report: Report) -> str:
    """On what it rests, and what limits it."""
    comparison = report.comparison
    parts = [f"Measured on {formatting.count(comparison.samples)} held-out samples"]
    if report.final_samples:
        parts.append(f" before the final fit to all {formatting.count(report.final_samples)}")
    if report.bound is not None:
        new = formatting.new_samples(report.bound, labels=comparison.reference.accuracy is not None)
        parts.append(f"; on new ones {new}")
    severe = [each for each in report.warnings if each.severity is Severity.CRITICAL]
    told = (each.brief for each in report.warnings if each.brief and each not in severe)
    limits = list(dict.fromkeys(told))
    text = "".join(parts) + "."
    if severe:
        text += f" Not to be relied on: {severe[0].brief or severe[0].text}."
    if limits:
        text += f" Limited by {'; '.join(limits[:LIMITS])}."
    return text
