"""MiniLM as ONNX, from the wheel's safetensors: BERT (arXiv 1810.04805) as exporters spell it.

The graph takes `input_ids` and `attention_mask` of (batch, tokens) and gives `sentence_embedding`
(batch, 384): the mean over the tokens that the mask keeps, of length 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from benchmarks.minilm import HEADS, safetensors

OPSET = 17
EPSILON = 1e-12


def write_minilm(weights: Path, target: Path) -> None:
    """Write the encoder whose weights are in a safetensors file."""
    onnx.save(encoder(safetensors(weights.read_bytes())), target)


def encoder(weights: Mapping[str, NDArray[Any]]) -> onnx.ModelProto:
    """BERT's encoder with mean pooling as a model; layers are named as in the weights."""
    graph = _Graph(weights)
    x = graph.embeddings()
    mask = graph.mask()
    count = sum(name.endswith("attention.self.query.weight") for name in weights)
    for number in range(count):
        at = f"encoder.layer.{number}"
        mixed = graph.attention(at, x, mask)
        mixed = graph.linear(f"{at}.attention.output.dense", mixed)
        mixed = graph.add("Add", [mixed, x])
        x = graph.normal(f"{at}.attention.output.LayerNorm", mixed)
        wide = graph.gelu(graph.linear(f"{at}.intermediate.dense", x))
        wide = graph.linear(f"{at}.output.dense", wide)
        x = graph.normal(f"{at}.output.LayerNorm", graph.add("Add", [wide, x]))
    graph.pooled(x)
    return graph.model()


class _Graph:
    """Nodes and initializers as they are added."""

    def __init__(self, weights: Mapping[str, NDArray[Any]]) -> None:
        self.weights = weights
        self.width = weights["embeddings.LayerNorm.weight"].size
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: dict[str, NDArray[Any]] = {}

    def add(self, op: str, inputs: Sequence[str], name: str = "", **attributes: Any) -> str:
        output = f"{name or op}:{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [output], name=name or output, **attributes))
        return output

    def constant(self, name: str, values: Any) -> str:
        self.tensors[name] = np.asarray(values)
        return name

    def weight(self, name: str) -> str:
        return self.constant(name, self.weights[name])

    def linear(self, name: str, x: str) -> str:
        matrix = self.constant(f"{name}.weight", self.weights[f"{name}.weight"].T)
        product = self.add("MatMul", [x, matrix], name)
        return self.add("Add", [product, self.weight(f"{name}.bias")])

    def normal(self, name: str, x: str) -> str:
        inputs = [x, self.weight(f"{name}.weight"), self.weight(f"{name}.bias")]
        return self.add("LayerNormalization", inputs, axis=-1, epsilon=EPSILON)

    def embeddings(self) -> str:
        words = self.add("Gather", [self.weight("embeddings.word_embeddings.weight"), "input_ids"])
        places = self.weight("embeddings.position_embeddings.weight")
        length = self.add("Shape", ["input_ids"], start=1, end=2)
        start, axis = self.constant("zero", np.array([0])), self.constant("axis", np.array([0]))
        places = self.add("Slice", [places, start, length, axis])
        kind = self.weights["embeddings.token_type_embeddings.weight"][0]
        x = self.add("Add", [words, places])
        x = self.add("Add", [x, self.constant("embeddings.token_type", kind)])
        return self.normal("embeddings.LayerNorm", x)

    def mask(self) -> str:
        """0 for tokens to look at, a large negative number for others: (batch, 1, 1, tokens)."""
        axes = self.constant("mask.axes", np.array([1, 2]))
        kept = self.add("Unsqueeze", [self.add("Cast", ["attention_mask"], to=1), axes])
        away = self.add("Sub", [self.constant("one", np.float32(1)), kept])
        return self.add("Mul", [away, self.constant("lowest", np.float32(-1e9))])

    def attention(self, at: str, x: str, mask: str) -> str:
        size = self.width // HEADS
        apart = self.constant("apart", np.array([0, 0, HEADS, size]))
        together = self.constant("together", np.array([0, 0, self.width]))
        query, key, value = (
            self.add("Reshape", [self.linear(f"{at}.attention.self.{part}", x), apart])
            for part in ("query", "key", "value")
        )
        query = self.add("Transpose", [query], perm=(0, 2, 1, 3))
        key = self.add("Transpose", [key], perm=(0, 2, 3, 1))
        value = self.add("Transpose", [value], perm=(0, 2, 1, 3))
        root = self.constant("root", np.float32(np.sqrt(size)))
        scores = self.add("Div", [self.add("MatMul", [query, key]), root])
        shares = self.add("Softmax", [self.add("Add", [scores, mask])], axis=-1)
        mixed = self.add("Transpose", [self.add("MatMul", [shares, value])], perm=(0, 2, 1, 3))
        return self.add("Reshape", [mixed, together])

    def gelu(self, x: str) -> str:
        root = self.constant("root of 2", np.float32(np.sqrt(2)))
        inner = self.add("Erf", [self.add("Div", [x, root])])
        inner = self.add("Add", [inner, self.constant("one", np.float32(1))])
        product = self.add("Mul", [x, inner])
        return self.add("Mul", [product, self.constant("half", np.float32(0.5))])

    def pooled(self, x: str) -> None:
        last = self.constant("last", np.array([2]))
        kept = self.add("Unsqueeze", [self.add("Cast", ["attention_mask"], to=1), last])
        total = self.add("MatMul", [self.add("Transpose", [x], perm=(0, 2, 1)), kept])
        total = self.add("Squeeze", [total, last])
        # The mean's divisor is one factor of all values, so it goes with the length.
        self.add("LpNormalization", [total], axis=-1, p=2)

    def model(self) -> onnx.ModelProto:
        shape = ("batch", "tokens")
        tensors = [numpy_helper.from_array(value, name) for name, value in self.tensors.items()]
        self.nodes[-1].output[0] = "sentence_embedding"
        graph = helper.make_graph(
            self.nodes,
            "MiniLM",
            [
                helper.make_tensor_value_info(name, TensorProto.INT64, shape)
                for name in ("input_ids", "attention_mask")
            ],
            [
                helper.make_tensor_value_info(
                    "sentence_embedding", TensorProto.FLOAT, ("batch", self.width)
                )
            ],
            tensors,
        )
        opsets = [helper.make_opsetid("", OPSET)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name="nettrim")
