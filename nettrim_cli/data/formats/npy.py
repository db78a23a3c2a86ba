"""NumPy's .npy and .npz files, read row by row.

Deflated members are inflated forwards, never further than the last row asked for.
"""

from __future__ import annotations

import json
import math
import shlex
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

import numpy as np

from nettrim_cli.data.formats.base import PIECE_BYTES, Array, Indices, pieces, row_bytes, spell
from nettrim_cli.data.formats.plain import PlainSource, fill
from nettrim_cli.errors import BadInput, Refused

LOCAL_HEADER = 30  # bytes of a zip member's local header before its name
DAMAGED = (OSError, EOFError, ValueError, NotImplementedError, RuntimeError)
INFLATE = (*DAMAGED, zipfile.BadZipFile, zlib.error)


class Header:
    """What the head of a .npy stream says."""

    def __init__(self, stream: IO[bytes], path: Path, name: str, available: int) -> None:
        try:
            version = np.lib.format.read_magic(stream)
            if version > (3, 0):
                raise ValueError(f"version {version}")
            read = (
                np.lib.format.read_array_header_1_0
                if version == (1, 0)
                else np.lib.format.read_array_header_2_0
            )
            shape, self.fortran, self.dtype = read(stream)
            self.shape = tuple(int(axis) for axis in shape)
        except Exception as error:  # numpy's parser raises whatever the text leads it to
            raise BadInput(
                f"{path}: {name} is not an array in NumPy's format or is damaged: "
                "write it again with numpy.save or numpy.savez."
            ) from error
        if self.dtype.hasobject:
            raise Refused(
                f"{path}: {name} is a pickled object array, which could run code when read: "
                "store plain numbers or strings (array.astype(str)). Samples of different length "
                "are padded to n, the longest, or the length that the model takes: "
                f"{padded(path, name)} "
                "(only if the file is yours)"
            )
        self.bytes = stream.tell()
        size = math.prod(self.shape) * self.dtype.itemsize
        if min(self.shape, default=0) < 0 or self.bytes + size > available:
            raise BadInput(
                f"{path}: {name} is cut short: its header announces "
                f"{spell(self.shape, self.dtype)}, {size:,} bytes, but only "
                f"{max(available - self.bytes, 0):,} are there: write the file again."
            )


class DeflatedSource:
    """A deflated member of a .npz file; see `nettrim_cli.data.formats.base.Source`.

    Reads run forwards; a read before the current place starts the member again.
    """

    def __init__(
        self, path: Path, name: str, archive: zipfile.ZipFile, info: zipfile.ZipInfo, head: Header
    ) -> None:
        if head.fortran and len(head.shape) > 1:
            raise BadInput(
                f"{path}: '{name}' is compressed in Fortran order, so that no sample can be read "
                "without all others: save numpy.ascontiguousarray(array)."
            )
        self.name = name
        self.shape: tuple[int, ...] = head.shape
        self.dtype: np.dtype[Any] = head.dtype
        self._path = path
        self._archive = archive
        self._info = info
        self._start = head.bytes
        self._stream: IO[bytes] | None = None
        self._place = 0

    def read(self, indices: Indices) -> Array:
        """Rows at sorted indices; a scalar gives itself.

        Raises
        ------
        BadInput
            The member is damaged.
        """
        try:
            if not self.shape:
                return self._rows(0, 1, self.dtype.itemsize).reshape(())
            rows = np.empty((len(indices), *self.shape[1:]), dtype=self.dtype)
            size = row_bytes(self.shape, self.dtype)
            for cover, places, take in pieces(indices, size):
                count = cover.stop - cover.start
                piece = self._rows(cover.start, count, size).reshape(count, *self.shape[1:])
                rows[places] = piece[take]
        except INFLATE as error:
            raise BadInput(
                f"{self._path}: '{self.name}' is damaged ({error}): write the file again."
            ) from error
        return rows

    def close(self) -> None:
        """Give the stream back."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _rows(self, first: int, count: int, size: int) -> Array:
        target = self._start + first * size
        if self._stream is None or self._place > target:
            self.close()
            self._stream = self._archive.open(self._info)
            self._place = 0
        while self._place < target:
            skipped = len(self._stream.read(min(target - self._place, PIECE_BYTES)))
            if not skipped:
                raise EOFError("it ends early")
            self._place += skipped
        raw = np.empty(count * size, dtype=np.uint8)
        count_read = fill(self._stream, raw)
        self._place += count_read
        if count_read < len(raw):
            raise EOFError("it ends early")
        return raw.view(self.dtype)


class NpyContainer:
    """A .npy file: one dataset, which has no name of its own."""

    provenance: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("rb", buffering=0)
        try:
            head = Header(self._file, path, "the file", path.stat().st_size)
            self._source = PlainSource(path, path.name, self._file, head.bytes, head)
        except BaseException:
            self._file.close()
            raise

    def close(self) -> None:
        """Give the file back."""
        self._file.close()

    def names(self) -> list[str]:
        """Give the file's name, which no other dataset can have."""
        return [self._source.name]

    def find(self, name: str) -> PlainSource | None:
        """Look the one dataset up."""
        return self._source if name == self._source.name else None

    def describe(self, name: str) -> str:
        """Give shape and dtype for a message."""
        return f"one array {spell(self._source.shape, self._source.dtype)}"


class NpzContainer:
    """A .npz file; see `nettrim_cli.data.formats.base.Container`."""

    provenance: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("rb", buffering=0)
        self._opened: list[DeflatedSource] = []
        try:
            self._archive = zipfile.ZipFile(path)
        except INFLATE as error:
            self._file.close()
            raise BadInput(
                f"{path} is not a .npz file or is damaged ({error}): "
                "write it again with numpy.savez."
            ) from error
        self._members = {
            info.filename[: -len(".npy")]: info
            for info in self._archive.infolist()
            if info.filename.endswith(".npy")
        }

    def close(self) -> None:
        """Give the file back."""
        for source in self._opened:
            source.close()
        self._archive.close()
        self._file.close()

    def names(self) -> list[str]:
        """Name every array, in the file's order."""
        return list(self._members)

    def find(self, name: str) -> PlainSource | DeflatedSource | None:
        """Look an array up by its exact name.

        Raises
        ------
        BadInput
            The member is encrypted, damaged, or compressed in a way that NumPy does not write.
        """
        info = self._members.get(name)
        if info is None:
            return None
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or (
            info.flag_bits & 1
        ):
            raise BadInput(
                f"{self.path}: '{name}' is encrypted or compressed in a way that NumPy does not "
                "write: save it again with numpy.savez or numpy.savez_compressed."
            )
        try:
            with self._archive.open(info) as stream:
                head = Header(stream, self.path, f"'{name}'", info.file_size)
            if info.compress_type == zipfile.ZIP_STORED:
                start = self._place(info) + head.bytes
                return PlainSource(self.path, name, self._file, start, head)
        except INFLATE as error:
            raise BadInput(
                f"{self.path}: '{name}' is damaged ({error}): write the file again."
            ) from error
        source = DeflatedSource(self.path, name, self._archive, info, head)
        self._opened.append(source)
        return source

    def describe(self, name: str) -> str:
        """Give name, shape and dtype for a message."""
        try:
            with self._archive.open(self._members[name]) as stream:
                head = Header(stream, self.path, name, self._members[name].file_size)
        except (*INFLATE, BadInput, Refused):
            return f"'{name}' (unreadable)"
        return f"'{name}' {spell(head.shape, head.dtype)}"

    def _place(self, info: zipfile.ZipInfo) -> int:
        """Offset of a stored member's bytes; the local header may differ from the directory's."""
        self._file.seek(info.header_offset)
        local = self._file.read(LOCAL_HEADER)
        name, extra = (int.from_bytes(local[start : start + 2], "little") for start in (26, 28))
        return info.header_offset + LOCAL_HEADER + name + extra


def padded(path: Path, name: str) -> str:
    """The command that stores rows of different length as one array, with zeros behind them."""
    key = name.strip("'")
    rows = f"numpy.load({json.dumps(str(path), ensure_ascii=False)}, allow_pickle=True)"
    if path.suffix.lower() == ".npz":
        rows += f"[{json.dumps(key, ensure_ascii=False)}]"
    else:
        key = "x"
    value = 'numpy.stack([numpy.pad(r, (0, n - len(r))) for r in rows]).astype("float32")'
    program = (
        f"import numpy; rows = {rows}; n = max(map(len, rows)); "
        f"numpy.savez({json.dumps(path.stem + '.padded.npz', ensure_ascii=False)}, "
        f"**{{{json.dumps(key, ensure_ascii=False)}: {value}}})"
    )
    return f"python -c {shlex.quote(program)}"


def open_npy(path: Path) -> NpyContainer:
    """Open a .npy file."""
    return NpyContainer(path)


def open_npz(path: Path) -> NpzContainer:
    """Open a .npz file."""
    return NpzContainer(path)
