"""What the engine delivers as arrays: tensors, and those inside of sequences and maps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class OutputPart:
    """An output, or one of the arrays that it holds.

    Attributes
    ----------
    array
        None where it cannot be measured.
    keys
        Of a map, one for each column of the array.
    kind
        What cannot be measured, in a word or two.
    """

    array: Any
    keys: tuple[Any, ...] | None = None
    kind: str = ""


def parts(name: str, value: Any, count: int) -> dict[str, OutputPart]:
    """An output's arrays by name, for a batch of ``count`` samples.

    Parameters
    ----------
    name
        Of the output.
    value
        As the engine delivers it: an array; a list of arrays, of maps or of anything else; a map.

    Returns
    -------
    dict
        A tensor is itself.  A list of maps, one for each sample (ZipMap), is one array
        (samples, keys), in ascending order of keys.  A list of arrays of so many samples each
        is these, under ``name[0]``, ``name[1]``, ...; any other list of arrays is one row of
        all their elements.
    """
    if isinstance(value, np.ndarray):
        return {name: OutputPart(value)}
    if isinstance(value, dict):
        return {name: _table([value])}
    if not isinstance(value, list):
        return {name: OutputPart(None, kind="nothing" if value is None else type(value).__name__)}
    if value and all(isinstance(item, dict) for item in value):
        return {name: _table(value)}
    if not all(isinstance(item, np.ndarray) for item in value):
        return {name: OutputPart(None, kind="a sequence of other things than tensors")}
    if value and all(item.ndim and len(item) == count for item in value):
        return {f"{name}[{number}]": OutputPart(item) for number, item in enumerate(value)}
    return {name: OutputPart(_row(value))}


def _table(maps: Sequence[dict[Any, Any]]) -> OutputPart:
    """Maps as rows; a key that a map lacks is no number there."""
    keys = tuple(sorted({key for mapping in maps for key in mapping}))
    values = [mapping.get(key, math.nan) for mapping in maps for key in keys]
    if not all(isinstance(value, (str, int, float)) for value in values):
        return OutputPart(None, kind="a map of other things than numbers and strings")
    return OutputPart(np.array(values).reshape(len(maps), len(keys)), keys)


def _row(arrays: Sequence[Array]) -> Array:
    return np.concatenate([array.reshape(-1) for array in arrays]) if arrays else np.empty(0)
