"""Options of a call: an object of settings, keywords, or both."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping
from dataclasses import fields, replace
from typing import Any, TypeVar

from nettrim_cli.errors import BadInput
from nettrim_cli.settings import BenchSettings, CurveSettings, Gate, Settings

Options = TypeVar("Options", bound=Any)
KINDS = (BenchSettings, CurveSettings, Gate, Settings)
RULES = {field.name: field for kind in KINDS for field in fields(kind)}
SWITCHES = {"bench", "force", *(name for name, field in RULES.items() if field.type == "bool")}
FLAG = re.compile(r"--([a-z][a-z0-9-]*)(?: ([\w%:+-]+(?:\.\d+%?)?))?")


def merged(
    settings: Options,
    keywords: Mapping[str, Any],
    function: str,
    names: Collection[str] | None = None,
) -> Options:
    """Settings in which keywords take the place of fields.

    Texts are read as the command line reads them (``sparsity="90%"``), and where several values
    are allowed a single one is taken, too.

    Parameters
    ----------
    settings, keywords
        The fields, and what takes their place.
    function
        Its name, for messages.
    names
        Those of the options that it has; by default all.

    Raises
    ------
    TypeError
        There is no such option; the message tells the nearest.
    BadInput
        A value cannot be read, or is out of its bounds.
    """
    declared = {field.name: field for field in fields(settings)}
    rules = declared if names is None else {name: declared[name] for name in names}
    values = {}
    for name, value in keywords.items():
        if name not in rules:
            near = difflib.get_close_matches(name, rules, n=1, cutoff=0.5)
            meant = f"; did you mean {near[0]}?" if near else ""
            raise TypeError(f"{function}() has no option '{name}'{meant}")
        if isinstance(rules[name].default, tuple):
            several = value if isinstance(value, (tuple, list)) else (value,)
            values[name] = tuple(_read(item, rules[name]) for item in several)
        else:
            values[name] = _read(value, rules[name])
    return replace(settings, **values)


def _read(value: Any, field: Any) -> Any:
    parse = field.metadata["parse"]
    if not isinstance(value, str) or parse is None:
        return value
    try:
        return parse(value)
    except ValueError as error:
        raise BadInput(f"{field.name}: {error}.") from error


def with_keywords(message: str) -> str:
    """A message with keywords in place of the command line's flags, such as ``force=True``."""
    return FLAG.sub(_keyword, message)


def _keyword(flag: re.Match[str]) -> str:
    """A flag and the word behind it; only what is its value becomes a part of the keyword."""
    name, word = flag[1].replace("-", "_"), flag[2] or ""
    behind = f" {word}" if word else ""
    if name in SWITCHES:
        return f"{name}=True{behind}"
    if name not in RULES:
        return f"data{behind}" if name == "data" else flag[0]
    rule = RULES[name].metadata
    try:
        if word in rule["choices"]:
            return f"{name}={word!r}"
        return f"{name}={(rule['parse'] or int)(word)!r}"
    except ValueError:
        return f"{name}{behind}"
