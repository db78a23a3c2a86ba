"""What is told of a run before it is made, against the run."""

from __future__ import annotations

import h5py
import pytest

from nettrim_cli import pipeline
from nettrim_cli.cli import run
from nettrim_cli.errors import BadInput, CannotWrite, NothingToDo
from nettrim_cli.preview.dry_run import dry_run
from nettrim_cli.settings import Settings
from tests.support.effort import thinned
from tests.support.markup import Page, read_markdown
from tests.support.options import PLAIN, words
from tests.support.reports import strict


@pytest.mark.parametrize(
    ("target", "abs_zeros"),
    thinned(
        [
            ({"sparsity": 0.6}, 0.001),
            ({"epsilon": 0.2}, 0.15),
            ({"max_error": 0.2}, 0.15),
            ({"pattern": "2:4"}, 0.001),
            ({"structure": "units", "sparsity": 0.5, "no_delete": False}, 0.1),
        ],
        2,
    ),
    ids=lambda target: next(iter(target)) if isinstance(target, dict) else "",
)
def test_the_run_does_about_what_was_told(files, target, abs_zeros) -> None:
    settings = Settings(**(PLAIN | target))
    plan = dry_run(files.model, files.data, files.output, settings)
    assert files.listing == ["calib.h5", "model.onnx"]  # nothing is written
    report = pipeline.prune(files.model, files.data, files.output, settings)
    assert plan.sparsity == pytest.approx(report.sparsity, abs=abs_zeros)
    assert plan.error == pytest.approx(report.comparison.error, rel=0.6)
    assert [layer.name for layer in plan.planned] == [layer.name for layer in report.pruned]
    assert (plan.fitted, plan.holdout) == (96, 24)
    assert plan.target == settings.target
    zeros = [layer.sparsity for layer in plan.layers]
    if settings.structure == "zeros":
        total = sum(share * layer.weights for share, layer in zip(zeros, plan.layers, strict=True))
        assert total / sum(layer.weights for layer in plan.layers) == pytest.approx(plan.sparsity)
    else:
        assert zeros == [None] * 3


def test_layers_that_stay_dense_are_told_with_the_reason(files) -> None:
    settings = Settings(**PLAIN, sparsity=0.5, exclude=("z2",))
    plan = dry_run(files.model, files.data, settings=settings)
    notes = {layer.name: layer.note for layer in plan.layers}
    assert notes == {"z1": "", "z2": "matched by --exclude", "y": ""}
    assert plan.layers[1].sparsity is None
    assert plan.output == str(files.output)


def test_of_a_convex_method_nothing_is_predicted(files) -> None:
    plan = dry_run(files.model, files.data, settings=Settings(method="net-trim", epsilon=0.2))
    assert (plan.sparsity, plan.error, plan.seconds) == (None, None, None)
    assert len(plan.planned) == 3


def test_what_ends_a_run_ends_its_dry_run(files) -> None:
    settings = Settings(**PLAIN, sparsity=0.5)
    files.output.write_bytes(b"old")
    with pytest.raises(CannotWrite, match="exists already"):
        dry_run(files.model, files.data, settings=settings)
    dry_run(files.model, files.data, settings=settings, force=True)
    assert files.output.read_bytes() == b"old"
    with pytest.raises(NothingToDo, match="no layer can be pruned"):
        dry_run(files.model, files.data, "other.onnx", Settings(exclude=("*",)))
    few = Settings(**PLAIN, sparsity=0.9, limit=("*=0:0.5",))
    with pytest.raises(BadInput, match="limits of layers"):
        dry_run(files.model, files.data, "other.onnx", few)


def test_labels_that_end_a_search_for_accuracy_end_its_dry_run(files) -> None:
    with h5py.File(files.data, "r+") as held:
        held["labels"][:] = 0
    settings = Settings(**PLAIN, max_drop=0.2)
    for run_it in (dry_run, pipeline.prune):
        with pytest.raises(BadInput, match="all labels are 0"):
            run_it(files.model, files.data, files.output, settings)


def test_the_command_writes_nothing(files, capsys) -> None:
    line = ["prune", files.model, "--data", files.data, "--sparsity", "0.5", *words(PLAIN)]
    line += ["--dry-run", "--report", files.folder / "r.json"]
    line += ["--save-config", files.folder / "nettrim.toml"]
    assert run([*map(str, line)]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "3 of 3 layers would be pruned, with 50.0 % zeros; nothing is written." in printed
    assert "Predicted, not measured: output error" in printed
    assert "96 samples, and 24 held out" in printed
    assert f"would write {files.output}" in printed
    assert files.listing == ["calib.h5", "model.onnx"]


def test_a_plan_in_files(files) -> None:
    settings = Settings(**PLAIN, sparsity=0.5, exclude=("z2",))
    plan = dry_run(files.model, files.data, settings=settings)
    held = strict(plan.render(".json"))
    assert held["schema"] == "nettrim-plan"
    assert held["layers"][1]["note"] == "matched by --exclude"
    for page in (Page(plan.render(".html")), read_markdown(plan.render(".md"))):
        assert len(page.tables[0]) == 4
    assert plan.render(".csv").count("\n") == 4


def test_without_a_target_the_plan_has_that_of_the_run(files) -> None:
    plan = dry_run(files.model, files.data, files.output, Settings(**PLAIN))
    report = pipeline.prune(files.model, files.data, files.output, Settings(**PLAIN))
    assert plan.target == report.target_option
    assert any("no target was given" in note for note in plan.notes)
    assert plan.sparsity == pytest.approx(report.sparsity, abs=0.2)
