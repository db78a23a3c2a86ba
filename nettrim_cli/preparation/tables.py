"""Samples of tables: a line a sample, numbers and perhaps a class."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from nettrim_cli.data.formats.base import Array, Indices
from nettrim_cli.data.input_shapes import fixed
from nettrim_cli.errors import BadInput
from nettrim_cli.graph.layer import Tensor
from nettrim_cli.graph.model import Model
from nettrim_cli.preparation.source import Item, target_input
from nettrim_cli.settings import DataSettings

MARKS = (",", ";", "\t")
CLASSES = ("label", "labels", "class", "target")  # names of a column of labels
SAMPLED_BYTES = 1 << 16  # of a table, to see its columns


class TableSource:
    """Samples of a table of numbers, read line by line.

    Raises
    ------
    BadInput
        It has no numbers, or more columns of other kinds.
    """

    notes: Sequence[str] = ()

    def __init__(
        self, path: Path, files: Sequence[Path], model: Model, settings: DataSettings
    ) -> None:
        self._path, self._tensor = path, target_input(model, settings)
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            head = [line for line in file.read(SAMPLED_BYTES).splitlines() if is_row(line)][:2]
        if not head:
            raise BadInput(f"{path}: there are no lines in the table.")
        mark = max(MARKS, key=head[-1].count)
        self._mark = mark if mark in head[-1] else None
        names = [name.strip(" \"'").lower() for name in head[0].split(self._mark)]
        self._has_header = not all(map(is_number, names))
        wants_labels = self._has_header and settings.labels != "none"
        classes = [column for column, name in enumerate(names) if name in CLASSES]
        self._class = classes[0] if wants_labels and len(classes) == 1 else None
        self._columns = [column for column in range(len(names)) if column not in classes]
        if not self._has_header:
            self._columns = list(range(len(names)))
        self._count = sum(1 for _ in self._lines())
        self.origin: Mapping[str, Any] = {"kind": "a table", "columns": len(self._columns)}

    def close(self) -> None:
        """Do nothing: the table is opened anew for each pass."""

    def __len__(self) -> int:
        """Number of lines with a sample."""
        return self._count

    def items(self, indices: Indices) -> Iterator[Item]:
        """Lines at some indices, in the order of the file."""
        chosen = {int(index) for index in indices}
        for place, (number, line) in enumerate(self._lines()):
            if place in chosen:
                cells = line.split(self._mark)
                name = f"{self._path}, line {number}"
                yield Item(name, partial(self._row, cells, name), self._label(cells))

    def _lines(self) -> Iterator[tuple[int, str]]:
        """Numbers and text of lines with a sample."""
        is_header = self._has_header
        with self._path.open(encoding="utf-8-sig", errors="replace") as file:
            for number, line in enumerate(file, 1):
                if is_row(line) and not is_header:
                    yield number, line.strip()
                is_header = is_header and not is_row(line)

    def _row(self, cells: Sequence[str], name: str) -> Mapping[str, Array]:
        if len(cells) <= max(self._columns):
            raise BadInput(f"{name}: has {len(cells)} columns, the first line has more.")
        if self._class is not None and self._label(cells) is None:
            raise BadInput(
                f"{name}: its class is no whole number: number the classes from 0 on, or leave "
                "them out (--labels none)."
            )
        chosen = [cells[column].strip(" \"'") for column in self._columns]
        wrong = [text for text in chosen if not is_number(text)]
        if wrong:
            raise BadInput(f"{name}: '{wrong[0][:40]}' is no number: leave such columns out.")
        return {self._tensor.name: shaped(np.array(list(map(float, chosen))), self._tensor, name)}

    def _label(self, cells: Sequence[str]) -> int | None:
        """The class of a line; None where that is no whole number."""
        if self._class is None or self._class >= len(cells):
            return None
        text = cells[self._class].strip(" \"'")
        return int(float(text)) if is_number(text) and float(text).is_integer() else None


def shaped(values: Array, tensor: Tensor, name: str) -> Array:
    """Numbers in the shape and type of an input's sample.

    Raises
    ------
    BadInput
        There are too few or too many, or they are not of that type.
    """
    sizes = [fixed(axis) for axis in (tensor.shape or ())[1:]]
    if sizes and None not in sizes:
        count = int(np.prod([size or 0 for size in sizes]))
        if values.size != count:
            raise BadInput(
                f"{name}: {values.size} numbers, and the model input '{tensor.name}' takes {count}."
            )
        values = values.reshape([size or 0 for size in sizes])
    try:
        converted = values.astype(tensor.dtype)
    except TypeError as error:
        raise BadInput(f"the model input '{tensor.name}' takes {tensor.dtype}.") from error
    if converted.dtype.kind in "iu" and (converted != values).any():
        raise BadInput(f"{name}: the model input '{tensor.name}' takes {tensor.dtype}.")
    return converted


def is_row(line: str) -> bool:
    """Whether a line is neither empty nor a comment."""
    return bool(line.strip()) and not line.startswith("#")


def is_number(text: str) -> bool:
    """Whether a cell holds a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True
