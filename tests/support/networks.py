"""Small networks of every shape that a pruner meets, with data; random weights, fixed seeds."""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import onnx
from onnx import numpy_helper

from tests.support.small import build, normal, run


@dataclass(frozen=True)
class Files:
    """A model, its data, and where the output goes by default."""

    model: Path
    data: Path

    @property
    def folder(self) -> Path:
        return self.model.parent

    @property
    def output(self) -> Path:
        return self.folder / "model.pruned.onnx"

    @property
    def listing(self) -> list[str]:
        return sorted(os.listdir(self.folder))


def he(*shape: int, seed: int, inputs: int | None = None) -> np.ndarray:
    """Weights of the usual scale for their number of inputs."""
    fan = inputs or shape[0]
    return (normal(*shape, seed=seed) * np.sqrt(2 / fan)).astype(np.float32)


def mlp(seed: int = 0, sizes: tuple[int, ...] = (16, 24, 12, 4)) -> onnx.ModelProto:
    """Gemm and ReLU in a chain, class scores at the end."""
    lines, tensors, last = [], {}, "x"
    for at, (n, m) in enumerate(itertools.pairwise(sizes), 1):
        out = "y" if at == len(sizes) - 1 else f"h{at}"
        lines.append(f"z{at} = Gemm({last}, w{at}, b{at})" if out != "y" else "")
        lines.append(f"{out} = Relu(z{at})" if out != "y" else f"y = Gemm({last}, w{at}, b{at})")
        tensors[f"w{at}"] = he(n, m, seed=seed + at)
        tensors[f"b{at}"] = 0.1 * normal(m, seed=seed + 50 + at)
        last = out
    body = "\n".join(each for each in lines if each)
    return build(f"g (float[N,{sizes[0]}] x) => (float[N,{sizes[-1]}] y) {{\n{body}\n}}", **tensors)


def wide_chain(layers: int, width: int) -> onnx.ModelProto:
    """Square MatMul and ReLU in a chain."""
    lines = ["h0 = Identity(x)"]
    for at in range(layers):
        lines += [f"z{at} = MatMul(h{at}, w{at})", f"h{at + 1} = Relu(z{at})"]
    tensors = {f"w{at}": he(width, width, seed=at) for at in range(layers)}
    body = "\n".join([*lines, f"y = Identity(h{layers})"])
    return build(f"g (float[N,{width}] x) => (float[N,{width}] y) {{\n{body}\n}}", **tensors)


def residual() -> onnx.ModelProto:
    """Conv and BatchNormalization with a residual add, then Gemm: branches and cascades."""
    text = """g (float[N,2,6,6] x) => (float[N,3] y) {
        c1 = Conv<pads = [1,1,1,1]>(x, w1)
        n1 = BatchNormalization(c1, s1, t1, m1, v1)
        r1 = Relu(n1)
        c2 = Conv<pads = [1,1,1,1]>(r1, w2, b2)
        a = Add(c2, r1)
        r2 = Relu(a)
        k = Conv<strides = [2,2]>(r1, w3)
        p = GlobalAveragePool(r2)
        q = GlobalAveragePool(k)
        u = Concat<axis = 1>(p, q)
        f = Flatten(u)
        y = Gemm<transB = 1>(f, w4, b4)
    }"""
    return build(
        text,
        w1=he(4, 2, 3, 3, seed=1, inputs=18),
        w2=he(4, 4, 3, 3, seed=2, inputs=36),
        w3=he(3, 4, 1, 1, seed=3, inputs=4),
        w4=he(3, 7, seed=4, inputs=7),
        b2=0.1 * normal(4, seed=5),
        b4=0.1 * normal(3, seed=6),
        s1=1 + 0.1 * normal(4, seed=7),
        t1=0.1 * normal(4, seed=8),
        m1=0.1 * normal(4, seed=9),
        v1=np.abs(1 + 0.1 * normal(4, seed=10)),
    )


def attention() -> onnx.ModelProto:
    """One head on rank 3: query, key and value read one tensor."""
    text = """g (float[N,5,8] x) => (float[N,5,3] y) {
        q0 = MatMul(x, wq)
        q = Add(q0, bq)
        k = MatMul(x, wk)
        v = MatMul(x, wv)
        kt = Transpose<perm = [0,2,1]>(k)
        s = MatMul(q, kt)
        p = Softmax<axis = -1>(s)
        h = MatMul(p, v)
        r = Add(h, x)
        y0 = MatMul(r, wo)
        y = Add(bo, y0)
    }"""
    return build(
        text,
        wq=0.3 * normal(8, 8, seed=1),
        wk=0.3 * normal(8, 8, seed=2),
        wv=0.3 * normal(8, 8, seed=3),
        wo=he(8, 3, seed=4),
        bq=0.1 * normal(8, seed=5),
        bo=0.1 * normal(3, seed=6),
    )


NETWORKS = {"mlp": mlp, "residual": residual, "attention": attention}


def save_model(path: Path, proto: onnx.ModelProto) -> Path:
    path.write_bytes(proto.SerializeToString())
    return path


def input_samples(proto: onnx.ModelProto, count: int, seed: int = 0) -> np.ndarray:
    """Correlated samples, as data are."""
    (value,) = proto.graph.input
    shape = [axis.dim_value for axis in value.type.tensor_type.shape.dim[1:]]
    wide = int(np.prod(shape))
    mixing = np.random.default_rng(99).standard_normal((wide, wide)) / np.sqrt(wide)
    mixing *= np.linspace(2, 0.2, wide)[:, None]
    drawn = np.random.default_rng(seed).standard_normal((count, wide)) @ mixing
    return drawn.reshape(count, *shape).astype(np.float32)


def save_data(path: Path, proto: onnx.ModelProto, count: int, seed: int = 0) -> Path:
    """Samples for a model of one input, labelled by the model itself where it has scores."""
    x = input_samples(proto, count, seed)
    arrays: dict[str, Any] = {proto.graph.input[0].name: x}
    (scores,) = run(proto, [proto.graph.output[0].name], {proto.graph.input[0].name: x})
    if scores.ndim == 2:
        arrays["labels"] = scores.argmax(axis=1)
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file[name] = values
    return path


def initializers(proto: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {each.name: numpy_helper.to_array(each) for each in proto.graph.initializer}
