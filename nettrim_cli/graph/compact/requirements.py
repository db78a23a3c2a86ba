"""What a model needs to be stored in compact form."""

from __future__ import annotations

from pathlib import Path

import onnx

from nettrim_cli.errors import BadInput
from nettrim_cli.graph.ir.flat_graph import STANDARD

OLDEST_OPSET = 11  # of CumSum, and of ScatterElements with negative indices
BFLOAT16_OPSET = 20  # of ConstantOfShape


def check_can_be_compact(model: onnx.ModelProto, path: Path) -> None:
    """Make sure that a model, of a file, can be stored in compact form.

    Raises
    ------
    BadInput
        Its operators are too old to rebuild tensors, or it is being trained.
    """
    if not can_be_compact(model):
        raise BadInput(
            f"{path}: the compact form needs operators of version {OLDEST_OPSET} or later, and a "
            "model that is not in training; convert it, or store it plain"
        )


def can_be_compact(model: onnx.ModelProto) -> bool:
    """Whether a model's operators can rebuild tensors, and none of them is trained."""
    return opset(model) >= OLDEST_OPSET and not model.training_info


def can_rebuild(model: onnx.ModelProto, elem_type: int) -> bool:
    """Whether a model's operators can rebuild tensors of an element type."""
    return elem_type != onnx.TensorProto.BFLOAT16 or opset(model) >= BFLOAT16_OPSET


def opset(model: onnx.ModelProto) -> int:
    """Version of a model's standard operators."""
    versions = (opset.version for opset in model.opset_import if opset.domain in STANDARD)
    return max(versions, default=0)
