"""Numbers of axes, against onnxruntime's tensors."""

from __future__ import annotations

import numpy as np
import pytest

from nettrim_cli.graph.model import Model
from tests.support.small import build, normal, only, run

I64 = np.int64
LISTS = {
    "all": np.array([-1, 6], I64),
    "zero": np.array([0], I64),
    "one": np.array([1], I64),
    "two": np.array([2], I64),
    "minus": np.array([-1], I64),
    "scalar": np.array(0, I64),
}
CASES = {
    "a shape by numbers": "y = Reshape(x, all)",
    "a computed shape": """s = Shape(x) n = Slice(s, zero, one)
        t = Concat <axis = 0> (n, two, minus) y = Reshape(x, t)""",
    "a shape of scalars": """s = Shape(x) n = Gather(s, scalar) m = Unsqueeze(n, zero)
        t = Concat <axis = 0> (m, minus) y = Reshape(x, t)""",
    "a shape behind a Cast": """s = Shape(x) f = Cast <to = 1> (s) g = Mul(f, f) h = Sqrt(g)
        i = Cast <to = 7> (g) j = Slice(i, one, two) k = Concat <axis = 0> (j, one)
        l = Concat <axis = 0> (one, k, one, one) c = ConstantOfShape(l) y = Add(c, x)""",
    "axes come and go": """a = Unsqueeze(x, zero) b = Unsqueeze(a, two) c = Squeeze(b, zero)
        y = Transpose(c)""",
    "sums": """a = ReduceSum(x, zero) b = ReduceSum <keepdims = 0> (x, zero)
        c = ReduceMax <axes = [0, 1], keepdims = 0> (x) d = ArgMax <axis = 1, keepdims = 0> (x)
        e = Cast <to = 1> (d) y = Add(c, b)""",
    "a convolution of what has no known rank": """n = NonZero(x) s = Shape(n)
        t = ConstantOfShape(s) k = ReduceMax <keepdims = 0> (t) a = Mul(x, k)
        y = Conv(a, kernel)""",
    "products": """a = MatMul(x, weight) b = MatMul(a, vector) c = MatMul(row, weight)
        y = Add(b, b)""",
    "embeddings": "a = Gather(weight, two_by_two) y = Gather(a, scalar)",
    "parts": "a, b = Split <axis = 2> (x) y = Mul(a, b)",
    "joined": "a = Expand(row, all_ones) b = Concat <axis = 1> (x, x) y = Add(a, x)",
    "one-hot": "s = Shape(x) y = OneHot(s, depth, values)",
    "a list turned over": """s = Shape(x) t = Slice(s, minus, far, zero, minus)
        r = Reshape(t, minus) y = ConstantOfShape(r)""",
}


@pytest.mark.parametrize("name", CASES)
def test_ranks_are_those_of_the_tensors(name) -> None:
    proto = build(
        f"g (float[2,3,6] x) => (float y) {{ {CASES[name]} }}",
        **LISTS,
        two_by_two=np.ones((2, 2), I64),
        all_ones=np.ones(4, I64),
        far=np.array([-9], I64),
        depth=np.array(7, I64),
        values=np.array([0, 1], np.float32),
        kernel=np.ones((4, 3, 1), np.float32),
        weight=np.ones((6, 6), np.float32),
        vector=np.ones(6, np.float32),
        row=np.ones(6, np.float32),
    )
    index = Model(proto).index
    names = [each for node in index.nodes for each in node.output]
    found = run(proto, names, {"x": np.zeros((2, 3, 6), np.float32)})
    unknown = {"k", "a"} if "no known rank" in name else set()
    assert {each: index.rank(each) for each in names if each not in unknown} == {
        each: value.ndim for each, value in zip(names, found, strict=True) if each not in unknown
    }


def test_a_wrongly_declared_output_is_not_believed() -> None:
    proto = build("g (float[N,6] x) => (float[N] y) { y = MatMul(x, w) }", w=np.ones((6, 2), "f4"))
    assert Model(proto).index.rank("y") == 2


def test_a_bias_with_axes_of_one_behind_a_computed_shape() -> None:
    proto = build(
        """g (float[N,6] x) => (float[N,1,4] y) {
            s = Shape(x) n = Slice(s, zero, one) t = Concat <axis = 0> (n, one, minus)
            a = Reshape(x, t) b = MatMul(a, weight) c = Add(b, bias) y = Relu(c)
        }""",
        weight=normal(6, 4),
        bias=normal(1, 1, 4, seed=1),
        **{name: LISTS[name] for name in ("zero", "one", "minus")},
    )
    _, layer = only(proto)
    assert layer.has_bias
    assert layer.response.relu


def test_a_convolution_that_a_computed_tensor_reaches_has_its_relu() -> None:
    """As squeeze and excitation: summands as (1, C, 1, 1), put into that shape on the way."""
    proto = build(
        """g (float[N,3,5,5] x) => (float[N,2,1,1] y) {
            q = Squeeze(x) p = GlobalAveragePool(q) m = Conv(p, k) b = Reshape(bias, shape)
            a = Add(m, b) y = Relu(a)
        }""",
        k=normal(2, 3, 1, 1),
        bias=normal(2, seed=1),
        shape=np.array([1, 2, 1, 1], I64),
    )
    model, layer = only(proto)
    assert layer.response.relu
    assert np.array_equal(model.weight(layer)[1], [normal(2, seed=1)])
