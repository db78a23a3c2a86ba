"""What is not held twice, what goes once it is used, and what waits on disk."""

from __future__ import annotations

import weakref
from pathlib import Path

import numpy as np
import pytest

from nettrim_cli.data import stream
from nettrim_cli.data.dataset import Batch
from nettrim_cli.data.engine import Engine
from nettrim_cli.evaluation import certificate
from nettrim_cli.evaluation.comparison import ReferenceOutputs
from nettrim_cli.graph.layer import Runnable
from nettrim_cli.graph.model import Model
from nettrim_cli.pipeline import prune
from nettrim_cli.pruning.propagation import stages
from nettrim_cli.pruning.sensitivity import SensitivityProbe
from nettrim_cli.settings import Settings
from tests.support.networks import Files, mlp
from tests.support.options import QUICK
from tests.support.small import build

STATM = Path("/proc/self/statm")
HELD_BYTES = 64 << 20


class Watching(Engine):
    """Notes how many models and payloads there are whenever it runs."""

    models: weakref.WeakSet[Model]
    payloads: weakref.WeakSet[Runnable]
    seen: list[tuple[int, int]]

    def __init__(self, model, **options) -> None:
        super().__init__(model, **options)
        Watching.payloads.add(model)

    def run(self, feeds, outputs=None):
        Watching.seen.append((len(Watching.models), len(Watching.payloads)))
        return super().run(feeds, outputs)


@pytest.fixture
def watched(monkeypatch):
    """Every model that is read or copied is counted for as long as it is there."""
    Watching.models, Watching.payloads = weakref.WeakSet(), weakref.WeakSet()
    Watching.seen = []
    monkeypatch.setattr(Runnable, "__hash__", object.__hash__)
    monkeypatch.setattr(Runnable, "__eq__", object.__eq__)
    load, clone = Model.load.__func__, Model.clone

    def noted(model):
        Watching.models.add(model)
        return model

    monkeypatch.setattr(Model, "load", classmethod(lambda *a, **k: noted(load(*a, **k))))
    monkeypatch.setattr(Model, "clone", lambda *a: noted(clone(*a)))
    return monkeypatch


def test_a_probe_runs_beside_the_dense_model_alone(watched) -> None:
    """The changed copy, and what the engine was made of, are gone before it runs."""
    watched.setattr(stream, "Engine", Watching)
    dense = Model(mlp())
    Watching.models.add(dense)
    x = np.ones((8, 16), np.float32)
    probe = SensitivityProbe(dense, stages(dense.layers), [Batch({"x": x}, 8, None)], threads=1)
    (weight,), (bias,) = dense.weight(dense.layers[1])
    assert probe.movement(1, dense.layers[1], [np.vstack([weight, bias[None]]) / 2]) > (0, 0)
    assert len(Watching.seen) == 3  # the dense network, its part before the layer, the one behind
    assert set(Watching.seen) == {(1, 0)}


def test_a_certificate_is_measured_beside_two_models(watched, files: Files) -> None:
    """The file as it was read back, and the measuring model's own weights, are gone."""
    watched.setattr(certificate, "Engine", Watching)
    prune(files.model, files.data, settings=Settings(**QUICK))
    assert Watching.seen
    assert set(Watching.seen) == {(2, 0)}


def test_a_certificates_engine_is_gone_when_norms_are_computed(watched, files: Files) -> None:
    """An engine and the norms read all weights, which may be files larger than memory."""
    engines: weakref.WeakSet[Engine] = weakref.WeakSet()
    alive = []

    class Counted(Engine):
        def __init__(self, *args, **options) -> None:
            super().__init__(*args, **options)
            engines.add(self)

    gain = certificate.error_gain
    watched.setattr(certificate, "Engine", Counted)
    watched.setattr(
        certificate, "error_gain", lambda *args: alive.append(len(engines)) or gain(*args)
    )
    prune(files.model, files.data, settings=Settings(**QUICK))
    assert len(alive) >= 3
    assert set(alive) == {0}


def wide(count: int = 128) -> tuple[Model, list[Batch]]:
    """A network with a megabyte a sample on its way to one number."""
    text = "g (float[N,1] x) => (float[N,1] y) { h = MatMul(x, w1)\n y = MatMul(h, w2) }"
    width = 1 << 18
    ones = np.ones(width, np.float32)
    proto = build(text, w1=ones[None], w2=ones[:, None] / width)
    return Model(proto), [Batch({"x": np.ones((count, 1), np.float32)}, count, None)]


def resident_bytes() -> int:
    return 4096 * int(STATM.read_text().split()[1])


@pytest.mark.skipif(not STATM.exists(), reason="the resident set is read from /proc")
def test_outputs_that_wait_hold_no_memory_of_the_engine() -> None:
    model, batches = wide()
    Engine(model.runnable(), threads=1).run({"x": np.ones((1, 1), np.float32)})  # what loads once
    before = resident_bytes()
    probe = SensitivityProbe(model, stages(model.layers), batches, threads=1)
    reference = ReferenceOutputs(model, lambda: batches, threads=1)
    ((output,),) = reference.outputs[1]
    assert np.allclose(output["y"].array, 1)
    assert len(probe.expected) == 1
    assert resident_bytes() - before < HELD_BYTES  # on the way were twice as many
