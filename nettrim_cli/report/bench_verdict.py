"""What timings say of each model, in a sentence; and limits on them."""

from __future__ import annotations

import math

from nettrim_cli.report import formatting
from nettrim_cli.report.bench_result import (
    FASTER,
    SLOWER,
    SMALLER,
    Bench,
    BenchedModel,
    Estimate,
)

WORDS = {
    "faster": "is faster",
    "same": "is not faster",
    "slower": "is slower",
    "unclear": "may be faster or slower",
}

STATUS = {False: "failed", None: "unsure", True: "passed"}
SIDES = {"failed": "above", "unsure": "on both sides of", "passed": "within"}


def speed(ratio: Estimate) -> str:
    """A key of ``WORDS``: what a ratio and its interval say of a model."""
    if ratio.high < 1 and ratio.median <= FASTER:
        return "faster"
    if ratio.low > 1 and ratio.median >= SLOWER:
        return "slower"
    could_be_faster, could_be_slower = ratio.low < FASTER, ratio.high > SLOWER
    return "unclear" if could_be_faster or could_be_slower else "same"


def verdicts(bench: Bench) -> list[tuple[str, bool]]:
    """A sentence on each model but the first, and whether it is faster at some batch size."""
    return [_verdict(bench, number) for number in range(1, len(bench.models))]


def _verdict(bench: Bench, number: int) -> tuple[str, bool]:
    reference, model = bench.models[0], bench.models[number]
    texts: dict[str, list[str]] = {}
    for timing in bench.batches:
        ratio = timing.ratios[number - 1]
        where = at_batch(timing.size) if len(bench.batches) > 1 else ""
        texts.setdefault(speed(ratio), []).append(f"{show_ratio(ratio)}{where}")
    than = f" than {formatting.clean(reference.name)}"
    clauses = []
    for key, ratios in texts.items():
        clauses.append(f"{WORDS[key]}{than}: ratio {', '.join(ratios)}")
        than = ""
    is_faster = "faster" in texts
    gain = "" if is_faster else smaller(reference, model)
    subject = formatting.clean(model.name)
    text = f"{subject} {f'has {gain} but ' if gain else ''}{'; it '.join(clauses)}."
    return text, is_faster


def smaller(reference: BenchedModel, model: BenchedModel) -> str:
    """By how much a model is smaller, in words; empty where it is not, or hardly."""
    if model.nonzeros <= SMALLER * reference.nonzeros and reference.nonzeros:
        share = 1 - model.nonzeros / reference.nonzeros
        return f"{formatting.percent(share, 0)} % fewer non-zero weights"
    if model.bytes_raw <= SMALLER * reference.bytes_raw:
        share = 1 - model.bytes_raw / reference.bytes_raw
        return f"a file {formatting.percent(share, 0)} % smaller"
    return ""


def differs(ratio: Estimate) -> bool:
    """Whether a ratio is surely not 1."""
    return not ratio.low <= 1 <= ratio.high


def show(ratio: Estimate, digits: int = 2) -> str:
    """A ratio with at least so many digits, more for a small one: ``1.02``, ``0.472``."""
    return f"{ratio.median:.{_digits(ratio, digits)}f}"


def show_ratio(ratio: Estimate, digits: int = 2) -> str:
    """A ratio with its interval: ``0.472 (0.468 to 0.477)``."""
    return f"{show(ratio, digits)} ({interval(ratio, digits)})"


def interval(ratio: Estimate, digits: int = 2) -> str:
    """The interval of a ratio: ``0.468 to 0.477``; ``unknown`` after too few rounds."""
    if not math.isfinite(ratio.high):
        return "unknown"
    digits = _digits(ratio, digits)
    return f"{ratio.low:.{digits}f} to {ratio.high:.{digits}f}"


def _digits(ratio: Estimate, digits: int) -> int:
    return max(digits, 2 if ratio.median >= 0.5 else 3 if ratio.median >= 0.1 else 4)


def outcomes(bench: Bench) -> list[tuple[str, str]]:
    """For each model, failed ones first: passed, failed or unsure; its ratios and the limit."""
    several = len(bench.batches) > 1
    shown: dict[tuple[str, str], list[str]] = {}
    for check in sorted(bench.checks, key=lambda check: STATUS[check.passed]):
        ratio = f"{show_ratio(check.ratio, 3)}{at_batch(check.size) if several else ''}"
        shown.setdefault((STATUS[check.passed], check.name), []).append(ratio)
    return [
        (
            status,
            f"{formatting.clean(name)}: ratio {', '.join(ratios)}, {SIDES[status]} "
            f"--max-latency-ratio {bench.checks[0].limit:g}",
        )
        for (status, name), ratios in shown.items()
    ]


def at_batch(size: int) -> str:
    """The batch size of a ratio, in words."""
    return f" at batch {formatting.count(size)}"


def complaint(bench: Bench) -> str:
    """The missed limits, or else those that cannot be told, in one sentence."""
    texts: dict[str, list[str]] = {}
    for status, text in outcomes(bench):
        texts.setdefault(status, []).append(text)
    if "failed" in texts or "unsure" not in texts:
        return "; ".join(texts.get("failed", ()))
    unsure = "; ".join(texts["unsure"])
    return f"--max-latency-ratio cannot be checked: {unsure}; give more --seconds"
