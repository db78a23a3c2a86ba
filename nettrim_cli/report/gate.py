"""The checked limits of a comparison as text."""

from __future__ import annotations

from nettrim_cli.report import formatting
from nettrim_cli.report.comparison_result import Check, Comparison


def outcome(check: Check) -> tuple[str, str, str]:
    """Passed or failed; figure and limit; the bound for new samples and what would settle it."""
    within = check.figure <= check.limit
    option = f"--{check.name.replace('_', '-')} {100 * check.limit:g} %"
    doubtful = ", but not surely," if within and not check.passed else ""
    figure = f"{formatting.clean(check.what)}: {formatting.error(check.figure)} %"
    text = f"{figure}, {'within' if within else 'above'} {option}{doubtful or ','} on "
    text += f"{formatting.count(check.samples)} sample{'' if check.samples == 1 else 's'}"
    return "passed" if check.passed else "failed", text, _sureness(check, within)


def _sureness(check: Check, within: bool) -> str:
    side, bound = ("at most", check.high) if within else ("at least", check.low)
    shown = formatting.at_most(bound) if within else formatting.error(bound)
    text = f"on new samples {side} {shown} % with {100 * check.confidence:g} % confidence"
    if check.settled:
        return text
    if check.needed is None:
        return f"{text}; no number of samples settles it, the figure is at the limit"
    return f"{text}; about {formatting.count(check.needed)} samples would settle it"


def complaint(comparison: Comparison) -> str:
    """The missed limits, in one sentence."""
    missed = [outcome(check) for check in comparison.checks if not check.passed]
    return "; ".join(f"{text} ({sureness})" for _, text, sureness in missed)
