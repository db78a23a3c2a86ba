"""Options of ``nettrim curve``."""

from __future__ import annotations

from dataclasses import dataclass

from nettrim_cli.options.declare import check_bounds, option
from nettrim_cli.quantities import parse_share

RUN_OPTIONS = (  # of Settings, that a run which is only predicted has, too
    *("samples", "holdout", "ignore_label", "augment", "include", "exclude", "limit", "structure"),
    *("widths", "batch", "allocate", "refit", "seed", "threads", "workers", "cluster"),
)
MEASUREMENT = (  # of a look at layers
    *("samples", "holdout", "ignore_label", "seed", "threads", "workers", "cluster"),
)
ANY_ERROR = 0.5  # a target of the whole network, --max-error, which stands for any
SPARSITIES = (0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)


def check_shares(text: str) -> str:
    """Give the text of some sparsities unchanged.

    Raises
    ------
    ValueError
        One is no fraction, or not between 0 and 1.
    """
    for share in parsed_shares(text):
        if not 0 <= share < 1:
            raise ValueError(f"{text!r} has {share:g}, which is not at least 0 and below 1")
    return text


def parsed_shares(text: str) -> tuple[float, ...]:
    """Sparsities of a text such as ``50%,70%``; 0 is the dense network, which is always there."""
    return tuple(parse_share(part) for part in text.split(","))


@dataclass(frozen=True)
class CurveSettings:
    """Where a curve is told, and how often it is measured.

    Raises
    ------
    BadInput
        A value is outside its bounds.
    """

    at: tuple[str, ...] = option(
        (),
        "Sparsities to tell of (repeatable).",
        group="Output",
        example="50%,70%",
        absent=",".join(f"{100 * share:g}%" for share in SPARSITIES),
        metavar="S,S",
        parse=check_shares,
    )
    measured: int = option(
        1,
        "Prune the network at so many of these sparsities; the others are predicted.",
        group="Output",
        detail="The first is the last before the network loses much. With 0 nothing is pruned, "
        "and with as many as there are sparsities nothing is predicted.",
        example="3",
        low=0,
        high=1000,
        metavar="N",
    )

    def __post_init__(self) -> None:
        """Check each value against the bounds that its field declares."""
        check_bounds(self)

    @property
    def sparsities(self) -> tuple[float, ...]:
        """The sparsities, ascending, without 0."""
        shares = {share for text in self.at for share in parsed_shares(text)} - {0.0}
        return tuple(sorted(shares)) or SPARSITIES
