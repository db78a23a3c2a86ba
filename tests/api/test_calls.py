"""Calls from Python give what the command line gives, of files or of what is in memory."""

from __future__ import annotations

import inspect as signatures
import json
import tempfile
from dataclasses import fields
from pathlib import Path

import click
import h5py
import numpy as np
import onnx
import pytest

import nettrim_cli
from nettrim_cli import cli, pipeline
from nettrim_cli.api.options import with_keywords
from nettrim_cli.errors import BadInput, CannotWrite, GateFailed, NothingToDo, WrongUsage
from nettrim_cli.report.result import Report
from nettrim_cli.settings import BenchSettings, Gate, Settings
from nettrim_cli.settings.curve import CurveSettings
from tests.support.networks import Files, initializers
from tests.support.options import QUICK
from tests.support.small import run


@pytest.fixture
def arrays(files: Files) -> dict[str, np.ndarray]:
    """What the calibration file holds."""
    with h5py.File(files.data) as file:
        return {name: dataset[()] for name, dataset in file.items()}


@pytest.fixture
def proto(files: Files) -> onnx.ModelProto:
    return onnx.load(files.model)


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files stand while a call lasts."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def zeros(model: onnx.ModelProto) -> float:
    weights = [array for array in initializers(model).values() if array.ndim == 2]
    return sum(int((array == 0).sum()) for array in weights) / sum(a.size for a in weights)


def test_a_model_in_memory_is_pruned_as_its_file_is(files, arrays, proto, scratch) -> None:
    written = pipeline.prune(files.model, files.data, files.output, Settings(**QUICK))
    report = nettrim_cli.prune(proto, arrays, **QUICK)
    expected = onnx.load(files.output)
    assert report.model.graph == expected.graph
    assert zeros(report.model) == pytest.approx(0.5, abs=0.01)
    assert isinstance(report, Report)
    assert report.layers[0].error_holdout == written.layers[0].error_holdout
    assert report.output is None
    assert not list(scratch.iterdir())
    assert report.comparison.reference.path == "<model>"
    assert report.comparison.candidate.path == "<pruned>"
    assert str(scratch) not in json.dumps(report.as_dict())
    samples = arrays["x"][:3]
    dense, sparse = (run(model, ["y"], {"x": samples})[0] for model in (proto, report.model))
    assert 0 < np.linalg.norm(sparse - dense) < np.linalg.norm(dense)


def test_a_model_in_a_file_is_written_beside_it(files) -> None:
    report = nettrim_cli.prune(files.model, files.data, **QUICK)
    assert report.output == files.output
    assert report.model == onnx.load(files.output)
    with pytest.raises(CannotWrite, match="add force=True to replace it"):
        nettrim_cli.prune(files.model, files.data, **QUICK)
    again = nettrim_cli.prune(str(files.model), files.data, force=True, **QUICK)
    assert again.model == report.model


def test_a_model_in_memory_is_written_where_that_is_asked_for(files, arrays, proto) -> None:
    target = files.folder / "small.onnx"
    report = nettrim_cli.prune(proto, arrays, target, Settings(**QUICK))
    assert (report.output, report.model) == (target, onnx.load(target))
    assert report.save(files.folder / "report.json").is_file()


def test_the_model_that_an_exporter_returns_is_taken(arrays, proto) -> None:
    class Exported:  # as torch.onnx.export gives it
        model_proto = proto

    assert nettrim_cli.prune(Exported(), arrays, **QUICK).sparsity == pytest.approx(0.5, abs=0.01)


def test_keywords_go_before_settings_and_are_read_as_on_the_command_line(arrays, proto) -> None:
    settings = Settings(**QUICK)
    report = nettrim_cli.prune(proto, arrays, settings=settings, sparsity="40%", exclude="z1")
    assert report.settings["sparsity"] == 0.4
    assert report.settings["exclude"] == ["z1"]
    assert report.settings["threads"] == QUICK["threads"]


def test_models_in_memory_are_compared_and_held_against_limits(arrays, proto, scratch) -> None:
    sparse = nettrim_cli.prune(proto, arrays, **QUICK).model
    comparison = nettrim_cli.compare(proto, sparse, arrays, max_error="1%")
    assert comparison.passed is False
    assert (comparison.reference.path, comparison.candidate.path) == ("<reference>", "<candidate>")
    same = nettrim_cli.compare(proto, proto, (arrays["x"], arrays["labels"]), max_drop=0)
    assert same.passed is True
    dense, other = (run(model, ["y"], {"x": arrays["x"]})[0] for model in (proto, sparse))
    error = np.linalg.norm(other - dense) / np.linalg.norm(dense)
    assert comparison.outputs[0].error == pytest.approx(error, rel=1e-4)
    assert not list(scratch.iterdir())


def test_what_is_told_of_models_in_memory_names_them(arrays, proto) -> None:
    pruned = nettrim_cli.prune(proto, arrays, **QUICK).model
    with pytest.raises(WrongUsage, match="<reference> was pruned from <candidate>"):
        nettrim_cli.compare(pruned, proto, arrays)
    with pytest.raises(BadInput, match=r"^<samples>: dataset 'x' is .* takes"):
        nettrim_cli.prune(proto, {"x": arrays["x"][:, :3]}, **QUICK)
    with pytest.raises(NothingToDo, match=r"^<model>"):
        nettrim_cli.prune(proto, arrays, exclude="*", **QUICK)
    with pytest.raises(BadInput, match="<model> is a int: give the path"):
        nettrim_cli.inspect(5)  # type: ignore[arg-type]
    with pytest.raises(GateFailed) as missed:
        nettrim_cli.prune(proto, arrays, max_error=1e-6, **(QUICK | {"sparsity": None}))
    if missed.value.report is not None:
        assert missed.value.report.comparison.reference.path == "<model>"


def test_the_curve_of_a_model_in_memory_is_that_of_its_file(files, arrays, proto, scratch) -> None:
    options = {"at": (0.5, "90%"), "measured": 0, "threads": 1, "augment": "none"}
    told, other = (
        nettrim_cli.curve(*source, **options)
        for source in ((proto, arrays), (files.model, files.data))
    )
    assert told.points == other.points
    assert [point.sparsity for point in told.points] == pytest.approx([0, 0.5, 0.9], abs=0.01)
    assert (told.model, told.data) == ("<model>", "<samples>")
    assert not list(scratch.iterdir())
    with pytest.raises(TypeError, match=r"curve\(\) has no option 'sparsity'"):
        nettrim_cli.curve(proto, arrays, sparsity=0.5)


def test_layers_of_a_model_in_memory_are_listed(files, proto) -> None:
    listed, other = nettrim_cli.inspect(proto), nettrim_cli.inspect(files.model)
    assert listed.path == "<model>"
    assert listed.layers == other.layers
    assert listed.totals.parameters == sum(array.size for array in initializers(proto).values())


def test_what_zeros_cost_is_measured_on_samples_in_memory(files, arrays, proto) -> None:
    told = nettrim_cli.inspect(proto, arrays, samples=60)
    assert all(len(layer.costs) == 3 for layer in told.layers)
    assert told.layers == nettrim_cli.inspect(files.model, files.data, samples=60).layers


def test_a_run_is_planned_and_nothing_written(files, arrays, proto, scratch) -> None:
    told = nettrim_cli.plan(proto, arrays, **QUICK)
    assert told.sparsity == pytest.approx(0.5, abs=0.01)
    assert [layer.name for layer in told.layers] == [
        layer.name for layer in nettrim_cli.inspect(proto).layers
    ]
    assert told.model == "<model>"
    assert told.error == nettrim_cli.plan(files.model, files.data, **QUICK).error
    assert files.listing == ["calib.h5", "model.onnx", scratch.name]
    assert list(scratch.iterdir()) == []


def test_a_file_is_verified(files) -> None:
    report = nettrim_cli.prune(files.model, files.data, **QUICK)
    path = files.folder / "report.json"
    report.save(path)
    told = nettrim_cli.verify(files.output, path, dense=files.model, data=files.data)
    assert told.passed
    files.output.write_bytes(files.model.read_bytes())
    assert not nettrim_cli.verify(files.output, path).passed


def test_models_in_memory_are_timed(arrays, proto) -> None:
    timed = nettrim_cli.bench([proto, proto], arrays, batch=2, seconds=0.1)
    assert [batch.size for batch in timed.batches] == [2]
    assert [model.path for model in timed.models] == ["<model-1>", "<model-2>"]


def test_unknown_options_are_errors_that_tell_the_nearest(arrays, proto) -> None:
    with pytest.raises(TypeError, match=r"prune\(\) has no option 'sparcity'; did you mean spar"):
        nettrim_cli.prune(proto, arrays, sparcity=0.5)
    with pytest.raises(TypeError, match=r"compare\(\) has no option 'max_dorp'"):
        nettrim_cli.compare(proto, proto, arrays, max_dorp=0.5)
    with pytest.raises(BadInput, match="sparsity: 90 would be 9000 %"):
        nettrim_cli.prune(proto, arrays, sparsity="90")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"speedup": 2}, r"^speedup needs .*: add structure='shrink'\.$"),
        ({"epsilon": 0}, r"^epsilon=0\.0 asks .*: add method='net-trim', .* as epsilon=0\.01\.$"),
        ({"sparsity": 0.5, "bits": "auto"}, r"^bits='auto' weighs .*: add max_error, max_drop or"),
        ({"pattern": "2:4", "sparsity": 0.5}, r"^pattern='2:4' says .* targets and allocate\.$"),
    ],
)
def test_messages_name_keywords_in_place_of_flags(files, options, message) -> None:
    with pytest.raises(BadInput, match=message):
        nettrim_cli.prune(files.model, files.data, **options)


def test_messages_keep_the_flags_of_other_programs() -> None:
    line = "run 'python -m tf2onnx.convert --keras net.h5 --output model.onnx' and name it"
    assert with_keywords(line) == line


@pytest.mark.parametrize(
    ("name", "words", "kind"),
    [
        ("prune", ["m", "--data", "d"], Settings),
        ("curve", ["m", "--data", "d"], CurveSettings),
        ("compare", ["m", "m", "--data", "d"], Gate),
        ("bench", ["m"], BenchSettings),
    ],
)
def test_defaults_are_those_of_the_command_line(name: str, words: list[str], kind: type) -> None:
    parent = click.Context(cli.nettrim, **cli.CONTEXT)
    given = cli.nettrim.all_commands()[name].make_context(
        name, [*words, "--no-config"], parent=parent
    )
    parameters = signatures.signature(getattr(nettrim_cli, name)).parameters
    own = {key: each.default for key, each in parameters.items() if key not in ["model", "data"]}
    shared = own.keys() & given.params.keys() - {"reference", "candidate", "models"}
    assert {key: own[key] for key in shared} == {key: given.params[key] for key in shared}
    for field in fields(kind):
        assert given.params[field.name] == field.default or not field.metadata["flag"]
