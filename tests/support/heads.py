"""Attention of several heads, with parts that tests replace."""

from __future__ import annotations

import numpy as np
import onnx

from tests.support.small import build, normal

HEADS, SIZE = 3, 4
QUERIES = """q0 = MatMul(x, wq)
    q1 = Add(q0, bq)
    q2 = Reshape(q1, split)
    q = Transpose<perm = [0,2,1,3]>(q2)"""
BEFORE = QUERIES.replace("q = Tr", "q3 = Tr")
KEYS = """k0 = MatMul(x, wk)
    k1 = Reshape(k0, split)
    k = Transpose<perm = [0,2,3,1]>(k1)"""
REST = """s = MatMul(q, k)
    p0 = Div(s, root)
    p = Softmax<axis = -1>(p0)
    v0 = MatMul(x, wv)
    v1 = Reshape(v0, split)
    v = Transpose<perm = [0,2,1,3]>(v1)
    h0 = MatMul(p, v)
    h1 = Transpose<perm = [0,2,1,3]>(h0)
    h = Reshape(h1, joined)
    y = MatMul(h, wo)"""


def heads(
    queries=QUERIES, keys=KEYS, rest=REST, outputs="float[N,5,6] y", **more
) -> onnx.ModelProto:
    """Attention of three heads of size four."""
    width = HEADS * SIZE
    return build(
        f"g (float[N,5,6] x) => ({outputs}) {{ {queries}\n{keys}\n{rest} }}",
        **dict(
            wq=normal(6, width, seed=1),
            bq=normal(width, seed=5),
            wk=normal(6, width, seed=2),
            wv=normal(6, width, seed=3),
            wo=normal(width, 6, seed=4),
            split=np.array([0, 5, HEADS, SIZE]),
            joined=np.array([0, 5, width]),
            root=np.float32(2),
            **more,
        ),
    )
