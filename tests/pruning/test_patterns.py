"""Zeros in patterns: n of m inputs, and blocks, in every layer as it is written."""

from __future__ import annotations

import json

import numpy as np
import pytest

from nettrim_cli import Settings, prune
from nettrim_cli.cli import run
from nettrim_cli.errors import BadInput
from nettrim_cli.graph.model import Model
from nettrim_cli.pruning.propagation import dense_matrices
from nettrim_cli.solve.penalties import KeepNOfM
from tests.support.effort import thinned
from tests.support.networks import NETWORKS, Files, save_data, save_model
from tests.support.options import PLAIN


def matrices(files: Files, report):
    """(N, M) of every block of the layers that were pruned, without biases."""
    model = Model.load(files.output)
    for layer in model.layers:
        if any(each.pruned and each.name == layer.name for each in report.layers):
            for block in dense_matrices(model, layer):
                yield layer, block[: len(block) - layer.has_bias]


def saved(tmp_path, name="mlp", count=120) -> Files:
    proto = NETWORKS[name]()
    return Files(
        save_model(tmp_path / "model.onnx", proto), save_data(tmp_path / "calib.h5", proto, count)
    )


def in_groups(matrix, n, m) -> bool:
    """Whether at most n of m consecutive inputs of an output are not zero, counted one by one."""
    for column in matrix.T:
        for at in range(0, len(column), m):
            group = column[at : at + m]
            if np.count_nonzero(group) > -(-n * len(group) // m):
                return False
    return True


@pytest.mark.parametrize("name", sorted(NETWORKS))
@pytest.mark.parametrize(("n", "m"), thinned([(2, 4), (4, 8), (1, 3)], 2))
def test_n_of_m_inputs_of_each_output_are_kept(tmp_path, name, n, m) -> None:
    files = saved(tmp_path, name)
    report = prune(files.model, files.data, settings=Settings(pattern=f"{n}:{m}", **PLAIN))
    found = list(matrices(files, report))
    assert len({layer.name for layer, _ in found}) == len(report.pruned) > 0
    assert all(in_groups(matrix, n, m) for _, matrix in found)
    assert report.target_option == ("pattern", pytest.approx(1 - n / m))
    assert report.verdict.outcome.startswith(f"Reached: pattern {n}:{m}, ")


@pytest.mark.parametrize(("height", "width"), thinned([(1, 4), (4, 1), (2, 2)], 3))
@pytest.mark.parametrize(
    "target", [{"sparsity": 0.5, "allocate": "uniform"}, {"max_error": 0.5, "allocate": "error"}]
)
def test_blocks_are_zero_as_a_whole(tmp_path, height, width, target) -> None:
    files = saved(tmp_path)
    settings = Settings(pattern=f"{height}x{width}", **target, **PLAIN)
    report = prune(files.model, files.data, settings=settings)
    total = used = 0
    for _, matrix in matrices(files, report):
        for i in range(0, matrix.shape[0], height):
            for j in range(0, matrix.shape[1], width):
                block = matrix[i : i + height, j : j + width]
                # Inputs that are always zero have no weights in a block that stays, either.
                assert all(np.count_nonzero(row) in (0, row.size) for row in block)
                total, used = total + block.size, used + block.size * bool(block.any())
    assert 0 < used < total
    if "sparsity" in target:
        assert used <= 0.5 * total
        assert 0.5 <= report.sparsity < 0.6
    else:
        assert report.comparison.error <= 0.5
        assert report.sparsity > 0.1


def test_fewer_errors_than_by_magnitude(tmp_path) -> None:
    """The dense weights of largest magnitude in the same pattern, as a peer would leave them."""
    files = saved(tmp_path, count=900)
    report = prune(
        files.model, files.data, settings=Settings(pattern="2:4", threads=1, refit="layers")
    )
    dense = Model.load(files.model)
    plain = dense.clone()
    for layer in plain.layers:
        weights, biases = dense.weight(layer)
        plain.set_weight(layer, [KeepNOfM(2, 4).prox(each, 1) for each in weights], biases)
    from nettrim_cli.data.dataset import Calibration
    from nettrim_cli.evaluation.comparison import ReferenceOutputs

    with Calibration.open(files.data, dense.inputs) as samples:
        rows = np.arange(samples.samples)
        reference = ReferenceOutputs(dense, lambda: samples.batches(rows, 100), threads=1)
        magnitude = reference.compare(plain).error
        ours = reference.compare(Model.load(files.output)).error
    assert ours < 0.6 * magnitude
    assert report.sparsity == pytest.approx(0.5, abs=0.01)


def test_the_command_line_takes_a_pattern_and_reports_it(tmp_path, capsys) -> None:
    files = saved(tmp_path)
    report = tmp_path / "report.json"
    words = ["prune", files.model, "--data", files.data, "--pattern", "2:4", "--report", report]
    assert run([*map(str, words), "--threads", "1"]) == 0
    assert "pattern 2:4, 50.0 % zeros" in capsys.readouterr().out
    facts = json.loads(report.read_text())
    assert facts["settings"]["pattern"] == "2:4"
    assert json.loads(Model.load(files.output).metadata("nettrim"))["pattern"] == "2:4"


@pytest.mark.parametrize("text", ["4:2", "2:2", "0:4", "1x1", "0x4", "2-4", "rows", "2:4:8", ""])
def test_what_is_no_pattern(tmp_path, capsys, text) -> None:
    files = saved(tmp_path)
    words = ["prune", str(files.model), "--data", str(files.data), f"--pattern={text}"]
    assert run(words) == 2
    assert "2:4" in capsys.readouterr().err
    with pytest.raises(BadInput, match="pattern"):
        Settings(pattern=text, sparsity=None)


@pytest.mark.parametrize(
    "options",
    [
        {"pattern": "2:4", "sparsity": 0.5},
        {"pattern": "2:4", "allocate": "uniform"},
        {"pattern": "2:4", "method": "net-trim"},
        {"pattern": "2:4", "limit": ("*=0:0.5",)},
        {"pattern": "1x4", "epsilon": 0.1},
    ],
    ids=str,
)
def test_what_goes_with_no_pattern(options) -> None:
    with pytest.raises(BadInput, match="--pattern"):
        Settings(**options)
    assert Settings(pattern="1x4", sparsity=0.5).n_of_m is None
