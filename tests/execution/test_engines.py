"""A run writes the same bytes wherever its layers are solved, and whoever dies meanwhile."""

from __future__ import annotations

import os
import random
import signal
from contextlib import suppress
from threading import Timer

import pytest

import nettrim_cli
from nettrim_cli import Settings, pipeline
from nettrim_cli.errors import BadInput
from nettrim_cli.execution import opening
from nettrim_cli.execution.processes import ProcessExecutor
from nettrim_cli.report.progress.listener import Silent
from tests.support.effort import thinned
from tests.support.networks import NETWORKS, input_samples, save_data, save_model
from tests.support.options import PLAIN, QUICK

RUNS = {
    "cascade": PLAIN | {"sparsity": 0.6},
    "parallel": PLAIN | {"sparsity": 0.6, "scheme": "parallel"},
    "paper": PLAIN | {"epsilon": 0.2, "method": "net-trim", "scheme": "parallel"},
    "shrink": PLAIN | {"sparsity": 0.4, "structure": "shrink", "no_delete": False},
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("engines")
    proto = NETWORKS["attention"]()
    return save_model(folder / "model.onnx", proto), save_data(folder / "calib.h5", proto, 60)


@pytest.fixture(scope="module")
def alone(files):
    """The bytes of each run in one process."""
    known = {}

    def bytes_of(name):
        if name not in known:
            known[name] = pruned(files, **RUNS[name])
        return known[name]

    return bytes_of


def pruned(files, **options) -> bytes:
    model, data = files
    output = model.with_name("out.onnx")
    pipeline.prune(model, data, output, Settings(**options), force=True)
    return output.read_bytes()


@pytest.mark.parametrize(
    ("name", "workers"), thinned([("parallel", 3), *((name, 2) for name in RUNS)], 5)
)
def test_processes_give_the_bytes_of_one(files, alone, name, workers) -> None:
    assert pruned(files, **RUNS[name], workers=workers) == alone(name)


class Hunted(ProcessExecutor):
    """One or two workers are killed at random moments, most of them at a task."""

    random = random.Random()
    kills = 0

    def map(self, function, jobs):
        results = super().map(function, jobs)
        if Hunted.kills < 2 and self.random.random() < 0.8:
            Hunted.kills += 1
            Timer(self.random.uniform(0, 0.1), self.kill).start()
        return results

    def kill(self):
        with suppress(IndexError, ProcessLookupError):  # the run may be over
            os.kill(self.random.choice(self.workers).process.pid, signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize("seed", thinned(range(50), 50))
def test_the_bytes_are_the_same_when_workers_are_killed(files, alone, seed, monkeypatch) -> None:
    monkeypatch.setattr(opening, "ProcessExecutor", Hunted)
    monkeypatch.setattr(Hunted, "random", random.Random(seed))
    monkeypatch.setattr(Hunted, "kills", 0)
    name = ("cascade", "parallel")[seed % 2]
    assert pruned(files, **RUNS[name], workers=2) == alone(name)
    assert Hunted.kills


class Impatient(Silent):
    """Interrupts a run when three layers are done, and keeps what it is told."""

    def __init__(self) -> None:
        self.layers, self.messages = 0, []

    def end(self, layer_report):
        self.layers += 1
        if self.layers == 3:
            raise KeyboardInterrupt

    def message(self, text):
        self.messages.append(text)


def test_a_run_in_workers_carries_on_in_one_process(files, alone) -> None:
    model, data = files
    output, listener = model.with_name("carried.onnx"), Impatient()
    options = Settings(**RUNS["parallel"], workers=2)
    with pytest.raises(KeyboardInterrupt):
        pipeline.prune(model, data, output, options, listener=listener)
    pipeline.prune(model, data, output, Settings(**RUNS["parallel"]), listener=listener)
    assert output.read_bytes() == alone("parallel")
    assert sum("carrying on" in text for text in listener.messages) == 1


@pytest.mark.slow
def test_python_takes_the_same_options() -> None:
    proto = NETWORKS["mlp"]()
    x = input_samples(proto, 60)
    one, two = (nettrim_cli.prune(proto, x, **QUICK, workers=workers).model for workers in (1, 2))
    assert one == two


def test_workers_here_and_on_a_cluster_do_not_go_together() -> None:
    with pytest.raises(BadInput, match="give one of them"):
        Settings(workers=2, cluster="tcp://scheduler:8786")
