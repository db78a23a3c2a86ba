"""External data: tensors kept in files beside the model, read from its own folder only."""

from __future__ import annotations

import os
import stat
from pathlib import Path, PurePosixPath, PureWindowsPath

import onnx
from onnx import TensorProto

from nettrim_cli.errors import BadInput, MissingInput, Refused
from nettrim_cli.graph.constants import all_tensors

MAX_BYTES = 2**31 - 1
"""A protobuf cannot be larger."""


def inline(model: onnx.ModelProto, path: Path) -> None:
    """Bring all external data of `model`, read from `path`, into the model itself.

    Raises
    ------
    Refused
        A location is absolute, or leads out of the model's folder (``..``, a link).
    MissingInput
        A file is missing or unreadable.
    BadInput
        A location is malformed, a file too short, or the whole larger than a protobuf can be.
    """
    total = model.ByteSize()
    for tensor in all_tensors(model):
        if tensor.data_location != TensorProto.EXTERNAL:
            continue
        entries = {entry.key: entry.value for entry in tensor.external_data}
        file = _inside(entries.get("location", ""), tensor.name, path)
        data, total = _read(file, entries, f"{path}: tensor '{tensor.name}'", total)
        tensor.raw_data = data
        del tensor.external_data[:]
        tensor.ClearField("data_location")


def _inside(location: str, tensor: str, path: Path) -> Path:
    """Resolved file of a location, if it is in the model's folder."""
    what = f"{path}: external data of tensor '{tensor}'"
    if not location or "\0" in location:
        raise BadInput(f"{what} names no file")
    pure = PurePosixPath(location)
    windows = PureWindowsPath(location)
    if pure.is_absolute() or windows.drive or windows.root:
        raise Refused(f"{what}: '{location}' is an absolute path; put the file beside the model")
    if os.path.normpath(location).split(os.sep)[0] == ".." or ".." in windows.parts[:1]:
        raise Refused(f"{what}: '{location}' leads out of the model's folder; put the file into it")
    folder = Path(os.path.realpath(path.parent))
    file = Path(os.path.realpath(folder / location))
    if not file.is_relative_to(folder):
        raise Refused(
            f"{what}: '{location}' is a link out of the model's folder; put the file itself into it"
        )
    return file


def _read(file: Path, entries: dict[str, str], what: str, total: int) -> tuple[bytes, int]:
    """The bytes of one tensor, and the total so far."""
    try:
        offset = int(entries.get("offset", "") or 0)
        length = int(entries.get("length", "") or -1)
    except ValueError as error:
        raise BadInput(f"{what}: malformed offset or length of its external data") from error
    try:
        # A pipe would block for ever when opened.
        if not stat.S_ISREG(os.stat(file).st_mode):
            raise MissingInput(f"{what}: external data {file} is not a regular file")
        with open(file, "rb") as stream:
            facts = os.fstat(stream.fileno())
            if facts.st_nlink > 1:
                raise Refused(
                    f"{what}: external data {file} has other names (hard links), which may lead "
                    "out of the model's folder; put a copy of it there"
                )
            if length < 0:
                length = facts.st_size - offset
            if offset < 0 or length < 0 or offset + length > facts.st_size:
                raise BadInput(
                    f"{what}: external data {file} has {facts.st_size} bytes, "
                    f"{offset + length} are wanted; the file is cut short or another one"
                )
            if total + length > MAX_BYTES:
                raise BadInput(f"{what}: models over 2 GB are not handled yet")
            stream.seek(offset)
            return stream.read(length), total + length
    except OSError as error:
        raise MissingInput(
            f"{what}: external data {file} cannot be read: {error.strerror}"
        ) from error
