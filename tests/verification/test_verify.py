"""Files held against reports: whatever is changed is told, and nothing else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from nettrim_cli.cli import run
from nettrim_cli.errors import BadInput, MissingInput
from nettrim_cli.verification.verify import verify
from tests.support.networks import mlp, save_model
from tests.support.options import FAST


@pytest.fixture
def report(files) -> Path:
    """The report of a run on the files."""
    path = files.folder / "report.json"
    words = ["prune", files.model, "--data", files.data, "--report", path, "-q", *FAST]
    assert run([*map(str, words)]) == 0
    return path


def failures(files, report, **options) -> list[str]:
    """What is otherwise than the report says, with all files at hand."""
    given = {"dense": files.model, "data": files.data, "threads": 1} | options
    return [
        each.what for each in verify(files.output, report, **given).findings if each.passed is False
    ]


def changed(path: Path, name: str, zero: bool) -> None:
    """Change a single weight: to zero, or a weight that is not zero to another."""
    proto = onnx.load(path)
    for tensor in proto.graph.initializer:
        if tensor.name == name:
            weight = numpy_helper.to_array(tensor).copy()
            place = tuple(np.argwhere(weight)[0])
            weight[place] = 0 if zero else 2 * weight[place]
            tensor.CopyFrom(numpy_helper.from_array(weight, name))
    onnx.save(proto, path)


def test_what_a_run_wrote_is_as_its_report_says(files, report, capsys) -> None:
    found = verify(files.output, report, dense=files.model, data=files.data, threads=1)
    assert found.passed
    assert {each.what for each in found.findings if each.passed} >= {
        *("output", "layers", "model", "error", "accuracy"),
    }
    words = ["verify", files.output, "--report", report, "--model", files.model]
    assert run([*map(str, words), "--data", str(files.data)]) == 0
    printed = capsys.readouterr()
    assert "is as" in printed.out
    assert "failed" not in printed.out


def test_without_the_dense_model_hashes_and_zeros_are_compared(files, report) -> None:
    findings = verify(files.output, report).findings
    assert [(each.what, each.passed) for each in findings] == [("output", True), ("layers", True)]


@pytest.mark.parametrize(("zero", "more"), [(True, {"layers"}), (False, set())])
def test_a_single_weight_that_changed_is_told(files, report, zero, more, capsys) -> None:
    name = onnx.load(files.output).graph.initializer[0].name
    changed(files.output, name, zero)
    assert {"output"} | more <= set(failures(files, report))
    assert "model" not in failures(files, report)
    capsys.readouterr()
    assert run(["verify", str(files.output), "--report", str(report)]) == 3
    printed = capsys.readouterr()
    assert "is not the file of the report" in " ".join(printed.out.split())
    assert printed.err.count("\n") == 1


def test_other_samples_are_told(files, report) -> None:
    with h5py.File(files.data, "a") as file:
        file["x"][:] = 3 * file["x"][:][::-1] + 1
    found = failures(files, report)
    assert "error" in found
    assert not {"output", "layers", "model"} & set(found)
    hashes = json.loads(report.read_text()).get("provenance", {}).get("files", [])
    assert ("data" in found) is any(each["role"] == "data" for each in hashes)


def test_another_model_is_told(files, report) -> None:
    save_model(files.model, mlp(seed=9))
    found = failures(files, report)
    assert {"model", "error"} <= set(found)
    assert not {"output", "layers"} & set(found)
    save_model(files.model, mlp(seed=0, sizes=(16, 24, 12, 5)))
    assert "error" in failures(files, report)


def test_another_pruned_model_is_told_by_its_layers(files, report) -> None:
    shutil.copyfile(files.model, files.output)
    assert {"output", "layers", "error"} <= set(failures(files, report))


def test_a_figure_that_was_touched_up_is_told(files, report) -> None:
    values = json.loads(report.read_text())
    values["comparison"]["outputs"][0]["error"] /= 2
    values["layers"][0]["nonzeros_after"] -= 1
    report.write_text(json.dumps(values))
    assert failures(files, report) == ["layers", "error"]


def test_external_data_belong_to_a_model(files, tmp_path) -> None:
    source = onnx.load(files.model)
    onnx.save(source, files.model, save_as_external_data=True, size_threshold=0, location="w.bin")
    report = files.folder / "r.json"
    words = ["prune", files.model, "--data", files.data, "--report", report, "-q", *FAST]
    assert run([*map(str, words)]) == 0
    assert failures(files, report) == []


def test_errors_of_before_a_final_fit_are_not_measured_again(files) -> None:
    report = files.folder / "r.json"
    words = ["prune", files.model, "--data", files.data, "--report", report, "-q"]
    words += ["--sparsity", "0.5", "--refit", "layers", "--augment", "none", "--threads", "1"]
    assert run([*map(str, words)]) == 0
    values = json.loads(report.read_text())
    values["final_samples"] = 120
    report.write_text(json.dumps(values))
    found = verify(files.output, report, dense=files.model, data=files.data, threads=1)
    assert [each.passed for each in found.findings if each.what == "error"] == [None]
    assert found.passed


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ("[]", "is no report"),
        ("{}", "is no report of a run"),
        ('{"schema": "nettrim-bench"}', "is a report of nettrim bench"),
        ('{"comparison": 3, "settings": {}, "layers": []}', "is no report of a run"),
    ],
)
def test_what_is_no_report(files, report, text, says) -> None:
    report.write_text(text)
    with pytest.raises(BadInput, match=says):
        verify(files.output, report)


def test_a_report_of_a_run_that_wrote_nothing(files, report) -> None:
    values = json.loads(report.read_text())
    values["comparison"]["candidate"]["sha256"] = ""
    values["provenance"] = {}
    report.write_text(json.dumps(values))
    with pytest.raises(BadInput, match="wrote no model"):
        verify(files.output, report)
    with pytest.raises(MissingInput, match=r"none\.json"):
        verify(files.output, files.folder / "none.json")


def test_json_names_each_finding(files, report, capsys) -> None:
    assert run(["verify", str(files.output), "--report", str(report), "--json"]) == 0
    held = json.loads(capsys.readouterr().out)
    assert held["schema"] == "nettrim-verify"
    assert held["passed"] is True
    assert [each["what"] for each in held["findings"]] == ["output", "layers"]
