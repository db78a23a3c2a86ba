"""What every kind of source hands over: samples that are made one by one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from nettrim_cli.data.formats.base import Array, Indices
from nettrim_cli.data.input_shapes import spell_input
from nettrim_cli.errors import BadInput, MissingInput, WrongUsage
from nettrim_cli.graph.layer import Tensor
from nettrim_cli.graph.model import Model
from nettrim_cli.settings import DataSettings


@dataclass(frozen=True)
class Item:
    """A sample that can be made.

    Attributes
    ----------
    name
        Of its file or row, for messages.
    make
        Makes a row of each dataset; raises ``BadInput`` where its file is damaged.
    label
        Its class; None without one.
    """

    name: str
    make: Callable[[], Mapping[str, Array]]
    label: int | None = None


class SampleSource(Protocol):
    """Files or rows of which samples are made."""

    @property
    def origin(self) -> Mapping[str, Any]:
        """How samples are made, for a report: plain values."""

    @property
    def notes(self) -> Sequence[str]:
        """What a user should know of how they are made."""

    def __len__(self) -> int:
        """Number of samples that can be made."""

    def items(self, indices: Indices) -> Iterator[Item]:
        """Samples at ascending indices."""

    def close(self) -> None:
        """Give files back."""


@dataclass
class FileSource:
    """Samples of which each is a file.

    Attributes
    ----------
    make
        Makes a row of each dataset of a file.
    labels
        A class for each file; None without.
    """

    files: Sequence[Path]
    make: Callable[[Path], Mapping[str, Array]]
    labels: Sequence[int] | None = None
    origin: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def close(self) -> None:
        """Do nothing: files are closed once they are read."""

    def __len__(self) -> int:
        """Number of files."""
        return len(self.files)

    def items(self, indices: Indices) -> Iterator[Item]:
        """Files at ascending indices."""
        for index in indices:
            path = self.files[index]
            label = None if self.labels is None else self.labels[index]
            yield Item(str(path), lambda path=path: self.make(path), label)  # type: ignore[misc]


def files_below(folder: Path) -> list[Path]:
    """All files in a folder and those below it, hidden ones left out, in the order of their names.

    Raises
    ------
    MissingInput
        A folder cannot be read.
    """

    def fail(error: OSError) -> None:
        """Stop at a folder that cannot be read.

        Raises
        ------
        MissingInput
            Always.
        """
        raise MissingInput(f"{error.filename} cannot be read ({error.strerror}).") from error

    entries = []
    for parent, folders, names in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        entries += [Path(parent, name) for name in names if not name.startswith(".")]
    regular = [path for path in entries if path.is_file()]
    return sorted(regular, key=lambda path: [os.fsencode(name) for name in path.parts])


def target_input(model: Model, settings: DataSettings) -> Tensor:
    """The model input that samples of one kind are for.

    Raises
    ------
    BadInput
        Several could be meant.
    WrongUsage
        An option names no input.
    """
    inputs = {tensor.name: tensor for tensor in model.inputs}
    for name in filter(None, (settings.input, *settings.values)):
        if name not in inputs:
            raise WrongUsage(
                f"{model.path}: there is no input '{name}'; its inputs are {', '.join(inputs)}."
            )
    if settings.input:
        return inputs[settings.input]
    free = [tensor for tensor in model.inputs if tensor.name not in settings.values]
    if len(free) != 1:
        described = ", ".join(f"'{tensor.name}' {spell_input(tensor)}" for tensor in free)
        raise BadInput(
            f"{model.path}: its inputs are {described or 'all set'}: name the one that the samples "
            "are for (--input), and give each other one a number (--set NAME=NUMBER)."
        )
    return free[0]


def answers_of(model: Model) -> int | None:
    """Number of classes that a model tells apart; None where its output does not say."""
    for tensor in model.outputs:
        if tensor.shape and len(tensor.shape) >= 2 and tensor.dtype.startswith("float"):
            sizes = [size for size in tensor.shape[1:] if size != 1]
            if len(sizes) == 1 and isinstance(sizes[0], int):
                return sizes[0]
    return None
