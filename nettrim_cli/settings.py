"""Every option of a run, once: its default, bounds and help text stand in its field.

The command line makes its flags from these fields, the written model carries their values in
its metadata, and the docs are generated from ``--help``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from nettrim_cli.errors import BadInput

METHODS = ("l0", "net-trim", "one-sided", "reweighted")
SCHEMES = ("cascade", "parallel")
DEFAULT_EPSILON = 0.05


def option(
    default: Any,
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    open_ends: bool = False,
    choices: tuple[str, ...] = (),
    metavar: str = "",
) -> Any:
    """Declare a field with what the command line needs to know of it."""
    return field(
        default=default,
        metadata={
            "help": help,
            "low": low,
            "high": high,
            "open": open_ends,
            "choices": choices,
            "metavar": metavar,
        },
    )


@dataclass(frozen=True)
class Settings:
    """What to do, independent of the files it is done to.

    Attributes
    ----------
    epsilon, sparsity
        The target; at most one is given, and with neither ``epsilon`` is ``DEFAULT_EPSILON``.
        Both are fractions.

    Raises
    ------
    BadInput
        If a value is outside its bounds or two targets are given.
    """

    epsilon: float | None = option(
        None,
        f"Target: relative response error allowed to each layer (the default, {DEFAULT_EPSILON}).",
        low=0,
        high=1,
        open_ends=True,
        metavar="E",
    )
    sparsity: float | None = option(
        None,
        "Target: share of zeros over all prunable weights, such as 0.9.",
        low=0,
        high=1,
        open_ends=True,
        metavar="S",
    )
    method: str = option(
        "l0",
        "l0: fewest weights, then a refit of those kept (best by measurement). "
        "net-trim: the paper's convex program to the letter. "
        "one-sided: the same with inactive responses sharing epsilon, so fewer weights. "
        "reweighted: four rounds of that, each cheaper for what is large, so fewer still.",
        choices=METHODS,
    )
    scheme: str = option(
        "cascade",
        "cascade: a layer reads what the already pruned layers deliver. "
        "parallel: every layer reads the dense model's signals.",
        choices=SCHEMES,
    )
    gamma: float = option(
        1.1**0.5,
        "all but l0, in cascade: slack over the error that the unpruned layer would make "
        "(paper: sqrt(1.1)).",
        low=1,
        high=100,
        metavar="G",
    )
    samples: int = option(
        5000,
        "Use at most this many samples, drawn by --seed.",
        low=2,
        metavar="N",
    )
    holdout: float = option(
        0.2,
        "Share of the samples never fitted to, on which choices are made and errors reported.",
        low=0,
        high=1,
        open_ends=True,
        metavar="SHARE",
    )
    seed: int = option(0, "Seed of every random choice.", low=0, metavar="N")
    threads: int | None = option(
        None, "Processor threads to use (default: all).", low=1, high=1024, metavar="N"
    )
    include: tuple[str, ...] = option(
        (), "Prune only layers whose name matches (shell pattern; repeatable).", metavar="PATTERN"
    )
    exclude: tuple[str, ...] = option(
        (), "Leave layers whose name matches dense (shell pattern; repeatable).", metavar="PATTERN"
    )

    def __post_init__(self) -> None:
        """Check each value against the bounds that its field declares."""
        if self.epsilon is not None and self.sparsity is not None:
            raise BadInput("Give either an epsilon or a sparsity as the target, not both.")
        for each in fields(self):
            value, rule = getattr(self, each.name), each.metadata
            if rule["choices"] and value not in rule["choices"]:
                wanted = " or ".join(rule["choices"])
                raise BadInput(f"{each.name} is {value!r}; it must be {wanted}.")
            if rule["low"] is None or value is None:
                continue
            low, high = rule["low"], rule["high"]
            inside = low < value < high if rule["open"] else low <= value <= (high or value)
            if not inside:
                raise BadInput(f"{each.name} is {value!r}; it must be {bounds(rule)}.")

    @property
    def target_epsilon(self) -> float | None:
        """The relative error allowed to a layer, or None where sparsity is the target."""
        if self.sparsity is not None:
            return None
        return DEFAULT_EPSILON if self.epsilon is None else self.epsilon

    def as_dict(self) -> dict[str, Any]:
        """Plain values for metadata and reports."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}


def bounds(rule: Mapping[str, Any]) -> str:
    """The bounds of a field in words."""
    low, high = rule["low"], rule["high"]
    if high is None:
        return f"at least {low}"
    return f"{'above' if rule['open'] else 'at least'} {low} and " + (
        f"below {high}" if rule["open"] else f"at most {high}"
    )
