"""Networks put together at random: everything that units may have to pass through."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

ACTIVATIONS = ("Relu", "Sigmoid", "Tanh", "Softplus", "LeakyRelu", "Elu", "HardSigmoid")


class Network:
    """A network under construction, and the tensor at its end.

    Parameters
    ----------
    rng
        Makes all choices.

    Attributes
    ----------
    last, shape
        The tensor at the end, and its shape without the batch: (C, H, W), (T, C) or (C,).
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []
        self.count = 0
        self.last, self.shape = "x", self.choice([(3, 8, 8), (4, 6), (7,)])
        sizes = [self.choice(["n", 2]), *self.shape]
        self.input = helper.make_tensor_value_info("x", TensorProto.FLOAT, sizes)

    def choice(self, values: Sequence[Any]) -> Any:
        return values[int(self.rng.integers(len(values)))]

    def name(self, stem: str = "t") -> str:
        self.count += 1
        return f"{stem}{self.count}"

    def add(self, op: str, inputs: Sequence[str], results: int = 1, **attributes: Any) -> Any:
        """Append a node; its output, or all of several."""
        outputs = [self.name() for _ in range(results)]
        node = helper.make_node(op, list(inputs), outputs, self.name(op), **attributes)
        self.nodes.append(node)
        return outputs[0] if results == 1 else outputs

    def stored(self, values: Any) -> str:
        """A constant, now and then in a Constant node."""
        array = np.asarray(values)
        array = array.astype(np.float32) if array.dtype == np.float64 else array
        if self.rng.random() < 0.2:
            return self.add("Constant", (), value=numpy_helper.from_array(array))
        name = self.name("c")
        self.tensors.append(numpy_helper.from_array(array, name))
        return name

    def normal(self, *shape: int) -> str:
        return self.stored(self.rng.standard_normal(shape) / np.sqrt(max(1, shape[-1])))

    def positive(self, *shape: int) -> str:
        return self.stored(0.5 + self.rng.random(shape))

    # ---- steps that keep the shape, or tell the new one

    def act(self, x: str) -> str:
        kind = int(self.rng.integers(4))
        if kind == 0:
            return x
        if kind == 1:
            half, one = self.stored(np.float32(0.5)), self.stored(np.float32(1))
            erf = self.add("Erf", [self.add("Div", [x, self.stored(np.float32(1.5))])])
            return self.add("Mul", [self.add("Mul", [x, self.add("Add", [erf, one])]), half])
        if kind == 2:
            return self.add("Mul", [x, self.add("HardSigmoid", [x])])
        return self.add(self.choice(ACTIVATIONS), [x])

    def conv(self, x: str, inputs: int, outputs: int, kernel: int = 1, group: int = 1) -> str:
        operands = [x, self.normal(outputs, inputs // group, kernel, kernel)]
        operands += [self.normal(outputs) for _ in range(self.rng.integers(2))]
        pads = [kernel // 2] * 4
        y = self.add("Conv", operands, group=group, pads=pads, kernel_shape=[kernel, kernel])
        kind = int(self.rng.integers(4))
        if kind == 1:
            constants = [self.positive(outputs) for _ in range(4)]
            return self.add("BatchNormalization", [y, *constants])
        if kind == 2:
            shared = self.positive(outputs, 1, 1)
            return self.add("Add", [self.add("Mul", [y, shared]), shared])
        if kind == 3 and group == 1:
            return self.add(
                "InstanceNormalization", [y, self.positive(outputs), self.normal(outputs)]
            )
        return y

    def linear(self, x: str, inputs: int, outputs: int) -> str:
        weight = self.normal(outputs, inputs) if self.rng.random() < 0.3 else ""
        weight = self.add("Transpose", [weight]) if weight else self.normal(inputs, outputs)
        y = self.add("MatMul", [x, weight])
        return self.add("Add", [y, self.normal(outputs)]) if self.rng.random() < 0.7 else y

    def reshape(self, x: str, sizes: Sequence[int]) -> str:
        """The batch stays; the other sizes are as told, or computed."""
        if self.rng.random() < 0.4:
            shape = self.add("Shape", [x])
            batch = self.add("Gather", [shape, self.stored(np.array([0]))])
            listed = self.add("Concat", [batch, self.stored(np.array(sizes))], axis=0)
            return self.add("Reshape", [x, listed])
        return self.add("Reshape", [x, self.stored(np.array([0, *sizes]))])

    # ---- blocks on images (C, H, W)

    def plain_conv(self) -> None:
        outputs = self.choice([4, 6, 8])
        y = self.conv(self.last, self.shape[0], outputs, self.choice([1, 3]))
        self.last, self.shape = self.act(y), (outputs, *self.shape[1:])

    def residual(self) -> None:
        channels, hidden = self.shape[0], self.choice([3, 5])
        inner = self.act(self.conv(self.last, channels, hidden, 3))
        self.last = self.add("Add", [self.last, self.conv(inner, hidden, channels)])

    def separable(self) -> None:
        channels = self.shape[0]
        times = self.choice([1, 1, 2])
        inner = self.act(self.conv(self.last, channels, channels * times, 3, group=channels))
        self.last = self.conv(inner, channels * times, channels)

    def grouped(self) -> None:
        self.plain_conv()
        channels = self.shape[0]
        self.last = self.act(self.conv(self.last, channels, channels * 2, 3, group=channels // 2))
        self.shape = (channels * 2, *self.shape[1:])

    def gated(self) -> None:
        channels = self.shape[0]
        mean = self.add("GlobalAveragePool", [self.last])
        inner = self.add("Relu", [self.conv_alone(mean, channels, 3)])
        gate = self.add("Sigmoid", [self.conv_alone(inner, 3, channels)])
        self.last = self.add("Mul", [self.last, gate])

    def conv_alone(self, x: str, inputs: int, outputs: int) -> str:
        return self.add("Conv", [x, self.normal(outputs, inputs, 1, 1), self.normal(outputs)])

    def branches(self) -> None:
        widths = [self.choice([2, 4]), self.choice([3, 4])]
        parts = [self.act(self.conv(self.last, self.shape[0], width, 3)) for width in widths]
        parts += [self.last] * bool(self.rng.random() < 0.5)
        channels = sum(widths) + self.shape[0] * (len(parts) == 3)
        self.last = self.add("Concat", parts, axis=1)
        self.shape = (channels, *self.shape[1:])

    def halves(self) -> None:
        y = self.conv(self.last, self.shape[0], 8)
        if self.rng.random() < 0.5:
            first, second = self.add("Split", [y], 2, axis=1)
        else:
            first, second = self.add("Split", [y, self.stored(np.array([4, 4]))], 2, axis=1)
        if self.rng.random() < 0.5:
            self.last = self.add("Mul", [first, self.add("Sigmoid", [second])])
            self.shape = (4, *self.shape[1:])
        else:
            self.last = self.add("Concat", [self.act(second), first], axis=1)
            self.shape = (8, *self.shape[1:])

    def slices(self) -> None:
        y = self.conv(self.last, self.shape[0], 8)
        bounds = [self.stored(np.array([value])) for value in (2, 7, 1)]
        self.last, self.shape = self.add("Slice", [y, *bounds]), (5, *self.shape[1:])

    def shuffled(self) -> None:
        y = self.conv(self.last, self.shape[0], 8)
        parts = self.reshape(y, [2, 4, *self.shape[1:]])
        turned = self.add("Transpose", [parts], perm=[0, 2, 1, 3, 4])
        self.last, self.shape = self.reshape(turned, [8, *self.shape[1:]]), (8, *self.shape[1:])

    def moved_to_space(self) -> None:
        mode = self.choice(["DCR", "CRD"])
        y = self.conv(self.last, self.shape[0], 16)
        self.last = self.add("DepthToSpace", [y], blocksize=2, mode=mode)
        self.shape = (4, 2 * self.shape[1], 2 * self.shape[2])
        if self.shape[1] > 16:
            self.pooled()

    def pooled(self) -> None:
        if self.shape[1] < 2:
            return
        kind = self.choice(["MaxPool", "AveragePool"])
        self.last = self.add(kind, [self.last], kernel_shape=[2, 2], strides=[2, 2])
        self.shape = (self.shape[0], self.shape[1] // 2, self.shape[2] // 2)

    def spread(self) -> None:
        outputs = self.choice([3, 4])
        operands = [self.last, self.normal(self.shape[0], outputs, 2, 2), self.normal(outputs)]
        self.last = self.add("ConvTranspose", operands, strides=[2, 2])
        self.shape = (outputs, 2 * self.shape[1], 2 * self.shape[2])
        self.pooled()

    def to_steps(self) -> None:
        channels, height, width = self.shape
        flat = self.reshape(self.last, [channels, height * width])
        self.last = self.add("Transpose", [flat], perm=[0, 2, 1])
        self.shape = (height * width, channels)

    def flattened(self) -> None:
        size = int(np.prod(self.shape))
        flat = self.add("Flatten", [self.last])
        self.last = flat if self.rng.random() < 0.5 else self.reshape(self.last, [size])
        self.shape = (size,)

    # ---- blocks on steps (T, C)

    def feed_forward(self) -> None:
        width, hidden = self.shape[-1], self.choice([5, 8])
        inner = self.act(self.linear(self.normalised(), width, hidden))
        if self.rng.random() < 0.4:
            gate = self.add("Sigmoid", [self.linear(self.last, width, hidden)])
            inner = self.add("Mul", [inner, gate])
        result = self.linear(inner, hidden, width)
        self.last = self.add("Add", [result, self.last]) if self.rng.random() < 0.6 else result

    def normalised(self) -> str:
        if self.rng.random() < 0.6:
            return self.last
        width = self.shape[-1]
        operands = [self.last, self.positive(width), self.normal(width)]
        return self.add("LayerNormalization", operands)

    def attention(self) -> None:
        steps, width = self.shape
        heads, size = self.choice([2, 3]), 2
        if self.rng.random() < 0.3:
            joined = self.linear(self.last, width, 3 * heads * size)
            parts = self.reshape(joined, [steps, 3, heads, size])
            turned = self.add("Transpose", [parts], perm=[2, 0, 3, 1, 4])
            q, k, v = (
                self.add("Gather", [turned, self.stored(np.array(part))], axis=0)
                for part in range(3)
            )
            k = self.add("Transpose", [k], perm=[0, 1, 3, 2])
        else:
            turns = ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3])
            x = self.normalised()
            q, k, v = (
                self.add(
                    "Transpose",
                    [self.reshape(self.linear(x, width, heads * size), [steps, heads, size])],
                    perm=turn,
                )
                for turn in turns
            )
        scores = self.add("Mul", [self.add("MatMul", [q, k]), self.stored(np.float32(0.7))])
        mixed = self.add("MatMul", [self.add("Softmax", [scores], axis=-1), v])
        back = self.add("Transpose", [mixed], perm=[0, 2, 1, 3])
        result = self.linear(self.reshape(back, [steps, heads * size]), heads * size, width)
        self.last = self.add("Add", [result, self.last])

    def projected(self) -> None:
        outputs = self.choice([4, 6])
        y = self.act(self.linear(self.last, self.shape[-1], outputs))
        self.shape = (*self.shape[:-1], outputs)
        if self.rng.random() < 0.4:
            y = self.add("Add", [y, self.normal(1, *self.shape)])
        self.last = y

    def recurrent(self) -> None:
        hidden = 4
        gates = {"LSTM": 4, "GRU": 3, "RNN": 1}
        op = self.choice([*gates])
        both = bool(self.rng.random() < 0.4)
        count, rows = 1 + both, gates[op] * hidden
        x = self.add("Transpose", [self.last], perm=[1, 0, 2])
        operands = [x, self.normal(count, rows, self.shape[1]), self.normal(count, rows, hidden)]
        operands += [self.normal(count, 2 * rows) for _ in range(self.rng.integers(2))]
        direction = "bidirectional" if both else "forward"
        y = self.add(op, operands, hidden_size=hidden, direction=direction)
        turned = self.add("Transpose", [y], perm=[2, 0, 1, 3])
        self.shape = (self.shape[0], count * hidden)
        self.last = self.reshape(turned, self.shape)

    def averaged(self) -> None:
        self.last = self.add("ReduceMean", [self.last], axes=[1], keepdims=0)
        self.shape = self.shape[1:]

    # ---- blocks on rows (C,)

    def layer(self) -> None:
        outputs = self.choice([5, 7])
        operands = [self.last, self.normal(outputs, self.shape[0]), self.normal(outputs)]
        self.last, self.shape = self.act(self.add("Gemm", operands, transB=1)), (outputs,)

    def step(self) -> None:
        """A block that fits."""
        images: list[Callable[[], None]] = [
            *(self.plain_conv, self.residual, self.separable, self.grouped, self.gated),
            *(self.branches, self.halves, self.slices, self.shuffled, self.moved_to_space),
            *(self.pooled, self.spread, self.to_steps, self.flattened),
        ]
        steps = [
            *(self.feed_forward, self.attention, self.projected, self.recurrent, self.averaged),
            self.flattened,
        ]
        blocks = {3: images, 2: steps, 1: [self.layer, self.feed_forward]}
        self.choice(blocks[len(self.shape)])()

    def model(self) -> onnx.ModelProto:
        """The network with a last layer behind it."""
        if len(self.shape) == 3:
            self.last = self.conv_alone(self.last, self.shape[0], 3)
        else:
            self.last = self.linear(self.last, self.shape[-1], 3)
        output = onnx.ValueInfoProto(name=self.last)
        graph = helper.make_graph(self.nodes, "g", [self.input], [output], self.tensors)
        opsets = [helper.make_opsetid("", 17)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
        inferred = onnx.shape_inference.infer_shapes(model)
        if self.rng.random() < 0.5:
            return inferred
        model.graph.output[0].CopyFrom(inferred.graph.output[0])
        return model


def random_network(seed: int) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """A network of some blocks, and an input for it."""
    rng = np.random.default_rng(seed)
    network = Network(rng)
    x = rng.standard_normal((2, *network.shape)).astype(np.float32)
    for _ in range(int(rng.integers(2, 7))):
        network.step()
    return network.model(), {"x": x}
