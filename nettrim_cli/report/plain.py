"""Results as plain values that JSON can hold."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any, ClassVar

NUMBERS = re.compile(r"\[\n\s+([^][{}\"]*?)\n\s+\]")  # no text holds a line break


class Facts:
    """A dataclass that gives its fields as plain values, with the properties that it names.

    Attributes
    ----------
    derived
        Names of the properties that stand beside the fields.
    """

    derived: ClassVar[tuple[str, ...]] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        names = [field.name for field in fields(self)]  # type: ignore[arg-type]
        return {name: plain(getattr(self, name)) for name in (*names, *self.derived)}


def plain(value: Any) -> Any:
    """A value as JSON holds it; NaN and infinities become null."""
    if isinstance(value, Facts):
        return plain(value.as_dict())
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, Enum):
        return value.name.lower()
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if hasattr(value, "tolist"):  # numpy scalars and arrays, without importing numpy here
        return plain(value.tolist())
    return str(value)


def json_text(value: Any) -> str:
    """Strict JSON, sorted and indented; a list of numbers stands on one line."""
    text = json.dumps(plain(value), indent=2, sort_keys=True, allow_nan=False)
    return NUMBERS.sub(lambda numbers: f"[{' '.join(numbers[1].split())}]", text) + "\n"
