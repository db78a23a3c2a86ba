"""What problems need to be solved in another process just as they are here."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import numpy as np

from nettrim_cli.solve.matrices import Matrix

T = TypeVar("T")


class SharedCache:
    """What is computed once for all layers that read the same columns: factorisations.

    It stays in the process: a problem that is pickled takes an empty one along.
    """

    def __init__(self) -> None:
        self._values: dict[Hashable, Any] = {}

    def get(self, key: Hashable, compute: Callable[[], T]) -> T:
        """The value of a key, computed where it is not there yet."""
        if key not in self._values:
            self._values[key] = compute()
        value: T = self._values[key]
        return value

    def clear(self) -> None:
        """Let everything go."""
        self._values.clear()

    def __reduce__(self) -> tuple[type[SharedCache], tuple[()]]:
        """Pickle as an empty cache."""
        return SharedCache, ()


@dataclass(frozen=True)
class PaddedRows:
    """A matrix (N, P) on its way: the first rows of an array in Fortran's order.

    Float32 products depend on the layout of their factors in the last digit.  Pickling keeps whole
    arrays as they lie, but would turn such rows into C's order.

    Attributes
    ----------
    rows
        (N, P), contiguous.
    padding
        Rows of the array below them.
    """

    rows: Matrix
    padding: int

    @classmethod
    def wrap(cls, value: Any) -> Any:
        """A matrix of that layout as an object of this class; any other value as it is."""
        if not isinstance(value, np.ndarray) or value.ndim != 2 or value.flags.forc:
            return value
        (step, stride), size = value.strides, value.itemsize
        if step != size or stride % size or stride < len(value) * size:
            return value  # other views, such as broadcast or reversed columns
        return cls(np.asfortranarray(value), stride // size - len(value))

    def unwrap(self) -> Matrix:
        """The matrix (N, P) as it was laid out."""
        shape = len(self.rows) + self.padding, self.rows.shape[1]
        array = np.empty(shape, self.rows.dtype, order="F")
        array[: len(self.rows)] = self.rows
        return array[: len(self.rows)]


class Portable:
    """A frozen dataclass whose fields alone are pickled, with the layout of their matrices.

    Fields that are one object are one object again.
    """

    def __getstate__(self) -> dict[str, Any]:
        """The fields, without what is cached beside them."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]
        wrapped = {id(value): PaddedRows.wrap(value) for value in values.values()}
        return {name: wrapped[id(value)] for name, value in values.items()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Set the fields."""
        unwrapped = {
            id(value): value.unwrap() if isinstance(value, PaddedRows) else value
            for value in state.values()
        }
        for name, value in state.items():
            object.__setattr__(self, name, unwrapped[id(value)])
