"""Arrays in memory in place of a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nettrim_cli.data.formats.base import Array, Indices, spell


@dataclass(frozen=True)
class MemorySource:
    """An array; see `nettrim_cli.data.formats.base.Source`."""

    name: str
    values: Array

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return self.values.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Its dtype."""
        return self.values.dtype

    def read(self, indices: Indices) -> Array:
        """Rows at indices; a scalar gives itself."""
        rows: Array = self.values[indices] if self.values.ndim else self.values
        return rows


@dataclass
class MemoryContainer:
    """Arrays by name; see `nettrim_cli.data.formats.base.Container`.

    It goes wherever the path of a calibration file goes.
    """

    path: Path
    arrays: Mapping[str, Array]

    def __fspath__(self) -> str:
        """Give its name in messages, which is no file's."""
        return str(self.path)

    __str__ = __fspath__

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Nothing."""
        return {}

    def names(self) -> list[str]:
        """Name every array."""
        return list(self.arrays)

    def find(self, name: str) -> MemorySource | None:
        """Look an array up."""
        return MemorySource(name, self.arrays[name]) if name in self.arrays else None

    def describe(self, name: str) -> str:
        """Give name, shape and dtype for a message."""
        return f"'{name}' {spell(self.arrays[name].shape, self.arrays[name].dtype)}"

    def close(self) -> None:
        """Do nothing."""
