"""What a written model says of its origin."""

from __future__ import annotations

import hashlib
import json
import shutil

import onnx
import pytest

from nettrim_cli import pipeline
from nettrim_cli.errors import WrongUsage
from nettrim_cli.evaluation.provenance import check_operands, digest, origin
from nettrim_cli.graph.model import Model
from nettrim_cli.settings import Settings
from tests.support.options import QUICK


@pytest.fixture
def pruned(files):
    """Files of which one was pruned from the other."""
    pipeline.prune(files.model, files.data, files.output, Settings(**QUICK))
    return files


def test_a_written_model_names_the_dense_one(pruned) -> None:
    wanted = hashlib.sha256(pruned.model.read_bytes()).hexdigest()
    written = Model.load(pruned.output)
    assert origin(written) == wanted == digest(Model.load(pruned.model))
    assert json.loads(written.metadata("nettrim"))["sparsity"] == 0.5
    assert origin(Model.load(pruned.model)) is None


def test_swapped_operands_are_wrong_usage_with_the_right_line(pruned) -> None:
    moved = pruned.folder / "the dense one.onnx"  # whatever it is called
    shutil.copy(pruned.model, moved)
    with pytest.raises(WrongUsage) as caught:
        pipeline.compare(pruned.output, moved, pruned.data)
    line = f"nettrim compare '{moved}' {pruned.output} --data {pruned.data}"
    assert str(caught.value).endswith(line)
    assert caught.value.exit_code == 2
    assert pipeline.compare(moved, pruned.output, pruned.data).notes == ()


def test_a_model_against_itself_is_noted(pruned) -> None:
    (note,) = pipeline.compare(pruned.model, pruned.model, pruned.data).notes
    assert "same model" in note


@pytest.mark.parametrize("text", ["{", "[]", '{"version": "0"}'])
def test_where_the_metadata_say_too_little_it_is_noted(pruned, text) -> None:
    proto = onnx.load(pruned.output)
    for entry in proto.metadata_props:
        entry.value = text
    onnx.save(proto, pruned.output)
    models = [Model.load(each) for each in (pruned.output, pruned.model)]
    (note,) = check_operands(*models, pruned.data)
    assert "swapped" in note
    assert list(check_operands(*models[::-1], pruned.data)) == []
