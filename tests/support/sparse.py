"""Sparse tensors and models, and runs of a model by every engine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx.reference import ReferenceEvaluator

LEVELS = (
    ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
)


def sparse(*shape: int, zeros: float = 0.9, seed: int = 0, dtype: Any = np.float32) -> np.ndarray:
    """Normal numbers, a share of them zero."""
    random = np.random.default_rng(seed)
    values = random.standard_normal(shape).astype(dtype)
    values[random.random(shape) < zeros] = 0
    return values


def session(proto: onnx.ModelProto, level: Any, folder: str = "") -> ort.InferenceSession:
    """A model in onnxruntime with one thread, its external data in a folder."""
    options = ort.SessionOptions()
    options.graph_optimization_level = level
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    if folder:
        key = "session.model_external_initializers_file_folder_path"
        options.add_session_config_entry(key, folder)
    content = proto.SerializeToString()
    return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def results(
    proto: onnx.ModelProto, names: list[str], feeds: dict[str, Any], folder: str = ""
) -> Iterator[list[Any]]:
    """Values of some tensors by onnxruntime at each level, then by onnx's reference."""
    proto = onnx.ModelProto.FromString(proto.SerializeToString())
    declared = {output.name for output in proto.graph.output}
    proto.graph.output.extend(
        onnx.ValueInfoProto(name=name) for name in names if name not in declared
    )
    for level in LEVELS:
        yield session(proto, level, folder).run(names, feeds)
    if not folder:
        yield ReferenceEvaluator(proto).run(names, feeds)
