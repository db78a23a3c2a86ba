"""Sizes in all forms are those of the files that would be written."""

from __future__ import annotations

import gzip
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from nettrim_cli.evaluation import forms as forms_module
from nettrim_cli.evaluation.forms import forms
from nettrim_cli.graph.model import Model
from tests.support.networks import save_model
from tests.support.small import build
from tests.support.sparse import sparse


@pytest.fixture
def model(tmp_path: Path) -> Model:
    proto = build("g (float[N,64] x) => (float[N,48] y) { y = MatMul(x, w) }", w=sparse(64, 48))
    return Model.load(save_model(tmp_path / "model.onnx", proto))


@pytest.mark.parametrize("written", ["plain", "compact"])
def test_sizes_are_those_of_files(model: Model, written: str) -> None:
    model.store(compact=written == "compact")
    rows = {form.name: form for form in forms(model)}
    assert [name for name, form in rows.items() if form.written] == [written]
    for name, form in rows.items():
        path = model.path.with_name(f"{name}.onnx")
        model.store(compact=name == "compact")
        model.save(path)
        assert form.raw == path.stat().st_size
        assert abs(form.gzip - len(gzip.compress(path.read_bytes(), 6))) < 30
    assert rows["compact"].raw < 0.5 * rows["plain"].raw


def test_zstandard_is_measured_where_it_is(model: Model, monkeypatch) -> None:
    compressor = SimpleNamespace(compress=lambda piece: piece[: len(piece) // 2], flush=lambda: b"")
    for name in ("compression", "compression.zstd", "zstandard"):
        monkeypatch.setitem(sys.modules, name, None)
    assert [form.zstd for form in forms(model)] == [None, None]
    library = SimpleNamespace(
        ZstdCompressor=lambda level: SimpleNamespace(compressobj=lambda: compressor)
    )
    monkeypatch.setitem(sys.modules, "zstandard", library)
    assert [form.zstd for form in forms(model)] == [form.raw // 2 for form in forms(model)]


def test_a_large_model_is_not_measured(model: Model, monkeypatch) -> None:
    monkeypatch.setattr(forms_module, "MOST_BYTES", 100)
    assert forms(model) == ()
