"""A run in two lines: its target, result and loss; how sure they are, and what limits them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nettrim_cli.report import formatting
from nettrim_cli.report.diagnostic import Severity
from nettrim_cli.report.plain import Facts

if TYPE_CHECKING:
    from nettrim_cli.report.result import Report

LIMITS = 2  # named in the second line
HALF_STEP = 5e-4  # of a sparsity, as shown
NOTABLE = 0.003  # zeros beyond those asked for that are explained


@dataclass(frozen=True)
class Verdict(Facts):
    """A run in two lines.

    Attributes
    ----------
    reached
        Whether the target is reached.
    outcome
        The first line: the target, whether it is reached, and the loss.
    sureness
        The second line: the number of samples, the bound on new ones, and what limits the result.
    """

    reached: bool
    outcome: str
    sureness: str

    @property
    def lines(self) -> tuple[str, str]:
        """Both lines."""
        return self.outcome, self.sureness


def verdict(report: Report) -> Verdict:
    """Judge a run by its report."""
    reached = is_reached(report)
    word = "Reached" if reached else "Not reached"
    return Verdict(reached, f"{word}: {_result(report)} {_loss(report)}".strip(), _sureness(report))


def target_of(report: Report) -> tuple[str, float]:
    """Name and value of the target."""
    target = report.target
    return report.target_option if target is None else (target.name, target.wanted)


def is_reached(report: Report) -> bool:
    """Whether the target is reached; of a sparsity, whether less than a weight is missing."""
    name, value = target_of(report)
    if name == "sparsity":
        return report.sparsity >= value - max(HALF_STEP, 1 / max(report.weights, 1))
    if name in ("epsilon", "pattern"):
        return not any(warning.code == "not-solved" for warning in report.warnings)
    return report.target is not None and report.target.met


def _result(report: Report) -> str:
    """The result beside the target."""
    name, value = target_of(report)
    noun = "of the weights gone" if report.smaller else "zeros"
    zeros = f"{formatting.percent(report.sparsity)} % {noun}"
    if report.mix.bits or report.mix.zeros:
        zeros += f", {report.mix}"
    target = report.target
    if name == "sparsity":
        more = bool(report.deleted_units) and report.sparsity >= value + NOTABLE
        why = " (more with units that nothing reads)" if more else ""
        return f"{zeros}, {formatting.plain_percent(value)} % asked{why}."
    if name == "pattern":
        return f"pattern {report.settings['pattern']}, {zeros}."
    if name == "epsilon" or target is None:
        return f"{zeros}, each layer allowed an error of {formatting.plain_percent(value)} %."
    if name == "max_bytes":
        sizes = (formatting.size(int(size)) for size in (target.reached, value))
        form = "" if report.settings.get("store") == "compact" else " gzipped"
        return f"{next(sizes)}{form}, {next(sizes)} allowed, {zeros}."
    if name == "speedup":
        factors = (f"{1 / figure:.3g}" for figure in (target.reached, value))
        return "{} times as fast, {} asked, {}.".format(*factors, zeros)
    if name == "max_error":
        return f"{zeros} within an output error of {formatting.plain_percent(value)} %."
    most = formatting.plain_percent(value)
    points = "point of accuracy" if most == "1" else "points of accuracy"
    unit = points if report.comparison.reference.accuracy is not None else "% of answers"
    return f"{zeros} for at most {most} {unit}."


def _loss(report: Report) -> str:
    """The network's loss on the held-out samples."""
    comparison, parts = report.comparison, []
    reference_accuracy = comparison.reference.accuracy
    candidate_accuracy = comparison.candidate.accuracy
    if reference_accuracy is not None and candidate_accuracy is not None:
        text = formatting.points(reference_accuracy, candidate_accuracy)
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
    """The samples that the figures rest on, and what limits the result."""
    comparison = report.comparison
    parts = [f"Measured on {formatting.count(comparison.samples)} held-out samples"]
    if report.final_samples:
        parts.append(f" before the final fit to all {formatting.count(report.final_samples)}")
    if report.bound is not None:
        labels = comparison.reference.accuracy is not None
        parts.append(f"; on new ones {formatting.new_samples(report.bound, labels=labels)}")
    severe = [warning for warning in report.warnings if warning.severity is Severity.CRITICAL]
    briefs = (
        warning.brief for warning in report.warnings if warning.brief and warning not in severe
    )
    limits = list(dict.fromkeys(briefs))
    text = "".join(parts) + "."
    if severe:
        text += f" Not to be relied on: {(severe[0].brief or severe[0].text).rstrip('.')}."
    if limits:
        text += f" Limited by {'; '.join(limits[:LIMITS])}."
    return text
