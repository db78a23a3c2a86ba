"""Tensors in files of their own, as ONNX's test data have them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from nettrim_cli.errors import BadInput, MissingInput, Refused


def read_tensor(path: Path) -> NDArray[Any]:
    """The values of a ``TensorProto`` file.

    Raises
    ------
    MissingInput
        It cannot be read.
    BadInput
        It is no tensor, or damaged.
    Refused
        Its values are in another file.
    """
    tensor = onnx.TensorProto()
    try:
        tensor.ParseFromString(path.read_bytes())
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise Refused(f"{path}: its values are in another file: store them in this one.")
        values = np.asarray(numpy_helper.to_array(tensor))
    except OSError as error:
        raise MissingInput(f"{path} cannot be read ({error.strerror}).") from error
    except Refused:
        raise
    except Exception as error:  # protobuf and onnx raise whatever the bytes lead them to
        raise BadInput(f"{path} is no ONNX tensor, or is damaged.") from error
    return values
