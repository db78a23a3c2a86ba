"""Units are found wherever ops pass them on, and a model without them gives the same outputs."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from nettrim_cli.graph.channels.delete import delete_units
from nettrim_cli.graph.channels.find import refusals, unit_groups
from nettrim_cli.graph.model import Model
from tests.support.small import build, normal, run
from tests.support.smaller import assert_deletes, masked

IMAGE, SEQUENCE, ROWS = normal(2, 3, 8, 8), normal(2, 5, 6), normal(4, 6)
P, R = {"p": normal(8, 3, 3, 3)}, {"r": normal(4, 8, 1, 1)}
POSITIVE = np.abs(normal(8)) + 1
HEADS = """
    q = MatMul(x, wq)  k = MatMul(x, wk)  v = MatMul(x, wv)
    qs = Reshape(q, apart)  ks = Reshape(k, apart)  vs = Reshape(v, apart)
    qt = Transpose<perm = [0, 2, 1, 3]>(qs)  kt = Transpose<perm = [0, 2, 3, 1]>(ks)
    vt = Transpose<perm = [0, 2, 1, 3]>(vs)
    s = MatMul(qt, kt)  d = Div(s, root)  a = Softmax(d)  c = MatMul(a, vt)
    t = Transpose<perm = [0, 2, 1, 3]>(c)  g = Reshape(t, together)  y = MatMul(g, wo)
"""
ATTENTION = {
    **{name: normal(6, 12, seed=3) for name in ("wq", "wk", "wv")},
    "root": 2.0,
    "apart": np.array([0, 0, 4, 3]),
    "together": np.array([0, 0, 12]),
    "wo": normal(12, 5),
}


def convs(middle: str, **tensors: object) -> tuple[str, np.ndarray, dict[str, object]]:
    """A graph of one convolution before and one behind some nodes from h to z."""
    text = f"g (float[n,3,8,8] x) => (float[n,c,u,v] y) {{ [p] h = Conv(x, p) {middle} "
    return text + "[r] y = Conv(z, r) }", IMAGE, {**P, **R, **tensors}


def rows(middle: str, **tensors: object) -> tuple[str, np.ndarray, dict[str, object]]:
    """A graph of one product before and one behind some nodes from h to z, on rows."""
    text = f"g (float[n,6] x) => (float[n,m] y) {{ [p] h = MatMul(x, p) {middle} "
    wide = {"p": normal(6, 8), "r": normal(8, 3), **tensors}
    return text + "[r] y = MatMul(z, r) }", ROWS, wide


def steps(middle: str, **tensors: object) -> tuple[str, np.ndarray, dict[str, object]]:
    """The same on sequences of rows."""
    text = f"g (float[n,5,6] x) => (float[n,u,m] y) {{ [p] h = MatMul(x, p) {middle} "
    wide = {"p": normal(6, 8), "r": normal(8, 3), **tensors}
    return text + "[r] y = MatMul(z, r) }", SEQUENCE, wide


GRAPHS = {  # text, input, tensors, and the groups that are found
    "chain": (*rows("z = Relu(h)"), {"p": 8}),
    "bias": (*rows("b = Add(h, c) z = Tanh(b)", c=normal(8)), {"p": 8}),
    "gemm": (
        """g (float[n,6] x) => (float[n,m] y)
    { [p] h = Gemm<transB = 1, alpha = 2.0>(x, p, c) z = Relu(h) [r] y = Gemm(z, r, d) }""",
        ROWS,
        {"p": normal(8, 6), "c": normal(1, 8), "r": normal(8, 3), "d": normal(3)},
        {"p": 8},
    ),
    "slopes": (*convs("z = PRelu(h, a)", a=normal(8, 1, 1)), {"p": 8}),
    "batch": (
        *convs("z = BatchNormalization(h, s, t, m, v)", **dict.fromkeys("stmv", POSITIVE)),
        {"p": 8},
    ),
    "instance": (*convs("z = InstanceNormalization(h, s, s)", s=POSITIVE), {"p": 8}),
    "pools": (
        *convs("i = MaxPool<kernel_shape = [2, 2]>(h) z = AveragePool<kernel_shape = [2, 2]>(i)"),
        {"p": 8},
    ),
    "pad and resize": (
        *convs(
            "i = Pad(h, a) z = Resize(i, , b)",
            a=np.array([0, 0, 1, 1, 0, 0, 2, 2]),
            b=np.array([1, 1, 2, 2], np.float32),
        ),
        {"p": 8},
    ),
    "sizes": (
        *convs(
            "s = Shape<end = 2>(h) t = Concat<axis = 0>(s, a) z = Resize(h, , , t)",
            a=np.array([7, 9]),
        ),
        {"p": 8},
    ),
    "depthwise": (
        *convs("z = Conv<group = 8>(h, d, e)", d=normal(8, 1, 3, 3), e=normal(8)),
        {"p": 8},
    ),
    "multiplied": (
        *convs(
            "i = Conv<group = 8>(h, d) [q] z = Conv(i, e)",
            d=normal(16, 1, 3, 3),
            e=normal(8, 16, 1, 1),
        ),
        {"p": 8, "q": 8},
    ),
    "grouped": (*convs("z = Conv<group = 4>(h, d)", d=normal(8, 2, 3, 3)), {"p": 4}),
    "spread": (
        *convs(
            "[q] z = ConvTranspose<strides = [2, 2]>(h, d, e)", d=normal(8, 8, 2, 2), e=normal(8)
        ),
        {"p": 8, "q": 8},
    ),
    "spread in groups": (
        *convs("z = ConvTranspose<group = 4>(h, d)", d=normal(8, 2, 2, 2)),
        {"p": 4},
    ),
    "residual": (
        *convs("[q] i = Conv(h, d) j = Relu(i) z = Add(h, j)", d=normal(8, 8, 1, 1)),
        {"p": 8},
    ),
    "gate of channels": (
        *convs(
            "a = GlobalAveragePool(h) [q] b = Conv(a, d) c = Relu(b) e = Conv(c, f) "
            "s = HardSigmoid(e) z = Mul(h, s)",
            d=normal(3, 8, 1, 1),
            f=normal(8, 3, 1, 1),
        ),
        {"p": 8, "q": 3},
    ),
    "gate of places": (
        *convs("a = ReduceMean<axes = [1]>(h) s = Sigmoid(a) z = Mul(h, s)"),
        {},
    ),
    "depth to space": (
        *convs("[q] i = Conv(h, d) z = DepthToSpace<blocksize = 2>(i)", d=normal(32, 8, 1, 1)),
        {"p": 8, "q": 8},
    ),
    "columns to space": (
        *convs(
            '[q] i = Conv(h, d) z = DepthToSpace<blocksize = 2, mode = "CRD">(i)',
            d=normal(32, 8, 1, 1),
        ),
        {"p": 8, "q": 8},
    ),
    "space to depth": (
        *convs("s = SpaceToDepth<blocksize = 2>(h) [q] z = Conv(s, d)", d=normal(8, 32, 1, 1)),
        {"p": 8, "q": 8},
    ),
    "shuffle": (
        *convs(
            "i = Reshape(h, a) j = Transpose<perm = [0, 2, 1, 3, 4]>(i) z = Reshape(j, b)",
            a=np.array([0, 2, 4, 6, 6]),
            b=np.array([0, 8, 6, 6]),
        ),
        {"p": 4},
    ),
    "joined": (
        *convs(
            "[q] i = Conv(x, d) j = Concat<axis = 1>(h, i) [s] z = Conv(j, e)",
            d=normal(4, 3, 3, 3),
            e=normal(8, 12, 1, 1),
        ),
        {"p": 8, "q": 4, "s": 8},
    ),
    "joined with an input": (
        *convs(
            "c = Slice(x, a, b, b2) j = Concat<axis = 1>(h, c) [s] z = Conv(j, e)",
            a=np.array([0, 0]),
            b=np.array([6, 6]),
            b2=np.array([2, 3]),
            e=normal(8, 11, 1, 1),
        ),
        {"p": 8, "s": 8},
    ),
    "halves": (
        *convs(
            "i, j = Split<axis = 1>(h) k = Sigmoid(j) l = Mul(i, k) [q] z = Conv(l, d)",
            d=normal(8, 4, 1, 1),
        ),
        {"p": 4, "q": 8},
    ),
    "parts": (
        *convs(
            "i, j = Split<axis = 1>(h, a) k = Neg(j) z = Concat<axis = 1>(k, i)", a=np.array([3, 5])
        ),
        {"p": 3, "p_2": 5},
    ),
    "gather": (
        *rows("z = Gather<axis = 1>(h, a)", a=np.array([7, 0, 3, -4]), r=normal(4, 3)),
        {"p": 4},
    ),
    "flatten": (
        """g (float[n,3,8,8] x) => (float[n,m] y)
        { [p] h = Conv(x, p) f = Flatten(h) y = MatMul(f, r) }""",
        IMAGE,
        {"p": normal(8, 3, 3, 3), "r": normal(288, 3)},
        {"p": 8},
    ),
    "reshape": (
        """g (float[n,3,8,8] x) => (float[n,m] y)
        { [p] h = Conv(x, p) f = Reshape(h, a) y = MatMul(f, r) }""",
        IMAGE,
        {"p": normal(8, 3, 3, 3), "r": normal(288, 3), "a": np.array([-1, 288])},
        {"p": 8},
    ),
    "computed shape": (
        """g (float[n,3,8,8] x) => (float[n,u,m] y)
        { [p] h = Conv(x, p) s = Shape(h) b = Slice(s, o, i) t = Concat<axis = 0>(b, a)
          f = Reshape(h, t) j = Transpose<perm = [0, 2, 1]>(f) y = MatMul(j, r) }""",
        IMAGE,
        {
            "p": normal(8, 3, 3, 3),
            "r": normal(8, 3),
            "o": np.array([0]),
            "i": np.array([1]),
            "a": np.array([8, 36]),
        },
        {"p": 8},
    ),
    "sizes of all axes": (
        """g (float[n,3,8,8] x) => (float[n,u,m] y)
        { [p] h = Conv(x, p) s = Shape(h) b = Slice(s, o, i) t = Concat<axis = 0>(b, a)
          f = Reshape(h, t) j = Transpose<perm = [0, 2, 1]>(f) y = MatMul(j, r) }""",
        IMAGE,
        {
            "p": normal(8, 3, 3, 3),
            "r": normal(8, 3),
            "o": np.array([0]),
            "i": np.array([2]),
            "a": np.array([-1]),
        },
        {"p": 8},
    ),
    "a computed size": (
        """g (float[n,3,8,8] x) => (float[n,m] y)
        { [p] h = Conv(x, p) s = Shape(h) b = Gather(s, o) c = Gather(s, i) d = Mul(c, k)
          e = Unsqueeze(b, j) f = Unsqueeze(d, j) t = Concat<axis = 0>(e, f)
          z = Reshape(h, t) y = MatMul(z, r) }""",
        IMAGE,
        {
            "p": normal(8, 3, 3, 3),
            "r": normal(288, 3),
            "o": np.array(0),
            "i": np.array(1),
            "k": np.array(36),
            "j": np.array([0]),
        },
        {"p": 8},
    ),
    "zeros of a computed shape": (
        """g (float[n,5,6] x) => (float[n,u,m] y)
        { [p] h = MatMul(x, p) s = Shape(h) o = ConstantOfShape(s) j = Concat<axis = 1>(o, h)
          z = Relu(j) y = MatMul(z, r) }""",
        SEQUENCE,
        {"p": normal(6, 8), "r": normal(8, 3)},
        {"p": 8},
    ),
    "a size as a number": (
        *rows("s = Shape(h) t = Gather(s, a) c = Cast<to = 1>(t) z = Div(h, c)", a=np.array(1)),
        {},
    ),
    "squeeze": (
        *rows(
            "u = Unsqueeze(h, a) i = Transpose<perm = [2, 0, 1]>(u) z = Squeeze(i, b)",
            a=np.array([2]),
            b=np.array([0]),
        ),
        {"p": 8},
    ),
    "mean over steps": (
        *steps("m = ReduceMean<axes = [1], keepdims = 0>(h) z = Unsqueeze(m, a)", a=np.array([1])),
        {"p": 8},
    ),
    "softmax over steps": (*steps("z = Softmax<axis = 1>(h)"), {"p": 8}),
    "softmax over units": (*steps("z = Softmax(h)"), {}),
    "layer normalisation": (*steps("z = LayerNormalization(h, s, s)", s=POSITIVE), {}),
    "layer normalisation over steps": (
        *steps(
            "t = Transpose<perm = [0, 2, 1]>(h) i = LayerNormalization(t, s) "
            "z = Transpose<perm = [0, 2, 1]>(i)",
            s=normal(5),
        ),
        {"p": 8},
    ),
    "spelled gelu": (
        *steps(
            "d = Div(h, root) e = Erf(d) f = Add(e, one) m = Mul(h, f) z = Mul(m, half)",
            root=1.4142135,
            one=1.0,
            half=0.5,
        ),
        {"p": 8},
    ),
    "gated unit": (
        *steps("[q] i = MatMul(x, d) j = Sigmoid(i) z = Mul(h, j)", d=normal(6, 8, seed=4)),
        {"p": 8},
    ),
    "positions": (*steps("z = Add(h, c)", c=normal(1, 5, 8)), {"p": 8}),
    "images of one size": (
        """g (float[n,3,u,v] x) => (float[m,k,l] y)
        { [p] h = Conv<strides = [112, 112]>(x, p) f = Reshape(h, a)
          t = Transpose<perm = [0, 2, 1]>(f) z = Add(t, c) y = MatMul(z, r) }""",
        normal(1, 3, 224, 224),
        {
            "p": normal(8, 3, 2, 2),
            "r": normal(8, 3),
            "c": normal(1, 4, 8),
            "a": np.array([0, 8, -1]),
        },
        {"p": 8},
    ),
    "a token in front": (
        """g (float[2,t,6] x) => (float[n,u,m] y)
        { [p] h = MatMul(x, p) z = Concat<axis = 1>(c, h) y = MatMul(z, r) }""",
        SEQUENCE,
        {"p": normal(6, 8), "c": normal(2, 1, 8), "r": normal(8, 3)},
        {"p": 8},
    ),
    "heads": (
        f"g (float[n,t,6] x) => (float[n,u,m] y) {{ {HEADS} }}",
        SEQUENCE,
        ATTENTION,
        {"q": 4},
    ),
    "heads by letters": (
        """g (float[n,5,6] x) => (float[n,u,m] y)
        { q = Einsum<equation = "btc,chd->bthd">(x, wq)
          k = Einsum<equation = "btc,chd->bthd">(x, wk)
          v = Einsum<equation = "btc,chd->bthd">(x, wv)
          s = Einsum<equation = "bqhd,bkhd->bhqk">(q, k)  a = Softmax(s)
          o = Einsum<equation = "bhqk,bkhd->bqhd">(a, v)
          [r] y = Einsum<equation = "bqhd,hdm->bqm">(o, w) }""",
        SEQUENCE,
        {
            **{name: normal(6, 4, 3, seed=3) for name in ("wq", "wk", "wv")},
            "w": normal(4, 3, 5),
        },
        {"q": 4},
    ),
    "a matrix by letters": (
        """g (float[n,5,6] x) => (float[n,u,m] y)
        { [p] h = Einsum<equation = "btc,dc->btd">(x, p) z = Relu(h)
          [r] y = Einsum<equation = "dm,btd->btm">(r, z) }""",
        SEQUENCE,
        {"p": normal(8, 6), "r": normal(8, 3)},
        {"p": 8},
    ),
    "shared weight": (
        """g (float[n,t,6] x) => (float[n,u,m] y)
        { [p] h = MatMul(x, p) i = Neg(x) j = MatMul(i, p) z = Add(h, j) y = MatMul(z, r) }""",
        SEQUENCE,
        {"p": normal(6, 8), "r": normal(8, 3)},
        {"p": 8},
    ),
    "shared constants": (
        *steps(
            "a = Add(h, c) b = Relu(a) [q] d = MatMul(b, e) z = Add(d, c)",
            c=normal(8),
            e=normal(8, 8),
        ),
        {"p": 8, "q": 8},
    ),
    "turned weight": (
        """g (float[n,6] x) => (float[n,m] y)
        { t = Transpose(p) h = MatMul(x, t) u = Identity(c) z = Add(h, u) y = MatMul(z, r) }""",
        ROWS,
        {"p": normal(8, 6), "c": normal(8), "r": normal(8, 3)},
        {"h": 8},
    ),
    "embedding": (
        """g (int64[n,t] x) => (float[n,u,m] y)
        { [e] h = Gather(w, x) [p] i = MatMul(h, p) z = Relu(i) y = MatMul(z, r) }""",
        np.array([[0, 4, 2], [9, 1, 1]]),
        {"w": normal(10, 6), "p": normal(6, 8), "r": normal(8, 3)},
        {"e": 6, "p": 8},
    ),
    "lstm": (
        """g (float[n,t,6] x) => (float[u,v,m] y)
        { [p] h = MatMul(x, p) [s] i, l, c = LSTM<hidden_size = 5>(h, w, v, b, , z, z)
          j = Squeeze(i, a) y = MatMul(j, r) }""",
        SEQUENCE,
        {
            "p": normal(6, 8),
            "w": normal(1, 20, 8),
            "v": normal(1, 20, 5),
            "r": normal(5, 3),
            "b": normal(1, 40),
            "z": normal(1, 5, 5),
            "a": np.array([1]),
        },
        {"p": 8, "s.W": 5},
    ),
    "lstm with peepholes": (
        """g (float[n,t,6] x) => (float[u,v,m] y)
        { [s] i, l, c = LSTM<hidden_size = 5>(x, w, v, , , , , q) y = MatMul(c, r) }""",
        SEQUENCE,
        {
            "w": normal(1, 20, 6),
            "v": normal(1, 20, 5),
            "q": normal(1, 15),
            "r": normal(5, 3),
        },
        {"s.W": 5},
    ),
    "gru in two directions": (
        """g (float[2,5,6] x) => (float[u,v,m] y)
        { [s] i, l = GRU<hidden_size = 5, direction = "bidirectional">(x, w, v, b)
          t = Transpose<perm = [0, 2, 1, 3]>(i) j = Reshape(t, a) y = MatMul(j, r) }""",
        SEQUENCE,
        {
            "w": normal(2, 15, 6),
            "v": normal(2, 15, 5),
            "r": normal(10, 3),
            "b": normal(2, 30),
            "a": np.array([0, 0, 10]),
        },
        {"s.W": 5},
    ),
    "rnns one behind the other": (
        """g (float[2,5,6] x) => (float[u,v,m] y)
        { [s] i, k = RNN<hidden_size = 5>(x, w, v) j = Squeeze(i, a)
          [t] q = RNN<hidden_size = 4>(j, e, f) z = Squeeze(q, a) y = MatMul(z, r) }""",
        SEQUENCE,
        {
            "w": normal(1, 5, 6),
            "v": normal(1, 5, 5),
            "r": normal(4, 3),
            "e": normal(1, 4, 5),
            "f": normal(1, 4, 4),
            "a": np.array([1]),
        },
        {"s.W": 5, "t.W": 4},
    ),
    "constant on the left": (
        """g (float[n,6,t] x) => (float[n,m,u] y)
        { [p] h = MatMul(p, x) z = Relu(h) y = MatMul(r, z) }""",
        normal(2, 6, 5),
        {"p": normal(8, 6), "r": normal(3, 8)},
        {"p": 8},
    ),
    "slice": (
        *convs(
            "z = Slice(h, a, b, c)",
            a=np.array([2]),
            b=np.array([7]),
            c=np.array([1]),
            r=normal(4, 5, 1, 1),
        ),
        {"p": 5},
    ),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_units_are_found_and_deleted(name) -> None:
    text, x, tensors, expected = GRAPHS[name]
    arrays = {n: t if isinstance(t, np.ndarray) else np.float32(t) for n, t in tensors.items()}
    for seed in (0, 1):
        groups = assert_deletes(build(text, **arrays), {"x": x}, seed)
        assert {group.name: group.units for group in groups} == expected


LATER = '<ir_version: 10, opset_import: ["" : 21]>'


def test_groups_of_a_normalisation_go_as_a_whole() -> None:
    text, x, tensors = convs("z = GroupNormalization<num_groups = 4>(h, s, s)", s=POSITIVE)
    groups = assert_deletes(build(text, head=LATER, **tensors), {"x": x})
    assert [group.units for group in groups] == [4]


def test_parts_of_a_split_are_told_by_their_number() -> None:
    text, x, tensors = convs(
        "i, j = Split<axis = 1, num_outputs = 2>(h) z = Concat<axis = 1>(j, i)"
    )
    groups = assert_deletes(build(text, head=LATER, **tensors), {"x": x}, 3)
    assert [group.units for group in groups] == [4, 4]


@pytest.mark.parametrize("opset", [9, 11])
def test_bounds_and_sizes_may_be_attributes(opset) -> None:
    middle = "i, j = Split<axis = 1, split = [3, 5]>(h) k = Relu(j) z = Concat<axis = 1>(k, i)"
    if opset == 9:
        middle = middle.replace("Relu(j)", "Slice<starts = [1], ends = [4], axes = [1]>(j)")
    text, x, tensors = convs(middle)
    tensors["r"] = normal(4, 6 if opset == 9 else 8, 1, 1)
    head = f'<ir_version: 4, opset_import: ["" : {opset}]>'
    groups = assert_deletes(build(text, head=head, **tensors), {"x": x}, 2)
    assert [group.units for group in groups] == ([3, 3] if opset == 9 else [3, 5])


def test_a_model_with_weights_as_inputs_keeps_those_that_callers_may_feed() -> None:
    text, x, tensors = rows("z = Relu(h)")
    for version, expected in ((3, 8), (8, 0)):
        proto = build(text, head='<ir_version: 8, opset_import: ["" : 12]>', **tensors)
        proto.ir_version = version
        for tensor in proto.graph.initializer:
            value = onnx.helper.make_tensor_value_info(tensor.name, 1, tensor.dims)
            proto.graph.input.append(value)
        groups = assert_deletes(proto, {"x": x})
        assert sum(group.units for group in groups) == expected


def test_external_data_are_cut(tmp_path) -> None:
    text, x, _ = rows("b = Add(h, c) z = Relu(b)")
    tensors = {"p": normal(6, 90), "c": normal(90), "r": normal(90, 3)}
    proto = build(text, **tensors)
    onnx.save(proto, tmp_path / "m.onnx", save_as_external_data=True, size_threshold=0)
    model = Model.load(tmp_path / "m.onnx")
    kept = {"p": np.arange(40)}
    small = delete_units(masked(model, unit_groups(model), kept), kept)
    small_path = tmp_path / "s.onnx"
    small.save(small_path)
    inside = Model(build(text, **tensors))
    plain = delete_units(masked(inside, unit_groups(inside), kept), kept)
    session = ort.InferenceSession(small_path, providers=["CPUExecutionProvider"])
    (wanted,) = run(plain.proto, ["y"], {"x": x})
    np.testing.assert_array_equal(session.run(None, {"x": x})[0], wanted)
    after, before = (
        sum(file.stat().st_size for file in m.files) for m in (Model.load(small_path), model)
    )
    assert after < 0.6 * before


def test_what_stays_is_told_with_the_reason() -> None:
    text, _, tensors = steps("[q] n = LayerNormalization(h, s) z = Relu(n)", s=POSITIVE)
    reasons = refusals(Model(build(text, **tensors)))
    assert {name: reason.code for name, reason in reasons.items()} == {
        "p": "mixed",
        "r": "fixed-width",
    }


def test_only_units_that_are_there_are_deleted_and_not_all() -> None:
    text, _, tensors = rows("z = Relu(h)")
    model = Model(build(text, **tensors))
    for kept in ({"r": np.arange(3)}, {"p": np.arange(0)}):
        with pytest.raises(ValueError, match="unit"):
            delete_units(model, kept)


@pytest.mark.parametrize(
    "middle",
    [
        "z = Transpose<perm = [0, 7]>(h)",
        "z = Gather<axis = 1>(h, a)",
        "z = Reshape(h, a)",
        "z = If(c) <then_branch = g1 () => (float[n,m] t) { t = Identity(h) }, "
        "else_branch = g2 () => (float[n,m] e) { e = Relu(h) }>",
    ],
)
def test_nothing_is_found_in_front_of_what_is_not_followed(middle) -> None:
    text, _, tensors = rows(middle, a=np.array([99]), c=np.array(True))
    proto = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}')
    proto.graph.initializer.extend(
        onnx.numpy_helper.from_array(values, name) for name, values in tensors.items()
    )
    model = Model(proto)
    assert unit_groups(model) == ()
    assert refusals(model)["p"].code == "not-followed"
