"""External data: tensors kept in files beside the model, read from its own folder only.

Large values stay in their files and are mapped when they are needed; values that replace them
are held beside it, in memory or in scratch files, marked in the tensor by an entry of its own.  So
a copy of a model is small.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import StringStringEntryProto, TensorProto

from nettrim_cli.errors import BadInput
from nettrim_cli.graph.layer import Runnable
from nettrim_cli.graph.storage import tensors
from nettrim_cli.graph.storage.elements import FLOATS, RAW_DTYPES, decode, encode
from nettrim_cli.graph.storage.protobuf import MAX_BYTES, serialize
from nettrim_cli.graph.storage.scratch import Scratch
from nettrim_cli.graph.storage.sidecar import Region, Sidecar, find_sidecar
from nettrim_cli.graph.storage.tensors import Holder, all_tensors, raw_bytes

"""A protobuf cannot be larger."""

SMALL_BYTES = 1024
"""Smaller tensors are brought into the model: the engine wants shapes and axes there."""

PAGE_BYTES, LINE_BYTES = 4096, 64  # where large and small tensors may start in a file
REPLACEMENT_KEY = "nettrim"
"""Key of the entry that marks a tensor whose value is replaced."""


Layout = dict[tuple[Any, ...], tuple[onnx.TensorProto, int]]
"""Tensors and their offsets in a file; the keys tell where the values are now."""


class External:
    """The values that a model keeps outside its protobuf.

    Methods take tensors of the model or of copies of it, external or not.

    Parameters
    ----------
    folder
        The model's folder; None for a model without external data.

    Attributes
    ----------
    scratch
        Holds values that replace those of the files.
    """

    scratch = Scratch()

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self._sidecars: dict[str, Sidecar] = {}
        self._replacements: dict[str, NDArray[Any]] = {}

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
        external = cls(Path(os.path.realpath(path.parent)))
        total = model.ByteSize()
        for tensor, sparse in tensors.tensors_by_density(model):
            if not is_external(tensor):
                continue
            title = f"{path}: tensor '{tensor.name}'"
            region = external._locate(tensor, path, title)
            if region.length >= SMALL_BYTES and not sparse:
                continue
            total += region.length
            if total > MAX_BYTES:
                raise BadInput(f"{title}: over 2 GB would have to be inside the ONNX file itself")
            external._bring_in(tensor)
        external._sidecars = {
            location: external._sidecars[location]
            for location in {_entries(t)["location"] for t in all_tensors(model) if is_external(t)}
        }
        return external

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that hold the values, each once."""
        return tuple(sorted({sidecar.path for sidecar in self._sidecars.values()}))

    def check_unchanged(self) -> None:
        """Make sure that the files are what they were.

        Raises
        ------
        MissingInput
            A file is gone.
        BadInput
            A file has changed.
        """
        for sidecar in self._sidecars.values():
            os.close(sidecar.open())

    def clone(self) -> External:
        """The values for a copy of the model: files are shared, replacements are its own."""
        clone = External(self.folder)
        clone.scratch = self.scratch
        clone._sidecars, clone._replacements = self._sidecars, dict(self._replacements)
        return clone

    def read(self, holder: Holder) -> NDArray[Any]:
        """Value of a holder (see ``tensors``); a large one is mapped from its file."""
        if not is_external(holder):
            return tensors.read(holder)
        elements = self._stored_elements(holder)
        if holder.data_type in RAW_DTYPES:
            return decode(elements.reshape(-1), holder.data_type).reshape(holder.dims)
        return tensors.read(
            TensorProto(data_type=holder.data_type, dims=holder.dims, raw_data=elements.tobytes())
        )

    def write(self, holder: Holder, values: NDArray[Any]) -> None:
        """Replace the value of a holder, an array ``(D1, ..., DK)``; files stay as they are.

        Raises
        ------
        Unfit
            A value is not finite, or too large for the stored dtype.
        ValueError
            `values` are of another shape than the stored ones.
        """
        if not is_external(holder):
            tensors.write(holder, values)
            return
        elements = encode(values, holder.data_type)
        if tuple(holder.dims) != values.shape:
            raise ValueError(f"shape {values.shape} where {tuple(holder.dims)} is stored")
        self._replace(holder, elements)

    def elements(self, tensor: TensorProto) -> NDArray[Any] | None:
        """As ``tensors.elements``, of a tensor inside the protobuf or outside."""
        if is_external(tensor):
            return self._stored_elements(tensor).reshape(-1)
        return tensors.elements(tensor)

    def new_tensor(
        self, name: str, elements: NDArray[Any], elem_type: int, *, outside: bool = False
    ) -> TensorProto:
        """A tensor of elements as stored, ``(D1, ..., DK)``.

        Parameters
        ----------
        name, elements, elem_type
            What it holds.
        outside
            Whether its value stays outside the protobuf, if it is large.
        """
        tensor = TensorProto(name=name, data_type=elem_type, dims=elements.shape)
        if outside and elements.nbytes >= SMALL_BYTES:
            tensor.data_location = TensorProto.EXTERNAL
            self._replace(tensor, elements)
        else:
            tensor.raw_data = elements.tobytes()
        return tensor

    def _replace(self, tensor: TensorProto, elements: NDArray[Any]) -> None:
        """Hold the value of an external tensor beside its file."""
        self._replacements.pop(_drop_replacement_key(tensor), None)
        key = str(1 + max(map(int, self._replacements), default=0))
        self._replacements[key] = self.scratch.keep(elements)
        tensor.external_data.add(key=REPLACEMENT_KEY, value=key)

    def count(self, model: onnx.ModelProto) -> tuple[int, int]:
        """Numbers of floating-point elements in initializers and Constant nodes: all, non-zero."""
        total = nonzero = 0
        for holder, shape in tensors.constants(model):
            if tensors.elem_type(holder) in FLOATS:
                total += math.prod(shape)
                nonzero += self._count_nonzero(holder)
        return total, nonzero

    def runnable(self, model: onnx.ModelProto) -> Runnable:
        """A model, this one or one made of its nodes and tensors, as the engine takes it.

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
        # The engine's own message on a missing or changed file would be of no help.
        unchanged = [tensor for tensor in external if not _replacement_key(tensor)]
        for sidecar in {self._region(tensor).sidecar for tensor in unchanged}:
            os.close(sidecar.open())
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        folder = _text(self.folder)
        replaced = {}
        initializers = len(copy.graph.initializer)
        for position, tensor in enumerate(all_tensors(copy)):  # the main graph's first
            if not is_external(tensor) or (folder and not _replacement_key(tensor)):
                continue
            if position < initializers and tensor.data_type in RAW_DTYPES:
                replaced[tensor.name] = (self._stored_elements(tensor), int(tensor.data_type))
                _drop_replacement_key(tensor)
            else:
                self._bring_in(tensor)
        size = sum(raw_bytes(tensor) for tensor in external)
        return Runnable(serialize(copy), folder, replaced, size)

    def pieces(self, model: onnx.ModelProto) -> Iterator[bytes]:
        """Content of one new file for all external data, to which ``relocated`` refers."""
        end = 0
        for tensor, offset in self._layout(model).values():
            yield bytes(offset - end)
            yield from self._pieces(tensor)
            end = offset + raw_bytes(tensor)

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

    def _layout(self, model: onnx.ModelProto) -> Layout:
        """Tensors and their offsets in a new file; tensors that share a region share it again."""
        layout: Layout = {}
        end = 0
        for tensor in all_tensors(model):
            if is_external(tensor) and self._key(tensor) not in layout:
                start = PAGE_BYTES if raw_bytes(tensor) >= 16 * PAGE_BYTES else LINE_BYTES
                offset = -(-end // start) * start
                layout[self._key(tensor)] = (tensor, offset)
                end = offset + raw_bytes(tensor)
        return layout

    def _key(self, tensor: onnx.TensorProto) -> tuple[Any, ...]:
        if key := _replacement_key(tensor):
            return (key,)
        region = self._region(tensor)
        return region.sidecar, region.offset, region.length

    def _locate(self, tensor: onnx.TensorProto, path: Path, title: str) -> Region:
        """The region that a tensor names, checked."""
        location = _entries(tensor).get("location", "")
        if location not in self._sidecars:
            self._sidecars[location] = find_sidecar(location, tensor.name, path)
        _drop_replacement_key(tensor)
        try:
            region = self._region(tensor)
            size = raw_bytes(tensor)
        except ValueError as error:
            raise BadInput(f"{title}: {error}") from error
        file_size = region.sidecar.identity[2]
        if region.offset < 0 or region.length < 0:
            raise BadInput(f"{title}: a negative offset or length of its external data")
        if region.offset + region.length > file_size:
            end = region.offset + region.length
            raise BadInput(
                f"{title}: external data {region.sidecar.path} has {file_size:,} bytes, "
                f"{end:,} are wanted; the file is cut short or another one"
            )
        if region.length != size:
            raise BadInput(
                f"{title}: {region.length:,} bytes of external data, its shape "
                f"{tuple(tensor.dims)} wants {size:,}"
            )
        return region

    def _region(self, tensor: onnx.TensorProto) -> Region:
        entries = _entries(tensor)
        sidecar = self._sidecars[entries["location"]]
        try:
            offset = int(entries.get("offset", "") or 0)
            length = int(entries.get("length", "") or sidecar.identity[2] - offset)
        except ValueError as error:
            raise ValueError("malformed offset or length of its external data") from error
        return Region(sidecar, offset, length)

    def _stored_elements(self, tensor: onnx.TensorProto) -> NDArray[Any]:
        """The elements as stored, in the tensor's shape (bytes where numpy has no such type)."""
        key = _replacement_key(tensor)
        if key:
            return self._replacements[key]
        region = self._region(tensor)
        raw = region.map()
        if tensor.data_type not in RAW_DTYPES:
            return raw
        return raw.view(RAW_DTYPES[tensor.data_type]).reshape(tuple(tensor.dims))

    def _pieces(self, tensor: onnx.TensorProto) -> Iterator[bytes]:
        """Raw data piece by piece."""
        key = _replacement_key(tensor)
        if key:
            yield self._replacements[key].tobytes()
        else:
            yield from self._region(tensor).pieces()

    def _count_nonzero(self, holder: Holder) -> int:
        if not is_external(holder) or holder.data_type not in RAW_DTYPES:
            return int(np.count_nonzero(self.read(holder)))
        nonzero, item_bytes = 0, RAW_DTYPES[holder.data_type].itemsize
        incomplete = b""
        for piece in self._pieces(holder):
            raw = incomplete + piece
            end = len(raw) - len(raw) % item_bytes
            nonzero += int(np.count_nonzero(decode(raw[:end], holder.data_type)))
            incomplete = raw[end:]
        return nonzero

    def _bring_in(self, tensor: onnx.TensorProto) -> None:
        """Put the value into the protobuf."""
        tensor.raw_data = b"".join(self._pieces(tensor))
        del tensor.external_data[:]
        tensor.ClearField("data_location")


NOTHING = External()
"""The values of a model without external data."""


def is_external(holder: Holder) -> TypeGuard[TensorProto]:
    """Whether a holder's value is outside the protobuf."""
    return isinstance(holder, TensorProto) and holder.data_location == TensorProto.EXTERNAL


def is_split(model: onnx.ModelProto) -> bool:
    """Whether some values of a model are outside its protobuf."""
    return any(map(is_external, all_tensors(model)))


def without_values(model: onnx.ModelProto) -> onnx.ModelProto:
    """A model whose external tensors are empty, for the checker, which would look for files."""
    if not is_split(model):
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for tensor in all_tensors(copy):
        if is_external(tensor):
            tensor.dims[:] = [0]
            del tensor.external_data[:]
            tensor.ClearField("data_location")
    return copy


def _entries(tensor: onnx.TensorProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in tensor.external_data}


def _replacement_key(tensor: onnx.TensorProto) -> str:
    """Key of the value that replaces the one in the file, empty for none."""
    return next((entry.value for entry in tensor.external_data if entry.key == REPLACEMENT_KEY), "")


def _drop_replacement_key(tensor: onnx.TensorProto) -> str:
    """Take the key of the replacement away, and return it."""
    key = _replacement_key(tensor)
    entries = [entry for entry in tensor.external_data if entry.key != REPLACEMENT_KEY]
    if len(entries) < len(tensor.external_data):
        copies = [StringStringEntryProto(key=entry.key, value=entry.value) for entry in entries]
        del tensor.external_data[:]
        tensor.external_data.extend(copies)
    return key


def _text(folder: Path | None) -> str:
    """A folder's name; empty if it is not UTF-8, which is all that the engine takes."""
    try:
        return str(folder or "").encode("utf-8").decode("utf-8")
    except UnicodeEncodeError:
        return ""
