"""Models of a caller's own: written to files, and read from them with all that they hold."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import onnx

from nettrim_cli.errors import BadInput, DiskFailed
from nettrim_cli.graph.layer import Tensor
from nettrim_cli.graph.reading import described_tensor, parse, read_file
from nettrim_cli.graph.storage.protobuf import MAX_BYTES
from nettrim_cli.graph.storage.tensors import all_tensors

ROOM = 1 << 24  # left for what is no tensor


def as_proto(model: Any) -> onnx.ModelProto | None:
    """The model in an object: a ``ModelProto``, or what holds one as ``model_proto``.

    None where it holds none.
    """
    proto = getattr(model, "model_proto", model)
    return proto if isinstance(proto, onnx.ModelProto) else None


def write_model(proto: onnx.ModelProto, path: Path) -> None:
    """Write a model; a large one with its tensors in a file beside it.

    Raises
    ------
    BadInput
        Its tensors are in files that it does not hold.
    DiskFailed
        It cannot be written.
    """
    for tensor in all_tensors(proto):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise BadInput(
                f"{path}: the values of '{tensor.name}' are in a file: load them with the model "
                "(onnx.load does), or give the path of the model."
            )
    large = sum(len(tensor.raw_data) for tensor in all_tensors(proto)) > MAX_BYTES - ROOM
    if large:  # onnx changes what it writes
        copy = onnx.ModelProto()
        copy.CopyFrom(proto)
        proto = copy
    try:
        onnx.save_model(
            proto,
            os.fspath(path),
            save_as_external_data=large,
            location=f"{path.name}.data",
        )
    except OSError as error:
        raise DiskFailed(f"{path} cannot be written ({error.strerror}); free some space") from error


def read_model(path: Path) -> onnx.ModelProto:
    """A model with all of its tensors."""
    return onnx.load(os.fspath(path))


def inputs_of(path: Path) -> tuple[Tensor, ...]:
    """Inputs of a model that a caller must feed.

    Raises
    ------
    MissingInput
        The file is missing or unreadable.
    BadInput
        It is no model.
    """
    graph = parse(read_file(path), path).graph
    stored = {tensor.name for tensor in graph.initializer}
    stored |= {tensor.values.name for tensor in graph.sparse_initializer}
    return tuple(described_tensor(value) for value in graph.input if value.name not in stored)
