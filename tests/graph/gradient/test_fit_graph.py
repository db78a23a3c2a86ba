"""The loss of whole models, and its gradients against differences."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from nettrim_cli.graph.analysis.before_softmax import before_softmax
from nettrim_cli.graph.gradient.fit_graph import LOSS, TARGET, WEIGHT, FitGraph, fit_graph
from nettrim_cli.graph.ir.index import Index
from tests.conftest import SAMPLE_MODELS
from tests.support.networks import initializers
from tests.support.small import build, normal

GATED = """g (float[n, 4] x) => (float[n, 4] z) {
    y = MatMul(x, W)
    r = Round(y)
    s = Add(r, y)
    u = Unsqueeze(y, axis)
    t = LRN<size = 3>(u)
    v = Squeeze(t, axis)
    z = Add(s, v)
}"""


def session(graph: FitGraph) -> ort.InferenceSession:
    return ort.InferenceSession(graph.runnable.payload, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("name", ["lenet", "mlp", "resnet", "transformer"])
def test_gradients_of_whole_models_agree_with_differences(name) -> None:
    proto = onnx.load(SAMPLE_MODELS / name / "model.onnx")
    index, values = Index(proto), initializers(proto)
    parameters = [name for name, value in values.items() if value.dtype == np.float32]
    scores = before_softmax(index, proto.graph.output[0].name)
    graph = fit_graph(index, parameters, [scores])
    assert graph.parameters == tuple(parameters)
    assert not graph.boundaries
    feeds = {n: values[n] for n in parameters} | {"image": normal(4, 1, 28, 28)}
    feeds |= {TARGET + scores: normal(4, 10), WEIGHT + scores: np.array(0.1, np.float32)}
    run = session(graph)
    loss, *gradients = run.run([LOSS, *graph.gradients], feeds)
    assert loss > 0
    squares = sum(float(np.square(gradient).sum()) for gradient in gradients)
    step = 1e-3 * float(loss) / squares
    ends = []
    for sign in (1, -1):
        pairs = zip(parameters, gradients, strict=True)
        moved = {n: (values[n] + sign * step * gradient) for n, gradient in pairs}
        ends.append(float(run.run([LOSS], feeds | moved)[0]))
    assert abs((ends[0] - ends[1]) / (2 * step * squares) - 1) < 0.02


def test_parameters_before_an_op_without_a_rule_stay() -> None:
    proto = build(GATED, W=normal(4, 4), axis=np.array([2, 3]))
    graph = fit_graph(Index(proto), ["W"], ["z"])
    assert [boundary.op for boundary in graph.boundaries] == ["LRN"]
    assert graph.parameters == ()


def test_steps_have_no_gradient() -> None:
    proto = build(GATED, W=normal(4, 4), axis=np.array([2, 3]))
    graph = fit_graph(Index(proto), ["W"], ["s"])
    x, W = normal(3, 4), normal(4, 4)
    feeds = {"x": x, "W": W, TARGET + "s": normal(3, 4), WEIGHT + "s": np.array(1, np.float32)}
    output, (gradient,) = (session(graph).run(names, feeds) for names in (["s"], graph.gradients))
    expected = 2 * x.T @ (output[0] - feeds[TARGET + "s"])
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-5)
