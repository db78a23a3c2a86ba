"""Models as the content of files."""

from __future__ import annotations

import onnx

from nettrim_cli.errors import BadInput

MAX_BYTES = 2**31 - 1


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
