"""What is inside of sequences and maps."""

from __future__ import annotations

import numpy as np
import pytest

from nettrim_cli.data.values import parts


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([{0: 0.25, 1: 0.75}, {1: 0.5, 0: 0.5}], {"y": [[0.25, 0.75], [0.5, 0.5]]}),
        ({"b": 2.0, "a": 1.0}, {"y": [[1, 2]]}),
        ([np.ones(3), np.zeros(2)], {"y": [1, 1, 1, 0, 0]}),
        ([np.ones((2, 1)), np.zeros(2)], {"y[0]": [[1], [1]], "y[1]": [0, 0]}),
        ([], {"y": []}),
        (None, {"y": None}),
        ([[np.ones(2)]], {"y": None}),
        ({0: np.ones(2)}, {"y": None}),
    ],
    ids=["maps", "map", "ragged", "batched", "empty", "nothing", "nested", "map-of-arrays"],
)
def test_what_outputs_hold(value, expected) -> None:
    found = parts("y", value, 2)
    assert {
        name: None if part.array is None else part.array.tolist() for name, part in found.items()
    } == expected
    assert all(part.kind for part in found.values() if part.array is None)
