"""Limits that a comparison of two models must keep."""

from __future__ import annotations

from dataclasses import dataclass

from nettrim_cli.errors import BadInput
from nettrim_cli.options.declare import check_bounds, option
from nettrim_cli.quantities import parse_share

COMPARE_OPTIONS = ("certificate", "ignore_label", "threads")  # of Settings, that compare has, too


@dataclass(frozen=True)
class Gate:
    """Limits that a comparison of two models must keep; fractions.

    Raises
    ------
    BadInput
        A value is outside its bounds, or there is a confidence without a limit.
    """

    max_drop: float | None = option(
        None,
        "Exit 3 if accuracy (without labels: the share of equal answers) falls by more.",
        group="Limits",
        example="0.5%",
        low=0,
        high=1,
        metavar="D",
        parse=parse_share,
    )
    max_error: float | None = option(
        None,
        "Exit 3 if an output moves by more than E of its size.",
        group="Limits",
        example="5%",
        low=0,
        metavar="E",
        parse=parse_share,
    )
    confidence: float | None = option(
        None,
        "Exit 3 also if new samples could exceed a limit, so surely.",
        group="Limits",
        detail="Their bound of this confidence decides.",
        example="95%",
        above=0.5,
        below=1,
        metavar="C",
        parse=parse_share,
    )

    def __post_init__(self) -> None:
        """Check each value against the bounds that its field declares."""
        check_bounds(self)
        if self.confidence is not None and self.max_drop is None and self.max_error is None:
            raise BadInput(
                "--confidence says how sure a limit is to be: give --max-drop or --max-error, too."
            )

    @property
    def is_set(self) -> bool:
        """Whether there is any limit."""
        return self.max_drop is not None or self.max_error is not None
