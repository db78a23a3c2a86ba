"""Streams: the same values from memory and from disk, forks of their own, no files left."""

from __future__ import annotations

import os
import tempfile

import numpy as np
import pytest
from onnx import numpy_helper

from nettrim_cli.data.dataset import Batch
from nettrim_cli.data.stream import (
    Iterations,
    MemoryBudget,
    SpilledTensor,
    Stream,
    StreamCache,
    TensorStore,
    load,
    size_of,
)
from nettrim_cli.graph.capture.plan import CapturePlan
from nettrim_cli.graph.capture.segments import Segments, build
from nettrim_cli.graph.ir.index import Index
from tests.support.networks import initializers, input_samples, residual
from tests.support.small import normal, run

STOPS = [["x"], ["r1"], ["f"]]


def batches(x, size=4):
    return [
        (Batch({"x": x[at : at + size]}, len(x[at : at + size]), None), at > 8)
        for at in range(0, len(x), size)
    ]


def cut(proto):
    plan = CapturePlan(Index(proto), [], cascade=True)
    return plan, Segments(plan, STOPS).pieces


def advance(stream, proto, plan, piece) -> None:
    def making(kinds, carried):
        return build(Index(proto), plan, piece, kinds, carried=carried)

    stream.advance(making, piece.inputs, piece.outputs, piece.needed)


def joined(stream, name):
    return np.concatenate([place.get(name) for place in stream.batches])


@pytest.mark.parametrize("memory_bytes", [0, 2000, 1 << 30])
def test_values_are_the_same_from_memory_and_disk(memory_bytes, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    proto = residual()
    x = input_samples(proto, 14)
    stream = Stream.read(batches(x), threads=1, memory_bytes=memory_bytes)
    parked = [isinstance(place.tensors["x"], SpilledTensor) for place in stream.batches]
    assert all(parked) if memory_bytes == 0 else any(parked) == (memory_bytes < 1 << 20)
    assert [place.count for place in stream.batches] == [4, 4, 4, 2]
    assert [place.holdout for place in stream.batches] == [False, False, False, True]
    assert np.array_equal(joined(stream, "x"), x)
    plan, pieces = cut(proto)
    for piece, (name,) in zip(pieces, STOPS, strict=True):
        advance(stream, proto, plan, piece)
        assert all(set(place.tensors) == {name} for place in stream.batches)
        parts = [run(proto, [name], batch.feeds)[0] for batch, _ in batches(x)]
        assert np.array_equal(joined(stream, name), np.concatenate(parts))
        assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("memory_bytes", [0, 1 << 30])
def test_a_fork_shares_and_then_goes_its_own_way(memory_bytes) -> None:
    proto, changed = residual(), residual()
    for tensor in changed.graph.initializer:
        if tensor.name == "w1":
            value = 0.5 * initializers(changed)["w1"]
            tensor.CopyFrom(numpy_helper.from_array(value, "w1"))
    x = input_samples(proto, 8)
    stream = Stream.read(batches(x), threads=1, memory_bytes=memory_bytes)
    plan, (first, second, last) = cut(proto)
    advance(stream, proto, plan, first)
    fork = stream.fork()
    assert all(a is b for a, b in zip(stream.batches, fork.batches, strict=True))
    for piece in (second, last):
        advance(stream, proto, plan, piece)
        advance(fork, changed, plan, piece)
    (one,), (two,) = run(proto, ["f"], {"x": x}), run(changed, ["f"], {"x": x})
    assert not np.array_equal(one, two)
    np.testing.assert_allclose(joined(stream, "f"), one, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(joined(fork, "f"), two, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "value",
    [
        np.array(3, np.float32),
        np.zeros((0, 4), np.float32),
        np.arange(12, dtype=np.float16).reshape(3, 4)[:, ::2],
        np.array([True, False]),
        np.arange(6, dtype=np.int64).reshape(2, 3).T,
    ],
    ids=["scalar", "empty", "strided-half", "bool", "transposed"],
)
def test_any_array_survives_the_disk(value) -> None:
    shelf = TensorStore(MemoryBudget(-1))
    held = shelf.keep(value)
    assert isinstance(held, SpilledTensor)
    found = held.load()
    assert found.dtype == value.dtype
    assert np.array_equal(found, value)


def test_what_is_no_array_of_numbers_is_held_as_it_is() -> None:
    words = np.array(["a", "b"], object)
    listed = [np.zeros(3)]
    assert TensorStore(MemoryBudget(0)).keep(words) is words
    assert TensorStore(MemoryBudget(0)).keep(listed) is listed


def test_the_budget_is_shared_by_what_is_held_and_only_that() -> None:
    budget = MemoryBudget(100)
    shelves = [TensorStore(budget), TensorStore(budget)]
    kept = [shelves[at % 2].keep(np.zeros(10, np.float32)) for at in range(4)]
    assert [isinstance(each, SpilledTensor) for each in kept] == [False, False, True, True]
    held = [kept.pop(0)]
    held.append(held[0])
    held.clear()
    assert budget.free_bytes == 60
    assert isinstance(shelves[1].keep(np.zeros(10, np.float32)), np.ndarray)


def test_forks_share_one_budget() -> None:
    proto, budget = residual(), 3000
    stream = Stream.read(batches(input_samples(proto, 14)), threads=1, memory_bytes=budget)
    plan, pieces = cut(proto)
    streams = [stream]
    for piece in pieces:
        streams.append(stream.fork())
        for each in streams[:2]:
            advance(each, proto, plan, piece)
        arrays = {
            id(value): value.nbytes
            for each in streams
            for place in each.batches
            for value in place.tensors.values()
            if isinstance(value, np.ndarray)
        }
        assert 0 < sum(arrays.values()) == budget - stream.budget.free_bytes <= budget


@pytest.mark.parametrize("memory_bytes", [0, 1 << 20])
def test_tensors_of_many_shapes_are_the_same_from_memory_and_disk(memory_bytes) -> None:
    parts = [normal(2, 3), normal(0, 5), np.float32(7), normal(4, 1, 2, seed=1)]
    values = np.concatenate([np.ravel(each) for each in parts])
    shapes = np.array([n for each in parts for n in (np.ndim(each), *np.shape(each))])
    kept = TensorStore(MemoryBudget(memory_bytes)).keep(Iterations(values, shapes))
    assert isinstance(kept.values, SpilledTensor) == (memory_bytes == 0)
    found = load(kept)
    assert len(found) == len(parts)
    for one, two in zip(found, parts, strict=True):
        np.testing.assert_array_equal(one, two, strict=True)


@pytest.mark.parametrize("memory_bytes", [0, 1 << 30])
def test_what_is_in_a_cache_does_not_run_again(memory_bytes) -> None:
    proto = residual()
    x = input_samples(proto, 14)
    plan, pieces = cut(proto)
    cache, runs = StreamCache(), []

    def passed() -> list[np.ndarray]:
        def read():
            runs.append("x")
            return Stream.read(batches(x), threads=1, memory_bytes=memory_bytes)

        stream, found = cache.follow(0, read), []
        for stop, (piece, (name,)) in enumerate(zip(pieces, STOPS, strict=True), 1):

            def advanced(stream=stream, piece=piece, name=name):
                runs.append(name)
                advance(stream, proto, plan, piece)
                return stream

            stream = cache.follow(stop, advanced, piece.outputs)
            found.append(joined(stream, name))
        return found

    first, second = passed(), passed()
    assert runs == ["x", "x", "r1", "f"]
    assert all(np.array_equal(one, two) for one, two in zip(first, second, strict=True))
    assert np.array_equal(second[-1], run(proto, ["f"], {"x": x})[0])


def test_a_cache_ends_where_its_room_does() -> None:
    def stream(*sizes):
        places = [{str(at): np.zeros(each, np.uint8) for at, each in enumerate(sizes)}]
        found = Stream.read([(Batch(each, 1, None), False) for each in places], threads=1)
        return lambda: found

    cache = StreamCache(100)
    cache.follow(0, stream(30))
    cache.follow(1, stream(30, 40), ["1"])  # what was there before counts once
    assert (len(cache.stops), cache.free_bytes) == (2, 30)
    cache.follow(2, stream(31))
    cache.follow(3, stream(1))  # later stops are no use without this one
    assert len(cache.stops) == 2
    assert cache.follow(2, stream(7)).batches[0].get("0").size == 7  # it runs again
    none = StreamCache(0)
    none.follow(0, stream(0))
    assert not none.stops


def test_sizes_are_those_of_the_values_wherever_they_wait() -> None:
    value = np.zeros((3, 5), np.float32)
    assert size_of(value) == size_of(TensorStore(MemoryBudget(0)).keep(value)) == 60
    assert size_of(Iterations(value.ravel(), np.array([2, 3, 5]))) == 60
    assert size_of([value, [value]]) == 120
    assert size_of(None) == 0
