"""Every gradient rule against central differences in float64."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper, parser
from onnx.reference import ReferenceEvaluator

from nettrim_cli.graph.gradient.backward import backward
from nettrim_cli.graph.gradient.builder import Builder
from nettrim_cli.graph.gradient.flat_model import flat_model
from nettrim_cli.graph.ir.index import Index
from nettrim_cli.graph.ops.gradients.context import zero
from nettrim_cli.graph.ops.table import OPS
from tests.support.op_cases import CASES, Case, image, of, row, whole
from tests.support.small import normal

STEP = 1e-5
SINGLE = {"Erf": 3e-3, "Gelu": 3e-3, "GroupNormalization": 3e-3}
"""Steps for ops that the reference computes in float32."""
ENGINE = {"transposed": 1.0, "both ways": 1e-2, "RNN Relu": 1e-3, "RNN Sigmoid": 1e-2}
"""Steps for cases that the reference does not run, only the engine."""
RECURRENT = [
    ("GRU", 3, "reset before", "", 1),
    ("GRU", 3, "reset after", ", linear_before_reset = 1", 1),
    ("GRU", 3, "backwards", ', linear_before_reset = 1, direction = "reverse"', 1),
    ("GRU", 3, "both ways", ', direction = "bidirectional"', 2),
    ("RNN", 1, "backwards", ', direction = "reverse"', 1),
    ("RNN", 1, "both ways", ', direction = "bidirectional"', 2),
    ("RNN", 1, "Relu", ', activations = ["Relu"]', 1),
    ("RNN", 1, "Sigmoid", ', activations = ["Sigmoid"]', 1),
]
MORE = {
    "grouped": image(
        "Conv<group = 2, pads = [1,2,0,1], strides = [2,1], dilations = [1,2]>(x, a, b)",
        a=normal(6, 1, 3, 2),
        b=normal(6),
    ),
    "groups of two": of(
        "Conv<group = 2, strides = [2,3]>(x, a)", normal(3, 4, 7, 6), a=normal(6, 2, 3, 2)
    ),
    "left over": image("Conv<strides = [3,3]>(x, a)", a=normal(4, 2, 2, 2)),
    "same": image('Conv<auto_pad = "SAME_UPPER", strides = [2,2]>(x, a)', a=normal(4, 2, 3, 4)),
    "line": of("Conv<dilations = [2]>(x, a)", normal(2, 3, 9), a=normal(4, 3, 3)),
    "transposed": image(
        "ConvTranspose<strides = [2,3], pads = [1,0,1,2], output_padding = [1,0], group = 2>"
        "(x, a, b)",
        a=normal(2, 3, 3, 3),
        b=normal(6),
    ),
    "overlapping maxima": image("MaxPool<kernel_shape = [3,2], strides = [2,1]>(x)"),
    "means inside": image(
        "AveragePool<kernel_shape = [3,3], strides = [2,2], pads = [1,1,1,1]>(x)"
    ),
    "means with margins": image(
        "AveragePool<kernel_shape = [2,3], pads = [1,1,0,1], count_include_pad = 1>(x)"
    ),
    "stack by stack": Case("MatMul(x, z)", {"x": normal(2, 3, 4), "z": normal(5, 2, 4, 3)}),
    "rows by matrix": Case("MatMul(x, z)", {"x": normal(2, 3, 4), "z": normal(4, 5)}),
    "vectors": Case("MatMul(x, z)", {"x": normal(4), "z": normal(4, 5)}),
    "turned product": Case(
        "Gemm<alpha = 0.5, beta = 2.0, transA = 1, transB = 1>(x, z, a)",
        {"x": normal(4, 3), "z": normal(5, 4)},
        {"a": normal(1, 5)},
    ),
    "turned left": Case("Gemm<transA = 1>(x, z)", {"x": normal(4, 3), "z": normal(4, 5)}),
    "copies of a column": Case("Add(x, z)", {"x": normal(2, 3, 4), "z": normal(3, 1)}),
    "quotient": Case("Div(x, z)", {"x": normal(2, 3), "z": 2 + np.abs(normal(2, 1))}),
    "square": row("Pow(x, a)", a=np.int64(2)),
    "BatchNormalization": image(
        "BatchNormalization<epsilon = 0.1>(x, a, b, c, d)",
        a=normal(2),
        b=normal(2),
        c=normal(2),
        d=1 + np.abs(normal(2)),
    ),
    "slice from the end": row("Slice(x, a, b, c)", a=whole(-4), b=whole(100), c=whole(1)),
    "slice of two": image("Slice(x, a, b)", a=whole(0, 1), b=whole(1, 2)),
    "parts": Case("Split<axis = 1>(x, a)", {"x": normal(2, 6)}, {"a": whole(2, 4)}, outputs="y, z"),
    "table": of("Gather(x, a)", normal(5, 3), a=np.array([[0, 3], [3, -1]])),
    "reflected": image('Pad<mode = "reflect">(x, a)', a=whole(0, 0, 1, 2, 0, 0, 1, 0)),
    "layer": Case(
        "LayerNormalization<axis = 1>(x, a, b)",
        {"x": normal(2, 3, 4)},
        {"a": normal(3, 4), "b": normal(3, 4)},
    ),
    "mean without axis": Case(
        "ReduceMean<axes = [1], keepdims = 0>(x)", {"x": normal(2, 3, 4)}, opset=17
    ),
    "tanh": row('Gelu<approximate = "tanh">(x)'),
    "middle softmax": Case("Softmax<axis = 1>(x)", {"x": normal(2, 3, 4)}),
    "Resize": image('Resize<mode = "nearest">(x, , , a)', a=whole(1, 2, 12, 18)),
    "clip before 11": Case("Clip<min = -0.5, max = 0.5>(x)", opset=10),
    "backwards": Case(
        'LSTM<hidden_size = 3, direction = "reverse">(x, a, b, , , c, d)',
        {"x": normal(4, 2, 2)},
        {"a": normal(1, 12, 2), "b": normal(1, 12, 3), "c": normal(1, 2, 3), "d": normal(1, 2, 3)},
        outputs="y, s, t",
    ),
    "both ways": Case(
        'LSTM<hidden_size = 3, direction = "bidirectional">(x, a, b, c)',
        {"x": normal(4, 2, 2)},
        {"a": normal(2, 12, 2), "b": normal(2, 12, 3), "c": normal(2, 24)},
        outputs="y, s, t",
    ),
    **{
        f"{op} {word}": Case(
            f"{op}<hidden_size = 3{attribute}>(x, a, b, c, , d)",
            {"x": normal(4, 2, 2)},
            {
                "a": normal(ways, gates * 3, 2),
                "b": normal(ways, gates * 3, 3),
                "c": normal(ways, gates * 6),
                "d": normal(ways, 2, 3),
            },
            outputs="y, s",
        )
        for op, gates, word, attribute, ways in RECURRENT
    },
    "running sum": row("CumSum<exclusive = 1>(x, a)", a=np.int64(1)),
}
CASES_WITH_RULES = {op: case for op, case in CASES.items() if OPS[op].gradient not in (None, zero)}
ALL = {**CASES_WITH_RULES, **MORE}


def built(case: Case, kind: Any) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """The node with all real inputs as inputs of a type, and these."""
    node = parser.parse_node(f"{case.outputs} = {case.call}")
    arrays = {**case.signals, **case.arrays}
    real = {k: v.astype(kind) for k, v in arrays.items() if v.dtype.kind == "f"}
    rest = [numpy_helper.from_array(v, k) for k, v in arrays.items() if k not in real]
    elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info(k, elem_type, v.shape) for k, v in real.items()],
        [onnx.ValueInfoProto(name=name) for name in node.output],
        rest,
    )
    opsets = [helper.make_opsetid("", case.opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10), real


def gradients(
    proto: onnx.ModelProto, inputs: Mapping[str, np.ndarray], seeds: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Gradients of ``sum of seed * output`` by inputs, as onnxruntime computes them."""
    model = flat_model(Index(proto), (), list(seeds))
    g = Builder(model.proto.graph, model.index.opset, model.index.all_names())
    names = {name: g.constant(seed, 1) for name, seed in seeds.items()}
    result = backward(model, g, names, list(inputs))
    assert not result.boundaries, result.boundaries
    del model.proto.graph.output[:]
    model.proto.graph.output.extend(onnx.ValueInfoProto(name=n) for n in result.names.values())
    session = ort.InferenceSession(
        model.proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    values = session.run(None, dict(inputs))
    return dict(zip(result.names, values, strict=True))


def slope(
    run: Callable[[dict[str, np.ndarray]], list[np.ndarray]],
    seeds: Sequence[np.ndarray],
    inputs: Mapping[str, np.ndarray],
    moves: Mapping[str, np.ndarray],
) -> float:
    """Derivative of ``sum of seed * output`` along moves of the inputs."""
    values = []
    for sign in (1, -1):
        moved = {n: x + (sign * moves[n] if n in moves else 0) for n, x in inputs.items()}
        outputs = run({n: x.astype(inputs[n].dtype) for n, x in moved.items()})
        values.append(sum(float((y * s).sum()) for y, s in zip(outputs, seeds, strict=True)))
    return (values[0] - values[1]) / 2


@pytest.mark.parametrize("op", [op for op in ALL if "." not in op])
def test_rules_agree_with_differences(op) -> None:
    exact, inputs = built(ALL[op], np.float64)
    single, rough = built(ALL[op], np.float32)
    names = [name for name in Index(single).nodes[0].output if name]
    session = ort.InferenceSession(single.SerializeToString(), providers=["CPUExecutionProvider"])
    outputs = session.run(names, rough)
    seeds = {n: normal(*y.shape, seed=5) for n, y in zip(names, outputs, strict=True)}
    result = gradients(single, rough, seeds)
    if op in ENGINE:
        step, run, inputs = ENGINE[op], partial(session.run, names), rough
    else:
        step, run = SINGLE.get(op, STEP), partial(ReferenceEvaluator(exact).run, names)
    for name, value in inputs.items():
        for seed in range(3):
            direction = normal(*value.shape, seed=seed).astype(np.float64)
            expected = slope(run, [*seeds.values()], inputs, {name: step * direction}) / step
            products = result[name] * direction if name in result else np.zeros(1)
            tolerance = 1e-4 if op in SINGLE else 1e-3 if op in ENGINE else 2e-5
            assert abs(products.sum() - expected) < tolerance * (np.abs(products).sum() + 1e-4)


def test_softmax_over_several_axes_is_converted() -> None:
    case = Case("Softmax<axis = 1>(x)", {"x": normal(2, 3, 4)}, opset=11)
    models = case.model(), flat_model(Index(case.model()), (), ["y"]).proto
    old, new = (
        ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        for model in models
    )
    np.testing.assert_array_equal(*(each.run(None, case.signals)[0] for each in (old, new)))


@pytest.mark.parametrize("call", ["Conv", "MaxPool", "AveragePool", "ConvTranspose", "Resize"])
def test_images_of_sizes_that_the_model_does_not_tell(call) -> None:
    case = ALL[call]
    model, inputs = built(case, np.float32)
    seeds = {"y": normal(*ALL[call].expected()[0].shape, seed=5)}
    expected = gradients(model, inputs, seeds)
    for axis in (0, 2, 3):
        model.graph.input[0].type.tensor_type.shape.dim[axis].Clear()
    result = gradients(model, inputs, seeds)
    for name, value in expected.items():
        np.testing.assert_allclose(result[name], value, rtol=1e-5, atol=1e-5)


def test_broadcasting_of_sizes_that_the_model_does_not_tell() -> None:
    case = Case("Add(x, z)", {"x": normal(2, 1, 4), "z": normal(3, 1)})
    model, inputs = built(case, np.float32)
    for value in model.graph.input:
        for axis in value.type.tensor_type.shape.dim:
            axis.Clear()
    seed = normal(2, 3, 4, seed=5)
    result = gradients(model, inputs, {"y": seed})
    np.testing.assert_allclose(result["x"], seed.sum(1, keepdims=True), rtol=1e-5)
    np.testing.assert_allclose(result["z"], seed.sum((0, 2))[:, None], rtol=1e-5)


@pytest.mark.parametrize("op", [op for op in ALL if "." in op])
def test_rules_of_the_engines_own_ops(op) -> None:
    model, inputs = built(ALL[op], np.float32)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    seeds = {"y": normal(*session.run(None, inputs)[0].shape, seed=5)}
    result = gradients(model, inputs, seeds)
    run = partial(session.run, None)
    for name, value in inputs.items():
        direction = 1e-2 * normal(*value.shape)
        expected = slope(run, [*seeds.values()], inputs, {name: direction})
        products = result[name] * direction
        assert abs(products.sum() - expected) < 2e-3 * np.abs(products).sum()
