"""External data: tensors kept in files beside the model, read from its own folder only.

Large values stay in their files and are mapped when they are needed; values that replace them
are held in memory, marked in the tensor by an entry of its own.  So a copy of a model is small.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from nettrim_cli.errors import BadInput
from nettrim_cli.graph.layer import Runnable
from nettrim_cli.graph.storage import sidecar, tensors
from nettrim_cli.graph.storage.sidecar import Region, Sidecar
from nettrim_cli.graph.storage.tensors import STORED, all_tensors, raw_bytes

MAX_BYTES = 2**31 - 1
"""A protobuf cannot be larger."""

SMALL_BYTES = 1024
"""Smaller tensors are brought into the model: the engine wants shapes and axes there."""

PAGE_BYTES, LINE_BYTES = 4096, 64  # where large and small tensors may start in a file
HELD = "nettrim"


class External:
    """The values that a model keeps outside its protobuf.

    Methods take tensors of the model or of copies of it, external or not.

    Parameters
    ----------
    folder
        The model's folder; None for a model without external data.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self._sidecars: dict[str, Sidecar] = {}
        self._held: dict[str, NDArray[Any]] = {}

    @classmethod
    def find(cls, model: onnx.ModelProto, path: Path) -> External:
        """Look at all external data of `model`, read from `path`, and bring small ones into it.

        Raises
        ------
        Refused
            A location is absolute, or leads out of the model's folder (``..``, a link).
        MissingInput
            A file is missing or unreadable.
        BadInput
            A location is malformed, a file too short, or a size not what the shape asks for.
        """
        found = cls(Path(os.path.realpath(path.parent)))
        total = model.ByteSize()
        for tensor, sparse in tensors.told_apart(model):
            if not is_external(tensor):
                continue
            what = f"{path}: tensor '{tensor.name}'"
            region = found._locate(tensor, path, what)
            if region.length >= SMALL_BYTES and not sparse:
                continue
            total += region.length
            if total > MAX_BYTES:
                raise BadInput(f"{what}: over 2 GB would have to be inside the ONNX file itself")
            found._bring_in(tensor)
        found._sidecars = {
            location: found._sidecars[location]
            for location in {_entries(t)["location"] for t in all_tensors(model) if is_external(t)}
        }
        return found

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that hold the values, each once."""
        return tuple(sorted({each.path for each in self._sidecars.values()}))

    def check_unchanged(self) -> None:
        """Make sure that the files are what they were.

        Raises
        ------
        MissingInput, BadInput
            One is gone, or has changed.
        """
        for each in self._sidecars.values():
            os.close(each.open())

    def clone(self) -> External:
        """For a copy of the model: values are shared, replacements are its own."""
        other = External(self.folder)
        other._sidecars, other._held = self._sidecars, dict(self._held)
        return other

    def read(self, holder: Any) -> NDArray[Any]:
        """Value of a holder (see ``tensors``); a large one is mapped from its file."""
        if not is_external(holder):
            return tensors.read(holder)
        stored = self._stored(holder)
        if holder.data_type in STORED:
            return tensors.decode(stored.reshape(-1), holder.data_type).reshape(holder.dims)
        return tensors.read(
            TensorProto(data_type=holder.data_type, dims=holder.dims, raw_data=stored.tobytes())
        )

    def write(self, holder: Any, values: NDArray[Any]) -> None:
        """Replace the value of a holder; the file of an external one stays as it is.

        Raises
        ------
        tensors.Unfit
            A value is not finite, or too large for the stored dtype.
        """
        if not is_external(holder):
            tensors.write(holder, values)
            return
        stored = tensors.encode(values, holder.data_type)
        if tuple(holder.dims) != values.shape:
            raise ValueError(f"shape {values.shape} where {tuple(holder.dims)} is stored")
        self._held.pop(_unmark(holder), None)
        key = str(1 + max(map(int, self._held), default=0))
        self._held[key] = stored
        holder.external_data.add(key=HELD, value=key)

    def count(self, model: onnx.ModelProto) -> tuple[int, int]:
        """Floating-point elements of all initializers and Constant nodes, and the non-zero ones."""
        total = nonzero = 0
        for holder, shape in tensors.constants(model):
            if tensors.elem_type(holder) in tensors.FLOATS:
                total += math.prod(shape)
                nonzero += self._count_nonzero(holder)
        return total, nonzero

    def runnable(self, model: onnx.ModelProto) -> Runnable:
        """The model, or one made of its nodes and tensors, for the engine.

        Raises
        ------
        BadInput
            More than 2 GB are left inside it, or a file has changed.
        MissingInput
            A file is gone.
        """
        external = [tensor for tensor in all_tensors(model) if is_external(tensor)]
        if not external:
            return Runnable(serialize(model))
        # The engine would say of such a file whatever comes to it.
        for each in {self._region(tensor).sidecar for tensor in external if not _held(tensor)}:
            os.close(each.open())
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        folder = _text(self.folder)
        replaced = {}
        inner = len(copy.graph.initializer)
        for at, tensor in enumerate(all_tensors(copy)):  # initializers of the main graph first
            if not is_external(tensor) or (folder and not _held(tensor)):
                continue
            if at < inner and tensor.data_type in STORED:
                replaced[tensor.name] = (self._stored(tensor), int(tensor.data_type))
                _unmark(tensor)
            else:
                self._bring_in(tensor)
        size = sum(raw_bytes(tensor) for tensor in external)
        return Runnable(serialize(copy), folder, replaced, size)

    def pieces(self, model: onnx.ModelProto) -> Iterator[bytes]:
        """Content of one new file for all external data, to which ``relocated`` refers."""
        at = 0
        for tensor, offset in self._layout(model).values():
            yield bytes(offset - at)
            yield from self._pieces(tensor)
            at = offset + raw_bytes(tensor)

    def relocated(self, model: onnx.ModelProto, location: str) -> onnx.ModelProto:
        """A copy of `model` whose external data are in one new file."""
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        layout = self._layout(model)
        for tensor in all_tensors(copy):
            if is_external(tensor):
                entries = {
                    "location": location,
                    "offset": layout[self._key(tensor)][1],
                    "length": raw_bytes(tensor),
                }
                del tensor.external_data[:]
                for key, value in entries.items():
                    tensor.external_data.add(key=key, value=str(value))
        return copy

    def _layout(self, model: onnx.ModelProto) -> dict[tuple[Any, ...], tuple[Any, int]]:
        """Tensors and their offsets in a new file; what was stored once is stored once."""
        layout: dict[tuple[Any, ...], tuple[Any, int]] = {}
        end = 0
        for tensor in all_tensors(model):
            if is_external(tensor) and self._key(tensor) not in layout:
                start = PAGE_BYTES if raw_bytes(tensor) >= 16 * PAGE_BYTES else LINE_BYTES
                offset = -(-end // start) * start
                layout[self._key(tensor)] = (tensor, offset)
                end = offset + raw_bytes(tensor)
        return layout

    def _key(self, tensor: Any) -> tuple[Any, ...]:
        region = self._region(tensor)
        return (_held(tensor), region.sidecar, region.offset, region.length)

    def _locate(self, tensor: Any, path: Path, what: str) -> Region:
        """Check where a tensor says that it is."""
        location = _entries(tensor).get("location", "")
        if location not in self._sidecars:
            self._sidecars[location] = sidecar.find(location, tensor.name, path)
        _unmark(tensor)
        try:
            region = self._region(tensor)
            wanted = raw_bytes(tensor)
        except ValueError as error:
            raise BadInput(f"{what}: {error}") from error
        size = region.sidecar.identity[2]
        if region.offset < 0 or region.length < 0:
            raise BadInput(f"{what}: a negative offset or length of its external data")
        if region.offset + region.length > size:
            end = region.offset + region.length
            raise BadInput(
                f"{what}: external data {region.sidecar.path} has {size:,} bytes, "
                f"{end:,} are wanted; the file is cut short or another one"
            )
        if region.length != wanted:
            raise BadInput(
                f"{what}: {region.length:,} bytes of external data, its shape "
                f"{tuple(tensor.dims)} wants {wanted:,}"
            )
        return region

    def _region(self, tensor: Any) -> Region:
        entries = _entries(tensor)
        sidecar = self._sidecars[entries["location"]]
        try:
            offset = int(entries.get("offset", "") or 0)
            length = int(entries.get("length", "") or sidecar.identity[2] - offset)
        except ValueError as error:
            raise ValueError("malformed offset or length of its external data") from error
        return Region(sidecar, offset, length)

    def _stored(self, tensor: Any) -> NDArray[Any]:
        """The elements as stored, in the tensor's shape (bytes where numpy has no such type)."""
        held = _held(tensor)
        if held:
            return self._held[held]
        region = self._region(tensor)
        raw = region.map()
        if tensor.data_type not in STORED:
            return raw
        return raw.view(STORED[tensor.data_type]).reshape(tuple(tensor.dims))

    def _pieces(self, tensor: Any) -> Iterator[bytes]:
        """Raw data piece by piece."""
        held = _held(tensor)
        if held:
            yield self._held[held].tobytes()
        else:
            yield from self._region(tensor).pieces()

    def _count_nonzero(self, holder: Any) -> int:
        if not is_external(holder) or holder.data_type not in STORED:
            return int(np.count_nonzero(self.read(holder)))
        found, width = 0, STORED[holder.data_type].itemsize
        rest = b""
        for piece in self._pieces(holder):
            whole = rest + piece
            cut = len(whole) - len(whole) % width
            found += int(np.count_nonzero(tensors.decode(whole[:cut], holder.data_type)))
            rest = whole[cut:]
        return found

    def _bring_in(self, tensor: Any) -> None:
        """Put the value into the protobuf."""
        tensor.raw_data = b"".join(self._pieces(tensor))
        del tensor.external_data[:]
        tensor.ClearField("data_location")


NOTHING = External()
"""For models without external data."""


def is_external(holder: Any) -> bool:
    """Whether a holder's value is outside the protobuf."""
    return isinstance(holder, TensorProto) and holder.data_location == TensorProto.EXTERNAL


def without_values(model: onnx.ModelProto) -> onnx.ModelProto:
    """For the checker, which would look for files: external tensors are empty ones."""
    if not any(is_external(tensor) for tensor in all_tensors(model)):
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for tensor in all_tensors(copy):
        if is_external(tensor):
            tensor.dims[:] = [0]
            del tensor.external_data[:]
            tensor.ClearField("data_location")
    return copy


def serialize(model: onnx.ModelProto) -> bytes:
    """A model as a file's content: equal models give equal bytes.

    Raises
    ------
    BadInput
        It is larger than a protobuf can be.
    """
    if model.ByteSize() > MAX_BYTES:
        raise BadInput(
            "over 2 GB without external data, more than an ONNX file holds; "
            "save the model with its tensors in external data"
        )
    payload: bytes = model.SerializeToString(deterministic=True)
    return payload


def _entries(tensor: Any) -> dict[str, str]:
    return {entry.key: entry.value for entry in tensor.external_data}


def _held(tensor: Any) -> str:
    """Key of the value that replaces the one in the file, empty for none."""
    return next((entry.value for entry in tensor.external_data if entry.key == HELD), "")


def _unmark(tensor: Any) -> str:
    """Take the key of the replacement away."""
    held = _held(tensor)
    kept = [entry for entry in tensor.external_data if entry.key != HELD]
    if len(kept) < len(tensor.external_data):
        copies = [onnx.StringStringEntryProto(key=each.key, value=each.value) for each in kept]
        del tensor.external_data[:]
        tensor.external_data.extend(copies)
    return held


def _text(folder: Path | None) -> str:
    """A folder's name for the engine, which takes only UTF-8."""
    try:
        return str(folder or "").encode("utf-8").decode("utf-8")
    except UnicodeEncodeError:
        return ""
