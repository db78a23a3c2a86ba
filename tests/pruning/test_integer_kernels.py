"""Integers in the written network: where they are faster, within the target, and told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from nettrim_cli.errors import BadInput, GateFailed
from nettrim_cli.graph.model import Model
from nettrim_cli.pipeline import compare, prune
from nettrim_cli.pruning import integer_kernels
from nettrim_cli.report.bench_result import BatchTiming, Estimate
from nettrim_cli.report.result import Report
from nettrim_cli.settings import Settings
from tests.support.networks import mlp, save_data, save_model
from tests.support.options import QUICK


@pytest.fixture
def pruned(tmp_path, monkeypatch):
    """A function that prunes a small network on a machine where integers take a share of the time.

    The engine's times are made up: they differ from machine to machine.
    """
    proto = mlp(sizes=(16, 40, 32, 4))
    model = save_model(tmp_path / "model.onnx", proto)
    data = save_data(tmp_path / "calib.h5", proto, 400)

    def run(*ratios: float, **options) -> tuple[Report, Path]:
        def latency_ratio(models, batches, threads) -> tuple[BatchTiming, ...]:
            assert threads == 1
            known = [Estimate(ratio, ratio, ratio) for ratio in ratios[: len(models) - 1]]
            return tuple(BatchTiming(batch.count, (), tuple(known), 1) for batch in batches)

        monkeypatch.setattr(integer_kernels, "latency_ratio", latency_ratio)
        output = tmp_path / f"{len(list(tmp_path.iterdir()))}.onnx"
        settings = Settings(**QUICK | {"sparsity": 0.6, "runtime_int8": True} | options)
        return prune(run.model, data, output, settings), output

    run.model, run.data = model, data
    return run


def codes(report: Report) -> set[str]:
    return {warning.code for warning in report.warnings}


def ops(path: Path) -> set[str]:
    return {node.op_type for node in onnx.load(path).graph.node}


def test_the_fastest_form_is_written_and_measured(pruned) -> None:
    report, output = pruned(0.5, 0.4, 0.45)
    assert {"QuantizeLinear", "DequantizeLinear"} <= ops(output)
    assert codes(report) & {"integers", "rounded-outputs"}
    assert report.sparsity >= 0.6
    answers = compare(pruned.model, output, pruned.data)
    assert 0 < answers.error < 1.5 * report.comparison.error  # on all samples, fitted ones too
    bound = report.certificate.outputs[0]
    assert bound.bound is None  # nothing is proved of integers
    report, output = pruned(0.5, 0.4, 0.3)
    assert "DynamicQuantizeLinear" in ops(output)


def test_zeros_stay_zeros(pruned) -> None:
    report, output = pruned(0.5, 0.5, 0.5)
    written = Model.load(output)
    layers = [layer for layer in written.layers if layer.prunable]
    weights = [written.weight(layer)[0][0] for layer in layers]
    zeros = sum(weight.size - np.count_nonzero(weight) for weight in weights)
    assert zeros >= 0.6 * sum(weight.size for weight in weights)
    assert report.nonzeros >= sum(map(np.count_nonzero, weights))


def test_floats_stay_where_they_are_as_fast(pruned) -> None:
    report, output = pruned(0.97, 1.2, 2.0)
    plain, plain_output = pruned(runtime_int8=False)
    assert "floats-stay" in codes(report) - codes(plain)
    assert "QuantizeLinear" not in ops(output)
    written, wanted = onnx.load(output), onnx.load(plain_output)
    assert written.graph == wanted.graph  # weights have all bits, too


def test_a_promise_is_kept(pruned, monkeypatch) -> None:
    report, output = pruned(0.5, 0.5, 0.5, sparsity=None, max_error=0.2)
    assert report.comparison.error <= 0.2
    assert "QuantizeLinear" in ops(output)
    with pytest.raises(GateFailed, match="7 bits"):  # the rounding alone costs more
        pruned(0.5, 0.5, 0.5, sparsity=None, max_error=0.0003)
    monkeypatch.setattr(integer_kernels, "keeps_target", lambda *_: False)
    report, output = pruned(0.5, 0.5, 0.5, sparsity=None, max_error=0.2)
    assert "floats-stay" in codes(report)
    assert "QuantizeLinear" not in ops(output)


def test_weights_of_more_bits_do_not_fit() -> None:
    for bits in (16, 8):
        with pytest.raises(BadInput, match="7 bits"):
            Settings(sparsity=0.5, bits=bits, runtime_int8=True)
    Settings(sparsity=0.5, bits=6, runtime_int8=True)


def test_weights_outside_of_the_file_stay_in_floating_point(pruned) -> None:
    outside = pruned.model.parent / "outside.onnx"
    options = {"save_as_external_data": True, "location": "weights", "size_threshold": 0}
    onnx.save_model(onnx.load(pruned.model), outside, **options)
    pruned.model = outside
    report, output = pruned(0.5, 0.5, 0.5)
    assert "outside of the file" in next(w.text for w in report.warnings if w.code == "floats-stay")
    assert "QuantizeLinear" not in ops(output)
