"""Options as fields of a dataclass: each with its default, bounds and help."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field, fields
from typing import Any

from nettrim_cli.errors import BadInput


def option(
    default: Any,
    help: str,
    *,
    group: str = "",
    detail: str = "",
    example: str = "",
    absent: str = "",
    low: float | None = None,
    high: float | None = None,
    open_ends: bool = False,
    zero: bool = False,
    choices: tuple[str, ...] = (),
    metavar: str = "",
    parse: Callable[[str], Any] | None = None,
    flag: bool = True,
) -> Any:
    """Declare a field of a dataclass of options, for the command line.

    Parameters
    ----------
    default, help
        Default value, and a sentence or two for ``--help``.
    group
        Heading under which ``--help`` lists it, one of ``options.help.GROUPS``.
    detail
        What docs/cli.md says besides.
    example
        A value as the command line takes it; a choice has one without.
    absent
        What happens where the default is None, in words: ``all``.
    low, high, open_ends
        Bounds of the value, and whether they are excluded.
    zero
        Whether a lower bound of 0 is allowed all the same.
    choices
        The values that are allowed, if not all within the bounds.
    metavar
        Placeholder of the value in the help.
    parse
        Reads the value from text where that is not just a number; raises ``ValueError`` with what
        is wrong.
    """
    return field(
        default=default,
        metadata={
            "help": help,
            "group": group,
            "detail": detail,
            "example": example,
            "absent": absent,
            "low": low,
            "high": high,
            "open": open_ends,
            "zero": zero,
            "choices": choices,
            "metavar": metavar,
            "parse": parse,
            "flag": flag,
        },
    )


def check_bounds(options: Any) -> None:
    """Check the values of a dataclass of options against what its fields declare.

    Raises
    ------
    BadInput
        One is no choice, or outside its bounds.
    """
    for option_field in fields(options):
        value, rule = getattr(options, option_field.name), option_field.metadata
        if rule["choices"] and value not in rule["choices"] and value != option_field.default:
            choices = " or ".join(rule["choices"])
            raise BadInput(f"{option_field.name} is {value!r}; it must be {choices}.")
        values = value if isinstance(value, tuple) else (value,)
        if value is not None and not all(inside(item, rule) for item in values):
            raise BadInput(f"{option_field.name} is {value!r}; it must be {bounds(rule)}.")


def inside(value: float, rule: Mapping[str, Any]) -> bool:
    """Whether a value is within the bounds of a field, if there are any."""
    low: Any = rule.get("low")
    high: Any = rule.get("high")
    if rule.get("open"):
        return bool((low < value or (rule.get("zero") and value == 0)) and value < high)
    return (low is None or low <= value) and (high is None or value <= high)


def bounds(rule: Mapping[str, Any]) -> str:
    """The bounds of a field in words."""
    low, high = rule["low"], rule["high"]
    if high is None:
        return f"at least {low}"
    above = rule["open"] and not rule.get("zero")
    return f"{'above' if above else 'at least'} {low} and " + (
        f"below {high}" if rule["open"] else f"at most {high}"
    )
