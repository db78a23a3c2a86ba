"""Options as fields of a dataclass: each with its default, bounds and help."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import field, fields
from typing import Any

from nettrim_cli.errors import BadInput

BOUNDS: dict[str, tuple[Callable[[Any, Any], bool], str]] = {
    "low": (operator.ge, "at least"),
    "above": (operator.gt, "above"),
    "high": (operator.le, "at most"),
    "below": (operator.lt, "below"),
}
"""What bounds of a field ask of its value, and in words."""


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
    above: float | None = None,
    below: float | None = None,
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
    low, high
        Least and largest value.
    above, below
        Bounds that the value must not reach, in their place.
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
            "above": above,
            "below": below,
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
        One is no choice, not of its form, or outside its bounds.
    """
    for option_field in fields(options):
        value, rule = getattr(options, option_field.name), option_field.metadata
        if rule["choices"] and value not in rule["choices"] and value != option_field.default:
            choices = " or ".join(rule["choices"])
            raise BadInput(f"{option_field.name} is {value!r}; it must be {choices}.")
        values = value if isinstance(value, tuple) else (value,)
        for text in values:
            if isinstance(text, str) and rule["parse"]:
                _check_text(option_field.name, text, rule)
        if value is not None and not all(inside(item, rule) for item in values):
            raise BadInput(f"{option_field.name} is {value!r}; it must be {bounds(rule)}.")


def _check_text(name: str, text: str, rule: Mapping[str, Any]) -> None:
    try:
        rule["parse"](text)
    except ValueError as error:
        raise BadInput(f"{name} {error}.") from error


def inside(value: float, rule: Mapping[str, Any]) -> bool:
    """Whether a value is within the bounds of a field, if there are any."""
    return all(
        rule.get(name) is None or holds(value, rule[name]) for name, (holds, _) in BOUNDS.items()
    )


def bounds(rule: Mapping[str, Any]) -> str:
    """The bounds of a field in words."""
    words = [f"{word} {rule[name]}" for name, (_, word) in BOUNDS.items() if rule[name] is not None]
    return " and ".join(words)
