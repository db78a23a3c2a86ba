"""Small models as text, and their tensors by onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import numpy_helper, parser

from nettrim_cli.graph.layer import Layer
from nettrim_cli.graph.model import Model

HEAD = '<ir_version: 8, opset_import: ["" : 17]>'


def build(text: str, *, head: str = HEAD, **tensors: Any) -> onnx.ModelProto:
    """A model from onnx's text form, with more initializers given as arrays."""
    proto = parser.parse_model(f"{head}\n{text}")
    for name, values in tensors.items():
        array = values if isinstance(values, np.ndarray) else np.array(values, np.float32)
        proto.graph.initializer.append(numpy_helper.from_array(array, name))
    onnx.checker.check_model(proto)
    return proto


def normal(*shape: int, seed: int = 0, dtype: Any = np.float32) -> np.ndarray:
    """Normal numbers, the same each time."""
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def only(proto: onnx.ModelProto) -> tuple[Model, Layer]:
    """A model and its only layer."""
    model = Model(proto)
    (layer,) = model.layers
    return model, layer


def run(proto: onnx.ModelProto, names: list[str], feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Values of any tensors of the main graph, by onnxruntime without optimisation."""
    proto = onnx.ModelProto.FromString(proto.SerializeToString())
    declared = {output.name for output in proto.graph.output}
    for name in names:
        if name not in declared:
            proto.graph.output.append(onnx.ValueInfoProto(name=name))
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(names, feeds)
