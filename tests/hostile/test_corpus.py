"""Hundreds of hostile models and data files: the right exit code and one sentence, or a result."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.effort import thinned
from tests.support.hostile import data_arrays, data_hdf5, model_graphs, model_ops, model_tensors
from tests.support.hostile.cases import UNCLEAR, Case, Codes
from tests.support.hostile.worker import Ending, Worker
from tests.support.options import FAST

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the harness asks Linux")

WORDS = [*FAST, "--scheme", "parallel"]
MOST_BYTES = 2 << 30
MODELS = [*model_ops.cases(), *model_graphs.cases(), *model_tensors.cases()]
DATA = [*data_arrays.cases(), *data_hdf5.cases()]


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with Worker() as warm:
        yield warm


def check(ending: Ending, codes: Codes, named: str, says: str = "") -> None:
    """What every ending must be."""
    told = f"exit {ending.code}, wanted {codes}\n{ending.err}{ending.out}"
    assert ending.code in codes, told
    assert ending.peak_bytes < MOST_BYTES, told
    assert "Traceback" not in ending.err + ending.out, told
    assert all(c.isprintable() or c == "\n" for c in ending.err + ending.out), told
    words = " ".join((ending.err + ending.out).split())
    assert not ending.fault or "finite in the dense network alone" in words, ending.fault
    if ending.code:
        assert ending.out == "", told
        assert ending.err.startswith("nettrim: "), told
        assert ending.err.count("\n") == 1, told
        assert ending.code == 71 or any(
            each in ending.err for each in (named, "model.onnx", "data.")
        ), told
        assert says.lower() in ending.err.lower(), told
    else:
        assert all(line.startswith("warning: ") for line in ending.err.splitlines()), told


def run(worker: Worker, folder: Path, *arguments: str) -> Ending:
    """Run a command; nothing but an output may be left behind."""
    before = {each.name for each in folder.iterdir()}
    ending = worker.run(folder, [*arguments])
    output = {"model.pruned.onnx"} if arguments[0] == "prune" and not ending.code else set()
    more = {each.name for each in folder.iterdir()} - before
    external = {each for each in more if each.startswith("model.pruned.onnx.") and output}
    assert more - external == output, ending
    return ending


@pytest.mark.parametrize("case", thinned(MODELS, 4), ids=str)
def test_a_hostile_model(worker, tmp_path, case: Case) -> None:
    named = case.write(tmp_path)
    check(run(worker, tmp_path, "inspect", named), case.inspect, named)
    words = ["prune", named, "--data", "data.npz", *WORDS]
    check(run(worker, tmp_path, *words), case.codes, named, case.says)


@pytest.mark.parametrize("case", thinned(DATA, 5), ids=str)
def test_hostile_data(worker, tmp_path, case: Case) -> None:
    """A comparison reads all samples, and one of them will do."""
    named = case.write(tmp_path)
    words = ["compare", "model.onnx", "model.onnx", "--data", named, "--certificate", "none"]
    codes = case.codes if case.codes != UNCLEAR else (0, 65, 69, 71)
    check(run(worker, tmp_path, *words, "--threads", "1"), codes, named, case.says)


@pytest.mark.parametrize("case", thinned(DATA[::6], 3), ids=str)
def test_pruning_with_hostile_data(worker, tmp_path, case: Case) -> None:
    named = case.write(tmp_path)
    words = ["prune", "model.onnx", "--data", named, *WORDS]
    check(run(worker, tmp_path, *words), case.codes, named, case.says)


def test_there_are_enough_of_them() -> None:
    for cases in (MODELS, DATA):
        assert len(cases) >= 200
        assert len({each.name for each in cases}) == len(cases)
