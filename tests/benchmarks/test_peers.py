"""The comparison with peers counts, keeps and compares as it says."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import onnx
import onnx.reference
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks import peers
from benchmarks.peers_methods import (
    Job,
    batches,
    counted,
    global_magnitude,
    magnitude,
    stored_weights,
    take_over,
    with_initializers,
)
from benchmarks.peers_table import (
    BEGIN,
    END,
    PAGE_HEADERS,
    compared,
    floors,
    geometric_mean,
    lost,
    markdown,
    notes,
    rows,
    write_table,
)

LAYERS = ("first", "second", "lstm.W", "lstm.R")


def network() -> onnx.ModelProto:
    """Weights stored in an initializer, behind a Transpose of a Constant, and of an LSTM."""
    random = np.random.default_rng(0)

    def tensor(name: str, *shape: int) -> TensorProto:
        values = random.standard_normal(shape).astype(np.float32)
        return numpy_helper.from_array(values, name)

    nodes = [
        helper.make_node("MatMul", ["x", "A"], ["a"], "first"),
        helper.make_node("Constant", [], ["B"], value=tensor("", 4, 5)),
        helper.make_node("Transpose", ["B"], ["Bt"]),
        helper.make_node("MatMul", ["a", "Bt"], ["b"], "second"),
        helper.make_node("Unsqueeze", ["b", "axis"], ["c"]),
        helper.make_node("LSTM", ["c", "W", "R"], ["y"], "lstm", hidden_size=2),
    ]
    tensors = [tensor("A", 6, 5), tensor("W", 1, 8, 4), tensor("R", 1, 8, 2)]
    tensors.append(numpy_helper.from_array(np.array([0]), "axis"))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ("batch", 6))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 1, "batch", 2))],
        tensors,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


def job(sparsity: float, layers: tuple[str, ...] = LAYERS) -> Job:
    return Job("", sparsity, "", "", "", layers, 1, "")


def values(model: onnx.ModelProto, layer: str) -> np.ndarray:
    (tensor,) = stored_weights(model, [layer])[layer]
    return numpy_helper.to_array(tensor)


def test_weights_are_found_wherever_they_are_stored() -> None:
    found = counted(network(), LAYERS)
    assert [found[each]["weights"] for each in LAYERS] == [30, 20, 32, 16]
    assert all(each["zeros"] == 0 for each in found.values())
    with pytest.raises(LookupError, match="layer third"):
        stored_weights(network(), ["third"])


def test_magnitude_keeps_the_largest_of_each_layer() -> None:
    dense, pruned = network(), network()
    magnitude(pruned, job(0.75, ("first", "second")))
    for layer, kept in (("first", 8), ("second", 5)):
        before, after = values(dense, layer), values(pruned, layer)
        wanted = np.sort(np.abs(before), axis=None)[-kept:]
        assert np.array_equal(np.sort(np.abs(after[after != 0])), wanted)
    assert np.array_equal(values(pruned, "lstm.W"), values(dense, "lstm.W"))
    x = np.ones((3, 6), np.float32)
    run = [
        onnx.reference.ReferenceEvaluator(each).run(None, {"x": x})[0] for each in (dense, pruned)
    ]
    assert not np.allclose(*run)  # what is overwritten is what the network reads


def test_global_magnitude_has_one_threshold() -> None:
    dense, pruned = network(), network()
    global_magnitude(pruned, job(0.5))
    found = counted(pruned, LAYERS)
    assert sum(each["zeros"] for each in found.values()) == 49
    assert peers.share(found) == 0.5
    sizes = np.concatenate([np.abs(values(dense, each)).ravel() for each in LAYERS])
    gone = np.concatenate([values(pruned, each).ravel() == 0 for each in LAYERS])
    assert sizes[gone].max() <= sizes[~gone].min()


def test_constants_become_initializers_and_what_is_found_there_comes_back() -> None:
    dense = network()
    copy = with_initializers(dense)
    assert all(node.op_type != "Constant" for node in copy.graph.node)
    onnx.checker.check_model(copy)
    magnitude(copy, job(0.5))
    result = network()
    take_over(result, copy, ["second"])
    assert np.array_equal(values(result, "second"), values(copy, "second"))
    assert np.array_equal(values(result, "first"), values(dense, "first"))
    assert dense == network()


def test_what_another_tool_stores_anew_is_read_at_the_node() -> None:
    found, zeros = network(), np.zeros((6, 5), np.float32)
    found.graph.initializer.append(numpy_helper.from_array(zeros, "new"))
    found.graph.node[0].input[1] = "new"
    result = network()
    take_over(result, found, ["first"])
    assert not values(result, "first").any()
    found.graph.initializer[-1].CopyFrom(numpy_helper.from_array(zeros.T, "new"))
    with pytest.raises(ValueError, match="layer first"):
        take_over(result, found, ["first"])


def test_batches_hold_all_samples_once(tmp_path: Path) -> None:
    x = np.arange(120 * 6, dtype=np.float32).reshape(120, 6)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["x"], file["labels"] = x, np.zeros(120)
    given = batches(network(), tmp_path / "x.h5")
    assert [list(each) for each in given] == [["x"]] * len(given)
    assert np.array_equal(np.concatenate([each["x"] for each in given]), x)
    fixed = network()
    fixed.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    assert [len(each["x"]) for each in batches(fixed, tmp_path / "x.h5")] == [1] * 120


def test_fewer_samples_are_drawn_for_everybody(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "all.h5", "w") as file:
        file["x"], file["rate"] = np.arange(10), np.array([8])
    assert not peers.draw(tmp_path / "all.h5", tmp_path / "some.h5", 10)
    assert peers.draw(tmp_path / "all.h5", tmp_path / "some.h5", 4)
    with h5py.File(tmp_path / "some.h5") as file:
        assert len(set(file["x"][()])) == 4
        assert file["rate"][()] == [8]


def test_a_model_may_be_asked_for_with_fewer_samples(tmp_path: Path) -> None:
    options = SimpleNamespace(folder=tmp_path, samples=5000)
    whole, part = (peers.prepared(each, options) for each in ("resnet", "resnet:30"))
    assert whole.calibration == peers.sample_file("resnet", "calib.h5")
    assert (part.name, part.model, part.test) == ("resnet:30", whole.model, whole.test)
    assert part.home != whole.home
    with h5py.File(part.calibration) as file:
        assert {len(each) for each in file.values()} == {30}


def test_the_layers_are_those_of_the_first_sparsity_that_nettrim_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dense = {"dense_score": 1, "dense_bytes_raw": 2, "dense_bytes_gzip": 1}
    kept = cell("nettrim", 0.7, 0.1, **dense)
    asked = []

    def found(subject: Any, method: str, sparsity: float, layers: Any, *rest: Any) -> Any:
        asked.append((method, sparsity, layers))
        return None if sparsity == 0.5 else {**kept, "method": method}

    monkeypatch.setattr(peers, "cell", found)
    onnx.save(network(), tmp_path / "net.onnx")
    subject = peers.Subject("net", *[tmp_path / "net.onnx"] * 3, tmp_path)
    options = SimpleNamespace(sparsity=(0.5, 0.7, 0.9))
    about, cells = peers.sweep(subject, ["nettrim", "magnitude"], options)
    assert asked[:2] == [("nettrim", 0.5, []), ("nettrim", 0.7, [])]
    assert all(layers == ["first"] for _, _, layers in asked[2:])
    assert len(cells) == 4  # two methods at two sparsities
    assert about["layers"]["first"]["zeros"] == 0


def cell(method: str, sparsity: float, error: float, **more: Any) -> dict[str, Any]:
    layers = {"first": {"weights": 30, "zeros": 15, "where": f"{method}{sparsity}"}}
    figures = {"reached": sparsity, "score": 0.5, "seconds": 2.0, "processor_seconds": 1.0}
    sizes = {"peak_bytes": 2**20, "bytes_raw": 10**6, "bytes_gzip": 10**5}
    own = {"model": "net", "method": method, "sparsity": sparsity, "error": error}
    return {**own, **figures, **sizes, "layers": layers, **more}


def figures(*cells: dict[str, Any]) -> dict[str, Any]:
    layers = {"first": {"weights": 30, "zeros": 0, "where": "dense"}}
    about = {"scored": "accuracy", "score": 0.9, "bytes_raw": 10, "bytes_gzip": 5}
    models = {"net": {**about, "layers": layers}}
    return {"machine": "here", "onnxsim": "0.8.1", "models": models, "cells": list(cells)}


def test_ratios_are_geometric_means_over_the_cells_that_both_have() -> None:
    assert geometric_mean([0.25, 4, 8]) == pytest.approx(2)
    assert geometric_mean([]) is None
    cells = [
        cell("nettrim", 0.5, 0.1),
        cell("nettrim", 0.9, 0.2),
        cell("nettrim", 0.95, 0.9, seconds=8.0),
        cell("other", 0.5, 0.4),
        cell("other", 0.9, 0.2, reached=0.8),
        cell("other", 0.95, 0.3),
        {"model": "net", "method": "other", "sparsity": 0.6, "failed": "no time"},
    ]
    ((name, count, error, to_ninety, same, worst, _, seconds),) = compared(cells)
    assert (name, count) == ("other", "3")
    wanted = [
        (1 / 4 * 1 * 3) ** (1 / 3),
        (1 / 4 * 1) ** (1 / 2),
        (1 / 4 * 3) ** (1 / 2),
        4 ** (1 / 3),
    ]
    assert [float(each) for each in (error, to_ninety, same, seconds)] == pytest.approx(
        wanted, abs=5e-4
    )
    assert worst == "3.000 (net 95%)"
    lower = [cell("nettrim", 0.3, 0.1), cell("other", 0.3, 0.9)]
    assert compared([*cells, *lower])[0][3] == to_ninety  # 30 % is not of 50 to 90 %
    said = lost(cells)
    assert said == [
        "other is better: net 90%, 0.2000 against 0.2000",
        "other is better: net 95%, 0.3000 against 0.9000",
        "other reached another sparsity than nettrim: net 90%",
    ]
    assert lost(cells[:1] + cells[3:4]) == ["other: nettrim's error is lower in all 1 cells"]


def test_floors_are_held_or_missed() -> None:
    cells = [
        cell("nettrim", 0.5, 0.1, model="minilm"),
        cell("nettrim", 0.7, 0.4, model="minilm", processor_seconds=3.0),
        cell("onnxsim SparseGPT", 0.5, 0.4),
        cell("onnxsim SparseGPT", 0.7, 0.4),
        cell("onnxsim SparseGPT", 0.95, 0.1),
        cell("nettrim", 0.95, 0.08),
    ]
    for each in cells[2:4]:
        each["model"] = "minilm"
    assert floors(cells) == [
        "over SparseGPT's, error, 50 to 90 %, geometric mean: 0.500, floor 0.50, aim 0.30: held",
        "over SparseGPT's, error, worst cell: 1.000, floor 1.00, aim 0.70: held",
        "over SparseGPT's, CPU time at 70 %, geometric mean: 3.000, floor 0.60, aim 0.30: MISSED",
        "nettrim's error, minilm 70%: 0.400, floor 0.45, aim 0.36: held",
    ]
    assert floors([cell("nettrim", 0.95, 0.08, model="mlp"), *cells[4:]])[-1] == (
        "nettrim's error, mlp 95%: 0.080, floor 0.11, aim 0.08: aim reached"
    )
    assert floors(cells[5:]) == []


def test_rows_mark_the_best_and_say_what_failed() -> None:
    failed = {"model": "net", "method": "slow", "sparsity": 0.5, "failed": "not done in 3 s"}
    found = rows(figures(cell("nettrim", 0.5, 0.1), cell("other", 0.5, 0.4), failed), "net")
    assert [each[3] for each in found] == ["0.1000 *", "0.4000", ""]
    assert found[2][-1] == "not done in 3 s"
    lines = markdown(["a", "b", "c"], [["1", "2", "3"]]).splitlines()
    assert lines == ["| a | b | c |", "| --- | --- | ---: |", "| 1 | 2 | 3 |"]


def test_the_page_tells_time_as_a_multiple_of_sparsegpt() -> None:
    found = figures(
        cell("nettrim", 0.5, 0.1, processor_seconds=3.0),
        cell("onnxsim SparseGPT", 0.5, 0.2, processor_seconds=2.0),
        cell("onnxsim SparseGPT", 0.9, 0.2, processor_seconds=30.0),
        cell("nettrim", 0.6, 0.1, processor_seconds=3.0),
        {"model": "net", "method": "onnxsim SparseGPT", "sparsity": 0.6, "failed": "late"},
    )
    lines = rows(found, "net", page=True)
    assert {len(each) for each in lines} == {len(PAGE_HEADERS)}
    column = PAGE_HEADERS.index("CPU time")
    assert [each[column] for each in lines] == ["1.50", "1.00", "1.00", "", ""]
    assert [each[-1] for each in lines][-1] == "late"


def test_notes_say_which_layers_a_method_does_not_treat() -> None:
    same = {"first": {"weights": 30, "zeros": 15, "where": "same"}}
    dense = {"first": {"weights": 30, "zeros": 0, "where": "dense"}}
    found = figures(
        cell("onnxsim magnitude", 0.5, 0.1, layers=same),
        cell("onnxsim Wanda", 0.5, 0.1, layers=same),
        cell("onnxsim SparseGPT", 0.5, 0.1, layers=dense),
        cell("onnxsim SparseGPT", 0.9, 0.1, layers=dense),
        cell("nettrim", 0.5, 0.1, layers=dense),
        cell("nettrim", 0.9, 0.1),
    )
    assert notes(found, "net") == [
        "onnxsim SparseGPT sets no zeros in: first",
        "onnxsim Wanda keeps the weights that its magnitude keeps in: first",
    ]


def test_the_table_is_written_between_its_marks(tmp_path: Path) -> None:
    target = tmp_path / "benchmarks.md"
    target.write_text(f"before\n{BEGIN}old{END}\nafter\n")
    write_table(target, figures(cell("nettrim", 0.5, 0.1), cell("other", 0.5, 0.4)))
    text = target.read_text()
    assert text.startswith(f"before\n{BEGIN}\n")
    assert text.endswith(f"{END}\nafter\n")
    assert "old" not in text
    assert "| 50% | nettrim | 50.00% | 0.1000 * |" in text
    assert "wall time" not in text
    write_table(target, figures(cell("nettrim", 0.5, 0.1), cell("other", 0.5, 0.4)))
    assert target.read_text() == text


def test_cells_are_measured_again_only_where_something_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[float] = []

    def measured(*given: Any) -> dict[str, Any]:
        runs.append(given[-1].time_limit)
        return {"failed": "late", "time_limit": 5} if given[-1].time_limit < 9 else {"error": 0.5}

    monkeypatch.setattr(peers, "measured", measured)
    nowhere = tmp_path / "nowhere"
    subject = peers.Subject("net", nowhere, nowhere, nowhere, tmp_path)

    def cell(
        limit: float,
        samples: str = "a",
        layers: tuple[str, ...] = ("first",),
        finished: bool = False,
    ) -> Any:
        options = SimpleNamespace(threads=1, time_limit=limit, finished=finished)
        return peers.cell(subject, "magnitude", 0.5, layers, samples, options)

    assert cell(5, finished=True) is None
    assert cell(5) == cell(4) == cell(5)
    assert cell(9, finished=True) == cell(5)
    assert runs == [5]
    assert cell(9)["error"] == 0.5  # there is more time now
    assert cell(1)["error"] == cell(20)["error"] == 0.5
    assert runs == [5, 9]
    assert cell(9, samples="b", finished=True) is None
    cell(9, samples="b")
    cell(9, samples="b", layers=("second",))
    assert runs == [5, 9, 9, 9]
    kept = json.loads((tmp_path / "magnitude@0.5.json").read_text())
    assert kept["cell"]["model"] == "net"


def test_a_job_that_fails_or_takes_too_long_says_so(tmp_path: Path) -> None:
    missing = Job("magnitude", 0.5, str(tmp_path / "none.onnx"), "", "", [], 1, "")
    assert "none.onnx" in peers.timed(missing, tmp_path, 60)["failed"]
    late = peers.timed(missing, tmp_path, 0.01)
    assert late == {"failed": "not done in 0.01 s", "time_limit": 0.01}


@pytest.mark.slow
def test_a_model_is_pruned_and_judged(tmp_path: Path) -> None:
    onnx.save(network(), tmp_path / "net.onnx")
    for name, seed in (("calib", 0), ("test", 1)):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file["x"] = np.random.default_rng(seed).standard_normal((8, 6)).astype(np.float32)
    places = [tmp_path / each for each in ("net.onnx", "calib.h5", "test.h5")]
    subject = peers.Subject("net", *places, tmp_path, "weights kept", lambda path: 1.0)
    options = SimpleNamespace(threads=1, time_limit=60)
    found = peers.measured(subject, "magnitude", 0.5, ["first"], options)
    assert found["reached"] == 0.5
    assert found["peak_bytes"] > 2**20
    pruned = network()
    magnitude(pruned, job(0.5, ("first",)))
    x = np.random.default_rng(1).standard_normal((8, 6)).astype(np.float32)
    dense, sparse = (
        onnx.reference.ReferenceEvaluator(each).run(None, {"x": x})[0]
        for each in (network(), pruned)
    )
    wanted = math.dist(dense.ravel(), sparse.ravel()) / np.linalg.norm(dense)
    assert found["error"] == pytest.approx(wanted, rel=1e-3)
