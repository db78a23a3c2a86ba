"""An output that was good stays until one that is known to work takes its place."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from nettrim_cli import pipeline
from nettrim_cli.cli import run
from nettrim_cli.errors import BadInput, EngineFailed
from nettrim_cli.graph.model import Model
from nettrim_cli.settings import Settings
from tests.support import forked
from tests.support.networks import mlp, save_model
from tests.support.options import FAST, PATIENCE, PLAIN
from tests.support.small import build, normal

FORCED = [*FAST, "--force"]
WORKS = "t = MatMul(x, w)\n"
REFUSED = {
    "a step of nothing": (
        69,
        f"{WORKS} u = Range(zero, one, zero)\n q = ReduceSum(u)\n y = Add(t, q)",
    ),
    "a terabyte": (71, f"{WORKS} u = ConstantOfShape(huge)\n q = ReduceSum(u)\n y = Add(t, q)"),
}


def prune(files, *options: object) -> int:
    return run(["prune", str(files.model), "--data", str(files.data), *FORCED, *map(str, options)])


@pytest.mark.parametrize(("code", "text"), REFUSED.values(), ids=REFUSED)
def test_a_model_that_the_engine_refuses_is_refused_before_work(
    files, capsys, monkeypatch, code, text
) -> None:
    proto = build(
        f"g (float[N,16] x) => (float[N,4] y) {{ {text} }}",
        w=normal(16, 4),
        zero=np.float32(0),
        one=np.float32(1),
        huge=np.array([2**38], np.int64),
    )
    save_model(files.model, proto)
    files.output.write_bytes(b"old")
    monkeypatch.setattr(pipeline, "prune_network", None)  # no work
    assert prune(files) == code
    assert str(files.model) in capsys.readouterr().err
    assert files.output.read_bytes() == b"old"


def test_batches_of_no_samples_and_models_without_outputs_are_refused(files, capsys) -> None:
    for change, says in (("batch", "batches of no samples"), ("outputs", "no outputs")):
        proto = mlp()
        if change == "batch":
            proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 0
        else:
            del proto.graph.output[:]
        save_model(files.model, proto)
        assert prune(files) == 65
        assert says in capsys.readouterr().err
    assert files.listing == ["calib.h5", "model.onnx"]


@pytest.mark.parametrize("error", [EngineFailed("it died"), BadInput("of another shape")])
def test_a_written_model_that_does_not_run_replaces_nothing(
    files, capsys, monkeypatch, error
) -> None:
    files.output.write_bytes(b"old")

    def compare(reference: object, candidate: Model) -> None:
        assert candidate.path == files.output  # as it will be named,
        assert files.output.read_bytes() == b"old"  # where it is not yet
        raise error

    monkeypatch.setattr(pipeline.ReferenceOutputs, "compare", compare)
    assert prune(files, "--final-fit", "none") == error.exit_code
    assert "was written" not in capsys.readouterr().err
    assert files.output.read_bytes() == b"old"
    assert files.listing == ["calib.h5", "model.onnx", "model.pruned.onnx"]


@pytest.mark.parametrize("suffix", [".h5", ".npz", ".npy"])
def test_data_that_change_while_they_are_read(files, suffix, capsys, monkeypatch) -> None:
    data = files.folder / f"data{suffix}"
    values = normal(120, 16)
    if suffix == ".h5":
        data.write_bytes(files.data.read_bytes())
    elif suffix == ".npy":
        np.save(data, values)
    else:
        np.savez(data, x=values)
    files.output.write_bytes(b"old")
    words, whole = ["prune", files.model, "--data", data, *FORCED], data.read_bytes()
    solve = pipeline.prune_network
    for change, code in ((rewrite, 65), (os.unlink, 0)):
        data.write_bytes(whole)

        def changed(*arguments, change=change, **options):
            change(data)
            return solve(*arguments, **options)

        monkeypatch.setattr(pipeline, "prune_network", changed)
        assert run([*map(str, words)]) == code
        assert (f"{data}: changed while" in capsys.readouterr().err) is (code == 65)
        assert (files.output.read_bytes() == b"old") is (code == 65)


def rewrite(path: Path) -> None:
    with open(path, "r+b") as file:
        file.write(bytes(8))
    os.utime(path)


def test_every_report_has_the_hash_of_the_file(files) -> None:
    paths = [files.folder / f"report{suffix}" for suffix in (".json", ".md", ".csv", ".html")]
    assert prune(files, "-q", *(each for path in paths for each in ("--report", path))) == 0
    digest = hashlib.sha256(files.output.read_bytes()).hexdigest()
    facts = json.loads(paths[0].read_text())["comparison"]
    assert facts["candidate"]["sha256"] == digest
    assert facts["reference"]["sha256"] == hashlib.sha256(files.model.read_bytes()).hexdigest()
    assert all(digest in path.read_text() for path in paths[1:])


def test_a_report_that_came_meanwhile_is_not_overwritten(files, capsys, monkeypatch) -> None:
    report = files.folder / "report.json"
    certificate_of = pipeline.certificate_of

    def slowly(*arguments: object, **options: object) -> object:
        report.write_text("another's")
        return certificate_of(*arguments, **options)

    monkeypatch.setattr(pipeline, "certificate_of", slowly)
    command = ["prune", files.model, "--data", files.data, *FAST, "--report", report]
    assert run([*map(str, command)]) == 73
    assert "exists already" in capsys.readouterr().err
    assert report.read_text() == "another's"


CUT = """
import importlib, os, sys
from nettrim_cli.__main__ import main

path, how, place = sys.argv[1:4]
del sys.argv[1:4]
name, place = place.split(".")
module = importlib.import_module(f"nettrim_cli.{name}")
before = getattr(module, place)

def changed(*arguments, **options):
    if how == "cut":
        os.truncate(path, 0)
    elif how == "removed":
        os.unlink(path)
    else:
        with open(path, "r+b") as file:
            file.write(bytes(8))
        os.utime(path)
    return before(*arguments, **options)

setattr(module, place, changed)
main()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a crash needs a supervisor")
@pytest.mark.parametrize("place", ["loading.check_runs", "pipeline.prune_network"])
@pytest.mark.parametrize(("how", "code"), [("cut", 65), ("changed", 65), ("removed", 66)])
def test_external_data_that_change_while_they_are_read(files, place, how, code) -> None:
    data = files.folder / "w.bin"
    source = onnx.load(files.model)
    onnx.save(source, files.model, save_as_external_data=True, size_threshold=0, location=data.name)
    files.output.write_bytes(b"old")
    words = ["prune", files.model, "--data", files.data, *FORCED]
    done = forked.run(
        [sys.executable, "-c", CUT, data, how, place, *map(str, words)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == code, done.stderr
    assert str(data) in done.stderr
    assert done.stderr.count("\n") == 1
    assert files.output.read_bytes() == b"old"
    assert not [name for name in files.listing if name.startswith(".nettrim")]


def test_a_report_tells_where_its_figures_come_from(files) -> None:
    paths = {"model": files.model, "data": files.data, "output": files.output}
    report = files.folder / "report.json"
    assert prune(files, "-q", "--report", report) == 0
    facts = json.loads(report.read_text("utf-8"))["provenance"]
    assert {each["role"]: each["sha256"] for each in facts["files"]} == {
        role: hashlib.sha256(path.read_bytes()).hexdigest() for role, path in paths.items()
    }
    assert {each["role"]: each["path"] for each in facts["files"]} == {
        role: str(path) for role, path in paths.items()
    }
    assert facts["versions"]["onnx"] == onnx.__version__
    assert facts["versions"]["numpy"] == np.__version__


def test_a_report_holds_curves_histograms_and_values(files) -> None:
    report = pipeline.prune(files.model, files.data, settings=Settings(**PLAIN, max_error=0.2))
    names = [layer.name for layer in report.layers if layer.pruned]
    assert [curve.name for curve in report.curves] == names
    assert [each.name for each in report.histograms] == names
    for curve in report.curves:
        assert curve.sparsities[0] == 0
        assert curve.errors[0] < 1e-3 < curve.errors[-1] <= 1.01
    (values,) = report.comparison.values
    dense, pruned = (np.array(each) for each in (values.reference, values.candidate))
    assert len(dense) == report.comparison.samples * 4  # all of them
    distance = np.linalg.norm(dense - pruned) / np.linalg.norm(dense)
    assert distance == pytest.approx(report.comparison.error, rel=1e-4)
