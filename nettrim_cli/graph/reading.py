"""Model files: read, parsed and checked."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import onnx

from nettrim_cli.errors import BadInput, MissingInput, NettrimError
from nettrim_cli.files.formats import not_a_model, where_missing
from nettrim_cli.graph.ir.toposort import sorted_model
from nettrim_cli.graph.layer import Tensor
from nettrim_cli.graph.storage import elements, tensors
from nettrim_cli.graph.storage.external import without_values
from nettrim_cli.graph.storage.protobuf import MAX_BYTES

LARGE = "over 2 GB, more than an ONNX file holds; keep the tensors in external data"
WINDOWS = ("pads", "strides", "dilations", "kernel_shape", "output_padding", "output_shape")
FARTHEST = 1 << 24  # entries along one axis of a tensor

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
"""Regular expressions for messages of onnx's checker, and nettrim's messages instead."""

AGAIN = "export it, or copy or download it, again"
AMBIGUOUS = re.compile(
    r"name is not unique|TensorProto \(tensor name|Tensor dimension|Negative dim|[Ss]parse"
)
"""Its messages on values that can be read in two ways: the engine would guess, too."""


def read_file(path: Path) -> bytes:
    """Content of a regular file of at most 2 GB.

    Raises
    ------
    MissingInput
        There is no regular file, or it cannot be read.
    BadInput
        It is larger.
    """
    try:
        facts = os.stat(path)
        if stat.S_ISDIR(facts.st_mode):
            raise MissingInput(not_a_model(path) or _in_folder(path))
        if not stat.S_ISREG(facts.st_mode):
            raise MissingInput(f"{path}: not a regular file")
        if facts.st_size > MAX_BYTES:
            raise BadInput(not_a_model(path) or f"{path}: {LARGE}")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise MissingInput(
            f"{path}: there is no such model: {where_missing(path, 'the model')}"
        ) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise MissingInput(f"{path}: the model cannot be read: {reason}") from error


def parse(payload: bytes, path: Path) -> onnx.ModelProto:
    """The model in a file's content.

    Raises
    ------
    BadInput
        The content is no model.
    """
    if not payload:
        raise BadInput(f"{path}: the file is empty, not an ONNX model: {AGAIN}")
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(payload)
    except Exception as error:  # protobuf's DecodeError, by whichever of its engines
        description = not_a_model(path)
        cut = f"{path}: not an ONNX model, or a file cut short: {AGAIN}"
        raise BadInput(description or cut) from error
    if not proto.HasField("graph") and (description := not_a_model(path)):
        raise BadInput(description)  # a protobuf of another kind, read as if it were a model
    return proto


def check_model(
    proto: onnx.ModelProto, path: Path, runs: Callable[[], object] | None = None
) -> bool:
    """Check a model by onnx's checker, and that constants have as many values as their shapes say.

    Nodes may stand in any order, if they can be sorted.

    Parameters
    ----------
    proto
        The model.
    path
        The name of its file, for messages.
    runs
        A function that raises one of nettrim's errors if the engine cannot load the model.  It is
        called where the checker refuses a model that the engine may load: shapes and types that
        are not told, names that are left out.

    Returns
    -------
    bool
        Whether onnx's checker passes it.

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
        for tensor in tensors.all_tensors(plain):
            tensors.check_size(tensor)
        _check_windows(plain)
        plain = sorted_model(plain)
    except Exception as error:
        raise _invalid(path, error) from error
    try:
        onnx.checker.check_model(plain)
    except Exception as error:  # ValidationError, or what the C++ below it throws
        if runs is None or AMBIGUOUS.search(str(error)):
            raise _invalid(path, error) from error
        try:
            runs()
        except NettrimError:
            raise _invalid(path, error) from error
        return False
    return True


def _check_windows(proto: onnx.ModelProto) -> None:
    """Raise ValueError for a window whose steps or margins are larger than any tensor."""
    for container in tensors.containers(proto):
        for node in container.node:
            for attribute in node.attribute:
                farthest = max(map(abs, attribute.ints), default=0)
                if attribute.name in WINDOWS and farthest > FARTHEST:
                    name = node.name or "".join(node.output[:1])
                    raise ValueError(
                        f"node '{name}' ({node.op_type}) has {attribute.name} "
                        f"{list(attribute.ints)}, which no tensor is large enough for"
                    )


def _invalid(path: Path, error: Exception) -> BadInput:
    return BadInput(f"{path}: not a valid ONNX model: {_message(error)}")


def _require_text(message: Any) -> None:
    """Make sure that all names are text; protobuf returns bytes for names that are not UTF-8."""
    tensor = isinstance(message, onnx.TensorProto)  # its values are not looked at
    fields = [] if tensor else message.ListFields()
    named = [message.name] if tensor else []
    for field, value in fields:
        values = value if isinstance(value, Iterable) and not isinstance(value, bytes) else [value]
        if field.message_type is not None:
            for nested in values:
                _require_text(nested)
        elif field.type == field.TYPE_STRING and field.name != "doc_string":
            named.extend([value] if isinstance(value, (str, bytes)) else value)
    for name in named:
        if isinstance(name, bytes):
            raise BadInput(f"the name {name!r} is not UTF-8 text")


def _in_folder(path: Path) -> str:
    """The message for a path that is a folder, with a model in it as an example."""
    models = sorted(file.name for file in path.glob("*.onnx"))
    example = f", such as {path / models[0]}" if models else ""
    return f"{path}: a folder; name the .onnx file in it{example}"


def _message(error: Exception) -> str:
    """The checker's message in one line, or nettrim's message instead."""
    text = str(error).strip() or type(error).__name__
    for pattern, sentence in SENTENCES:
        match = re.search(pattern, text)
        if match:
            return match.expand(sentence).replace("node ''", "a node without a name")
    return text.splitlines()[0].strip()


def described_tensor(value: onnx.ValueInfoProto) -> Tensor:
    """Name, dtype and axes of an input or output, as far as the model tells them."""
    tensor_type = value.type.tensor_type
    if not value.type.HasField("tensor_type"):
        return Tensor(value.name, str(value.type.WhichOneof("value") or "").split("_")[0], None)
    valid = tensor_type.elem_type in onnx.TensorProto.DataType.values()
    dtype = "" if not valid else elements.type_name(tensor_type.elem_type)
    if not tensor_type.HasField("shape"):
        return Tensor(value.name, dtype, None)
    axes: list[int | str | None] = []
    for axis in tensor_type.shape.dim:
        if axis.HasField("dim_value"):
            axes.append(int(axis.dim_value))
        else:
            axes.append(str(axis.dim_param) or None)
    return Tensor(value.name, dtype, tuple(axes))
