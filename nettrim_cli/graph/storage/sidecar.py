"""Files of external data: which a model may name, and pieces of them.

A file must be in the model's own folder, and must not change while nettrim works with it.
"""

from __future__ import annotations

import mmap
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.errors import BadInput, MissingInput, Refused
from nettrim_cli.process.channel import identity, tell

PIECE_BYTES = 1 << 24


@dataclass(frozen=True)
class Sidecar:
    """A file of external data, as it was when the model was loaded."""

    path: Path
    identity: tuple[int, ...]

    def open(self) -> int:
        """A handle to the file.

        Raises
        ------
        MissingInput
            It cannot be read any more.
        BadInput
            It has changed.
        """
        try:
            handle = os.open(self.path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        except OSError as error:
            raise MissingInput(f"{self.path}: cannot be read any more: {error.strerror}") from error
        if _identity(os.fstat(handle)) != self.identity:
            os.close(handle)
            raise BadInput(f"{self.path}: has changed since the model was loaded; start anew")
        return handle


@dataclass(frozen=True)
class Region:
    """Where the value of a tensor lies in a file."""

    sidecar: Sidecar
    offset: int
    length: int

    def map(self) -> NDArray[np.uint8]:
        """The bytes ``(length,)``, mapped: the system may take their memory back at any time.

        Raises
        ------
        MissingInput
            The file cannot be read any more, or cannot be mapped.
        BadInput
            The file has changed.
        """
        if not self.length:
            return np.empty(0, np.uint8)
        skipped = self.offset % mmap.ALLOCATIONGRANULARITY
        handle = self.sidecar.open()
        try:
            mapped = mmap.mmap(
                handle,
                self.length + skipped,
                access=mmap.ACCESS_READ,
                offset=self.offset - skipped,
            )
        except (OSError, ValueError) as error:
            raise MissingInput(f"{self.sidecar.path}: cannot be mapped: {error}") from error
        finally:
            os.close(handle)
        return np.frombuffer(mapped, np.uint8, self.length, skipped)

    def pieces(self) -> Iterator[bytes]:
        """The bytes, piece by piece and through no map: pieces do not stay in memory.

        Raises
        ------
        MissingInput
            The file cannot be read any more.
        BadInput
            The file has changed or become shorter.
        """
        handle = self.sidecar.open()
        try:
            position, end = self.offset, self.offset + self.length
            while position < end:
                os.lseek(handle, position, os.SEEK_SET)
                piece = os.read(handle, min(PIECE_BYTES, end - position))
                if not piece:
                    raise BadInput(f"{self.sidecar.path}: has become shorter; start anew")
                yield piece
                position += len(piece)
        except OSError as error:
            raise MissingInput(f"{self.sidecar.path}: {error.strerror}") from error
        finally:
            os.close(handle)


def find_sidecar(location: str, tensor: str, path: Path) -> Sidecar:
    """The file that a tensor of the model `path` names as its location.

    Raises
    ------
    Refused
        It is absolute, or leads out of the model's folder (``..``, a link).
    MissingInput
        It is missing or unreadable.
    BadInput
        It names no file.
    """
    file = _resolve(location, tensor, path)
    title = f"{path}: tensor '{tensor}'"
    try:
        # A pipe would block for ever when opened.
        if not stat.S_ISREG(os.stat(file).st_mode):
            raise MissingInput(f"{title}: external data {file} is not a regular file")
        with open(file, "rb") as stream:
            facts = os.fstat(stream.fileno())
    except OSError as error:
        raise MissingInput(
            f"{title}: external data {file} cannot be read: {error.strerror}; the model's weights "
            "are in that file: copy it beside the model, under this name"
        ) from error
    if facts.st_nlink > 1:
        raise Refused(
            f"{title}: external data {file} has other names (hard links), which may lead "
            "out of the model's folder; put a copy of it there"
        )
    tell("input", file, identity(facts))
    return Sidecar(file, _identity(facts))


def _identity(facts: os.stat_result) -> tuple[int, ...]:
    return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns


def _resolve(location: str, tensor: str, path: Path) -> Path:
    """Resolved file of a location, if it is in the model's folder."""
    title = f"{path}: external data of tensor '{tensor}'"
    if not location or "\0" in location:
        raise BadInput(f"{title} names no file")
    pure = PurePosixPath(location)
    windows = PureWindowsPath(location)
    if pure.is_absolute() or windows.drive or windows.root:
        raise Refused(f"{title}: '{location}' is an absolute path; put the file beside the model")
    if os.path.normpath(location).split(os.sep)[0] == ".." or ".." in windows.parts[:1]:
        raise Refused(
            f"{title}: '{location}' leads out of the model's folder; put the file into it"
        )
    folder = Path(os.path.realpath(path.parent))
    file = Path(os.path.realpath(folder / location))
    if not file.is_relative_to(folder):
        raise Refused(
            f"{title}: '{location}' is a link out of the model's folder; "
            "put the file itself into it"
        )
    return file
