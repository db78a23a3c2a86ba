"""A product of ``x`` (N, 3) with a weight (3, 4) or its like, wherever a model may hide it.

Each entry has the body of a graph with input ``x`` and outputs ``y``, the local functions that it
calls, and its tensors by name.  Whatever the place, ``y`` is what the layer gives out, over all
places and iterations in their order.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from onnx import numpy_helper, parser

from tests.support.small import normal

HEAD = '<ir_version: 10, opset_import: ["" : 21, "local" : 1]>'
W = normal(3, 4, seed=1)
B = normal(4, seed=2)
GRID = np.random.default_rng(3).integers(-120, 120, (3, 4)).astype(np.int8)


@dataclass(frozen=True)
class Place:
    """A graph with one layer in it."""

    body: str
    tensors: dict[str, Any] = field(default_factory=lambda: {"w": W})
    functions: str = ""
    outputs: str = "float[N,M] y"
    runs: int = 1  # how often the columns of x are read

    def model(self, head: str = HEAD) -> onnx.ModelProto:
        text = f"{head} g (float[N,3] x) => ({self.outputs}) {{ {self.body} }} {self.functions}"
        proto = parser.parse_model(text)
        for name, values in self.tensors.items():
            array = values if isinstance(values, np.ndarray) else np.array(values, np.float32)
            proto.graph.initializer.append(numpy_helper.from_array(array, name))
        onnx.checker.check_model(proto)
        return proto


def branch(then: str, other: str = "q = Identity(z)", condition: str = "") -> str:
    """An If that takes its first branch where the batch's sum is positive."""
    positive = "s = ReduceSum<keepdims = 0>(x) zero = Constant<value_float = -1e9>() "
    return (
        f"z = Constant<value = float[1,4] {{9, 9, 9, 9}}>() {condition or positive}"
        "c = Greater(s, zero) "
        f"y = If(c) <then_branch = t () => (float[N,4] p) {{ {then} }},"
        f" else_branch = e () => (float[N,4] q) {{ {other} }}>"
    )


DENSE = '<domain: "local", opset_import: ["" : 21]> dense (a, k) => (r) { r = MatMul(a, k) }'
STORED = (
    '<domain: "local", opset_import: ["" : 21]> dense (a) => (r) '
    "{ k = Constant<value = float[3,4] {1,2,3,4,5,6,7,8,9,-1,-2,-3}>() r = MatMul(a, k) }"
)
GATES = (
    "zero = Constant<value_ints = [0]>() one = Constant<value_ints = [1]>() "
    "four = Constant<value_ints = [4]>() "
    "g1 = Slice(w, one, four, one) g2 = Slice(w, zero, one, one) i = Concat<axis = 1>(g1, g2) "
)
LOOP = (
    "n = Constant<value_int = 3>() yes = Constant<value = bool {1}>() "
    "last, y = Loop(n, yes, x) <body = b (int64 i, bool k, float[N,3] v) => "
    "(bool k2, float[N,3] v2, float[N,4] r) { k2 = Identity(k) v2 = Neg(v) %s }>"
)

PLACES = {
    "initializer": Place("y = MatMul(x, w)"),
    "bias": Place("z = MatMul(x, w) y = Add(z, b)", {"w": W, "b": B}),
    "Constant": Place(
        "w = Constant<value = float[3,4] {1,2,3,4,5,6,7,8,9,-1,-2,-3}>() y = MatMul(x, w)", {}
    ),
    "Identity": Place("i = Identity(w) j = Identity(i) y = MatMul(x, j)"),
    "Transpose": Place("i = Transpose(w) y = MatMul(x, i)", {"w": W.T.copy()}),
    "Cast": Place("i = Cast<to = 1>(w) y = MatMul(x, i)", {"w": W.astype(np.float16)}),
    "Reshape": Place(
        "i = Reshape(w, s) y = MatMul(x, i)", {"w": W.reshape(2, 6), "s": np.array([0 - 1, 4])}
    ),
    "Reshape 0": Place(
        "i = Reshape(w, s) y = MatMul(x, i)", {"w": W.reshape(3, 2, 2), "s": np.array([0, -1])}
    ),
    "Squeeze": Place(
        "i = Squeeze(w, a) y = MatMul(x, i)", {"w": W[None, :, None], "a": np.array([0, -2])}
    ),
    "Unsqueeze": Place(
        "i = Unsqueeze(w, a) y = ConvLike(x, i)".replace("ConvLike", "MatMul"),
        {"w": W, "a": np.array([0])},
        outputs="float[A,N,M] y",
    ),
    "Flatten": Place("i = Flatten<axis = -1>(w) y = MatMul(x, i)", {"w": W.reshape(1, 3, 4)}),
    "Flatten, Transpose": Place(
        "i = Flatten(w) j = Transpose(i) y = MatMul(x, j)", {"w": W.T.reshape(4, 1, 3).copy()}
    ),
    "DequantizeLinear": Place(
        "i = DequantizeLinear(w, s, z) y = MatMul(x, i)",
        {"w": GRID, "s": 0.25, "z": np.array(3, np.int8)},
    ),
    "DequantizeLinear per axis": Place(
        "i = DequantizeLinear<axis = -1>(w, s) y = MatMul(x, i)",
        {"w": GRID, "s": np.float32([0.25, 0.5, 1, 2])},
    ),
    "DequantizeLinear by blocks": Place(
        "i = DequantizeLinear<axis = 1, block_size = 2>(w, s, z) y = MatMul(x, i)",
        {
            "w": GRID.astype(np.uint8),
            "s": np.float32([[0.25, 0.5], [1, 2], [4, 8]]),
            "z": np.uint8([[128, 127], [1, 2], [0, 200]]),
        },
    ),
    "DequantizeLinear of int4": Place(
        "i = DequantizeLinear(w, s, z) y = MatMul(x, i)",
        {"w": (GRID % 16 - 8).astype(ml_dtypes.int4), "s": 0.25, "z": np.array(-3, ml_dtypes.int4)},
    ),
    "DequantizeLinear of uint4 by blocks": Place(
        "i = DequantizeLinear<axis = 1, block_size = 3>(w, s, z) j = Slice(i, from, to, one) "
        "y = MatMul(x, j)",
        {
            "w": (np.random.default_rng(4).integers(0, 16, (3, 5))).astype(ml_dtypes.uint4),
            "s": np.float32([[0.25, 0.5], [1, 2], [4, 8]]),
            "z": np.array([[8, 7], [0, 1], [15, 8]]).astype(ml_dtypes.uint4),
            "from": np.array([1]),
            "to": np.array([5]),
            "one": np.array([1]),
        },
    ),
    "DequantizeLinear, bias too": Place(
        "i = DequantizeLinear(w, s) j = DequantizeLinear(b, s) y = Gemm(x, i, j)",
        {"w": GRID, "s": 0.25, "b": np.int32([1000, -2, 3, 4])},
    ),
    "Slice and Concat": Place(GATES + "y = MatMul(x, i)"),
    "Slice and Concat, bias too": Place(
        GATES + "c = Slice(b, one, four, zero) d = Slice(b, zero, one, zero) "
        "j = Concat<axis = 0>(c, d) y = Gemm(x, i, j)",
        {"w": W, "b": B},
    ),
    "Slice and Concat in If": Place(branch(GATES.replace("zero", "none") + "p = MatMul(x, i)")),
    "Slice of a larger one": Place(
        "from = Constant<value_ints = [4, 9]>() to = Constant<value_ints = [1, -9]>() "
        "by = Constant<value_ints = [-1, -2]>() a = Constant<value_ints = [0, 1]>() "
        "i = Slice(w, from, to, a, by) y = MatMul(x, i)",
        {"w": normal(6, 8, seed=5)},
    ),
    "Split and Concat": Place(
        "n = Constant<value_ints = [1, 2, 1]>() a, b, c = Split<axis = 1>(w, n) "
        "i = Concat<axis = -1>(c, a, b) y = MatMul(x, i)"
    ),
    "Gather": Place(
        "n = Constant<value_ints = [2, -4, 3, 1]>() i = Gather<axis = 1>(w, n) y = MatMul(x, i)"
    ),
    "Gather one of many": Place(
        "n = Constant<value_int = 1>() i = Gather(w, n) y = MatMul(x, i)",
        {"w": normal(2, 3, 4, seed=5)},
    ),
    "If": Place(branch("p = MatMul(x, w)")),
    "If, Gemm": Place(branch("p = Gemm(x, w, b)"), {"w": W, "b": B}),
    "If, weight inside": Place(
        branch("k = Constant<value = float[3,4] {1,2,3,4,5,6,7,8,9,-1,-2,-3}>() p = MatMul(x, k)"),
        {},
    ),
    "If, signal inside": Place(branch("a = Tanh(x) p = MatMul(a, w)")),
    "If in If": Place(
        branch(
            "p = If(c) <then_branch = t2 () => (float[N,4] p2) { a = Tanh(x) p2 = MatMul(a, w) },"
            " else_branch = e2 () => (float[N,4] q2) { q2 = Identity(z) }>"
        )
    ),
    "Loop": Place(LOOP % "r = MatMul(v, w)", outputs="float[N,3] last, float[T,N,M] y", runs=3),
    "Scan": Place(
        "u = Unsqueeze(x, zero) three = Concat<axis = 0>(u, u, u) "
        "last, y = Scan<num_scan_inputs = 1, body = b (float[N,3] s, float[N,3] v) => "
        "(float[N,3] s2, float[N,4] r) { s2 = Add(s, v) r = MatMul(s2, w) }>(x, three)",
        {"w": W, "zero": np.array([0])},
        outputs="float[N,3] last, float[T,N,M] y",
        runs=3,
    ),
    "If in Loop": Place(
        LOOP % "e = Identity(i) two = Constant<value_int = 5>() d = Less(e, two) "
        "r = If(d) <then_branch = t () => (float[N,4] p) { p = MatMul(v, w) },"
        " else_branch = f () => (float[N,4] q) { q = MatMul(x, w2) }>",
        {"w": W, "w2": W[::-1].copy()},
        outputs="float[N,3] last, float[T,N,M] y",
        runs=3,
    ),
    "function argument": Place("y = local.dense(x, w)", functions=DENSE),
    "function body": Place("y = local.dense(x)", {}, STORED),
    "function in If": Place(branch("p = local.dense(x, w)"), functions=DENSE),
    "If in function": Place(
        "y = local.either(x, w)",
        functions='<domain: "local", opset_import: ["" : 21]> either (a, k) => (r) {'
        " s = ReduceSum<keepdims = 0>(a) low = Constant<value_float = -1e9>() c = Greater(s, low)"
        " r = If(c) <then_branch = t () => (float[N,4] p) { p = MatMul(a, k) },"
        " else_branch = e () => (float[N,4] q) { q = MatMul(a, k) }> }",
    ),
    "function in function": Place(
        "y = local.outer(x, w)",
        functions=DENSE + '<domain: "local", opset_import: ["" : 21, "local" : 1]> '
        "outer (a, k) => (r) { t = Identity(k) r = local.dense(a, t) }",
    ),
    "function attribute": Place(
        "y = local.scaled<f = 2.0>(x, w)",
        functions='<domain: "local", opset_import: ["" : 21]> scaled <f> (a, k) => (r) '
        "{ r = Gemm<alpha : float = @f>(a, k) }",
    ),
    "function called twice": Place(
        "a = local.dense(x) n = Neg(x) b = local.dense(n) y = Concat<axis = 0>(a, b)",
        {},
        STORED,
        runs=2,
    ),
    "shared": Place(
        "a = MatMul(x, w) n = Neg(x) b = MatMul(n, w) y = Concat<axis = 0>(a, b)", runs=2
    ),
    "shared bias": Place(
        "a = Gemm(x, w, b) n = Neg(x) d = Gemm(n, w, b) y = Concat<axis = 0>(a, d)",
        {"w": W, "b": B},
        runs=2,
    ),
    "Einsum of three": Place('n = Neg(x) y = Einsum<equation = "ab,bc,ab->ac">(x, w, n)'),
    "left": Place("y = MatMul(w, x)", {"w": normal(4, 5, seed=4)}),
}
