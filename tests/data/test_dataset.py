"""What is read from calibration files equals plain NumPy indexing."""

from __future__ import annotations

import os
import subprocess
import sys

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nettrim_cli.data import dataset
from nettrim_cli.data.dataset import Calibration, split
from nettrim_cli.errors import BadInput
from nettrim_cli.graph.layer import Tensor
from tests.support.calibration_files import (
    FORMATS,
    MANY,
    everything,
    feeds,
    message,
    numbers,
    save,
    x_input,
)
from tests.support.effort import examples

# ---- reading -----------------------------------------------------------------------------


@given(
    form=st.sampled_from(FORMATS),
    stored=st.sampled_from(["float16", "<f4", ">f4", "<f8", ">f8"]),
    taken=st.sampled_from(["float16", "float32", "float64"]),
    fortran=st.booleans(),
    tail=st.lists(st.integers(1, 4), max_size=3),
    samples=st.integers(1, 40),
    size=st.integers(1, 50),
    block=st.sampled_from([1, 64, 1 << 20]),
    data=st.data(),
)
@examples(60)
def test_batches_equal_indexing(
    form, stored, taken, fortran, tail, samples, size, block, data, tmp_path_factory
):
    indices = data.draw(st.lists(st.integers(0, samples - 1), min_size=1, unique=True))
    x = np.random.default_rng(0).normal(size=(samples, *tail)).astype(stored)
    if fortran and form != "npz-deflated":
        x = np.asfortranarray(x)
    path = save(tmp_path_factory.mktemp("data"), form, x=x)
    with (
        pytest.MonkeyPatch.context() as patch,
        Calibration.open(path, [x_input("N", *tail, dtype=taken)]) as calibration,
    ):
        patch.setattr(dataset, "BLOCK_BYTES", block)
        assert calibration.samples == samples
        for _ in range(2):  # a second pass starts from the front again
            batches = list(calibration.batches(np.array(indices), size))
            counts = [batch.count for batch in batches]
            assert all(count == size for count in counts[:-1])
            assert counts == [len(batch.feeds["x"]) for batch in batches]
            got = np.concatenate([batch.feeds["x"] for batch in batches])
            assert got.dtype == np.dtype(taken)
            assert got.dtype.isnative
            np.testing.assert_array_equal(got, x[np.sort(indices)].astype(taken))


@given(
    form=st.sampled_from(FORMATS),
    stored=st.sampled_from(["int8", "uint8", ">i2", "<u2", ">i4", "uint32", "int64", "uint64"]),
    taken=st.sampled_from(["int8", "uint8", "int16", "int32", "uint32", "int64", "uint64"]),
    values=st.lists(st.integers(-300, 70_000), min_size=1, max_size=5),
)
@examples(40)
def test_integers_fit_or_are_refused(form, stored, taken, values, tmp_path_factory):
    info = np.iinfo(stored)
    x = np.array([min(max(v, info.min), info.max) for v in values]).astype(stored)
    path = save(tmp_path_factory.mktemp("data"), form, x=x)
    limits = np.iinfo(taken)
    bad = [k for k, v in enumerate(x) if not limits.min <= int(v) <= limits.max]
    if bad:
        text = message(path, x_input("N", dtype=taken))
        assert f"does not fit {taken}" in text
        assert f"sample {bad[0]}," in text
    else:
        got = everything(path, x_input("N", dtype=taken))
        assert got.dtype == np.dtype(taken)
        assert got.tolist() == x.tolist()


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("taken", ["bool", "int64"])
def test_bool(tmp_path, form, taken):
    x = np.array([[True, False], [False, True]])
    got = everything(save(tmp_path, form, x=x), x_input("N", 2, dtype=taken))
    assert got.dtype == np.dtype(taken)
    assert got.tolist() == x.tolist()


@pytest.mark.parametrize("form", ["h5", "npz", "npz-deflated", "npy"])
@pytest.mark.parametrize("kind", ["U", "S"])
def test_text(tmp_path, form, kind):
    words = np.array(["où", "b", "", "dd"])
    x = words if kind == "U" else np.char.encode(words, "utf-8")
    got = everything(save(tmp_path, form, x=x), x_input("N", dtype="str"), size=3)
    assert got.dtype == object
    assert got.tolist() == words.tolist()
    assert all(type(word) is str for word in got)


def test_text_that_is_not_utf8(tmp_path):
    path = save(tmp_path, "npy", x=np.array([b"\xff"]))
    assert "UTF-8" in message(path, x_input("N", dtype="str"))


@pytest.mark.parametrize("form", MANY)
def test_interleaved_iterators(tmp_path, form):
    x = numbers(20, 3)
    path = save(tmp_path, form, x=x)
    with Calibration.open(path, [x_input("N", 3)]) as data:
        for one, two in zip(
            data.batches(np.arange(20), 3), data.batches(np.arange(20), 3), strict=True
        ):
            np.testing.assert_array_equal(one.feeds["x"], two.feeds["x"])


def test_indices_outside(tmp_path):
    with (
        Calibration.open(save(tmp_path, "npy", x=numbers(3, 2)), [x_input("N", 2)]) as data,
        pytest.raises(IndexError),
    ):
        data.batches(np.array([3]), 1)


@pytest.mark.parametrize("form", MANY)
def test_odd_names(tmp_path, form):
    names = ("/x/in", "input.1", "a b:0")
    arrays = {name: numbers(4, 2) + k for k, name in enumerate(names)}
    path = save(tmp_path, form, **arrays)
    [got] = feeds(path, *(Tensor(name, "float32", ("N", 2)) for name in names))
    for name in names:
        np.testing.assert_array_equal(got[name], arrays[name])


@pytest.mark.parametrize("form", ["h5", "npz", "npy"])
def test_path_that_is_not_utf8(tmp_path, form):
    folder = tmp_path / os.fsdecode(b"d\xff")
    folder.mkdir()
    np.testing.assert_array_equal(
        everything(save(folder, form, x=numbers(3, 2)), x_input("N", 2)), numbers(3, 2)
    )


@pytest.mark.parametrize("form", FORMATS)
def test_single_dataset_under_another_name(tmp_path, form):
    extra = {} if form == "npy" else {"labels": np.zeros(3, int)}
    path = save(tmp_path, form, "labels", picture=numbers(3, 2), **extra)
    np.testing.assert_array_equal(everything(path, x_input("N", 2)), numbers(3, 2))


@pytest.mark.parametrize("form", MANY)
def test_extra_datasets_are_ignored(tmp_path, form):
    path = save(tmp_path, form, x=numbers(3, 2), other=np.full((7, 1), np.nan))
    np.testing.assert_array_equal(everything(path, x_input("N", 2)), numbers(3, 2))


def test_hdf5_groups_and_soft_links(tmp_path):
    path = tmp_path / "data.h5"
    with h5py.File(path, "w") as file:
        file["deep/inside/values"] = numbers(3, 2)
        file["deep/again"] = file["deep/inside/values"]
        file["x"] = h5py.SoftLink("deep/short")
        file["deep/short"] = h5py.SoftLink("inside/values")
        file["labels"] = h5py.SoftLink("/deep/classes")
        file["deep/classes"] = [2, 1, 0]
        del file["deep/classes"]  # a dangling link is no dataset
    np.testing.assert_array_equal(everything(path, x_input("N", 2)), numbers(3, 2))
    np.testing.assert_array_equal(
        feeds(path, Tensor("deep/inside/values", "float32", ("N", 2)))[0]["deep/inside/values"],
        numbers(3, 2),
    )
    other = Tensor("unnamed", "float32", ("N", 2))  # one dataset, though hard-linked twice
    np.testing.assert_array_equal(feeds(path, other)[0]["unnamed"], numbers(3, 2))


# ---- matching ----------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMATS)
def test_whole_tensors_come_one_by_one(tmp_path, form):
    x = numbers(3, 2, 4)
    path = save(tmp_path, form, x=x)
    got = feeds(path, x_input("seq", 4), size=8)
    assert [feed["x"].shape for feed in got] == [(2, 4)] * 3
    np.testing.assert_array_equal(np.stack([feed["x"] for feed in got]), x)


@pytest.mark.parametrize(
    ("stored", "taken", "size", "fed"),
    [
        ((1, 2), ("N", 2), 4, [(4, 2), (2, 2)]),  # a row is repeated
        ((1, 2), (1, 2), 4, [(1, 2), (1, 2)]),  # the model fixes it to 1: as it is
        ((1, 2), (3, 2), 4, [(3, 2), (3, 2)]),  # or to another number
        ((1, 2), None, 4, [(4, 2), (2, 2)]),
        ((1, 3, 2), (3, 2), 4, [(3, 2), (3, 2)]),  # a whole tensor, all axes fixed
        ((1,), (), 4, [(), ()]),
        ((), (), 4, [(), ()]),
        ((1, 3, 2), (3, "N"), 4, [(3, 2)] * 6),  # free axes: batches of one
    ],
)
@pytest.mark.parametrize("form", MANY)
def test_shared(tmp_path, form, stored, taken, size, fed):
    state = np.asarray(numbers(*stored)) + 1
    path = save(tmp_path, form, x=numbers(6, 2), state=state)
    got = feeds(path, x_input("N", 2), Tensor("state", "float32", taken), size=size)
    assert [feed["state"].shape for feed in got] == fed
    for feed in got:
        value = state if state.ndim == feed["state"].ndim else state[0]
        assert (feed["state"] == np.broadcast_to(value, feed["state"].shape)).all()


def test_scalar_per_sample(tmp_path):
    path = save(tmp_path, "h5", x=numbers(3, 2), rate=numbers(3, dtype="int64"))
    with Calibration.open(path, [x_input("N", 2), Tensor("rate", "int64", ())]) as data:
        assert data.batch_size(16) == 1
        assert [int(b.feeds["rate"]) for b in data.batches(np.arange(3), 16)] == [0, 1, 2]


def test_single_sample_is_not_shared(tmp_path):
    path = save(tmp_path, "npy", x=numbers(1, 2))
    assert [feed["x"].shape for feed in feeds(path, x_input("N", 2), size=9)] == [(1, 2)]


def test_fixed_batch(tmp_path):
    path = save(tmp_path, "npz", x=numbers(11, 2))
    with Calibration.open(path, [x_input(4, 2)]) as data:
        assert (data.batch_size(1), data.batch_size(64), data.fixed_batch) == (4, 4, 4)
        batches = list(data.batches(np.arange(11), 64))
        assert [batch.count for batch in batches] == [4, 4]
        assert (batches[1].feeds["x"] == numbers(11, 2)[4:8]).all()
        with pytest.raises(BadInput, match="exactly 4 samples, but only 3"):
            data.batches(np.arange(3), 64)
    assert "exactly 12 samples, but the file has 11" in message(path, x_input(12, 2))


def test_free_batch_and_bytes(tmp_path):
    path = save(tmp_path, "h5", x=numbers(11, 2, dtype="f8"), s=numbers(1, 3), w=numbers(1, 2, 5))
    inputs = [x_input("N", 2), Tensor("s", "float64", (None, 3)), Tensor("w", "float32", (2, 5))]
    with Calibration.open(path, inputs) as data:
        assert (data.batch_size(7), data.batch_size(0)) == (7, 1)
        assert data.bytes_per_sample == 2 * 4 + 3 * 8
        assert data.path == path


def test_unknown_rank(tmp_path):
    path = save(tmp_path, "npy", x=numbers(5, 2, 3))
    got = feeds(path, Tensor("x", "float32", None), size=3)
    assert [feed["x"].shape for feed in got] == [(3, 2, 3), (2, 2, 3)]


# ---- labels ------------------------------------------------------------------------------


@pytest.mark.parametrize("form", MANY)
@pytest.mark.parametrize("dtype", ["uint8", ">i4", "int64", "float32", "bool"])
@pytest.mark.parametrize("column", [False, True])
def test_labels(tmp_path, form, dtype, column):
    labels = np.array([1, 0, 1, 1, 0]).astype(dtype)
    stored = labels[:, None] if column else labels
    path = save(tmp_path, form, x=numbers(5, 2), labels=stored)
    with Calibration.open(path, [x_input("N", 2)]) as data:
        assert data.labels
        got = [batch.labels for batch in data.batches(np.array([4, 0, 3]), 2)]
    assert [part.tolist() for part in got] == [[1, 1], [0]]
    assert all(part.dtype == np.int64 for part in got)


def test_no_labels(tmp_path):
    with Calibration.open(save(tmp_path, "npy", x=numbers(5, 2)), [x_input("N", 2)]) as data:
        assert not data.labels
        assert next(data.batches(np.arange(5), 2)).labels is None


def test_an_input_named_labels(tmp_path):
    path = save(tmp_path, "h5", x=numbers(5, 2), labels=numbers(5, 3))
    inputs = [x_input("N", 2), Tensor("labels", "float32", ("N", 3))]
    with Calibration.open(path, inputs) as data:
        assert not data.labels
    assert feeds(path, *inputs)[0]["labels"].shape == (4, 3)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (np.zeros(4, int), "4 entries for 5 samples"),
        (np.eye(5), "argmax"),
        (np.zeros((5, 1, 1)), "(5,) class numbers"),
        (np.array(["a"] * 5), "whole numbers"),
        (np.array([0, 1, 1.5, 0, 0]), "sample 2: 1.5 is not a class number"),
        (np.array([0, 1, np.nan, 0, 0]), "sample 2, element (): the value nan is not finite"),
        (np.array([0, 1, 1e300, 0, 0]), "sample 2"),
    ],
)
def test_bad_labels(tmp_path, labels, said):
    path = save(tmp_path, "npz", x=numbers(5, 2), labels=labels)
    text = message(path, x_input("N", 2))
    assert said in text
    assert "'labels'" in text


# ---- split -------------------------------------------------------------------------------


@given(
    samples=st.integers(2, 500),
    wanted=st.integers(0, 600),
    holdout=st.floats(0, 1),
    seed=st.integers(0, 9),
    batch=st.integers(1, 5),
)
@settings(deadline=None)
def test_split(samples, wanted, holdout, seed, batch):
    if samples < 2 * batch:
        with pytest.raises(BadInput, match=f"{2 * batch} are needed"):
            split(samples, wanted, holdout, seed, batch=batch)
        return
    parts = split(samples, wanted, holdout, seed, batch=batch)
    both = np.concatenate(parts)
    assert len(set(both.tolist())) == len(both)
    assert 0 <= both.min() <= both.max() < samples
    used = max(min(wanted, samples) // batch, 2) * batch
    assert len(both) == used
    for part in parts:
        assert len(part) >= batch
        assert len(part) % batch == 0
        assert (np.diff(part) > 0).all()
    assert abs(len(parts[1]) - holdout * used) <= batch
    again = split(samples, wanted, holdout, seed, batch=batch)
    assert all((one == two).all() for one, two in zip(parts, again, strict=True))


def test_split_draws_by_the_seed():
    assert split(1000, 100, 0.2, 0)[0].tolist() != split(1000, 100, 0.2, 1)[0].tolist()
    assert [len(part) for part in split(1000, 100, 0.2, 0)] == [80, 20]


def test_one_sample_is_too_few():
    with pytest.raises(BadInput, match="1 sample; at least 2 are needed"):
        split(1, 100, 0.2, 0)


def test_importing_does_not_import_h5py():
    code = "import sys, nettrim_cli.data.dataset; assert 'h5py' not in sys.modules"
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
