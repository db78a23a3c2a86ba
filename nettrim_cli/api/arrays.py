"""Tensors of any library as NumPy arrays, without importing the library."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.errors import BadInput


def is_array(value: Any) -> bool:
    """Whether a value is a tensor or an array, a number, or lists of numbers; no tuple is."""
    if isinstance(value, tuple):
        return False
    return hasattr(value, "__array__") or hasattr(value, "numpy") or is_plain(value)


def is_plain(value: Any) -> bool:
    """Whether a value is a number, a text, or lists of these."""
    if isinstance(value, (list, tuple)):
        return bool(value) and all(is_plain(inner) for inner in value)
    return isinstance(value, (bool, int, float, str, np.generic))


def as_array(value: Any, name: str) -> NDArray[Any]:
    """The values of a tensor; those of a NumPy array are not copied.

    Parameters
    ----------
    value
        A tensor of PyTorch, TensorFlow, PaddlePaddle or JAX, an array, or lists of numbers.
    name
        What it is, for a message.

    Raises
    ------
    BadInput
        It holds no numbers and no text, or lists of unequal lengths.
    """
    for step in ("detach", "cpu"):  # of PyTorch, which gives no array with gradients or of a GPU
        value = getattr(value, step, lambda value=value: value)()
    if str(getattr(value, "dtype", "")).endswith("bfloat16"):
        value = value.float() if hasattr(value, "float") else value.astype("float32")
    try:
        array = np.asarray(value.numpy() if hasattr(value, "numpy") else value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise BadInput(
            f"{name} cannot become an array ({error}): give tensors in which all samples are of "
            "one size."
        ) from error
    if array.dtype.kind not in "biufUSO":
        raise BadInput(f"{name} holds {array.dtype}: give numbers.")
    return array


def as_arrays(columns: Mapping[str, Any], name: str) -> dict[str, NDArray[Any]]:
    """Arrays by name; what cannot be one, such as pictures that are not decoded, is left out."""
    return {
        key: as_array(value, f"{name}: '{key}'")
        for key, value in columns.items()
        if is_array(value)
    }
