"""Arrays that stand uncompressed in a file, read row by row.

Rows are read at their place in the file rather than through a memory map: pages of a map count
as the process's memory, 64 KiB and more for each row touched.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np

from nettrim_cli.data.formats.base import PIECE_BYTES, Array, Indices, pieces
from nettrim_cli.errors import BadInput


class Head(Protocol):
    """What a file says of an array before its bytes."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool


class PlainSource:
    """An uncompressed array at a place in a file; see `nettrim_cli.data.formats.base.Source`.

    Parameters
    ----------
    path, file
        The file, and its stream.
    name
        The array's name.
    start
        Where its bytes begin.
    head
        Its shape, dtype and order.
    """

    def __init__(self, path: Path, name: str, file: IO[bytes], start: int, head: Head) -> None:
        self.name = name
        self.shape: tuple[int, ...] = head.shape
        self.dtype: np.dtype[Any] = head.dtype
        self._path = path
        self._file = file
        self._start = start
        self._fortran = head.fortran

    def read(self, indices: Indices) -> Array:
        """Rows at sorted indices; a scalar gives itself."""
        if not self.shape:
            return self._values(0, 1).reshape(())
        if self._fortran and len(self.shape) > 1:
            return self._gather(indices)
        rows = np.empty((len(indices), *self.shape[1:]), dtype=self.dtype)
        width = math.prod(self.shape[1:])
        for cover, places, take in pieces(indices, width * self.dtype.itemsize):
            count = cover.stop - cover.start
            piece = self._values(cover.start * width, count * width)
            rows[places] = piece.reshape(count, *self.shape[1:])[take]
        return rows

    def _gather(self, indices: Indices) -> Array:
        """Rows of an array in Fortran order, whose elements lie apart: column by column."""
        width = math.prod(self.shape[1:])
        columns = np.empty((width, len(indices)), dtype=self.dtype)
        covers = list(pieces(indices, self.dtype.itemsize))
        for column in range(width):
            start = column * self.shape[0]
            for cover, places, take in covers:
                piece = self._values(start + cover.start, cover.stop - cover.start)
                columns[column, places] = piece[take]
        return np.array(columns.T.reshape(len(indices), *self.shape[1:], order="F"), order="C")

    def _values(self, first: int, count: int) -> Array:
        raw = np.empty(count * self.dtype.itemsize, dtype=np.uint8)
        try:
            self._file.seek(self._start + first * self.dtype.itemsize)
            count_read = fill(self._file, raw)
        except OSError as error:
            raise BadInput(f"{self._path}: '{self.name}' cannot be read ({error}).") from error
        if count_read < len(raw):
            raise BadInput(f"{self._path}: '{self.name}' is cut short: write the file again.")
        return raw.view(self.dtype)


def fill(stream: IO[bytes], raw: Array) -> int:
    """Read into an array of bytes until it is full or the stream ends; bytes read."""
    done = 0
    while done < len(raw):
        block = stream.read(min(len(raw) - done, PIECE_BYTES))
        if not block:
            break
        raw[done : done + len(block)] = np.frombuffer(block, dtype=np.uint8)
        done += len(block)
    return done
