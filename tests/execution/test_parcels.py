"""Values come out of a parcel as they were put in."""

from __future__ import annotations

import pickle
import socket

import numpy as np
import pytest

from nettrim_cli.execution.parcels import receive, send
from nettrim_cli.solve.transport import SharedCache


@pytest.fixture
def ends():
    one, other = socket.socketpair()
    with one, other:
        yield one, other


ARRAYS = {
    "rows": np.arange(12.0).reshape(3, 4),
    "columns": np.asfortranarray(np.arange(12, dtype=np.float32).reshape(3, 4)),
    "view": np.arange(40, dtype=np.int8)[3:31:2],
    "empty": np.zeros((0, 5), np.float32),
    "scalar": np.array(3.5),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_keep_values_types_and_layout(ends, name) -> None:
    array = ARRAYS[name]
    send(ends[0], {"a": array, "b": "text"})
    received = receive(ends[1])
    assert received["b"] == "text"
    found = received["a"]
    assert found.dtype == array.dtype
    assert found.shape == array.shape
    assert np.array_equal(found, array)
    if array.flags.forc and array.size:
        assert found.strides == array.strides


def test_several_arrays_lie_side_by_side_and_may_be_changed_by_their_receiver_alone(ends) -> None:
    sent = [np.arange(size, dtype=np.float32) for size in (1, 17, 0, 4096, 3)]
    before = [array.copy() for array in sent]
    send(ends[0], sent)
    send(ends[0], "next")
    found = receive(ends[1])
    assert receive(ends[1]) == "next"
    for array in found:
        array += 1
    for old, array, new in zip(before, sent, found, strict=True):
        assert np.array_equal(old, array)
        assert np.array_equal(new, old + 1)


def test_what_is_one_object_is_one_again(ends) -> None:
    shared = SharedCache()
    send(ends[0], [shared, shared])
    one, other = receive(ends[1])
    assert one is other


def test_an_end_that_is_gone_is_told(ends) -> None:
    ends[0].close()
    with pytest.raises(EOFError):
        receive(ends[1])
    with pytest.raises(ConnectionError):
        send(ends[1], "text")


def test_what_cannot_be_pickled_is_not_sent_in_part(ends) -> None:
    with pytest.raises((AttributeError, TypeError, pickle.PicklingError)):
        send(ends[0], [np.ones(3), lambda: None])
    send(ends[0], "whole")
    assert receive(ends[1]) == "whole"
