"""Model files: read, parsed and checked."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

import onnx

from nettrim_cli.errors import BadInput, MissingInput
from nettrim_cli.graph import constants
from nettrim_cli.graph.external import MAX_BYTES, without_values
from nettrim_cli.graph.order import sorted_model

LARGE = "over 2 GB, more than an ONNX file holds; keep the tensors in external data"


def read_file(path: Path) -> bytes:
    """Content of a regular file of at most 2 GB.

    Raises
    ------
    MissingInput, BadInput
        It is none, or cannot be read; it is larger.
    """
    try:
        facts = os.stat(path)
        if stat.S_ISDIR(facts.st_mode):
            raise MissingInput(f"{path}: a folder; name the .onnx file in it")
        if not stat.S_ISREG(facts.st_mode):
            raise MissingInput(f"{path}: not a regular file")
        if facts.st_size > MAX_BYTES:
            raise BadInput(f"{path}: {LARGE}")
        return path.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise MissingInput(f"{path}: the model cannot be read: {reason}") from error


def parse(payload: bytes, path: Path) -> onnx.ModelProto:
    """The message in a file's content.

    Raises
    ------
    BadInput
        There is none.
    """
    if not payload:
        raise BadInput(f"{path}: the file is empty, not an ONNX model")
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(payload)
    except Exception as error:  # protobuf's DecodeError, by whichever of its engines
        raise BadInput(f"{path}: not an ONNX model, or a file cut short") from error
    return proto


def check_model(proto: onnx.ModelProto, path: Path) -> None:
    """Onnx's checker, and that every constant has the values that its shape promises.

    The order of the nodes does not matter, where there is one.

    Raises
    ------
    BadInput
        It is no valid model.
    """
    try:
        plain = without_values(proto)
        onnx.checker.check_model(sorted_model(plain))
        for tensor in constants.all_tensors(plain):
            constants.check_size(tensor)
    except Exception as error:  # ValidationError, or what the C++ below it throws
        raise BadInput(f"{path}: not a valid ONNX model: {_said(error)}") from error


def _said(error: Exception) -> str:
    """What the checker says in a line."""
    text = str(error).strip() or type(error).__name__
    unmade = re.search(r"however input '(.*)' of node:\s*name: (.*) OpType: (.*)", text)
    if unmade:  # it takes what nothing makes for a matter of order
        name, title, op = unmade.groups()
        return f"nothing makes the tensor '{name}' that node '{title}' ({op}) reads"
    return text.splitlines()[0].strip()
