"""Samples in memory, or from a stream of batches, in place of a calibration file."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nettrim_cli.api.arrays import is_array
from nettrim_cli.api.batches import FORMS, columns_of, rows_of
from nettrim_cli.data.formats.base import Array
from nettrim_cli.data.formats.hdf5_writer import Hdf5Writer, hdf5_file
from nettrim_cli.data.formats.memory import MemoryContainer
from nettrim_cli.errors import BadInput
from nettrim_cli.graph.layer import Tensor

NAME = "<samples>"  # in messages


@dataclass(frozen=True)
class Draw:
    """How many samples of a stream are taken; those of a dataset with an index are drawn."""

    most: int | None = None
    seed: int = 0


def opened(
    data: Any, inputs: Sequence[Tensor], file: Path, draw: Draw
) -> str | os.PathLike[str] | MemoryContainer:
    """Samples as a file, or as arrays in memory that take a file's place.

    Parameters
    ----------
    data
        A path; arrays (see ``batches.columns_of``) whose first axis counts the samples; or an
        iterable of batches or of samples, or a function that gives one.
    inputs
        Those of the model.
    file
        Where a stream is written to, as it can be read once only.
    draw
        How many samples of a stream are taken.

    Raises
    ------
    BadInput
        The samples are of no form that is known, or not all of one size.
    DiskFailed
        The file cannot be written.
    """
    if isinstance(data, (str, os.PathLike)):
        return data
    if not inputs:
        raise BadInput(f"{NAME}: the model has no inputs, so there is nothing to feed.")
    if isinstance(data, (Mapping, tuple)) or is_array(data):
        return MemoryContainer(Path(NAME), columns_of(data, inputs, NAME))
    with hdf5_file(file) as writer:
        _write(_elements(data, draw), inputs, writer, draw.most)
        writer.finish({})
    return file


def _elements(data: Any, draw: Draw) -> Iterator[Any]:
    """Batches, or samples; some are drawn where there are too many and each has an index."""
    data = data() if callable(data) else data
    if hasattr(data, "__getitem__") and hasattr(data, "__len__"):
        most = len(data) if draw.most is None else draw.most
        drawn = np.random.default_rng(draw.seed).permutation(len(data))[:most]
        return (data[int(index)] for index in np.sort(drawn))
    try:
        return iter(data)
    except TypeError as error:
        raise BadInput(
            f"{NAME}: a {type(data).__name__} holds no samples: name a file, or {FORMS}, or an "
            "iterable of such batches."
        ) from error


def _write(
    elements: Iterator[Any], inputs: Sequence[Tensor], writer: Hdf5Writer, most: int | None
) -> None:
    """Write samples until there are enough."""
    count = 0
    shared: dict[str, Array] = {}
    for number, element in enumerate(elements):
        columns = columns_of(element, inputs, f"{NAME}: batch {number}")
        rows = rows_of(columns, inputs)
        for name in [name for name, values in rows.items() if not values.ndim]:
            _share(name, rows.pop(name), shared, writer)
        count += _add(rows, count, writer, most)
        if most is not None and count >= most:
            return
    if not count:
        raise BadInput(f"{NAME}: there are none: give an iterable that is not used up.")


def _share(name: str, value: Array, shared: dict[str, Array], writer: Hdf5Writer) -> None:
    """Keep the value of an input without axes, which has to be the same in all batches."""
    if name not in shared:
        shared[name] = value
        writer.share(name, value)
    elif not np.array_equal(value, shared[name]):
        raise BadInput(
            f"{NAME}: '{name}' is {shared[name]} in one batch and {value} in another: the model "
            "takes one number for all samples."
        )


def _add(rows: Mapping[str, Array], before: int, writer: Hdf5Writer, most: int | None) -> int:
    """Write the samples of a batch, and give their number."""
    lengths = {name: len(values) for name, values in rows.items()}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"'{name}' has {length}" for name, length in lengths.items())
        raise BadInput(f"{NAME}: {listed} samples in one batch: give equally many.")
    if text := [name for name, values in rows.items() if values.dtype.kind in "USO"]:
        raise BadInput(
            f"{NAME}: '{text[0]}' holds text: give it as one array of all samples, in a dict."
        )
    count = max(lengths.values(), default=0)
    count = count if most is None else min(count, most - before)
    copies = {name: np.array(values[:count]) for name, values in rows.items()}
    for row in range(count):  # copies, as a loader may fill the same buffer again
        sample = {name: values[row] for name, values in copies.items()}
        writer.add(sample, f"{NAME}: sample {before + row}")
    return count
