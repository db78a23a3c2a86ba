"""Results of jobs in files: arrays and a tree of plain values, never a pickle.

What is read is checked against the annotations of the class that is asked for, so that a file of
another version, or one that is damaged, is no result.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
import zipfile
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np

TREE = "tree"
T = TypeVar("T")


class Damaged(Exception):
    """A file that does not hold such a value."""


def write_value(value: Any, file: BinaryIO) -> None:
    """Write a value of dataclasses, named tuples, tuples, enumerations, arrays and plain values."""
    arrays: list[Any] = []
    tree = json.dumps(_tree(value, arrays)).encode()
    named = {str(number): array for number, array in enumerate(arrays)}
    np.savez(file, allow_pickle=False, **{TREE: np.frombuffer(tree, np.uint8), **named})


def read_value(path: Path, kind: type[T]) -> T:
    """Read a value of a kind.

    Raises
    ------
    OSError
        The file cannot be read.
    Damaged
        It holds no value of the kind.
    """
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as stored:
            tree = json.loads(stored[TREE].tobytes())
            value: T = _value(tree, kind, stored)
    except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise Damaged(str(error)) from error
    return value


def _tree(value: Any, arrays: list[Any]) -> Any:
    """A value as JSON takes it; an array is its number among all."""
    if isinstance(value, np.ndarray):
        arrays.append(value)
        return len(arrays) - 1
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, np.generic):
        return value.item()
    if dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value)]
        return {name: _tree(getattr(value, name), arrays) for name in names}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_tree(item, arrays) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{type(value).__name__} is no plain value")


def _value(tree: Any, kind: Any, arrays: Mapping[str, Any]) -> Any:
    """The value of a tree, as an annotation says.

    Raises
    ------
    TypeError
        The tree does not fit the annotation.
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        if tree is None and type(None) in arguments:
            return None
        (kind,) = (argument for argument in arguments if argument is not type(None))
        return _value(tree, kind, arrays)
    if origin is np.ndarray:
        return arrays[str(int(tree))]
    if origin is tuple:
        kinds = arguments[:1] * len(tree) if arguments[-1] is Ellipsis else arguments
        return tuple(_value(*pair, arrays) for pair in zip(tree, kinds, strict=True))
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return kind(**_members(tree, kind, arrays))
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind(tree)
    if kind is float and isinstance(tree, int) and not isinstance(tree, bool):
        return float(tree)
    if type(tree) is not kind:
        raise TypeError(f"{tree!r} where {kind} is wanted")
    return tree


def _members(tree: Mapping[str, Any], kind: Any, arrays: Mapping[str, Any]) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    names = {field.name for field in dataclasses.fields(kind)}
    if names != tree.keys():
        raise TypeError(f"fields {sorted(tree)} where {kind.__name__} has {sorted(names)}")
    return {name: _value(tree[name], hints[name], arrays) for name in names}
