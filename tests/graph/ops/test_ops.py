"""The interface of ops, and what all ops have in common."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from nettrim_cli.graph import ops
from nettrim_cli.graph.ops import Unsupported, read_geometry
from tests.support.small import normal


@pytest.mark.parametrize("given", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(("op", "shape"), [("MatMul", (3, 4)), ("Conv", (2, 3, 1))])
def test_halves_are_handled_as_singles(op, shape, given):
    kept = np.float64 if given == np.float64 else np.float32
    geometry = read_geometry(op, 1, {}, shape)
    weight = normal(*shape).astype(given)
    x = normal(2, 3, *shape[2:]).astype(given)
    (U,) = ops.matrices(weight, geometry)
    assert U.dtype == kept
    assert ops.columns({"x": x}, geometry).dtype == kept
    assert ops.outputs_as_columns(x, geometry).dtype == kept
    np.testing.assert_array_equal(ops.weight([U], geometry, shape).astype(given), weight)


def test_equal_readings_have_equal_keys():
    rows = read_geometry("MatMul", 1, {}, (3, 4)).key
    assert rows == read_geometry("Gemm", 1, {"transB": 1, "alpha": 2.0}, (4, 3)).key
    assert rows == read_geometry("Gemm", 0, {"transB": 1}, (4, 3)).key
    assert rows != read_geometry("Gemm", 1, {"transA": 1}, (3, 4)).key
    assert rows != read_geometry("MatMul", 1, {}, (2, 3, 4)).key
    windows = [
        read_geometry("Conv", 1, given, (outputs, 2, 3)).key
        for outputs, given in (
            (2, {}),
            (5, {"auto_pad": "VALID"}),
            (2, {"pads": (0, 0)}),
            (2, {"pads": (1, 0)}),
            (2, {"group": 2}),
        )
    ]
    assert windows[0] == windows[1] == windows[2] != windows[3]
    assert windows[4] not in windows[:4]
    assert windows[0] != rows


def test_an_op_that_is_not_known_is_refused_by_name():
    with pytest.raises(Unsupported, match="Telepathy is not treated"):
        read_geometry("Telepathy", 1, {}, (2, 2), "ai.acme")
    assert ops.slots("Telepathy", 3, "ai.acme") == ()
    with pytest.raises(Unsupported, match="Conv is not treated"):
        read_geometry("Conv", 1, {}, (2, 2, 2), "ai.acme")
    assert ops.slots("Conv", 3, "ai.onnx") == ops.slots("Conv", 2) == (1,)
    assert ops.slots("Conv", 1) == ()


def test_an_empty_weight_is_refused():
    with pytest.raises(Unsupported, match="empty"):
        read_geometry("MatMul", 1, {}, (0, 2))


@pytest.mark.parametrize(
    ("op", "weight", "x", "shape"),
    [
        ("MatMul", (3, 4), (0, 3), (3, 0)),
        ("MatMul", (3, 4), (2, 0, 3), (3, 0)),
        ("MatMul", (2, 3, 4), (2, 0, 3), (3, 0)),
        ("Conv", (2, 3, 2), (0, 3, 5), (6, 0)),
        ("ConvTranspose", (3, 2, 2), (0, 3, 5), (6, 0)),
    ],
)
def test_empty_tensors_make_no_columns(op, weight, x, shape):
    geometry, arrays = read_geometry(op, 1, {}, weight), {"x": normal(*x)}
    assert ops.columns(arrays, geometry).shape == shape
    assert sum(part.shape[1] for part in ops.columns_in_parts(arrays, geometry, 0, 9)) == 0


@pytest.mark.parametrize(("most", "widths"), [(12, [4, 4, 2]), (1, [1] * 10), (99, [10])])
def test_parts_are_as_large_as_they_may_be(most, widths):
    geometry, arrays = read_geometry("MatMul", 1, {}, (3, 4)), {"x": normal(10, 3)}
    parts = ops.columns_in_parts(arrays, geometry, 0, most)
    assert [part.shape[1] for part in parts] == widths


def test_no_protobuf_is_needed():
    code = "import sys, nettrim_cli.graph.ops; sys.exit('onnx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
