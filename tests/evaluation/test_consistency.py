"""The paper's consistency theorems: right by hand, and silent where their conditions fail."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
import pytest

from nettrim_cli.data.dataset import Calibration, split
from nettrim_cli.evaluation.consistency import consistency
from nettrim_cli.graph.model import Model
from nettrim_cli.pipeline import prune
from nettrim_cli.report.certificate_result import Consistency
from nettrim_cli.settings import Settings
from tests.support.networks import mlp, residual, save_data, save_model
from tests.support.options import PLAIN
from tests.support.sketches import batches, changed
from tests.support.small import build, normal

EPSILON = 0.1


def found(dense: onnx.ModelProto, other: onnx.ModelProto, x: np.ndarray, **chosen) -> Consistency:
    settings = Settings(**{"method": "net-trim", "epsilon": EPSILON} | chosen)
    name = dense.graph.input[0].name
    return consistency(Model(dense), Model(other), batches(name, x), settings, threads=1)


def layers(*models: onnx.ModelProto) -> Iterator[list[np.ndarray]]:
    """(N+1, M) weights of each layer in each of the models, layer by layer."""
    loaded = [Model(model) for model in models]
    for layer in loaded[0].layers:
        pairs = [model.weight(layer) for model in loaded]
        yield [np.vstack([W, b[None]]).astype(np.float64) for (W,), (b,) in pairs]


def with_ones(signal: np.ndarray) -> np.ndarray:
    return np.vstack([signal, np.ones(signal.shape[1])])


@pytest.fixture(scope="module")
def pruned(tmp_path_factory) -> tuple[onnx.ModelProto, np.ndarray, dict[str, onnx.ModelProto]]:
    """A network, its samples, and what net-trim makes of it in both schemes."""
    folder, proto = tmp_path_factory.mktemp("run"), mlp(sizes=(8, 12, 10, 4))
    model, data = save_model(folder / "model.onnx", proto), save_data(folder / "x.h5", proto, 200)
    made = {}
    for scheme in ("parallel", "cascade"):
        chosen = Settings(**PLAIN | {"method": "net-trim", "scheme": scheme, "epsilon": EPSILON})
        report = prune(model, data, folder / f"{scheme}.onnx", chosen)
        made[scheme] = onnx.load(folder / f"{scheme}.onnx")
        theorem = report.certificate.consistency
        assert theorem.why_unproved == ""
        assert theorem.error <= theorem.sharper <= theorem.bound
        text = f"Theorem {theorem.theorem} of the Net-Trim paper: on the samples"
        assert text in report.render(".md")
    with Calibration.open(data, Model(proto).inputs) as samples:
        fitted, _ = split(200, 200, 0.2, 0)
        (batch,) = samples.batches(fitted, 160)
    return proto, batch.feeds["x"], made


def test_theorem_1_by_hand(pruned) -> None:
    dense, _, made = pruned
    x = normal(160, 8)
    other, signal, pruned_signal, bound, scales = made["parallel"], x.T, x.T, 0.0, []
    widest = 0.0
    for W, U in layers(dense, other):
        last = len(scales) == 2
        Z, alone = W.T @ with_ones(signal), U.T @ with_ones(signal)
        pruned_signal = U.T @ with_ones(pruned_signal)
        if not last:
            Z, alone, pruned_signal = (np.maximum(A, 0) for A in (Z, alone, pruned_signal))
        size = np.linalg.norm(Z)
        widest = max(widest, np.linalg.norm(alone - Z) / size)
        bound = np.abs(W).sum() * bound + size
        scales.append(np.abs(W).sum())
        signal = Z
    epsilon = 1.01 * widest  # within which each layer is on these samples
    result = found(dense, other, x, scheme="parallel", epsilon=epsilon)
    assert (result.theorem, result.why_unproved) == (1, "")
    assert result.bound == pytest.approx(epsilon * bound / np.linalg.norm(signal), rel=1e-5)
    error = np.linalg.norm(pruned_signal - signal) / np.linalg.norm(signal)
    assert result.error == pytest.approx(error, rel=1e-4)
    outside = found(dense, other, x, scheme="parallel", epsilon=0.9 * widest)
    assert "is outside of its epsilon: an error 1.11 times of it" in outside.why_unproved


def test_theorem_1_on_a_network_with_norms_of_1_is_the_sum_of_epsilons(pruned) -> None:
    dense, _, made = pruned
    x = normal(100, 8)
    models = [Model(dense).clone(), Model(made["parallel"]).clone()]
    divisor, divided = 1.0, []
    for (W, _), layer in zip(layers(dense, dense), models[0].layers, strict=True):
        # A bias is divided by all norms so far, so that the whole response is.
        norm = np.abs(W).sum()
        divisor *= norm
        for model in models:
            (weight,), (bias,) = model.weight(layer)
            model.set_weight(layer, [weight / norm], [bias / divisor])
        divided.append(norm)
    plain = found(dense, made["parallel"], x, scheme="parallel", epsilon=0.9)
    result = found(models[0].proto, models[1].proto, x, scheme="parallel", epsilon=0.9)
    assert result.error == pytest.approx(plain.error, rel=1e-3)
    assert result.bound <= plain.bound  # its biases are no larger, and count in the norms
    sizes, signal = [], x.T
    for at, (W, _) in enumerate(layers(models[0].proto, models[0].proto)):
        signal = W.T @ with_ones(signal)
        signal = signal if at == 2 else np.maximum(signal, 0)
        sizes.append(np.linalg.norm(signal))
        assert np.abs(W[:-1]).sum() <= 1
    assert result.bound <= 0.9 * sum(sizes) / sizes[-1] * (1 + 1e-6)


def test_theorem_2_by_hand(pruned) -> None:
    dense, x, made = pruned
    first, second, third = layers(dense, made["cascade"])
    Y = np.maximum(first[0].T @ with_ones(x.T), 0)
    out = third[0].T @ with_ones(np.maximum(second[0].T @ with_ones(Y), 0))
    by_hand = EPSILON * np.linalg.norm(Y) / np.linalg.norm(out)
    for W in (second[0], third[0]):
        by_hand *= np.sqrt(1.1) * np.abs(W).sum()
    result = found(dense, made["cascade"], x)
    assert (result.theorem, result.why_unproved) == (2, "")
    assert result.bound == pytest.approx(by_hand, rel=1e-5)
    norms = [np.linalg.norm(W[:-1], 2) / np.abs(W).sum() for W in (second[0], third[0])]
    assert result.sharper == pytest.approx(by_hand * np.prod(norms), rel=1e-4)
    tight = found(dense, made["cascade"], x, gamma=1.0)
    assert "is outside of its epsilon" in tight.why_unproved
    loose = found(dense, made["parallel"], x)
    assert "layer" in loose.why_unproved


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("h = Gemm(x, w, b)\nr = Sigmoid(h)\ny = Gemm(r, v, c)", "is followed by"),
        ("h = Gemm(x, w, b)\ny = Gemm(h, v, c)", "is followed by no ReLU"),
        ("h = Gemm(x, w, b)\nr = Relu(h)\nz = Gemm(r, v, c)\ny = Add(z, x)", "is followed by"),
        ("h = Gemm(x, w, b)\nr = Relu(h)\ns = Add(r, x)\ny = Gemm(s, v, c)", "no link of a chain"),
        ("h = Gemm(x, w, b)\nr = Relu(h)\ns = Exp(r)\ny = Gemm(s, v, c)", "not part of a ReLU"),
    ],
)
def test_networks_of_another_kind(text: str, reason: str) -> None:
    signature = "g (float[N,4] x) => (float[N,4] y)"
    tensors = {"w": normal(4, 4), "b": normal(4), "v": normal(4, 4), "c": normal(4)}
    dense = build(f"{signature} {{\n{text}\n}}", **tensors)
    result = found(dense, dense, normal(20, 4), scheme="parallel")
    assert reason in result.why_unproved
    assert result.bound is None


def test_convolutions_other_targets_and_l0_are_not_what_the_theorems_are_about() -> None:
    dense, chain = residual(), mlp()
    x, other = normal(4, 2, 6, 6), changed(chain, 1, 0.9)
    assert "is no fully connected one, but a Conv" in found(dense, dense, x).why_unproved
    by_zeros = found(chain, other, normal(9, 16), epsilon=None, sparsity=0.5)
    assert "needs an epsilon" in by_zeros.why_unproved
    assert found(chain, other, normal(9, 16), method="l0") == Consistency()
    far = found(chain, other, normal(9, 16), scheme="parallel", epsilon=0.01)
    assert "is outside of its epsilon" in far.why_unproved
