"""Model files: read, parsed and checked."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import onnx

from nettrim_cli.errors import BadInput, MissingInput
from nettrim_cli.graph import constants
from nettrim_cli.graph.external import MAX_BYTES, without_values
from nettrim_cli.graph.order import sorted_model

LARGE = "over 2 GB, more than an ONNX file holds; keep the tensors in external data"

SENTENCES = (
    (
        # It takes what nothing makes for a matter of order.
        r"however input '(.*)' of node:\s*[nN]ame: (.*) OpType: (.*)",
        r"nothing makes the tensor '\1' that node '\2' (\3) reads",
    ),
    (r"Graph output '(.*)' is not an output", r"nothing makes the model output '\1'"),
    (
        r"however '(.*)' has been used as (graph input|output) names multiple",
        r"the tensor '\1' is made twice; give each input and each result a name of its own",
    ),
    (
        r"(?:^|\n)(.*) initializer name is not unique",
        r"two initializers are named '\1'; give each a name of its own",
    ),
    (
        r"No Op registered for (\S+) with domain_version of (\d+)",
        rf"no op \1 is known in version \2 of its operators (by onnx {onnx.__version__})",
    ),
)
"""Regular expressions for what onnx's checker says, and how it is said here."""


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
        if not proto.HasField("graph"):
            raise BadInput("there is no graph in it")
        if not proto.graph.output:
            raise BadInput("it has no outputs")
        _require_text(proto)
        plain = without_values(proto)
        for tensor in constants.all_tensors(plain):
            constants.check_size(tensor)
        onnx.checker.check_model(sorted_model(plain))
    except Exception as error:  # ValidationError, or what the C++ below it throws
        raise BadInput(f"{path}: not a valid ONNX model: {_said(error)}") from error


def _require_text(message: Any) -> None:
    """Make sure that all names are text: protobuf gives out others as bytes."""
    tensor = isinstance(message, onnx.TensorProto)  # its values are not looked at
    fields = [] if tensor else message.ListFields()
    named = [message.name] if tensor else []
    for field, value in fields:
        several = value if isinstance(value, Iterable) and not isinstance(value, bytes) else [value]
        if field.message_type is not None:
            for each in several:
                _require_text(each)
        elif field.type == field.TYPE_STRING and field.name != "doc_string":
            named.extend([value] if isinstance(value, (str, bytes)) else value)
    for name in named:
        if isinstance(name, bytes):
            raise BadInput(f"the name {name!r} is not UTF-8 text")


def _said(error: Exception) -> str:
    """What the checker says in a line, in nettrim's words where it says what to do."""
    text = str(error).strip() or type(error).__name__
    for pattern, sentence in SENTENCES:
        found = re.search(pattern, text)
        if found:
            return found.expand(sentence).replace("node ''", "a node without a name")
    return text.splitlines()[0].strip()
