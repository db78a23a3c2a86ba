"""A small node of every op in the table: what the tests of all entries run over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper, parser
from onnx.reference import ReferenceEvaluator

from tests.support.small import normal

ROW, IMAGE = normal(2, 6, seed=9), normal(1, 2, 6, 6, seed=9)
SEQUENCE = normal(4, 3, 2, seed=9)
BOOLS = np.array([[True, False, True], [False, False, True]])
BYTES = np.random.default_rng(0).integers(0, 255, (1, 2, 6, 6), np.uint8)


def whole(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def positive(*shape: int) -> np.ndarray:
    return np.abs(normal(*shape, seed=3)) + np.float32(0.1)


@dataclass(frozen=True)
class Case:
    """A node ``y = call``, or ``y, z = call``, with signals and constants by name."""

    call: str
    signals: Mapping[str, np.ndarray] = field(default_factory=lambda: {"x": ROW})
    constants: Mapping[str, Any] = field(default_factory=dict)
    opset: int = 21
    outputs: str = "y"

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The constants as arrays."""
        plain = {name: np.asarray(value) for name, value in self.constants.items()}
        wide = {name for name, array in plain.items() if array.dtype == np.float64}
        return {n: a.astype(np.float32) if n in wide else a for n, a in plain.items()}

    def model(self, *stored: str) -> onnx.ModelProto:
        """The node as a model; signals that are named are stored in it."""
        node = parser.parse_node(f"{self.outputs} = {self.call}")
        tensors = self.arrays | {name: self.signals[name] for name in stored}
        inputs = {name: value for name, value in self.signals.items() if name not in stored}
        graph = helper.make_graph(
            [node],
            "g",
            [
                helper.make_tensor_value_info(
                    name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape
                )
                for name, value in inputs.items()
            ],
            [onnx.ValueInfoProto(name=name) for name in node.output],
            [numpy_helper.from_array(value, name) for name, value in tensors.items()],
        )
        opsets = [helper.make_opsetid("", self.opset), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)

    def expected(self, proto: onnx.ModelProto | None = None) -> list[np.ndarray]:
        """All outputs by onnx's reference evaluator."""
        proto = self.model() if proto is None else proto
        names = {value.name for value in proto.graph.input}
        signals = {name: value for name, value in self.signals.items() if name in names}
        return ReferenceEvaluator(proto).run(None, signals)


def image(call: str, **constants: Any) -> Case:
    return Case(call, {"x": IMAGE}, constants)


def row(call: str, **constants: Any) -> Case:
    return Case(call, constants=constants)


def of(call: str, x: Any, **constants: Any) -> Case:
    return Case(call, {"x": np.asarray(x)}, constants)


PLAIN = (
    *("Relu", "Sigmoid", "HardSwish", "Mish", "Gelu", "Softplus", "Softsign", "Tanh", "Erf"),
    *("Neg", "Abs", "Exp", "Sin", "Cos", "Atan", "Sign", "Floor", "Ceil", "Round", "IsNaN"),
    *("Identity", "Transpose", "Flatten", "Shape", "Size", "NonZero", "Selu", "Dropout"),
    *("Softmax", "LogSoftmax", "Hardmax", "LpNormalization", "Trilu"),
)
PAIRS = (
    *("Add", "Sub", "Mul", "Div", "Sum", "Mean"),
    *("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"),
)
REDUCTIONS = (
    *("Mean", "Sum", "Max", "Min", "L1", "L2", "LogSum", "LogSumExp", "Prod", "SumSquare"),
)
NORMAL = {"s": [2, -3], "t": np.zeros(2), "m": np.ones(2), "v": [1, 4]}
FLIPPED = whole(1, 0)

CASES: dict[str, Case] = {
    **{op: row(f"{op}(x)") for op in PLAIN},
    **{op: row(f"{op}(x, a)", a=positive(6)) for op in PAIRS},
    **{op: of(f"{op}(x, a)", BOOLS, a=BOOLS[0]) for op in ("And", "Or", "Xor")},
    **{f"Reduce{op}": of(f"Reduce{op}(x, a)", positive(2, 6), a=whole(1)) for op in REDUCTIONS},
    **{op: of(f"{op}(x)", positive(2, 6)) for op in ("Sqrt", "Log", "Reciprocal")},
    "Pow": of("Pow(x, a)", positive(2, 6), a=normal(6)),
    "Not": of("Not(x)", BOOLS),
    "Mod": of("Mod(x, a)", whole(3, 5, 7), a=whole(2)),
    "Where": row("Where(a, x, b)", a=np.array([True, False] * 3), b=normal(2, 6)),
    "Max": row("Max(x, a)", a=0.3),
    "Min": row("Min(x, a)", a=0.3),
    "Clip": row("Clip(x, a, b)", a=-0.5, b=1.0),
    "LeakyRelu": row("LeakyRelu<alpha = -1.5>(x)"),
    "PRelu": row("PRelu(x, a)", a=[0.5, -2, 1, 1, 1, 1]),
    "ThresholdedRelu": row("ThresholdedRelu<alpha = 0.3>(x)"),
    "Elu": row("Elu<alpha = 1.7>(x)"),
    "Celu": row("Celu<alpha = 2.0>(x)"),
    "HardSigmoid": row("HardSigmoid<alpha = 0.3, beta = 0.4>(x)"),
    "Swish": Case("Swish<alpha = 1.5>(x)", opset=24),
    "Reshape": row("Reshape(x, a)", a=whole(0, 3, -1)),
    "Squeeze": of("Squeeze(x, a)", normal(1, 4, 1), a=whole(0, -1)),
    "Unsqueeze": row("Unsqueeze(x, a)", a=whole(-1, 0)),
    "Slice": row("Slice(x, a, b, c, d)", a=whole(5), b=whole(0), c=whole(1), d=whole(-2)),
    "Split": Case("Split<axis = 1>(x, a)", constants={"a": whole(2, 4)}, outputs="y, z"),
    "Gather": row("Gather<axis = 1>(x, a)", a=np.array([[0, 3], [-1, 2]])),
    "Concat": Case("Concat<axis = 1>(x, z)", {"x": ROW, "z": normal(2, 3)}),
    "Expand": row("Expand(x, a)", a=whole(5, 2, 6)),
    "Tile": row("Tile(x, a)", a=whole(2, 3)),
    "Pad": image("Pad(x, a)", a=whole(1, 0, 1, 2, 0, 0, 0, 3)),
    "DepthToSpace": of("DepthToSpace<blocksize = 2>(x)", normal(1, 4, 2, 3)),
    "SpaceToDepth": image("SpaceToDepth<blocksize = 2>(x)"),
    "ReverseSequence": of("ReverseSequence(x, a)", SEQUENCE, a=whole(2, 4, 1)),
    "GatherElements": row("GatherElements<axis = 1>(x, a)", a=np.array([[0, 1], [2, 3]])),
    "ScatterElements": row(
        "ScatterElements<axis = 1>(x, a, b)", a=np.array([[0, 1], [2, 3]]), b=normal(2, 2)
    ),
    "ScatterND": row("ScatterND(x, a, b)", a=np.array([[0], [1]]), b=normal(2, 6)),
    "Constant": Case("Constant<value = float[2] {1.0, 2.0}>()", {}),
    "ConstantOfShape": Case("ConstantOfShape(a)", {}, {"a": whole(2, 3)}),
    "Range": Case("Range(a, b, c)", {}, {"a": np.int64(0), "b": np.int64(5), "c": np.int64(2)}),
    "OneHot": of("OneHot(x, a, b)", whole(0, 2), a=np.int64(3), b=[0, 1]),
    "Cast": row("Cast<to = 11>(x)"),
    "QuantizeLinear": row("QuantizeLinear(x, a)", a=0.1),
    "DynamicQuantizeLinear": Case("DynamicQuantizeLinear(x)", outputs="y, s, z"),
    "DequantizeLinear": of("DequantizeLinear(x, a)", BYTES, a=0.5),
    "BatchNormalization": image("BatchNormalization<epsilon = 0.1>(x, s, t, m, v)", **NORMAL),
    "InstanceNormalization": image("InstanceNormalization(x, a, b)", a=normal(2), b=normal(2)),
    "GroupNormalization": image(
        "GroupNormalization<num_groups = 1>(x, a, b)", a=normal(2), b=normal(2)
    ),
    "LayerNormalization": row("LayerNormalization(x, a)", a=normal(6)),
    "RMSNormalization": Case("RMSNormalization(x, a)", constants={"a": normal(6)}, opset=23),
    "LRN": image("LRN<size = 3>(x)"),
    "MaxPool": image("MaxPool<kernel_shape = [3,3], pads = [1,1,1,1]>(x)"),
    "AveragePool": image("AveragePool<kernel_shape = [3,2], strides = [2,1]>(x)"),
    "LpPool": image("LpPool<kernel_shape = [2,2]>(x)"),
    "GlobalAveragePool": image("GlobalAveragePool(x)"),
    "GlobalMaxPool": image("GlobalMaxPool(x)"),
    "Resize": image('Resize<mode = "nearest">(x, , a)', a=[1, 1, 2, 2]),
    "Upsample": Case("Upsample(x, a)", {"x": IMAGE}, {"a": [1, 1, 2, 2]}, opset=9),
    "ArgMax": row("ArgMax<axis = 1, keepdims = 0>(x)"),
    "ArgMin": row("ArgMin<axis = 1, keepdims = 0>(x)"),
    "CumSum": row("CumSum(x, a)", a=np.int64(1)),
    "Gemm": row("Gemm<alpha = 0.5, transB = 1>(x, a, b)", a=normal(4, 6), b=normal(4)),
    "MatMul": row("MatMul(x, a)", a=normal(6, 4)),
    "Einsum": row('Einsum<equation = "bi,io->bo">(x, a)', a=normal(6, 4)),
    "Conv": image("Conv<pads = [1,0,1,0], strides = [2,1]>(x, a)", a=normal(4, 2, 3, 3)),
    "ConvTranspose": image("ConvTranspose<strides = [2,1]>(x, a)", a=normal(2, 4, 3, 3)),
    "LSTM": of("LSTM<hidden_size = 5>(x, a, b)", SEQUENCE, a=normal(1, 20, 2), b=normal(1, 20, 5)),
    "GRU": of("GRU<hidden_size = 5>(x, a, b)", SEQUENCE, a=normal(1, 15, 2), b=normal(1, 15, 5)),
    "RNN": of("RNN<hidden_size = 5>(x, a, b)", SEQUENCE, a=normal(1, 5, 2), b=normal(1, 5, 5)),
    "ConvInteger": of("ConvInteger(x, a)", BYTES, a=BYTES.reshape(2, 2, 3, 6)),
    "MatMulInteger": of("MatMulInteger(x, a)", BYTES[0, 0], a=BYTES[0, 1]),
    "QLinearConv": of(
        "QLinearConv(x, s, z, a, s, z, t, z)",
        *(BYTES,),
        a=BYTES.reshape(2, 2, 3, 6),
        s=0.1,
        z=np.uint8(3),
        t=9.0,
    ),
    "QLinearMatMul": of(
        "QLinearMatMul(x, s, z, a, s, z, t, z)",
        *(BYTES[0, 0],),
        a=BYTES[0, 1],
        s=0.1,
        z=np.uint8(3),
        t=9.0,
    ),
    "com.microsoft.Gelu": row("com.microsoft.Gelu(x)"),
    "com.microsoft.BiasGelu": row("com.microsoft.BiasGelu(x, a)", a=normal(6)),
    "com.microsoft.FastGelu": row("com.microsoft.FastGelu(x, a)", a=normal(6)),
    "com.microsoft.QuickGelu": row("com.microsoft.QuickGelu<alpha = 1.5>(x)"),
    **{
        f"Random{name}": Case(f"Random{name}<shape = [2,3]>()", {})
        for name in ("Normal", "Uniform")
    },
    "Bernoulli": of("Bernoulli(x)", np.full((2, 6), 0.5, np.float32)),
    "Multinomial": row("Multinomial<sample_size = 3>(x)"),
    **{f"Random{name}Like": row(f"Random{name}Like(x)") for name in ("Normal", "Uniform")},
}
"""By name in the table.  Weight ops of other domains and refused ones have tests of their own."""
