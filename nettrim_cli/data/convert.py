"""Stored values -> what the model takes, converted only where that loses nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from nettrim_cli.data.formats.base import Array, Indices, Source
from nettrim_cli.errors import BadInput

FAMILIES = {
    "f": "float",
    "i": "int",
    "u": "int",
    "b": "bool",
    "U": "text",
    "S": "text",
    "O": "text",
}
MODEL_DTYPES = (
    *("float16", "float32", "float64", "bool"),
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
)
TEXT_NAMES = ("str", "object", "string")
ALLOWED = {
    ("float", "float"),
    ("int", "int"),
    ("bool", "bool"),
    ("bool", "int"),
    ("text", "text"),
}
REMEDIES = {  # (stored, wanted) -> what to do
    ("byte", "float"): "convert and scale them as in training, e.g. data.astype('{0}') / 255 "
    "(images: 'nettrim data {path} --model MODEL --preset unit -o calib.h5' does it)",
    ("int", "float"): "convert them as in training, e.g. data.astype('{0}')",
    ("bool", "float"): "convert them as in training, e.g. data.astype('{0}')",
    ("float", "int"): "store whole numbers, e.g. numpy.rint(data).astype('{0}')",
    ("float", "bool"): "store truth values, e.g. data > 0.5",
    ("int", "bool"): "store truth values, e.g. data != 0",
    ("text", "text"): "store it as text",
}


class Converter:
    """Checks and converts the values of one dataset.

    Parameters
    ----------
    path, source
        Where the values come from.
    dtype
        What the model takes, by numpy's name.
    taker
        The taker in words, for messages: ``model input 'x'``.

    Raises
    ------
    BadInput
        The stored dtype cannot become the wanted one without loss or guesswork.
    """

    def __init__(self, path: Path, source: Source, dtype: str, taker: str) -> None:
        self._where = f"{path}: dataset '{source.name}'"
        self._taker = taker
        if dtype in TEXT_NAMES:
            self.dtype, family = np.dtype(object), "text"
        elif dtype in MODEL_DTYPES:
            self.dtype = np.dtype(dtype)
            family = FAMILIES[self.dtype.kind]
        else:
            raise BadInput(
                f"{path}: {taker} takes {dtype}, which nettrim cannot feed; it feeds "
                f"{', '.join(MODEL_DTYPES)} and str: use the model before it was converted."
            )
        stored = FAMILIES.get(source.dtype.kind, "") if source.dtype.itemsize else ""
        if (stored, family) not in ALLOWED:
            have = "text" if stored == "text" else source.dtype.name
            kind = "byte" if source.dtype == np.uint8 and family == "float" else stored
            remedy = REMEDIES.get((kind, family), "store them as {0}").format(dtype, path=path)
            raise BadInput(f"{self._where} holds {have}, but {taker} takes {dtype}: {remedy}.")

    def __call__(self, values: Array, indices: Indices) -> Array:
        """Values in the model's dtype and native byte order, rows at `indices` of the file.

        Raises
        ------
        BadInput
            A value is NaN or infinite, or does not fit the model's dtype.
        """
        kind = values.dtype.kind
        if kind == "f":
            self._require(np.isfinite(values), values, indices, "is not finite", "remove or mend")
        if kind == "U":
            return values.astype(object)
        if kind == "S":
            return self._decode(values)
        if kind == "b":
            values = values.view(np.uint8) != 0  # a file may hold other bytes than 0 and 1
        if kind in "iu" and not np.can_cast(values.dtype, self.dtype):
            self._require(
                fits(values, self.dtype),
                values,
                indices,
                f"does not fit {self.dtype.name}, which {self._taker} takes",
                "mend",
            )
        with np.errstate(over="ignore"):
            converted = np.ascontiguousarray(values, dtype=self.dtype).reshape(values.shape)
        if kind == "f" and not np.can_cast(values.dtype, self.dtype):
            self._require(
                np.isfinite(converted),
                values,
                indices,
                f"is too large for {self.dtype.name}, which {self._taker} takes",
                "scale or mend",
            )
        return converted

    def _decode(self, values: Array) -> Array:
        try:
            return np.char.decode(values, "utf-8").astype(object)
        except UnicodeDecodeError as error:
            raise BadInput(f"{self._where} holds text that is not UTF-8: encode it so.") from error

    def _require(
        self, good: NDArrayBool, values: Array, indices: Indices, reason: str, action: str
    ) -> None:
        if good.all():
            return
        place = tuple(int(axis) for axis in np.argwhere(~good)[0])
        sample = int(indices[place[0]]) if place else 0
        element = ", ".join(str(axis) for axis in place[1:])
        raise BadInput(
            f"{self._where}: sample {sample}, element ({element}): the value {values[place]} "
            f"{reason}: {action} this sample."
        )


NDArrayBool = np.ndarray[Any, np.dtype[np.bool_]]


def fits(values: Array, dtype: np.dtype[Any]) -> NDArrayBool:
    """Which integers an integer dtype can hold."""
    have, want = np.iinfo(values.dtype), np.iinfo(dtype)
    good = np.ones(values.shape, dtype=np.bool_)
    if want.min > have.min:
        good &= values >= want.min
    if want.max < have.max:
        good &= values <= want.max
    return good
