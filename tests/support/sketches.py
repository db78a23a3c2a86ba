"""Random networks, and copies of them with other weights."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx

from nettrim_cli.data.dataset import Batch
from nettrim_cli.graph.model import Model
from tests.support.small import build


def changed(proto: onnx.ModelProto, seed: int = 0, share: float = 0.3) -> onnx.ModelProto:
    """A copy with a share of each layer's weights set to zero and the rest moved a little."""
    model = Model(proto).clone()
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        if layer.prunable and rng.random() < 0.8:
            weights, biases = model.weight(layer)
            for weight in weights:
                weight *= (rng.random(weight.shape) > share) * rng.uniform(0.9, 1.1, weight.shape)
            for bias in biases or ():
                bias += 0.01 * rng.standard_normal(bias.shape)
            model.set_weight(layer, weights, biases)
    return model.proto


def batches(name: str, x: np.ndarray, size: int = 7) -> list[Batch]:
    return [
        Batch({name: x[at : at + size]}, len(x[at : at + size]), None)
        for at in range(0, len(x), size)
    ]


@dataclass
class Sketch:
    """A random graph in the making: tensors with their channels, or sides, and lines of text."""

    rng: np.random.Generator
    image: bool
    lines: list[str] = field(default_factory=list)
    tensors: dict[str, np.ndarray] = field(default_factory=dict)
    alive: list[tuple[str, int]] = field(default_factory=list)

    def weight(self, *shape: int) -> str:
        name = f"w{len(self.tensors)}"
        scale = 1.5 / np.sqrt(np.prod(shape[1:]) if self.image else shape[0])
        self.tensors[name] = (scale * self.rng.standard_normal(shape)).astype(np.float32)
        return name

    def put(self, call: str, channels: int) -> None:
        name = f"t{len(self.lines)}"
        self.lines.append(f"{name} = {call}")
        self.alive.append((name, channels))

    def pick(self) -> tuple[str, int]:
        return self.alive[-1 if self.rng.random() < 0.7 else self.rng.integers(len(self.alive))]

    def vector(self, channels: int, low: float, high: float) -> str:
        name = f"w{len(self.tensors)}"
        self.tensors[name] = self.rng.uniform(low, high, channels).astype(np.float32)
        return name

    def step(self) -> None:
        """One more node; images keep their size."""
        (x, c), (z, other) = self.pick(), self.pick()
        kind = self.rng.integers(9)
        if kind <= 2:
            out = int(self.rng.integers(1, 5))
            if self.image:
                self.put(f"Conv<pads = [1,1,1,1]>({x}, {self.weight(out, c, 3, 3)})", out)
            elif kind == 0:
                self.put(f"MatMul({x}, {self.weight(c, out)})", out)
            else:
                bias = self.vector(out, -1, 1)
                self.put(f"Gemm<transB = 0>({x}, {self.weight(c, out)}, {bias})", out)
        elif kind == 3:
            self.put(f"Relu({x})", c)
        elif kind == 4:
            scale, shift = self.vector(c, -2, 2), self.vector(c, -1, 1)
            self.put(
                f"BatchNormalization({x}, {scale}, {shift}, {shift}, {self.vector(c, 0.2, 3)})", c
            )
        elif kind == 5 and c == other:
            self.put(f"{self.rng.choice(['Add', 'Sub', 'Max'])}({x}, {z})", c)
        elif kind == 6:
            self.put(f"Concat<axis = 1>({x}, {z})", c + other)
        elif kind == 7 and self.image:
            pool = self.rng.choice(["MaxPool", "AveragePool"])
            self.put(f"{pool}<kernel_shape = [3,3], pads = [1,1,1,1]>({x})", c)
        else:
            self.put(f"{self.rng.choice(['Tanh', 'Sigmoid', 'Softmax', 'LeakyRelu'])}({x})", c)


def sketched(seed: int) -> onnx.ModelProto:
    rng = np.random.default_rng(seed)
    sketch = Sketch(rng, image=bool(rng.integers(2)))
    shape = "N,2,4,5" if sketch.image else "N,5"
    sketch.alive.append(("x", 2 if sketch.image else 5))
    for _ in range(int(rng.integers(2, 12))):
        sketch.step()
    name, channels = sketch.alive[-1]
    out = f"N,{channels},4,5" if sketch.image else f"N,{channels}"
    body = "\n".join([*sketch.lines, f"y = Identity({name})"])
    return build(f"g (float[{shape}] x) => (float[{out}] y) {{ {body} }}", **sketch.tensors)


def samples(proto: onnx.ModelProto, seed: int) -> np.ndarray:
    axes = [axis.dim_value for axis in proto.graph.input[0].type.tensor_type.shape.dim[1:]]
    return np.random.default_rng(seed).standard_normal((16, *axes)).astype(np.float32)
