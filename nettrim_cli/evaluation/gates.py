"""A comparison held against the limits that a user set."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from nettrim_cli.errors import BadInput
from nettrim_cli.evaluation.accuracy import CONFIDENCE, Drop, counted_drop
from nettrim_cli.evaluation.comparison import OutputComparison
from nettrim_cli.evaluation.relative_error import RelativeError
from nettrim_cli.report.comparison_result import Check
from nettrim_cli.settings import Gate

OutputSpread = Drop | RelativeError | None
MOST = 1e6  # times the samples, beyond which no number of samples is shown


def checks(comparison: OutputComparison, gate: Gate) -> Iterator[Check]:
    """Check a comparison against each limit of a gate.

    Raises
    ------
    BadInput
        The figure of a limit cannot be measured.
    """
    if gate.max_error is not None:
        for name, why in comparison.unmeasured.items():
            raise BadInput(
                f"--max-error cannot be checked: the error of output '{name}' cannot be measured, "
                f"as {why}."
            )
        errors = {name: error.error for name, error in comparison.errors.items()}
        worst = max(errors, key=lambda name: math.inf if math.isnan(errors[name]) else errors[name])
        answers = comparison.errors[worst].answers
        label = f"{'share of other elements' if answers else 'error'} of output '{worst}'"
        spreads: list[OutputSpread] = [error.spread for error in comparison.errors.values()]
        samples = comparison.samples
        yield _check("max_error", label, gate.max_error, errors[worst], spreads, gate, samples)
    if gate.max_drop is not None:
        answer_margins = comparison.answer_margins
        if not answer_margins:
            raise BadInput(
                "--max-drop cannot be checked: there are no answers to count. It needs labels (and "
                "an output with an answer for each), or an output with a score for each class."
            )
        label = "accuracy lost" if comparison.label_margins.counts else "share of other answers"
        spreads = [counted_drop(margins) for margins in answer_margins.values()]
        drop, samples = comparison.drop, comparison.samples
        yield _check("max_drop", label, gate.max_drop, drop, spreads, gate, samples)


def _check(
    name: str,
    label: str,
    limit: float,
    figure: float,
    spreads: Sequence[OutputSpread],
    gate: Gate,
    samples: int,
) -> Check:
    confidence = gate.confidence or CONFIDENCE
    measured = [spread for spread in spreads if spread is not None]

    def upper_bound(ratio: float = 1) -> float:
        """Largest upper bound with ``ratio`` times the samples."""
        bounds = [spread.upper(confidence, ratio * spread.samples) for spread in measured]
        return max(bounds, default=math.inf)

    def lower_bound(ratio: float = 1) -> float:
        """Largest lower bound with ``ratio`` times the samples."""
        bounds = [spread.lower(confidence, ratio * spread.samples) for spread in measured]
        return max(bounds, default=-math.inf)

    def is_settled(ratio: float) -> bool:
        """Whether the bounds agree with the figure."""
        return upper_bound(ratio) <= limit if figure <= limit else not lower_bound(ratio) <= limit

    needed = None if is_settled(1) else _least(is_settled)
    return Check(
        name=name,
        what=label,
        limit=limit,
        figure=figure,
        low=lower_bound(),
        high=max(upper_bound(), figure),
        confidence=confidence,
        by_bound=gate.confidence is not None,
        samples=samples,
        needed=None if needed is None else _about(needed * samples),
    )


def _least(is_settled: Callable[[float], bool]) -> float | None:
    """Least multiple of the samples that settles a check; None where no reasonable one does."""
    low, high = 1.0, 2.0
    while not is_settled(high):
        low, high = high, 2 * high
        if high > MOST:
            return None
    while high / low > 1.01:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if is_settled(middle) else (middle, high)
    return high


def _about(number: float) -> int:
    """A number rounded up to two digits."""
    step: int = 10 ** max(0, math.floor(math.log10(number)) - 1)
    return math.ceil(number / step) * step
