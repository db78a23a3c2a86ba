"""Whole prunes of models whose layers are in every kind of place, in both schemes."""

from __future__ import annotations

import itertools

import h5py
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from nettrim_cli.data.dataset import Batch
from nettrim_cli.graph import ops
from nettrim_cli.graph.model import Model
from nettrim_cli.graph.storage.tensors import all_tensors
from nettrim_cli.pipeline import prune
from nettrim_cli.pruning.propagation import dense_matrices, propagate, stages
from nettrim_cli.settings import METHODS, Settings
from tests.support.effort import thinned
from tests.support.networks import Files, save_model
from tests.support.options import PLAIN, QUICK
from tests.support.places import DENSE, LOOP, Place, branch
from tests.support.small import build, normal, run

OPSET = '<ir_version: 8, opset_import: ["" : 17]>'


def recurrent(op: str, gates: int, direction: str = "bidirectional", **given) -> onnx.ModelProto:
    """A recurrent layer whose states have no name, and a product behind it."""
    count = 2 if direction == "bidirectional" else 1
    made = [helper.make_node("Transpose", ["x"], ["xt"], perm=[1, 0, 2])]
    inputs, last = ["xt", "w", "r", "b", "", "h0"], "yh"
    outputs = ["", "yh"]
    made.append(
        helper.make_node(op, inputs, outputs, "cell", hidden_size=5, direction=direction, **given)
    )
    made.append(helper.make_node("Transpose", [last], ["t"], perm=[1, 0, 2]))
    made.append(helper.make_node("Flatten", ["t"], ["f"]))
    made.append(helper.make_node("MatMul", ["f", "v"], ["y"]))
    tensors = {
        "w": 0.5 * normal(count, gates * 5, 4, seed=1),
        "r": 0.5 * normal(count, gates * 5, 5, seed=2),
        "b": 0.1 * normal(count, gates * 10, seed=3),
        "v": normal(count * 5, 3, seed=5),
    }
    shape = numpy_helper.from_array(np.array([count, 16, 5]), "shape")
    made.insert(0, helper.make_node("ConstantOfShape", ["shape"], ["h0"]))
    graph = helper.make_graph(
        made,
        "g",
        [helper.make_tensor_value_info("x", 1, [16, 6, 4])],
        [helper.make_tensor_value_info("y", 1, ["N", 3])],
        [numpy_helper.from_array(v, k) for k, v in tensors.items()] + [shape],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(proto)
    return proto


def quantized() -> onnx.ModelProto:
    """The LSTM with weights of 8 bits, a scale for each of their outputs."""
    proto = recurrent("LSTM", 4)
    tensors = {each.name: each for each in proto.graph.initializer}
    (cell,) = (node for node in proto.graph.node if node.name == "cell")
    cell.op_type, cell.domain = "DynamicQuantizeLSTM", "com.microsoft"
    cell.input.extend(["", ""])
    for name in ("w", "r"):
        real = numpy_helper.to_array(tensors[name]).swapaxes(1, 2)
        scale = np.abs(real).max(axis=1) / 127
        stored = np.rint(real / scale[:, None]).astype(np.int8)
        tensors[name].CopyFrom(numpy_helper.from_array(stored, name))
        proto.graph.initializer.append(numpy_helper.from_array(scale, f"{name} scale"))
        zero = numpy_helper.from_array(np.zeros(scale.shape, np.int8), f"{name} zero")
        proto.graph.initializer.append(zero)
        cell.input.extend([f"{name} scale", f"{name} zero"])
    proto.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return proto


def gates() -> onnx.ModelProto:
    """An LSTM in each branch of an If, its gates put in order there; one branch is never taken."""

    def cell(x: str, out: str) -> str:
        text = ""
        for name in ("w", "r", "wb", "rb"):
            text += f"{out}{name}1 = Slice({name}, n0, n5, n0) "
            text += f"{out}{name}2 = Slice({name}, n15, n20, n0) "
            text += f"{out}{name}3 = Slice({name}, n5, n15, n0) "
            text += f"{out}{name} = Concat<axis = 0>({out}{name}1, {out}{name}2, {out}{name}3) "
        return text + (
            f"{out}b = Concat<axis = 0>({out}wb, {out}rb) {out}B = Unsqueeze({out}b, n0) "
            f"{out}W = Unsqueeze({out}w, n0) {out}R = Unsqueeze({out}r, n0) "
            f"{out} = LSTM<hidden_size = 5>({x}, {out}W, {out}R, {out}B)"
        )

    return build(
        f"""g (float[16,6,4] x) => (float[N,3] y) {{
            xt = Transpose<perm = [1, 0, 2]>(x)
            s = ReduceSum<keepdims = 0>(x) low = Constant<value_float = -1e9>()
            c = Greater(s, low)
            h = If(c) <then_branch = t () => (float[6,1,16,5] p) {{ {cell("xt", "p")} }},
                else_branch = e () => (float[6,1,16,5] q) {{ n = Neg(xt) {cell("n", "q")} }}>
            a = Transpose<perm = [2, 0, 1, 3]>(h)
            f = Reshape(a, shape)
            y = MatMul(f, v)
        }}""",
        head=OPSET,
        w=0.5 * normal(20, 4, seed=1),
        r=0.5 * normal(20, 5, seed=2),
        wb=0.1 * normal(20, seed=3),
        rb=0.1 * normal(20, seed=4),
        v=normal(5, 3, seed=5),
        shape=np.array([-1, 5]),
        **{f"n{n}": np.array([n]) for n in (0, 5, 15, 20)},
    )


def grouped() -> onnx.ModelProto:
    return build(
        """g (float[N,4,8] x) => (float[N,3] y) {
            c = Conv<group = 2, pads = [1,1]>(x, w, b)
            r = Relu(c)
            d = Conv<group = 6>(r, k)
            p = GlobalAveragePool(d)
            f = Flatten(p)
            y = Gemm(f, v)
        }""",
        head=OPSET,
        w=normal(6, 2, 3, seed=1),
        b=normal(6, seed=2),
        k=normal(6, 1, 3, seed=3),
        v=normal(6, 3, seed=4),
    )


def fused() -> onnx.ModelProto:
    """A residual block as onnxruntime writes it: the sum and its ReLU are the convolution's."""
    return build(
        """g (float[N,4,8] x) => (float[N,3] y) {
            a = com.microsoft.FusedConv<activation = "Relu", pads = [1,1]>(x, w, b)
            r = com.microsoft.FusedConv<activation = "Relu", pads = [1,1]>(a, v, b, a)
            p = GlobalAveragePool(r)
            f = Flatten(p)
            y = Gemm(f, u)
        }""",
        head='<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>',
        w=normal(4, 4, 3, seed=1),
        v=normal(4, 4, 3, seed=2),
        b=normal(4, seed=3),
        u=normal(4, 3, seed=4),
    )


def experts() -> onnx.ModelProto:
    return build(
        """g (float[N,1,6,5] x) => (float[N,3,6,4] y) {
            h = MatMul(x, w)
            r = Relu(h)
            y = MatMul(r, v)
        }""",
        head=OPSET,
        w=normal(3, 5, 7, seed=1),
        v=normal(3, 7, 4, seed=2),
    )


def tied() -> onnx.ModelProto:
    return build(
        """g (float[N,6] x) => (float[N,3] y) {
            a = Gemm(x, w, b)
            r = Relu(a)
            c = Gemm(r, w, b)
            s = Relu(c)
            y = MatMul(s, v)
        }""",
        head=OPSET,
        w=normal(6, 6, seed=1),
        b=normal(6, seed=2),
        v=normal(6, 3, seed=3),
    )


def from_place(place: Place) -> onnx.ModelProto:
    return place.model()


W, V = normal(3, 4, seed=1), normal(4, 4, seed=2)
NETWORKS = {
    "LSTM": lambda: recurrent("LSTM", 4),
    "LSTM of integers": quantized,
    "GRU": lambda: recurrent("GRU", 3),
    "GRU linear before reset": lambda: recurrent("GRU", 3, linear_before_reset=1),
    "RNN reverse": lambda: recurrent("RNN", 1, "reverse"),
    "gates in order": gates,
    "grouped": grouped,
    "experts": experts,
    "fused": fused,
    "tied": tied,
    "If": lambda: Place(
        branch("a = MatMul(x, w) r = Relu(a) p = MatMul(r, v)"), {"w": W, "v": V}
    ).model(),
    "Loop": lambda: Place(
        LOOP % "a = MatMul(v, w) h = Relu(a) r = MatMul(h, u)",
        {"w": W, "u": V},
        outputs="float[N,3] last, float[T,N,M] y",
    ).model(),
    "function": lambda: Place(
        "a = local.dense(x, w) r = Relu(a) y = local.dense(r, v)", {"w": W, "v": V}, DENSE
    ).model(),
}


def saved(folder, proto: onnx.ModelProto, count: int = 96) -> Files:
    (value,) = proto.graph.input
    shape = [axis.dim_value for axis in value.type.tensor_type.shape.dim[1:]]
    data = folder / "calib.h5"
    with h5py.File(data, "w") as file:
        file[value.name] = normal(count, *shape, seed=20)
    return Files(save_model(folder / "model.onnx", proto), data)


@pytest.mark.parametrize(
    ("scheme", "name"), thinned(itertools.product(["cascade", "parallel"], NETWORKS), 5)
)
def test_whole_models_are_pruned_wherever_their_layers_are(name, scheme, tmp_path) -> None:
    files = saved(tmp_path, NETWORKS[name]())
    searched = (name, scheme) == ("grouped", "cascade")  # for an allocation, which takes longer
    options = PLAIN | {"sparsity": 0.5} if searched else QUICK
    report = prune(files.model, files.data, settings=Settings(scheme=scheme, **options))
    dense, written = Model.load(files.model), Model.load(files.output)
    layers = {layer.name: layer for layer in dense.layers if layer.prunable}
    assert len(layers) >= 2
    zeros = total = 0
    for each in report.layers:
        layer = layers[each.name]
        matrices, _ = written.weight(layer)
        count = sum(int(np.count_nonzero(U)) for U in matrices)
        if layer.depthwise:
            assert "depthwise" in each.note
            continue
        assert each.nonzeros_after == count
        assert each.shape == layer.shape
        assert each.columns > 0
        assert np.isfinite([each.error_calibration, each.error_holdout]).all()
        zeros, total = zeros + layer.parameters - count, total + layer.parameters
    assert zeros >= round(0.5 * total)
    names = {t.name for t in all_tensors(dense.proto)}
    pairs = zip(all_tensors(dense.proto), all_tensors(written.proto), strict=False)  # one more bias
    assert all(one.name in names for one, two in pairs if one != two)
    assert report.comparison.error < 1.5


def test_the_summand_of_a_fused_convolution_is_no_result_of_its_weight() -> None:
    dense = Model(fused())
    x = normal(16, 4, 8, seed=30)
    flagged = [(Batch({"x": x}, 16, None), False)]
    (a,) = run(dense.proto, ["a"], {"x": x})
    found = {
        layer.name: samples
        for stage in propagate(dense, None, stages(dense.layers), flagged, threads=1, seed=0)
        for layer, (samples,) in stage
    }
    samples = found["r"]
    layer = next(each for each in dense.layers if each.name == "r")
    W = dense_matrices(dense, layer)[0]
    np.testing.assert_allclose(samples.Z, W.T @ samples.X, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(samples.skip.dense, np.moveaxis(a, 1, 0).reshape(4, -1))


@pytest.mark.parametrize("method", thinned(METHODS, 2))
@pytest.mark.parametrize("name", thinned(["LSTM", "experts"], 2))
def test_every_method_takes_layers_of_several_blocks(name, method, tmp_path) -> None:
    files = saved(tmp_path, NETWORKS[name](), 64)
    settings = Settings(epsilon=0.3, method=method, scheme="parallel", **PLAIN)
    report = prune(files.model, files.data, settings=settings)
    assert report.pruned
    for each in report.pruned:
        assert each.error_calibration <= 0.31


def test_depthwise_convolutions_are_pruned_where_they_are_asked_for(tmp_path) -> None:
    files = saved(tmp_path, grouped())
    settings = Settings(**QUICK | {"sparsity": 0.3, "include": ("d",)})
    report = prune(files.model, files.data, settings=settings)
    found = {each.name: each for each in report.layers}
    assert found["d"].nonzeros_after == round(0.7 * 18)
    assert not found["c"].pruned


@pytest.mark.parametrize("name", ["LSTM", "GRU", "GRU linear before reset", "RNN reverse"])
@pytest.mark.parametrize("cascade", [False, True])
def test_recurrent_weights_read_the_states_of_the_network_so_far(name, cascade) -> None:
    """Where W has been pruned, R reads the states that the pruned W makes."""
    dense = Model(NETWORKS[name]())
    pruned = dense.clone()
    x = normal(16, 6, 4, seed=30)
    flagged = [(Batch({"x": x}, 16, None), False)]
    plan = stages(dense.layers)
    assert [layer.name for stage in plan for layer in stage.layers] == ["cell.W", "cell.R", "y"]
    steps = propagate(dense, pruned if cascade else None, plan, flagged, threads=1, seed=0)
    for ((layer, blocks),) in steps:
        source = pruned if cascade else dense
        arrays = {}
        proto = onnx.ModelProto.FromString(source.proto.SerializeToString())
        (cell,) = (node for node in proto.graph.node if node.name == "cell")
        cell.output[0] = "states"
        if layer.name == "y":
            arrays["x"] = run(proto, ["f"], {"x": x})[0]
        else:
            for role, (kind, slot) in ops.reads(layer.geometry).items():
                wanted = cell.input[slot] if kind == "input" else cell.output[slot]
                if wanted:
                    proto.graph.node.add(op_type="Identity", input=[wanted], output=["seen"])
                    (arrays[role],) = run(proto, ["seen"], {"x": x})
                    del proto.graph.node[-1]
        for block, samples in enumerate(blocks):
            X = ops.columns(arrays, layer.geometry, block)
            np.testing.assert_allclose(samples.X[:-1], X, rtol=1e-5, atol=1e-6)
            assert samples.inputs_exact == (not cascade or layer.name == "cell.W")
            Z = dense_matrices(dense, layer)[block].T
            if samples.inputs_exact:
                np.testing.assert_allclose(samples.Z, Z @ samples.X, rtol=1e-4, atol=1e-5)
        weights, _ = pruned.weight(layer)
        pruned.set_weight(layer, [0.8 * each for each in weights], None)


def test_a_branch_that_is_never_taken_asks_for_no_more_samples(tmp_path) -> None:
    body = branch("p = MatMul(x, w)", "q = MatMul(x, u)")
    files = saved(tmp_path, Place(body, {"w": W, "u": normal(3, 4)}).model(), 6)
    settings = Settings(**QUICK)
    report = prune(files.model, files.data, settings=settings)
    assert [each.note for each in report.layers if not each.pruned] == [
        "none of the calibration samples reaches it"
    ]
    (warning,) = [each.text for each in report.warnings if each.code == "few-samples"]
    assert "/p has 3 inputs but only" in warning
    assert "only 0" not in warning
    assert "more layers" not in warning
    assert warning.endswith("100 samples would be useful, 6 were used.")


def test_sequences_and_text_pass_by_between_pieces(tmp_path) -> None:
    proto = build(
        """g (float[N,4] x) => (float[N,3] y) {
            s = SequenceConstruct(x, x)
            a = MatMul(x, w)
            r = Relu(a)
            one = Constant<value_int = 1>()
            b = SequenceAt(s, one)
            c = Add(r, b)
            y = MatMul(c, v)
        }""",
        head=OPSET,
        w=normal(4, 4),
        v=normal(4, 3),
    )
    files = saved(tmp_path, proto, 40)
    assert len(prune(files.model, files.data, settings=Settings(**QUICK)).pruned) == 2


def test_a_wrong_declared_shape_does_not_matter(tmp_path) -> None:
    proto = build(
        "g (float[N,4] x) => (float[N,3] y) { a = MatMul(x, w) r = Relu(a) y = MatMul(r, v) }",
        head=OPSET,
        w=normal(4, 5),
        v=normal(5, 3),
    )
    proto.graph.value_info.append(helper.make_tensor_value_info("r", 1, [7, 7, 7]))
    files = saved(tmp_path, proto, 40)
    assert len(prune(files.model, files.data, settings=Settings(**QUICK)).pruned) == 2
