"""The classes of the samples: which dataset holds them, and their numbers."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.data.convert import Converter
from nettrim_cli.data.formats.base import Array, Container, Indices, Source, spell
from nettrim_cli.errors import BadInput, Refused

LABELS = "labels"
SPELLINGS = ("label", "y", "target", "targets", "class", "classes", "y_true", "y_test")
IGNORED = -1  # what stands for a label that was to be ignored
REGRESSION = "leave labels out, and use --max-error, if these are targets of a regression"


class Labels:
    """Class numbers of the samples.

    Parameters
    ----------
    ignored
        The number that marks samples without a class; these are read as ``IGNORED``.

    Raises
    ------
    BadInput
        Not one whole number for each of the samples.
    """

    def __init__(
        self, path: Path, source: Source, samples: int, ignored: int | None = None
    ) -> None:
        shape, self.name = source.shape, source.name
        description = f"{path}: dataset '{source.name}' {spell(shape, source.dtype)}"
        if len(shape) == 2 and shape[1] > 1:
            raise BadInput(
                f"{description} should hold one class number per sample: "
                f"if it is one-hot, store labels.argmax(axis=1); {REGRESSION}."
            )
        if len(shape) not in (1, 2) or (len(shape) == 2 and shape[1] != 1):
            raise BadInput(f"{description} should be ({samples},) class numbers, one per sample.")
        if shape[0] != samples:
            raise BadInput(
                f"{description} has {shape[0]} entries for {samples} samples: "
                "store one class number for every sample."
            )
        if source.dtype.kind not in "iufb":
            raise BadInput(f"{description} should hold whole numbers: store the classes' numbers.")
        self._path, self._source, self._ignored = path, source, ignored
        kind = "float64" if source.dtype.kind == "f" else "int64"
        self._convert = Converter(path, source, kind, "nettrim")

    def read(self, indices: Indices) -> NDArray[np.int64]:
        """Class numbers (len(indices),) of some samples, ``IGNORED`` where there is none."""
        values: Array = self._convert(self._source.read(indices), indices).reshape(-1)
        if values.dtype.kind == "f":
            wrong = (values != np.rint(values)) | (np.abs(values) >= 2.0**53)
            self._require(~wrong, values, indices, f"not a class number: {REGRESSION}")
        numbers: NDArray[np.int64] = values.astype(np.int64)
        ignored = np.zeros(len(numbers), bool)
        if self._ignored is not None:
            ignored = numbers == self._ignored
        self._require(
            ignored | (numbers >= 0),
            values,
            indices,
            "no class: if it marks samples without one, name it (--ignore-label)",
        )
        return np.where(ignored, IGNORED, numbers)

    def _require(self, good: Array, values: Array, indices: Indices, reason: str) -> None:
        if not good.all():
            position = int(np.argmin(good))
            where = f"{self._path}: dataset '{self.name}', sample {indices[position]}"
            raise BadInput(f"{where}: {values[position]} is {reason}.")


def find_labels(
    container: Container, fed: Collection[str], samples: int, ignored: int | None
) -> tuple[Labels | None, str]:
    """The labels of a file, and what a user should know of how they were found.

    Where nothing is named ``labels``, a dataset of one of the usual other names is taken if it is
    the only one and holds a whole number for each sample.

    Parameters
    ----------
    fed
        Names of datasets that feed the model.
    """
    if LABELS in fed:
        return None, ""
    if (source := container.find(LABELS)) is not None:
        return Labels(container.path, source, samples, ignored), ""
    names = [name for name in container.names() if is_spelling(name) and name not in fed]
    if not names:
        return None, ""
    rename = f"rename it to '{LABELS}' if it holds the classes' numbers"
    if len(names) > 1:
        listed = " and ".join(f"'{name}'" for name in names)
        return None, f"datasets {listed} were not used: rename the one with classes to '{LABELS}'"
    (name,) = names
    try:
        source = container.find(name)
    except (BadInput, Refused):  # nobody asked for it
        return None, ""
    if source is None or source.dtype.kind not in "iub" or source.shape not in _shapes(samples):
        return None, f"dataset {container.describe(name)} was not used: {rename}"
    text = f"dataset '{name}' was taken as labels: rename it if it is something else"
    return Labels(container.path, source, samples, ignored), text


def is_spelling(name: str) -> bool:
    """Whether a dataset's name is another usual one for labels."""
    plain = name.strip("/").lower()
    return plain in SPELLINGS or (plain == LABELS and name.strip("/") != LABELS)


def _shapes(samples: int) -> tuple[tuple[int, ...], ...]:
    return (samples,), (samples, 1)
