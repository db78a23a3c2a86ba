"""Values come back from their files as they were, and nothing else does."""

from __future__ import annotations

import io
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nettrim_cli.execution.stored_values import Damaged, read_value, write_value
from nettrim_cli.pruning.layer_job import LayerResult
from nettrim_cli.solve.problem import Solution, Status, TunedOptions

FLOATS = st.floats(width=32) | st.just(1e300)
TUNED = st.builds(
    TunedOptions, st.tuples(FLOATS, FLOATS), FLOATS, st.booleans(), st.booleans(), st.booleans()
)
SOLUTIONS = st.builds(
    Solution,
    U=st.builds(
        lambda shape, dtype, seed: np.random.default_rng(seed).normal(size=shape).astype(dtype),
        st.tuples(st.integers(0, 5), st.integers(0, 5)),
        st.sampled_from(["f4", "f8", "f2"]),
        st.integers(0, 99),
    ),
    status=st.sampled_from(Status),
    iterations=st.integers(0, 10**12),
    gap=st.none() | FLOATS,
    violation=st.none() | FLOATS,
    note=st.text(),
    tuned=st.none() | TUNED,
    reason=st.text(),
)


def stored(value: object, folder: Path) -> Path:
    path = folder / "value"
    with open(path, "wb") as file:
        write_value(value, file)
    return path


@given(st.builds(LayerResult, st.lists(SOLUTIONS, max_size=3).map(tuple), FLOATS))
def test_results_come_back(tmp_path_factory, result) -> None:
    path = stored(result, tmp_path_factory.mktemp("stored"))
    back = read_value(path, LayerResult)
    assert repr(back) == repr(result)  # in which nan is nan
    for one, other in zip(back.solutions, result.solutions, strict=True):
        assert one.U.dtype == other.U.dtype
        assert one.U.tobytes() == other.U.tobytes()
        assert type(one.status) is Status


def test_the_layout_of_an_array_comes_back(tmp_path) -> None:
    array = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    solution = Solution(array, Status.SOLVED)
    back = read_value(stored(solution, tmp_path), Solution)
    assert back.U.flags.f_contiguous
    assert not back.U.flags.c_contiguous


@pytest.mark.parametrize("kind", [float, TunedOptions, Status])
def test_another_kind_is_damage(tmp_path, kind) -> None:
    path = stored(Solution(np.zeros((2, 2)), Status.SOLVED), tmp_path)
    with pytest.raises(Damaged):
        read_value(path, kind)


def test_no_pickle_is_read(tmp_path) -> None:
    class Trap:
        def __reduce__(self):
            return pytest.fail, ("a pickle was read",)

    path = tmp_path / "value"
    path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(Damaged):
        read_value(path, float)
    tree = np.frombuffer(b"0", np.uint8)
    content = io.BytesIO()
    np.savez(content, tree=tree, **{"0": np.array([Trap()], object)})
    path.write_bytes(content.getvalue())
    with pytest.raises(Damaged):
        read_value(path, np.ndarray[tuple[int, ...], np.dtype[np.float64]])


def test_objects_are_not_written() -> None:
    with pytest.raises(TypeError, match="no plain value"):
        write_value(object(), io.BytesIO())
