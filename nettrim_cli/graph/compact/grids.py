"""Weights that are integers times scales, as a quantiser is to take them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from nettrim_cli.graph.compact.values import value_forms

Scales = NDArray[np.float32]


def weight_grids(model: onnx.ModelProto, op_types: Sequence[str]) -> dict[str, tuple[int, Scales]]:
    """Scales of weights that are integers times a scale for each output.

    Parameters
    ----------
    model
        The model; of tensors outside of it nothing is told.
    op_types
        Ops that read the weights, as their second input.

    Returns
    -------
    dict
        For the name of an initializer the axis of its outputs, of length M, and scales of shape
        ``(M,)``.
    """
    nodes = [node for node in model.graph.node if node.op_type in op_types]
    weights = {node.input[1] for node in nodes if len(node.input) > 1}
    grids = {}
    for tensor in model.graph.initializer:
        inside = tensor.data_location != TensorProto.EXTERNAL
        if inside and tensor.name in weights and tensor.data_type == TensorProto.FLOAT:
            values = numpy_helper.to_array(tensor)
            if (grid := _grid(values)) is not None:
                grids[tensor.name] = grid
    return grids


def _grid(values: NDArray[np.float32]) -> tuple[int, Scales] | None:
    """Axis and scales, if there is one axis with scales."""
    forms = value_forms(values.reshape(-1), TensorProto.FLOAT, values.shape)
    scale = next((form.scale for form in forms if form.elem_type == TensorProto.INT8), None)
    if scale is None:
        return None
    axes = [axis for axis, length in enumerate(scale.shape) if length > 1]
    return (axes[0], scale.reshape(-1).astype(np.float32)) if len(axes) == 1 else None
