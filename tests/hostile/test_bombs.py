"""Models that take all time or all memory, by the command line itself and its limits."""

from __future__ import annotations

import sys

import pytest

from tests.support import forked
from tests.support.hostile.cases import model_case, text
from tests.support.options import PATIENCE
from tests.support.small import normal

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the limits are those of Linux")

LOOP = """n = Constant<value = int64 {4611686018427387904}>() c = Constant<value = bool {1}>()
    y = Loop(n, c, h) <body = b (int64 i, bool d, float[N,4] v) => (bool e, float[N,4] o)
    { e = Identity(d) o = Neg(v) }>"""
TILE = "s = Constant<value = int64[2] {1, 268435456}>() t = Tile(h, s) y = ReduceMax<axes=[1]>(t)"


@pytest.mark.parametrize(
    ("body", "limit", "code"),
    [(LOOP, ["--time-limit", "1"], 124), (TILE, ["--max-memory", "500M"], 71)],
    ids=["endless", "large"],
)
def test_a_limit_ends_it(tmp_path, body, limit, code) -> None:
    proto = text(
        f"g (float[N,6] x) => (float[N,A] y) {{ h = MatMul(x, w) {body} }}", w=normal(6, 4)
    )
    model_case("bomb", proto, (code,)).write(tmp_path)
    ended = forked.run(
        [sys.executable, "-m", "nettrim_cli", "prune", "model.onnx", "--data", "data.npz", *limit],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert ended.returncode == code, ended.stderr
    assert ended.stderr.startswith("nettrim: ")
    assert ended.stderr.count("\n") == 1
    assert {each.name for each in tmp_path.iterdir()} == {"model.onnx", "data.npz"}
