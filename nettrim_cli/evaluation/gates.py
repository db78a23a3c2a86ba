"""A comparison held against the limits that a user set."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from nettrim_cli.errors import BadInput
from nettrim_cli.evaluation.accuracy import CONFIDENCE, Drop, counted_drop
from nettrim_cli.evaluation.comparison import OutputComparison
from nettrim_cli.evaluation.relative_error import RelativeError
from nettrim_cli.report.result import Check
from nettrim_cli.settings import Gate

OutputSpread = Drop | RelativeError | None
MOST = 1e6  # times the samples there are, beyond which no number of them is told


def checks(found: OutputComparison, gate: Gate) -> Iterator[Check]:
    """Hold what two models answered against each limit of a gate.

    Raises
    ------
    BadInput
        The figure that a limit is about cannot be had.
    """
    if gate.max_error is not None:
        for name, why in found.unmeasured.items():
            raise BadInput(
                f"--max-error cannot be checked: the error of output '{name}' cannot be measured, "
                f"as {why}."
            )
        errors = {name: each.error for name, each in found.tallies.items()}
        worst = max(errors, key=lambda name: math.inf if math.isnan(errors[name]) else errors[name])
        answers = found.tallies[worst].answers
        what = f"{'share of other elements' if answers else 'error'} of output '{worst}'"
        spreads: list[OutputSpread] = [each.spread for each in found.tallies.values()]
        yield _check("max_error", what, gate.max_error, errors[worst], spreads, gate, found.samples)
    if gate.max_drop is not None:
        margins = found.drops
        if not margins:
            raise BadInput(
                "--max-drop cannot be checked: there are no answers to count. It needs labels (and "
                "an output with an answer for each), or an output with a score for each class."
            )
        what = "accuracy lost" if found.labelled.counts else "share of other answers"
        spreads = [counted_drop(each) for each in margins]
        yield _check("max_drop", what, gate.max_drop, found.drop, spreads, gate, found.samples)


def _check(
    name: str,
    what: str,
    limit: float,
    figure: float,
    spreads: Sequence[OutputSpread],
    gate: Gate,
    samples: int,
) -> Check:
    confidence = gate.confidence or CONFIDENCE
    known = [each for each in spreads if each is not None]

    def high(more: float = 1) -> float:
        return max((e.upper(confidence, more * e.samples) for e in known), default=math.inf)

    def low(more: float = 1) -> float:
        return max((e.lower(confidence, more * e.samples) for e in known), default=-math.inf)

    def settled(more: float) -> bool:
        return high(more) <= limit if figure <= limit else not low(more) <= limit

    needed = None if settled(1) else _least(settled)
    return Check(
        name=name,
        what=what,
        limit=limit,
        figure=figure,
        low=low(),
        high=max(high(), figure),
        confidence=confidence,
        by_bound=gate.confidence is not None,
        samples=samples,
        needed=None if needed is None else _about(needed * samples),
    )


def _least(settled: Callable[[float], bool]) -> float | None:
    """The least multiple of the samples that settles it; None where no reasonable one does."""
    low, high = 1.0, 2.0
    while not settled(high):
        low, high = high, 2 * high
        if high > MOST:
            return None
    while high / low > 1.01:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if settled(middle) else (middle, high)
    return high


def _about(number: float) -> int:
    """Rounded up to two digits."""
    step: int = 10 ** max(0, math.floor(math.log10(number)) - 1)
    return math.ceil(number / step) * step
