"""Inputs whose first axis does not count the samples: states, sample rates, lengths of the past."""

from __future__ import annotations

import numpy as np
import pytest

from nettrim_cli.graph.layer import Tensor
from tests.support.calibration_files import MANY, feeds, message, save

AUDIO = Tensor("input", "float32", ("batch", 6))
STATE = Tensor("state", "float32", (2, "batch", 3))
RATE = Tensor("sr", "int64", ())
INPUTS = (AUDIO, STATE, RATE)
SOUND = np.arange(42, dtype=np.float32).reshape(7, 6)
STATES = np.arange(42, dtype=np.float32).reshape(7, 2, 3)  # one (2, 3) for each sample
RATES = {
    "scalar": np.int64(16000),
    "one": np.array([16000], np.int64),
    "each": np.full(7, 16000, np.int64),
}


def check(found: list[dict[str, np.ndarray]], states: np.ndarray) -> None:
    """Whatever the batches, sample k meets state k."""
    at = 0
    for feed in found:
        count = len(feed["input"])
        assert feed["sr"].shape == ()
        assert feed["sr"].dtype == np.int64
        assert feed["sr"] == 16000
        assert feed["state"].shape == (2, count, 3)
        assert feed["state"].flags.c_contiguous
        for k in range(count):
            np.testing.assert_array_equal(feed["input"][k], SOUND[at + k])
            np.testing.assert_array_equal(feed["state"][:, k], states[at + k])
        at += count
    assert at == 7


@pytest.mark.parametrize("form", MANY)
@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("spelling", ["rows", "with the batch axis"])
def test_a_state_for_each_sample(tmp_path, form, rate, spelling) -> None:
    states = STATES if spelling == "rows" else STATES[:, :, None]
    path = save(tmp_path, form, input=SOUND, state=states, sr=np.asarray(RATES[rate]))
    found = feeds(path, *INPUTS)
    check(found, STATES)
    assert len(found) == (7 if rate == "each" else 2)


@pytest.mark.parametrize("form", MANY)
@pytest.mark.parametrize("shape", [(2, 1, 3), (1, 2, 3), (1, 2, 1, 3)])
def test_one_state_for_all_samples(tmp_path, form, shape) -> None:
    path = save(tmp_path, form, input=SOUND, state=STATES[1].reshape(shape), sr=np.int64(16000))
    check(feeds(path, *INPUTS), np.repeat(STATES[1:2], 7, axis=0))


def test_a_state_of_fixed_size_beside_a_batch_of_one(tmp_path) -> None:
    inputs = (Tensor("input", "float32", (1, 6)), Tensor("state", "float32", (2, 1, 3)))
    for states in (STATES[:, :, None], STATES[0][:, None]):
        path = save(tmp_path, "h5", input=SOUND, state=states)
        found = feeds(path, *inputs)
        assert [feed["input"].shape for feed in found] == [(1, 6)] * 7
        wanted = states if len(states) == 7 else np.repeat(states[None], 7, axis=0)
        np.testing.assert_array_equal([feed["state"] for feed in found], wanted)


def test_a_state_of_the_wrong_shape(tmp_path) -> None:
    path = save(tmp_path, "h5", input=SOUND, state=np.zeros((7, 3, 2), np.float32), sr=RATES["one"])
    text = message(path, *INPUTS)
    assert "'state'" in text
    assert "(2, batch, 3)" in text


def test_fixed_batches_stay_batches(tmp_path) -> None:
    inputs = (Tensor("a", "float32", (4, 6)), Tensor("b", "float32", ("N", 6)))
    path = save(tmp_path, "h5", a=np.ones((8, 6), np.float32), b=np.ones((8, 6), np.float32))
    assert [feed["b"].shape for feed in feeds(path, *inputs, size=3)] == [(4, 6), (4, 6)]


@pytest.mark.parametrize("form", MANY)
def test_an_empty_past(tmp_path, form) -> None:
    """Key-value caches of the first step have length 0."""
    past = Tensor("past", "float32", ("batch", 2, "length", 4))
    path = save(tmp_path, form, input=SOUND, past=np.zeros((7, 2, 0, 4), np.float32))
    shapes = [feed["past"].shape for feed in feeds(path, AUDIO, past)]
    assert shapes == [(4, 2, 0, 4), (3, 2, 0, 4)]
    path = save(tmp_path, form, name="none", input=SOUND, past=np.zeros((0, 2, 1, 4), np.float32))
    assert "empty" in message(path, AUDIO, past)
