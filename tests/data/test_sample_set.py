"""The samples of a run: split, made ones, those to probe with."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from nettrim_cli.data.dataset import Calibration
from nettrim_cli.data.sample_set import (
    AUGMENTED_SAMPLES,
    AUGMENTED_TIMES,
    FEWEST_PROBED,
    JUDGING_SAMPLES,
    SampleSet,
    few_of,
)
from nettrim_cli.graph.layer import Tensor


def sample_set(tmp_path, values, tensor, fitted, holdout, size=16) -> SampleSet:
    path = tmp_path / "data.h5"
    with h5py.File(path, "w") as file:
        for name, array in values.items():
            file[name] = array
    calibration = Calibration.open(path, tensor)
    return SampleSet(calibration, np.arange(fitted), np.arange(fitted, fitted + holdout), size)


def features(tmp_path, fitted=40, holdout=10, dtype="float32", size=16) -> SampleSet:
    values = np.random.default_rng(0).integers(0, 9, (fitted + holdout, 6)).astype(dtype)
    return sample_set(
        tmp_path, {"x": values}, [Tensor("x", dtype, (None, 6))], fitted, holdout, size
    )


def test_made_samples_stand_between_fitted_and_held_out_ones(tmp_path) -> None:
    samples = features(tmp_path).augmented()
    flags = [(batch.count, held) for batch, held in samples.flagged_batches()]
    counts = [count for count, held in flags if not held]
    assert samples.rounds == AUGMENTED_TIMES
    assert sum(counts) == 40 + samples.rounds * 32  # the last batch is not full
    assert sum(count for count, held in flags if held) == 10
    assert [held for _, held in flags] == sorted(held for _, held in flags)


def test_made_samples_never_read_what_is_held_out(tmp_path) -> None:
    values = np.ones((50, 6), np.float32)
    values[40:] = 1e6
    samples = sample_set(tmp_path, {"x": values}, [Tensor("x", "float32", (None, 6))], 40, 10)
    for batch, held in samples.augmented().flagged_batches():
        assert held == (batch.feeds["x"].max() > 1)


def test_the_same_samples_are_made_each_time(tmp_path) -> None:
    samples = features(tmp_path).augmented()
    first, second = ([b.feeds["x"] for b, _ in samples.flagged_batches()] for _ in range(2))
    for one, two in zip(first, second, strict=True):
        assert np.array_equal(one, two)


def test_judges_are_the_held_out_samples_and_mixtures_of_them(tmp_path) -> None:
    values = np.arange(50, dtype=np.float32)[:, None] * np.ones(6, np.float32)
    tensor = [Tensor("x", "float32", (None, 6))]
    samples = sample_set(tmp_path, {"x": values}, tensor, 40, 10)
    judges = [batch.feeds["x"][0, 0] for batch in samples.judging_batches()]
    assert judges[:10] == list(range(40, 50))
    assert len(judges) == JUDGING_SAMPLES // 10 * 10
    assert all(40 <= judge <= 49 for judge in judges)
    probed = np.concatenate([batch.feeds["x"][:, 0] for batch in samples.probe_batches(4)])
    assert len(probed) == len(judges)
    assert probed.min() >= 40
    often = sum(batch.count for batch in samples.probe_batches(4, runs=4))
    assert often == FEWEST_PROBED // 10 * 10


@pytest.mark.parametrize(("dtype", "fitted"), [("int64", 40), ("float32", 600)])
def test_whole_numbers_and_plenty_of_samples_judge_as_they_are(tmp_path, dtype, fitted) -> None:
    samples = features(tmp_path, fitted, dtype=dtype)
    for batches in (samples.judging_batches(), samples.probe_batches(4)):
        assert sum(batch.count for batch in batches) == 10


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8"])
def test_whole_numbers_are_not_mixed(tmp_path, dtype) -> None:
    assert features(tmp_path, dtype=dtype).augmented().rounds == 0


def test_many_samples_need_no_more(tmp_path) -> None:
    assert features(tmp_path, fitted=AUGMENTED_SAMPLES // 2 + 1).augmented().rounds == 0


def test_half_of_the_samples_are_every_second(tmp_path) -> None:
    assert list(features(tmp_path, fitted=7).half().fitted) == [0, 2, 4, 6]


def test_whole_batches_are_halved_where_the_model_dictates_them(tmp_path) -> None:
    values = np.zeros((24, 6), np.float32)
    samples = sample_set(tmp_path, {"x": values}, [Tensor("x", "float32", (4, 6))], 16, 8)
    assert list(samples.half().fitted) == [0, 1, 2, 3, 8, 9, 10, 11]


def test_samples_along_another_axis_are_mixed_along_it(tmp_path) -> None:
    states = np.arange(20, dtype=np.float32)[:, None, None] * np.ones((20, 2, 3), np.float32)
    values = {"x": np.zeros((20, 6), np.float32), "state": states}
    tensors = [Tensor("x", "float32", ("n", 6)), Tensor("state", "float32", (2, "n", 3))]
    samples = sample_set(tmp_path, values, tensors, 16, 4).augmented()
    assert samples.rounds
    for batch, held in samples.flagged_batches():
        state = batch.feeds["state"]
        assert state.shape == (2, batch.count, 3)
        assert np.ptp(state, axis=(0, 2)) == pytest.approx(np.zeros(batch.count), abs=1e-5)
        assert held or state.max() <= 15


class Data:
    def __init__(self, bytes_per_sample: int, batch: int | None = None) -> None:
        self.bytes_per_sample, self.batch = bytes_per_sample, batch

    def batch_size(self, wanted: int) -> int:
        return self.batch or wanted


@pytest.mark.parametrize(
    ("kilobytes", "batch", "count"),
    [(1, None, 128), (2048, None, 8), (65536, None, 1), (1, 48, 96)],
)
def test_fewer_of_large_samples_are_probed(kilobytes, batch, count) -> None:
    chosen = few_of(np.arange(1000, 2000), Data(kilobytes << 10, batch), 4, 1000)
    assert len(chosen) == len(set(chosen)) == count
    assert chosen[0] == 1000
    assert count == 1 or chosen[-1] == 1999


@pytest.mark.parametrize(
    ("samples", "layers", "count"), [(1000, 4, 128), (500, 36, 55), (90, 80, 32), (9, 80, 9)]
)
def test_many_layers_are_probed_on_fewer_samples(samples, layers, count) -> None:
    assert len(few_of(np.arange(samples), Data(8), layers, samples)) == count
