"""Every rule against its node as onnxruntime runs it: no error grows by more than the factor."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from nettrim_cli.graph.analysis.error_gain import error_gain
from nettrim_cli.graph.ir.index import Index
from nettrim_cli.graph.layers.paths import response_path
from nettrim_cli.graph.model import Model
from nettrim_cli.graph.ops import OPS, Unsupported
from nettrim_cli.graph.ops.context import ErrorContext, ErrorGain, Norms
from nettrim_cli.solve.norms import convolution_norm, operator_norm, window_overlap
from tests.support.small import build, normal, run

NORMS = Norms(operator_norm, convolution_norm, window_overlap)
SQRT2 = math.sqrt(2)
ROW = "float[2,6] x"
IMAGE = "float[1,2,6,6] x"
W64, W26, W33 = normal(6, 4, seed=1), normal(2, 6, seed=2), normal(2, 2, 3, 3, seed=3)
NORM64 = float(np.linalg.norm(W64, 2))
BN = {
    "s": np.float32([2, -3]),
    "t": np.zeros(2),
    "m": np.ones(2),
    "v": np.float32([1, 4]),
}
CALLS: list[tuple[str, str, dict[str, Any], float | None]] = [
    # input, call, constants, the factor by hand (None: only that it is an upper bound)
    (ROW, "Relu(x)", {}, 1),
    (ROW, "Clip(x)", {}, 1),
    (ROW, "Tanh(x)", {}, 1),
    (ROW, "Abs(x)", {}, 1),
    (ROW, "Neg(x)", {}, 1),
    (ROW, "Sin(x)", {}, 1),
    (ROW, "Cos(x)", {}, 1),
    (ROW, "Atan(x)", {}, 1),
    (ROW, "Softplus(x)", {}, 1),
    (ROW, "Softsign(x)", {}, 1),
    (ROW, "Identity(x)", {}, 1),
    (ROW, "Sigmoid(x)", {}, 0.25),
    (ROW, "Erf(x)", {}, 2 / math.sqrt(math.pi)),
    (ROW, "HardSwish(x)", {}, 1.5),
    (ROW, "HardSigmoid<alpha = 0.3>(x)", {}, 0.3),
    (ROW, "LeakyRelu<alpha = 0.2>(x)", {}, 1),
    (ROW, "LeakyRelu<alpha = -1.5>(x)", {}, 1.5),
    (ROW, "Elu<alpha = 1.7>(x)", {}, 1.7),
    (ROW, "PRelu(x, a)", {"a": [0.5, -2, 1, 1, 1, 1]}, 2),
    (ROW, "Softmax(x)", {}, 0.5),
    (ROW, "Gelu(x)", {}, 1.13),
    (ROW, "Mish(x)", {}, 1.09),
    (ROW, "Cast<to = 11>(x)", {}, 1),
    (ROW, "Dropout(x)", {}, 1),
    (ROW, "Reshape(x, a)", {"a": np.array([3, 4])}, 1),
    (ROW, "Flatten<axis = 0>(x)", {}, 1),
    (ROW, "Squeeze(x)", {}, 1),
    (ROW, "Unsqueeze(x, a)", {"a": np.array([0])}, 1),
    (ROW, "Transpose(x)", {}, 1),
    (ROW, "Slice(x, a, b)", {"a": np.array([0, 1]), "b": np.array([2, 4])}, 1),
    (ROW, "Pad(x, a)", {"a": np.array([1, 1, 0, 2])}, 1),
    (ROW, "Gather<axis = 1>(x, a)", {"a": np.array([[0, 3], [-3, 3]])}, math.sqrt(3)),
    (ROW, "Expand(x, a)", {"a": np.array([5, 2, 6])}, math.sqrt(5)),
    (ROW, "Tile(x, a)", {"a": np.array([2, 3])}, math.sqrt(6)),
    (ROW, "ReduceMean<axes = [1]>(x)", {}, 1 / math.sqrt(6)),
    (ROW, "ReduceSum(x)", {}, math.sqrt(12)),
    (ROW, "ReduceMax<axes = [1]>(x)", {}, 1),
    (ROW, "ReduceMin<axes = [1]>(x)", {}, 1),
    (ROW, "ReduceL2<axes = [1]>(x)", {}, 1),
    (ROW, "Add(x, x)", {}, 2),
    (ROW, "Sub(x, a)", {"a": normal(6)}, 1),
    (ROW, "Add(x, a)", {"a": normal(3, 2, 6)}, math.sqrt(3)),
    (ROW, "Sum(x, a, x)", {"a": normal(6)}, 2),
    (ROW, "Mean(x, a)", {"a": normal(6)}, 0.5),
    (ROW, "Max(x, a)", {"a": normal(3, 2, 6)}, math.sqrt(3)),
    (ROW, "Min(x, a)", {"a": normal(6)}, 1),
    (ROW, "Concat<axis = 0>(x, x)", {}, SQRT2),
    (ROW, "Where(a, x, x)", {"a": np.array([True, False] * 3)}, SQRT2),
    (ROW, "Mul(x, a)", {"a": np.float32([1, -3, 2, 0, 1, 1])}, 3),
    (ROW, "Mul(a, x)", {"a": normal(4, 2, 6)}, None),
    (ROW, "Div(x, a)", {"a": np.float32([1, -0.5, 2, 4, 1, 1])}, 2),
    (ROW, "Gemm<alpha = -2.0>(x, a, b)", {"a": W64, "b": normal(4)}, 2 * NORM64),
    (ROW, "Gemm<transA = 1, transB = 1>(x, a)", {"a": W26.T[:, :2]}, None),
    (ROW, "Gemm<alpha = 0.5>(a, x)", {"a": W26.T[:, :2]}, None),
    (ROW, "Gemm<beta = 3.0>(a, b, x)", {"a": normal(2, 2), "b": W26}, 3),
    (ROW, "MatMul(x, a)", {"a": W64}, NORM64),
    (ROW, "MatMul(x, a)", {"a": normal(6)}, None),
    (ROW, "MatMul(a, x)", {"a": normal(3, 2)}, None),
    (ROW, "MatMul(x, a)", {"a": np.stack([W64, W64, 2 * W64])}, 2 * math.sqrt(3) * NORM64),
    (IMAGE, "BatchNormalization<epsilon = 0.0>(x, s, t, m, v)", BN, 2),
    (IMAGE, "GlobalAveragePool(x)", {}, 1 / 6),
    (IMAGE, "GlobalMaxPool(x)", {}, 1),
    (IMAGE, "DepthToSpace<blocksize = 1>(x)", {}, 1),
    (IMAGE, "SpaceToDepth<blocksize = 2>(x)", {}, 1),
    (IMAGE, "MaxPool<kernel_shape = [2,2], strides = [2,2]>(x)", {}, 1),
    (IMAGE, "MaxPool<kernel_shape = [3,3], pads = [1,1,1,1]>(x)", {}, 3),
    (IMAGE, "MaxPool<kernel_shape = [3,2], strides = [2,1], ceil_mode = 1>(x)", {}, 2),
    (IMAGE, "AveragePool<kernel_shape = [2,2], strides = [2,2]>(x)", {}, 0.5),
    (IMAGE, "AveragePool<kernel_shape = [3,3]>(x)", {}, 1),
    (IMAGE, "AveragePool<kernel_shape = [3,3], pads = [1,1,1,1]>(x)", {}, 3),
    (IMAGE, "AveragePool<kernel_shape = [2,2], pads = [1,0,0,1], strides = [2,2]>(x)", {}, 1),
    (
        IMAGE,
        "AveragePool<kernel_shape = [3,3], pads = [1,1,1,1], count_include_pad = 1>(x)",
        {},
        1,
    ),
    (IMAGE, "AveragePool<kernel_shape = [3,3], strides = [2,2], ceil_mode = 1>(x)", {}, None),
    (
        IMAGE,
        "AveragePool<kernel_shape = [2,2], pads = [1,1,1,1], dilations = [2,2]>(x)",
        {},
        2,
    ),
    (IMAGE, "Conv<dilations = [2,1], pads = [2,1,2,1]>(x, a)", {"a": W33}, None),
    (IMAGE, "Conv<pads = [1,1,1,1]>(x, a)", {"a": W33}, None),
    (IMAGE, "Conv<strides = [2,2]>(x, a)", {"a": W33}, None),
    (IMAGE, 'Conv<strides = [2,1], auto_pad = "SAME_UPPER">(x, a)', {"a": W33}, None),
    (IMAGE, "Conv<group = 2>(x, a, b)", {"a": normal(4, 1, 2, 2), "b": normal(4)}, None),
    (IMAGE, "Conv(x, a)", {"a": np.float32([[[[3]], [[4]]]])}, 5),
]
HEAD = '<ir_version: 9, opset_import: ["" : %d]>'


def place_of(
    proto: Any, feeds: dict[str, np.ndarray], changed: tuple[int, ...] = ()
) -> ErrorContext:
    """The last node of a model, with the shapes that its tensors have."""
    index = Index(proto)
    node = proto.graph.node[-1]
    names = [name for name in {*node.input, *node.output} if name]
    values = run(proto, [name for name in names if name in index.producers], feeds)
    found = dict(zip([name for name in names if name in index.producers], values, strict=True))
    shapes = {name: np.shape(value) for name, value in {**feeds, **found}.items()}
    slots = changed or tuple(k for k, name in enumerate(node.input) if name in feeds)
    return ErrorContext(index, index.nodes[-1], slots, [shapes], NORMS)


def context_of(proto: Any, shapes: Any, *rest: Any) -> ErrorContext:
    """The first node of a model, with an error of its first input."""
    index = Index(proto)
    return ErrorContext(index, index.nodes[0], (0,), shapes, *rest)


def made(inputs: str, call: str, tensors: dict[str, Any], out: str = "float") -> Any:
    op = call.split("(")[0].split("<")[0]
    opset = {"Gelu": 20, "Mish": 18, "DepthToSpace": 13}.get(op, 19 if "dilations" in call else 17)
    kinds = {
        k: np.asarray(v, None if isinstance(v, np.ndarray) else np.float32)
        for k, v in tensors.items()
    }
    kinds = {k: v.astype(np.float32) if v.dtype == np.float64 else v for k, v in kinds.items()}
    text = f"g ({inputs}) => ({out} y) {{ y = {call} }}"
    return build(text, head=HEAD % opset, **kinds)


@pytest.mark.parametrize(
    ("inputs", "call", "tensors", "factor"),
    CALLS,
    ids=lambda v: v if isinstance(v, str) and "(" in v else "",
)
def test_no_error_grows_by_more_than_the_factor(inputs, call, tensors, factor) -> None:
    out = "double" if "Cast" in call else "float"
    proto = made(inputs, call, tensors, out)
    shape = tuple(
        int(axis) for axis in inputs[inputs.index("[") + 1 : inputs.index("]")].split(",")
    )
    x = 2 * normal(*shape, seed=9)
    place = place_of(proto, {"x": x})
    found = error_gain(place)
    bound = found.error(dict.fromkeys(place.changed, 1.0))
    if factor is not None:
        assert bound == pytest.approx(factor, rel=2e-5)
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    units = np.eye(x.size, dtype=np.float32)[:: max(1, x.size // 24)]
    moves = [*normal(30, x.size, seed=4), *units, *-units, np.ones(x.size, np.float32)]
    worst = 0.0
    for size in (1e-2, 1.0):
        for move in moves:
            step = np.float32(size) * move.reshape(shape)
            (one,), (two,) = session.run(None, {"x": x}), session.run(None, {"x": x + step})
            top = np.linalg.norm((two.astype(float) - one).ravel())
            worst = max(worst, top / np.linalg.norm((x + step).astype(float) - x))
    assert worst <= bound * (1 + 1e-4) + 1e-4
    assert worst > 0.05 * bound


def test_every_rule_has_a_case() -> None:
    tried = {call.split("(")[0].split("<")[0] for _, call, _, _ in CALLS}
    assert tried | {"Split", "Shape"} == {op for op, spec in OPS.items() if spec.error is not None}


def test_split_and_shape() -> None:
    x = normal(2, 6)
    split = build(
        "g (float[2,6] x) => (float[2,2] y, float[2,4] z) { y, z = Split<axis = 1>(x, a) }",
        a=np.array([2, 4]),
    )
    assert error_gain(place_of(split, {"x": x})).factors == {0: 1.0}
    shape = build("g (float[2,6] x) => (int64[2] y) { y = Shape(x) }")
    assert error_gain(place_of(shape, {"x": x})).error({0: 3.0}) == 0.0


@pytest.mark.parametrize(
    ("gate", "slope"), [("Sigmoid(x)", 1.1), ("HardSigmoid<alpha = 0.1666667>(x)", 1.5)]
)
@pytest.mark.parametrize("order", ["g, x", "x, g"])
def test_a_tensor_times_a_gate_of_its_own_is_a_function_of_it(gate, slope, order) -> None:
    proto = build(f"n (float[500] x) => (float[500] y) {{ g = {gate}\ny = Mul({order}) }}")
    x = np.linspace(-8, 8, 500, dtype=np.float32)
    (y,) = run(proto, ["y"], {"x": x})
    found = error_gain(place_of(proto, {"x": x}, (0, 1)))
    slot = order.split(", ").index("x")
    assert found.error({slot: 1.0, 1 - slot: 7.0}) == pytest.approx(slope)
    steepest = np.abs(np.diff(y) / np.diff(x)).max()
    assert 0.95 * slope < steepest <= slope * (1 + 1e-4)


REFUSED = [
    ("float[2,6] x, float[2,6] w", "Mul(x, w)", {}, "multiplies two changed"),
    ("float[2,6] x, float[6,2] w", "MatMul(x, w)", {}, "multiplies two changed"),
    ("float[2,6] x, float[6,2] w", "Gemm(x, w)", {}, "multiplies two changed"),
    ("float[2,6] x, float[2,6] w", "Div(x, w)", {}, "divides by a changed"),
    (ROW, "Div(x, a)", {"a": np.zeros(6)}, "divides by zero"),
    (ROW, "Mul(x, a)", {"a": np.full(6, np.inf)}, "not finite"),
    (ROW, "Cast<to = 6>(x)", {}, "whole numbers"),
    (ROW, 'Pad<mode = "reflect">(x, a)', {"a": np.array([0, 1, 0, 1])}, "copies"),
    (ROW, "Exp(x)", {}, "no bound is known"),
    (ROW, "Sqrt(x)", {}, "no bound is known"),
]


@pytest.mark.parametrize(
    ("inputs", "call", "tensors", "reason"),
    REFUSED,
    ids=lambda v: v if isinstance(v, str) and "(" in v else "",
)
def test_what_cannot_be_proved_is_said(inputs, call, tensors, reason) -> None:
    proto = made(inputs, call, tensors, "int32" if "Cast" in call else "float")
    feeds = {"x": normal(2, 6)}
    if " w" in inputs:
        feeds["w"] = normal(*((6, 2) if "[6,2]" in inputs else (2, 6)))
    with pytest.raises(Unsupported, match=reason):
        error_gain(place_of(proto, feeds))


def test_an_unchanged_signal_as_a_factor_is_refused() -> None:
    proto = made("float[2,6] x, float[2,6] w", "Mul(x, w)", {})
    with pytest.raises(Unsupported, match="another signal"):
        error_gain(place_of(proto, {"x": normal(2, 6), "w": normal(2, 6)}, (0,)))


def test_unknown_shapes_are_no_guess() -> None:
    proto = made(ROW, "ReduceMean(x)", {})
    with pytest.raises(Unsupported, match="shapes"):
        error_gain(context_of(proto, [{"x": (2, 6)}], NORMS))
    with pytest.raises(Unsupported, match="shapes"):
        error_gain(context_of(proto, [], NORMS))


def test_the_worst_kind_of_batch_counts() -> None:
    proto = made("float[B,6] x", "Add(x, a)", {"a": normal(5, 1)})
    shapes = [{"x": (5, 6), "y": (5, 6)}, {"x": (1, 6), "y": (5, 6)}]
    assert error_gain(context_of(proto, shapes, NORMS)).factors[0] == pytest.approx(math.sqrt(5))


def test_errors_join() -> None:
    assert ErrorGain({0: 2.0, 1: 1.0}).error({0: 3.0, 1: 4.0}) == 10.0
    assert ErrorGain({0: 1.0, 1: 1.0}, joint=True).error({0: 3.0, 1: 4.0}) == 5.0


def test_a_scale_on_the_outputs_is_folded_into_the_norm() -> None:
    scale = np.array([3.0, -1.0])
    for call, tensors, shape, weight in (
        ("Gemm<transB = 1>(x, a)", {"a": W26}, (3, 6), W26.T * scale),
        ("MatMul(x, a)", {"a": W26.T}, (3, 6), W26.T * scale),
        ("Conv(x, a)", {"a": W26[:, :, None, None]}, (1, 6, 3, 3), W26.T * scale),
    ):
        proto = made(f"float[{','.join(map(str, shape))}] x", call, tensors)
        place = context_of(proto, [], NORMS, scale)
        assert error_gain(place).factors[0] == pytest.approx(np.linalg.norm(weight, 2), rel=1e-4)


@pytest.mark.parametrize(
    ("body", "nodes", "response"),
    [
        ("y = MatMul(x, w)", 1, "y"),
        ("h = MatMul(x, w)\nb = Add(h, b0)\nr = Relu(b)\ny = Neg(r)", 3, "r"),
        ("h = MatMul(x, w)\nb = Add(b0, h)\ni = Identity(b)\nr = Relu(i)\ny = Neg(r)", 4, "r"),
        ("h = MatMul(x, w)\ni = Identity(h)\ny = Tanh(i)", 1, "h"),
        ("h = MatMul(x, w)\nr = Relu(h)\nt = Tanh(h)\ny = Add(r, t)", 1, "h"),
        ("h = Gemm(x, w, b0)\nn = BatchNormalization(h, b0, b0, b0, b1)\ny = Relu(n)", 3, "y"),
        ("h = Gemm(x, w, b0)\nn = BatchNormalization(h, b0, b0, b0, b1)\ny = Tanh(n)", 2, "n"),
    ],
)
def test_the_path_to_a_response(body, nodes, response) -> None:
    text = f"g (float[N,3] x) => (float[N,4] y) {{ {body} }}"
    model = Model(build(text, w=normal(3, 4), b0=normal(4), b1=np.abs(normal(4))))
    (layer,) = model.layers
    path, name = response_path(Index(model.proto), layer, layer.sites[0])
    assert (path, name) == (tuple(range(nodes)), response)
