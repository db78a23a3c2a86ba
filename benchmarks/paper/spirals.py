"""Two nested spirals, as in the supplement: networks trained here, pruned in a cascade."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks.common import Matrix
from benchmarks.paper.networks import Cells
from nettrim_cli import prune
from nettrim_cli.data.engine import Engine

POINTS = 400  # of both spirals together
TURNS = 1.75
STEPS, RATE, DROPOUT = 1200, 0.01, 0.2
WIDTHS = (50, 75, 125, 175, 200)  # of both hidden layers, as in the supplement's Table S.1
GAINS = (0.02, 0.05, 0.1, 0.2)  # of its Figure S.2 in spirit: cascade against parallel
FIGURE_WIDTH = 75
TABLE_GAINS = (0.02, 0.01, 0.005, 0.002)  # the first with an error below MOST_ERROR
MOST_ERROR = 0.02
RISKS = (0.35, 0.5, 0.7, 1.0)  # the supplement has the first; the first that weights bear


def cells() -> Cells:
    """The first experiment, the table by widths, and both schemes against each other."""
    chosen: Cells = {"spirals first": first}
    for scheme in ("parallel", "cascade"):
        for gain in GAINS:
            chosen[f"spirals {scheme} {gain:g}"] = partial(swept, scheme, gain)
    return chosen | {f"spirals {width}": partial(within, width) for width in WIDTHS}


def first() -> dict[str, Any]:
    """The supplement's first experiment, with the smallest risk that weights bear."""
    points, labels = spirals()
    trained = network(points, labels, WIDTHS[-1], 0.0)
    rows = (pruned(trained, points, labels, "cascade", 0.01, risk) for risk in RISKS)
    return next(row for row in rows if not row["notes"][-1])


def within(width: int) -> dict[str, Any]:
    """The largest gain whose error is small enough, or the least."""
    points, labels = spirals()
    trained, row = network(points, labels, width, DROPOUT), dict[str, Any]()
    for gain in TABLE_GAINS:
        row = pruned(trained, points, labels, "cascade", gain)
        if row["error"] <= MOST_ERROR:
            break
    return row


def swept(scheme: str, gain: float) -> dict[str, Any]:
    """One network of the comparison of both schemes."""
    points, labels = spirals()
    trained = network(points, labels, FIGURE_WIDTH, DROPOUT)
    return pruned(trained, points, labels, scheme, gain)


def spirals() -> tuple[Matrix, Matrix]:
    """(P, 2) points of two nested spirals, and the number of each one's spiral."""
    random = np.random.default_rng(0)
    labels = np.arange(POINTS) % 2
    radius = np.sqrt(random.uniform(0.02, 1, POINTS))
    angle = 2 * np.pi * TURNS * radius + np.pi * labels
    points = 1.4 * radius[:, None] * np.column_stack([np.cos(angle), np.sin(angle)])
    return (points + 0.02 * random.standard_normal(points.shape)).astype(np.float32), labels


def network(points: Matrix, labels: Matrix, width: int, dropout: float) -> onnx.ModelProto:
    """A network 2-width-width-2, trained by Adam on the cross entropy of all points.

    Parameters
    ----------
    points, labels
        (P, 2), and (P,).
    width
        Of both hidden layers.
    dropout
        Share of the hidden units that are left out in a step.
    """
    random = np.random.default_rng(width)
    sizes = (2, width, width, 2)
    shapes = [(n + 1, m) for n, m in zip(sizes, sizes[1:], strict=False)]
    weights = [
        random.standard_normal(s, np.float32) * np.float32(np.sqrt(2 / s[0])) for s in shapes
    ]
    moments = [[np.zeros(s, np.float32) for s in shapes] for _ in range(2)]
    target = np.eye(2, dtype=np.float32)[labels]
    share = np.float32(1 - dropout)
    for step in range(1, STEPS + 1):
        shape = len(points), width
        kept = [random.random(shape, np.float32) >= dropout for _ in range(2)]
        gradients = backward(weights, points, target, [mask / share for mask in kept])
        rate = RATE * 0.5 * (1 + np.cos(np.pi * step / STEPS))
        for k, gradient in enumerate(gradients):
            moments[0][k] += 0.1 * (gradient - moments[0][k])
            moments[1][k] += 0.001 * (gradient**2 - moments[1][k])
            scale = np.sqrt(moments[1][k] / (1 - 0.999**step)) + 1e-8
            weights[k] -= np.float32(rate / (1 - 0.9**step)) * moments[0][k] / scale
    return as_model(weights)


def backward(
    weights: list[Matrix], points: Matrix, target: Matrix, kept: list[Matrix]
) -> list[Matrix]:
    """Gradients of the mean cross entropy for each (N+1, M) of weights, biases in the last rows."""
    ones = np.ones((len(points), 1), np.float32)
    inputs = [np.hstack([points, ones])]
    for W, mask in zip(weights[:-1], kept, strict=True):
        inputs.append(np.hstack([np.maximum(inputs[-1] @ W, 0) * mask, ones]))
    scores = inputs[-1] @ weights[-1]
    likely = np.exp(scores - scores.max(axis=1, keepdims=True))
    error = (likely / likely.sum(axis=1, keepdims=True) - target) / len(points)
    gradients = [inputs[-1].T @ error]
    for k in (1, 0):
        error = (error @ weights[k + 1][:-1].T) * kept[k] * (inputs[k + 1][:, :-1] > 0)
        gradients.insert(0, inputs[k].T @ error)
    return gradients


def as_model(weights: list[Matrix]) -> onnx.ModelProto:
    """The network as ONNX, the scores as its output."""
    nodes, tensors, signal = [], [], "x"
    for k, W in enumerate(weights, 1):
        tensors += [
            numpy_helper.from_array(values.astype(np.float32), name)
            for values, name in ((W[:-1], f"w{k}"), (W[-1], f"b{k}"))
        ]
        last = k == len(weights)
        out = "scores" if last else f"z{k}"
        nodes.append(helper.make_node("Gemm", [signal, f"w{k}", f"b{k}"], [out], name=f"layer {k}"))
        if not last:
            nodes.append(helper.make_node("Relu", [out], [f"h{k}"]))
        signal = f"h{k}"
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["P", 2]) for name in ("x", "scores")
    ]
    graph = helper.make_graph(nodes, "spirals", ends[:1], ends[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def pruned(
    model: onnx.ModelProto,
    points: Matrix,
    labels: Matrix,
    scheme: str,
    gain: float,
    risk: float = 1.0,
) -> dict[str, Any]:
    """Non-zeros of each layer before and after, the error of the scores, and accuracies.

    Parameters
    ----------
    model, points, labels
        The network, and what it is pruned and judged on.
    scheme, gain, risk
        Settings of the run; gain is epsilon.
    """
    options = {"method": "net-trim", "scheme": scheme, "epsilon": gain, "risk": risk}
    fixed = {"no_delete": True, "certificate": "none", "threads": 1}
    report = prune(model, (points, labels), **options, **fixed)
    dense, sparse = (
        Engine(each.SerializeToString(), threads=1).run({"x": points})[0]
        for each in (model, report.model)
    )
    return {
        "scheme": scheme,
        "epsilon": gain,
        "risk": risk,
        "before": [layer.nonzeros_before for layer in report.layers],
        "after": [layer.nonzeros_after for layer in report.layers],
        "status": [layer.status for layer in report.layers],
        "notes": [layer.note for layer in report.layers],
        "error": float(np.linalg.norm(sparse - dense) / np.linalg.norm(dense)),
        "accuracy": [float((scores.argmax(axis=1) == labels).mean()) for scores in (dense, sparse)],
    }
