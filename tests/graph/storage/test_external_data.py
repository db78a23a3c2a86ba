"""Models with external data: pruned as others are, and what is around them stays whole."""

from __future__ import annotations

import gzip
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import ml_dtypes
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

from nettrim_cli import pipeline
from nettrim_cli.cli import run
from nettrim_cli.data.engine import Engine
from nettrim_cli.errors import BadInput, DiskFailed
from nettrim_cli.evaluation.comparison import packed
from nettrim_cli.files import atomic as writing
from nettrim_cli.graph.model import Model
from nettrim_cli.settings import Settings
from tests.support import forked
from tests.support.effort import thinned
from tests.support.networks import attention, input_samples, mlp, residual, save_data
from tests.support.options import FAST, PATIENCE
from tests.support.small import build, normal


def wide_mlp() -> onnx.ModelProto:
    """Weights over a kilobyte, which stay outside."""
    return mlp(sizes=(32, 48, 40, 4))


def four_bits() -> onnx.ModelProto:
    """Integer weights of which a byte holds two."""
    kept = normal(32, 65, seed=1).clip(-2, 2) * 3
    return build(
        "g (float[N,32] x) => (float[N,4] y) {\n"
        "w1 = DequantizeLinear(q1, s)\n h = MatMul(x, w1)\n r = Relu(h)\n"
        "w2 = DequantizeLinear(q2, s)\n y = MatMul(r, w2) }",
        head='<ir_version: 10, opset_import: ["" : 21]>',
        q1=kept.astype(ml_dtypes.int4),
        q2=normal(65, 4, seed=2).clip(-2, 2).astype(ml_dtypes.int4),
        s=0.25,
    )


def externalise(proto: onnx.ModelProto, path: Path, *, names: tuple[str, ...] = ()) -> Path:
    """Save with all initializers (or those named) in one file beside the model."""
    content = bytearray()
    for tensor in proto.graph.initializer:
        if names and tensor.name not in names:
            continue
        raw = tensor.raw_data
        for key, value in (
            ("location", f"{path.stem}.weights"),
            ("offset", len(content)),
            ("length", len(raw)),
        ):
            tensor.external_data.add(key=key, value=str(value))
        tensor.data_location = TensorProto.EXTERNAL
        tensor.ClearField("raw_data")
        content += raw + b"####"
    path.with_name(f"{path.stem}.weights").write_bytes(content)
    path.write_bytes(proto.SerializeToString())
    return path


def arrays(path: Path) -> dict[str, np.ndarray]:
    """Initializers by onnx's own reader of external data."""
    proto = onnx.load(path)
    return {each.name: numpy_helper.to_array(each) for each in proto.graph.initializer}


def outputs(path: Path, x: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """A model with external data, and its calibration data."""
    folder = tmp_path / "models"
    folder.mkdir()
    proto = wide_mlp()
    data = save_data(folder / "calib.h5", proto, 200)
    return externalise(proto, folder / "model.onnx"), data


def prune(pair: tuple[Path, Path], *words: object) -> int:
    model, data = pair
    return run(["prune", str(model), "--data", str(data), *FAST, *map(str, words)])


def sidecars(folder: Path) -> list[str]:
    return sorted(name for name in os.listdir(folder) if name.endswith(".data"))


@pytest.mark.parametrize("network", thinned([wide_mlp, residual, four_bits, attention], 2))
@pytest.mark.parametrize("scheme", thinned(["cascade", "parallel"], 2))
def test_the_result_is_that_of_the_same_model_in_one_file(tmp_path, capsys, network, scheme):
    proto = network()
    data = save_data(tmp_path / "calib.h5", proto, 120)
    (tmp_path / "plain.onnx").write_bytes(proto.SerializeToString())
    external = externalise(proto, tmp_path / "model.onnx")
    for name in ("plain", "model"):
        report = tmp_path / f"{name}.json"
        words = ("--scheme", scheme, "--report", report)
        assert prune((tmp_path / f"{name}.onnx", data), *words) == 0
    assert capsys.readouterr().err == ""
    one, two = arrays(tmp_path / "plain.pruned.onnx"), arrays(tmp_path / "model.pruned.onnx")
    assert one.keys() == two.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], two[name])
    x = input_samples(network(), 5)
    np.testing.assert_array_equal(
        outputs(tmp_path / "plain.pruned.onnx", x), outputs(tmp_path / "model.pruned.onnx", x)
    )
    reports = [json.loads((tmp_path / f"{n}.json").read_text("utf-8")) for n in ("plain", "model")]
    for report in reports:
        for layer in report["layers"]:
            layer.pop("seconds")
    assert reports[0]["layers"] == reports[1]["layers"]
    assert reports[0]["certificate"] == reports[1]["certificate"]
    assert external.with_name("model.weights").is_file()


def test_only_the_weights_differ(pair, capsys):
    assert prune(pair) == 0
    model = pair[0]
    old, new = onnx.load(model), onnx.load(model.with_name("model.pruned.onnx"))
    del new.metadata_props[:]
    for one, two in zip(old.graph.initializer, new.graph.initializer, strict=True):
        assert len(one.raw_data) == len(two.raw_data)
        two.raw_data = one.raw_data
        for each in (one, two):
            each.ClearField("data_location")
    assert new == old


def test_the_output_has_one_sidecar_and_no_other_file_is_touched(pair, capsys):
    model, _ = pair
    before = {path: path.read_bytes() for path in model.parent.iterdir()}
    assert prune(pair) == 0
    (name,) = sidecars(model.parent)
    assert name.startswith("model.pruned.onnx.")
    assert {path: path.read_bytes() for path in before} == before
    assert prune(pair, "--force", "--sparsity", "0.8") == 0
    (other,) = sidecars(model.parent)
    assert other != name
    assert prune(pair, "--force", "--sparsity", "0.8") == 0
    assert sidecars(model.parent) == [other]
    assert len(os.listdir(model.parent)) == len(before) + 2
    assert outputs(model.with_name("model.pruned.onnx"), input_samples(wide_mlp(), 2)).shape == (
        2,
        4,
    )


def test_a_pruned_model_can_be_pruned_again_beside_itself(pair, capsys):
    assert prune(pair) == 0
    once = pair[0].with_name("model.pruned.onnx")
    renamed = once.with_name("renamed.onnx")
    once.rename(renamed)
    before = outputs(renamed, input_samples(wide_mlp(), 3))
    assert prune((renamed, pair[1]), "-o", once, "--sparsity", "0.8") == 0
    np.testing.assert_array_equal(outputs(renamed, input_samples(wide_mlp(), 3)), before)
    assert len(sidecars(once.parent)) == 2


def test_sizes_count_the_sidecar(pair, capsys):
    report = pair[0].with_name("report.json")
    assert prune(pair, "--report", report) == 0
    found = json.loads(report.read_text("utf-8"))["comparison"]
    model = pair[0]
    assert found["reference"]["bytes_raw"] == sum(
        model.with_name(name).stat().st_size for name in ("model.onnx", "model.weights")
    )
    parameters = sum(each.size for each in arrays(model).values())
    assert found["reference"]["parameters"] == parameters
    new = arrays(model.with_name("model.pruned.onnx")).values()
    assert found["candidate"]["nonzeros"] == sum(np.count_nonzero(each) for each in new)


def test_the_sidecar_is_not_an_output(pair, capsys):
    assert prune(pair, "-o", pair[0].with_name("model.weights"), "--force") == 73
    assert "input" in capsys.readouterr().err


def test_a_link_into_another_folder_is_no_output(pair, capsys):
    link = pair[0].with_name("link.onnx")
    (pair[0].parent.parent / "real.onnx").write_bytes(b"old")
    link.symlink_to(pair[0].parent.parent / "real.onnx")
    assert prune(pair, "-o", link, "--force") == 73
    assert "link into another folder" in capsys.readouterr().err


def test_a_name_too_long_for_a_sidecar(pair, capsys):
    assert prune(pair, "-o", pair[0].with_name("n" * 240 + ".onnx")) == 73
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("call", ["replace", "fsync"])
@pytest.mark.parametrize("nth", [1, 2])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_failing_while_writing_leaves_the_old_output(pair, capsys, monkeypatch, call, nth, error):
    assert prune(pair) == 0
    folder = pair[0].parent
    before = {path: path.read_bytes() for path in folder.iterdir()}
    real, calls = getattr(os, call), []

    def failing(*words: object) -> None:
        calls.append(words)
        if len(calls) == nth:
            raise error
        real(*words)

    monkeypatch.setattr(writing.os, call, failing)
    model = Model.load(pair[0])
    (layer, *_) = model.layers
    model.set_weight(layer, [0 * each for each in model.weight(layer)[0]], None)
    with pytest.raises((DiskFailed, KeyboardInterrupt)):
        model.save(folder / "model.pruned.onnx", force=True)
    assert len(calls) >= nth
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


KILLED = """
import os, sys
from nettrim_cli.data.engine import Engine
from nettrim_cli.errors import BadInput, DiskFailed
from nettrim_cli.graph.model import Model
model = Model.load(sys.argv[1])
layer = model.layers[0]
model.set_weight(layer, [0 * each for each in model.weight(layer)[0]], None)
real, count = os.replace, int(sys.argv[3])
def replace(one, two):
    global count
    count -= 1
    if count == 0: os.kill(os.getpid(), 9)
    real(one, two)
    if count == 1 and sys.argv[4] == "after": os.kill(os.getpid(), 9)
os.replace = replace
model.save(sys.argv[2], force=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no kill -9")
def test_killed_while_writing_leaves_a_whole_output(pair, capsys):
    """Before the sidecar is named, between sidecar and model, and after both."""
    assert prune(pair) == 0
    target = pair[0].with_name("model.pruned.onnx")
    x = input_samples(wide_mlp(), 3)
    old = outputs(target, x)
    for replaced, when, whole in ((1, "", False), (2, "", False), (2, "after", False)):
        words = [sys.executable, "-c", KILLED, str(pair[0]), str(target), str(replaced), when]
        assert forked.run(words, timeout=PATIENCE).returncode == -9
        same = np.array_equal(outputs(target, x), old)
        assert same is not whole
    assert prune(pair, "--force") == 0  # what the killed runs left behind goes
    assert len(sidecars(target.parent)) == 1


def everywhere() -> onnx.ModelProto:
    """Weights in an initializer, a Constant node, a branch of an If and a local function."""
    proto = parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17, "mine" : 1]>\n'
        "g (float[N,32] x) => (float[N,8] y) {\n"
        "h1 = MatMul(x, w1)\n r1 = Relu(h1)\n"
        "w2 = Constant<value = float[1] {1.0}>()\n h2 = MatMul(r1, w2)\n r2 = Relu(h2)\n"
        "h3 = If(yes) <then_branch = t () => (float[N,40] a) { a = MatMul(r2, wa) },"
        " else_branch = e () => (float[N,40] b) { b = Identity(r2) }>\n"
        "f = mine.Fold(h3)\n y = MatMul(f, w4) }\n"
        '<domain: "mine", opset_import: ["" : 17]> Fold (i) => (o)'
        " { c = Constant<value = float[1] {1.0}>()\n o = MatMul(i, c) }"
    )
    values = {
        "w1": normal(32, 48, seed=1) / 6,
        "w4": normal(40, 8, seed=4) / 6,
        "yes": np.array(True),
    }
    proto.graph.initializer.extend(numpy_helper.from_array(v, name) for name, v in values.items())
    proto.graph.node[2].attribute[0].t.CopyFrom(
        numpy_helper.from_array(normal(48, 40, seed=2) / 7, "w2")
    )
    branch = proto.graph.node[5].attribute[0].g
    branch.initializer.append(numpy_helper.from_array(normal(40, 40, seed=3) / 6, "wa"))
    proto.functions[0].node[0].attribute[0].t.CopyFrom(
        numpy_helper.from_array(normal(40, 40, seed=5) / 6, "c")
    )
    return proto


def holders(proto: onnx.ModelProto) -> list[TensorProto]:
    """The large tensors of ``everywhere``."""
    return [
        *(each for each in proto.graph.initializer if len(each.dims) == 2),
        proto.graph.node[2].attribute[0].t,
        proto.graph.node[5].attribute[0].g.initializer[0],
        proto.functions[0].node[0].attribute[0].t,
    ]


@pytest.fixture
def odd_places(tmp_path: Path) -> tuple[onnx.ModelProto, Path]:
    """``everywhere`` in one file, and saved with a file for each tensor."""
    proto = everywhere()
    for at, tensor in enumerate(holders(proto)):
        (tmp_path / f"{at}.bin").write_bytes(tensor.raw_data)
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=f"{at}.bin")
    path = tmp_path / "odd.onnx"
    path.write_bytes(proto.SerializeToString())
    return everywhere(), path


def changed(model: Model) -> Model:
    """Every layer a little different."""
    for layer in model.layers:
        if layer.prunable:
            matrices, _ = model.weight(layer)
            model.set_weight(layer, [each * (abs(each) > 0.05) for each in matrices], None)
    return model


@pytest.mark.parametrize("optimise", [False, True])
def test_the_engine_gets_values_from_wherever_they_are(odd_places, optimise) -> None:
    proto, path = odd_places
    x = normal(5, 32)
    for change in (lambda model: model, changed):
        plain = change(Model(onnx.ModelProto.FromString(proto.SerializeToString())))
        external = change(Model.load(path))
        assert plain.count_parameters() == external.count_parameters()
        one, two = (
            Engine(each.runnable(), threads=1, optimise=optimise).run({"x": x})[0]
            for each in (plain, external)
        )
        np.testing.assert_array_equal(one, two)
        copy = external.clone()
        changed(copy)  # of the copy alone
        np.testing.assert_array_equal(
            Engine(external.runnable(), threads=1, optimise=optimise).run({"x": x})[0], one
        )


def test_values_from_wherever_they_are_are_written(odd_places) -> None:
    proto, path = odd_places
    model = changed(Model.load(path))
    target = path.with_name("new.onnx")
    model.save(target)
    plain = changed(Model(proto))
    new = onnx.load(target, load_external_data=False)
    for one, two in zip(holders(plain.proto), holders(new), strict=True):
        np.testing.assert_array_equal(numpy_helper.to_array(one), external_values(path.parent, two))
    assert len(sidecars(path.parent)) == 1
    assert Model.load(target).count_parameters() == plain.count_parameters()


@pytest.mark.skipif(sys.platform != "linux", reason="names that are not UTF-8 need Linux")
def test_a_folder_whose_name_is_not_text(tmp_path) -> None:
    """The engine takes no such folder: it gets the values one by one."""
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    folder.mkdir()
    model = changed(Model.load(externalise(wide_mlp(), folder / "m.onnx")))
    assert not model.runnable().folder
    x = input_samples(wide_mlp(), 4)
    found = Engine(model.runnable(), threads=1).run({"x": x})[0]
    np.testing.assert_array_equal(
        found, Engine(changed(Model(wide_mlp())).runnable(), threads=1).run({"x": x})[0]
    )
    model.save(folder / "new.onnx")
    assert Model.load(folder / "new.onnx").count_parameters() == model.count_parameters()


def test_a_file_that_changes_meanwhile(pair) -> None:
    model = Model.load(pair[0])
    (layer, *_) = model.layers
    model.weight(layer)
    pair[0].with_name("model.weights").write_bytes(b"other")
    with pytest.raises(BadInput, match="has changed since the model was loaded"):
        model.weight(layer)
    with pytest.raises(BadInput, match="has changed"):
        model.count_parameters()


# Models over 2 GB.

MEASURED = """
import resource, sys
from nettrim_cli.cli import run
code = run(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, file=sys.stderr)
sys.exit(code)
"""


def two_gigabytes(path: Path) -> Path:
    """A chain of MatMuls, seven of them 9,000 x 9,000: 2.27 GB in one file."""
    wide = 9000
    sizes = [16, *[wide] * 8, 16, 64]
    rows = np.random.default_rng(0).standard_normal((wide, wide), np.float32) / np.float32(95)
    graph = onnx.GraphProto(name="g")
    graph.input.append(helper.make_tensor_value_info("h0", TensorProto.FLOAT, ["N", 16]))
    graph.output.append(helper.make_tensor_value_info("h10", TensorProto.FLOAT, ["N", 64]))
    with open(path.with_name("big.weights"), "wb") as file:
        for at, (n, m) in enumerate(itertools.pairwise(sizes)):
            tensor = graph.initializer.add(name=f"w{at}", data_type=1, dims=[n, m])
            tensor.data_location = TensorProto.EXTERNAL
            for key, value in (
                ("location", "big.weights"),
                ("offset", file.tell()),
                ("length", 4 * n * m),
            ):
                tensor.external_data.add(key=key, value=str(value))
            values = np.roll(rows, at, axis=0) if n == m else 10 * normal(n, m) / n
            file.write(np.ascontiguousarray(values, "<f4").data)
            graph.node.add(op_type="MatMul", input=[f"h{at}", f"w{at}"], output=[f"h{at + 1}"])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(proto.SerializeToString())
    return path


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="peak memory as Linux counts it")
def test_a_model_over_2_gb(tmp_path):
    model = two_gigabytes(tmp_path / "big.onnx")
    whole = (tmp_path / "big.weights").stat().st_size
    assert whole > 2**31
    data = tmp_path / "calib.h5"
    with h5py.File(data, "w") as file:
        file["h0"] = normal(200, 16)
    target = tmp_path / "big.pruned.onnx"
    words = ["prune", model, "--data", data, "--include", "h1", "--include", "h10", *FAST]
    ended = subprocess.run(
        [sys.executable, "-c", MEASURED, *map(str, words)],
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert ended.returncode == 0, ended.stderr
    peak = int(ended.stderr.split()[-1])
    assert peak < 1.5 * whole, f"{peak / whole:.2f} times the model"
    (sidecar,) = sidecars(tmp_path)
    assert (tmp_path / sidecar).stat().st_size > 2**31
    before, after = (onnx.load(path, load_external_data=False) for path in (model, target))
    del after.metadata_props[:]
    pruned = []
    for one, two in zip(before.graph.initializer, after.graph.initializer, strict=True):
        values = [
            external_values(path.parent, each) for path, each in ((model, one), (target, two))
        ]
        if one.name in ("w0", "w9"):
            pruned.append(np.ravel(values[1]))
        else:
            assert np.array_equal(*values), one.name
    assert np.mean(np.concatenate(pruned) == 0) == pytest.approx(0.5, abs=0.01)


def external_values(folder: Path, tensor: TensorProto) -> np.ndarray:
    """A tensor's values, by our own reading of the entries."""
    if tensor.data_location != TensorProto.EXTERNAL:
        return numpy_helper.to_array(tensor)
    entries = {each.key: each.value for each in tensor.external_data}
    offset = int(entries.get("offset", 0))
    return np.memmap(folder / entries["location"], "<f4", "r", offset, tuple(tensor.dims))


def test_a_size_as_target_counts_the_external_data(pair) -> None:
    model, data = pair
    dense = packed(Model.load(model))
    target = model.with_name("small.onnx")
    settings = Settings(max_bytes=int(0.7 * dense), threads=1)
    report = pipeline.prune(model, data, target, settings)
    names = [target, *(target.parent / each for each in sidecars(target.parent))]
    written = sum(len(gzip.compress(each.read_bytes(), 6)) for each in names)
    assert report.comparison.candidate.bytes_gzip == pytest.approx(written, abs=60)
    assert 0.6 * dense < report.comparison.candidate.bytes_gzip <= 0.7 * dense + 60
