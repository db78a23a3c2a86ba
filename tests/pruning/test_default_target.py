"""The target where none is given: in the unit that the samples can be measured in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nettrim_cli.cli import run
from nettrim_cli.data.sample_set import SampleSet
from nettrim_cli.pruning.default_target import FEWEST_HELD_OUT, with_target
from nettrim_cli.report.diagnostic import Diagnostic
from nettrim_cli.settings import Settings
from tests.support.networks import input_samples, mlp, save_model
from tests.support.options import PLAIN, words


class Calibration:
    def __init__(self, labels: str) -> None:
        self.labels = labels


class Reference:
    def __init__(self, **unmeasured: str) -> None:
        self.unmeasured = unmeasured


def samples(labels: str = "labels", held_out: int = FEWEST_HELD_OUT) -> SampleSet:
    return SampleSet(Calibration(labels), np.arange(9), np.arange(held_out), 8)  # type: ignore[arg-type]


def chosen(doubts=(), reference=None, **given) -> tuple[tuple[str, float], str]:
    settings, (told,) = with_target(Settings(), samples(**given), doubts, reference or Reference())
    assert told.code == "default-target"
    return settings.target, told.text


def test_labels_and_enough_samples_bound_the_loss_of_accuracy() -> None:
    target, text = chosen()
    assert target == ("max_drop", 0.01)
    assert "--max-drop 1% was taken, as there are labels" in text


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"labels": ""}, "no labels"),
        ({"held_out": FEWEST_HELD_OUT - 1}, f"{FEWEST_HELD_OUT - 1} held-out samples are too few"),
        ({"doubts": (Diagnostic("labels-at-chance", "text"),)}, "no labels to go by"),
    ],
)
def test_else_the_output_error_is_bounded(given, why) -> None:
    target, text = chosen(**given)
    assert target == ("max_error", 0.05)
    assert "--max-error 5% was taken" in text
    assert why in text


def test_where_outputs_cannot_be_measured_the_layers_are() -> None:
    target, text = chosen(labels="", reference=Reference(y="they are strings"))
    assert target == ("epsilon", 0.05)
    assert "cannot be measured" in text


@pytest.mark.parametrize("settings", [Settings(sparsity=0.5), Settings(method="net-trim")])
def test_a_target_that_is_given_stays(settings) -> None:
    assert with_target(settings, samples(), (), Reference()) == (settings, [])
    other = replace(settings, pattern="2:4", sparsity=None, method="l0")
    assert with_target(other, samples(), (), Reference())[0] is other


@pytest.mark.parametrize("labels", [False, True])
def test_a_run_without_a_target_says_which_it_took(tmp_path, capsys, monkeypatch, labels) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("nettrim_cli.pruning.default_target.FEWEST_HELD_OUT", 20)
    save_model(tmp_path / "model.onnx", mlp())
    data = {"x": input_samples(mlp(), 400)}
    if labels:
        import onnxruntime

        session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
        data["labels"] = session.run(None, {"x": data["x"]})[0].argmax(axis=1)
    np.savez("data.npz", **data)
    code = run(["prune", "model.onnx", "--data", "data.npz", *words(PLAIN)])
    out, err = capsys.readouterr()
    if labels and code == 3:  # a random network has no margins to lose
        assert "--max-drop 0.01" in err
        return
    assert code == 0
    option = "--max-drop 1%" if labels else "--max-error 5%"
    assert f"no target was given: {option} was taken" in " ".join(out.split())
