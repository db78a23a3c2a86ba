"""The baselines do what their papers say."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks.baselines import alps, magnitude, net_trim_admm, net_trim_iterates, sparsegpt, wanda
from benchmarks.certificate import Program
from benchmarks.layers import best_other, verdict
from benchmarks.minilm import Encoder, safetensors, wordpieces, words
from tests.support.effort import thinned


def planted(seed: int) -> tuple[Program, np.ndarray]:
    """A program whose optimum is known: built from its optimality conditions."""
    random = np.random.default_rng(seed)
    inputs, outputs, samples, epsilon = 8, 5, 80, 0.8
    X = random.standard_normal((inputs, samples))
    X[-1] = 1
    U = random.standard_normal((inputs, outputs)) * (random.random((inputs, outputs)) < 0.4)
    U[-1] = 1.5  # a bias that makes every neuron active somewhere
    S = np.where(U != 0, np.sign(U), random.uniform(-0.9, 0.9, U.shape))
    T = U.T @ X
    omega = T > 0.3
    L = np.zeros(T.shape)
    for row, active, sign in zip(L, omega, S.T, strict=True):
        row[active] = np.linalg.lstsq(X[:, active], -sign, rcond=None)[0]
    Y = np.where(omega, T - epsilon * L / np.linalg.norm(L), 0)
    assert (Y[omega] > 0).all()
    return Program(X, Y, np.maximum(T, 0), epsilon), U


@pytest.mark.parametrize("seed", thinned(range(3), 3))
@pytest.mark.parametrize(("normalise", "relaxation"), [(True, 1), (False, 1), (True, 1.7)])
def test_net_trim_reaches_a_planted_optimum(seed: int, normalise: bool, relaxation: float) -> None:
    program, U = planted(seed)
    assert program.violation(U) < 1e-9
    rho, optimum = 20, program.value(U)
    for iterate in net_trim_iterates(
        program.X,
        U,
        program.epsilon,
        rho,
        4000,
        Y=program.Y,
        V=program.V,
        normalise=normalise,
        relaxation=relaxation,
    ):
        assert iterate.number > 5 or program.lower_bound(iterate.multiplier) <= optimum + 1e-9
    assert program.value(iterate.sparse) == pytest.approx(optimum, rel=1e-3)
    assert program.violation(iterate.sparse) < 1e-3
    np.testing.assert_allclose(iterate.sparse, U, atol=0.01)
    bound = program.lower_bound(iterate.multiplier)
    assert optimum * (1 - 1e-3) <= bound <= optimum * (1 + 1e-9)


def test_net_trim_gives_zero_where_zero_is_allowed() -> None:
    random = np.random.default_rng(0)
    X, W = random.standard_normal((6, 40)), random.standard_normal((6, 3))
    allowed = 1.01 * float(np.linalg.norm(np.maximum(W.T @ X, 0)))
    assert not net_trim_admm(X, W, allowed, iterations=500).any()


def test_the_trained_weights_are_feasible() -> None:
    random = np.random.default_rng(0)
    X, W = random.standard_normal((6, 40)), random.standard_normal((6, 3))
    program = Program.parallel(X, W, 0.1)
    assert program.violation(W) == 0
    assert program.violation(2 * W) > 1


def correlated(inputs: int, outputs: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Inputs that share a few causes, and weights."""
    random = np.random.default_rng(seed)
    causes = random.standard_normal((inputs, inputs // 4)) @ random.standard_normal(
        (inputs // 4, 20 * inputs)
    )
    return causes + random.standard_normal(causes.shape), random.standard_normal((inputs, outputs))


@pytest.mark.parametrize("block", [16, 24, 128])
@pytest.mark.parametrize("kept", [0.7, 0.5, 0.27])
def test_sparsegpt_beats_magnitude_with_the_exact_count(block: int, kept: float) -> None:
    X, W = correlated(100, 30)
    keep = round(kept * W.size)
    found = sparsegpt(W, X @ X.T, keep, block)
    plain = magnitude(W, keep)
    assert np.count_nonzero(found) == np.count_nonzero(plain) == keep
    assert np.linalg.norm((found - W).T @ X) < 0.9 * np.linalg.norm((plain - W).T @ X)


def test_sparsegpt_is_magnitude_in_each_block_where_inputs_are_independent() -> None:
    W = np.random.default_rng(1).standard_normal((60, 10))
    found = sparsegpt(W, np.eye(60), 180, block=20)
    for at in range(0, 60, 20):
        part = slice(at, at + 20)
        np.testing.assert_allclose(found[part], magnitude(W[part], 60), rtol=1e-6)


def test_sparsegpt_corrects_exactly_what_one_input_can() -> None:
    # Two equal inputs, one weight each to keep: the kept one takes over the other's part.
    C = np.array([[2.0, 2.0], [2.0, 2.0]])
    found = sparsegpt(np.array([[1.0], [3.0]]), C, 1, damp=1e-4)
    np.testing.assert_allclose(found, [[0], [4]], atol=1e-3)


def test_sparsegpt_clears_dead_inputs() -> None:
    X, W = correlated(20, 4)
    X[3] = 0
    found = sparsegpt(W, X @ X.T, 40)
    assert np.isfinite(found).all()
    assert not found[3].any()


def test_sparsegpt_keeps_all_when_asked_to() -> None:
    X, W = correlated(20, 4)
    np.testing.assert_allclose(sparsegpt(W, X @ X.T, W.size), W, rtol=1e-6)


def test_wanda_is_magnitude_where_inputs_are_alike() -> None:
    W = np.random.default_rng(2).standard_normal((12, 5))
    found = wanda(W, 7 * np.eye(12), 20, groups="layer")
    np.testing.assert_array_equal(found, magnitude(W, 20))
    per_output = wanda(W, 7 * np.eye(12), 20)
    for output in range(5):
        column = W[:, [output]]
        np.testing.assert_array_equal(per_output[:, [output]], magnitude(column, 4))


def test_wanda_prefers_strong_inputs_and_counts_exactly() -> None:
    W = np.array([[1.0, 1.0], [2.0, 2.0], [0.5, 3.0]])
    C = np.diag([100.0, 1.0, 1.0])
    np.testing.assert_array_equal(wanda(W, C, 2) != 0, [[1, 1], [0, 0], [0, 0]])
    W = np.random.default_rng(3).standard_normal((13, 7))
    for keep in (0, 1, 40, 91):
        for groups in ("output", "layer"):
            assert np.count_nonzero(wanda(W, np.eye(13), keep, groups=groups)) == keep


@pytest.mark.parametrize("kept", [0.7, 0.5, 0.27, 0.1])
def test_alps_beats_sparsegpt_with_the_exact_count(kept: float) -> None:
    X, W = correlated(100, 30)
    C, keep = X @ X.T, round(kept * W.size)
    found = alps(W, C, keep, damp=1e-4)
    swept = sparsegpt(W, C, keep, damp=1e-4)
    assert np.count_nonzero(found) == keep
    assert np.linalg.norm((found - W).T @ X) < np.linalg.norm((swept - W).T @ X)


def test_alps_is_a_solve_on_its_support() -> None:
    X, W = correlated(30, 6)
    C = X @ X.T
    found = alps(W, C, 60, damp=0, steps=200)
    for j, on in enumerate((found != 0).T):
        expected = np.linalg.solve(C[np.ix_(on, on)], (C @ W[:, j])[on])
        np.testing.assert_allclose(found[on, j], expected, rtol=1e-2, atol=1e-2)


def test_alps_finds_sparse_weights_again() -> None:
    X, W = correlated(40, 8)
    W = W * (np.random.default_rng(5).random(W.shape) < 0.3)
    found = alps(W, X @ X.T, np.count_nonzero(W), damp=0)
    np.testing.assert_array_equal(found != 0, W != 0)
    np.testing.assert_allclose(found, W, atol=1e-3)


def test_alps_with_dead_inputs() -> None:
    X, W = correlated(20, 4)
    X[3] = 0
    assert np.isfinite(alps(W, X @ X.T, 40, damp=0)).all()


@pytest.mark.parametrize(("inputs", "block"), [(100, 128), (64, 16), (30, 128)])
def test_sparsegpt_keeps_n_of_every_m(inputs: int, block: int) -> None:
    X, W = correlated(inputs, 12)
    found = sparsegpt(W, X @ X.T, 0, block, pattern=(2, 4))
    whole = inputs - inputs % 4
    counts = np.count_nonzero(found[:whole].reshape(-1, 4, 12), axis=1)
    assert (counts == 2).all()
    plain = np.zeros_like(W)
    for at in range(0, inputs, 4):
        for j in range(12):
            best = np.argsort(-np.abs(W[at : at + 4, j]))[:2]
            plain[at + best, j] = W[at + best, j]
    assert np.linalg.norm((found - W).T @ X) < 0.9 * np.linalg.norm((plain - W).T @ X)
    independent = sparsegpt(W, np.eye(inputs), 0, block, pattern=(2, 4))
    np.testing.assert_allclose(independent, plain, rtol=1e-6)


def test_safetensors_are_read() -> None:
    one, two = np.arange(6, dtype="<f4").reshape(2, 3), np.array([7, 8], "<i8")
    header = {
        "__metadata__": {"format": "pt"},
        "one": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
        "two": {"dtype": "I64", "shape": [2], "data_offsets": [24, 40]},
    }
    text = json.dumps(header).encode()
    found = safetensors(len(text).to_bytes(8, "little") + text + one.tobytes() + two.tobytes())
    assert set(found) == {"one", "two"}
    np.testing.assert_array_equal(found["one"], one)
    np.testing.assert_array_equal(found["two"], two)


def test_word_pieces_are_the_longest_from_the_left() -> None:
    known = {"[UNK]": 0, "un": 1, "##aff": 2, "##able": 3, "u": 4, "##a": 5, ",": 6}
    assert [piece for word in words("Unaffable,") for piece in wordpieces(word, known)] == [
        *(1, 2, 3),
        6,
    ]
    assert wordpieces("unx", known) == [0]
    assert words("Caf\u00e9 (x_y)") == ["cafe", "(", "x", "_", "y", ")"]


def test_tokens_attend_within_their_text_only() -> None:
    random = np.random.default_rng(0)
    shapes = {"embeddings.word_embeddings.weight": (9, 24)}
    shapes |= {"embeddings.position_embeddings.weight": (8, 24)}
    shapes |= {"embeddings.token_type_embeddings.weight": (2, 24)}
    at = "encoder.layer.0."
    for part in ("query", "key", "value"):
        shapes[f"{at}attention.self.{part}.weight"] = (24, 24)
    shapes |= {f"{at}attention.output.dense.weight": (24, 24)}
    shapes |= {f"{at}intermediate.dense.weight": (48, 24), f"{at}output.dense.weight": (24, 48)}
    shapes |= {f"{name[:-6]}bias": shape[:1] for name, shape in shapes.items() if at in name}
    for name in ("embeddings.", f"{at}attention.output.", f"{at}output."):
        shapes |= {f"{name}LayerNorm.{each}": (24,) for each in ("weight", "bias")}
    encoder = Encoder({name: random.standard_normal(shape) for name, shape in shapes.items()})
    texts = [[1, 2, 3, 4, 5], [6, 7, 8]]
    together = [each[-1] for each in encoder.run(texts)]
    apart = [[each[-1] for each in encoder.run([text])] for text in texts]
    assert len(together) == 6
    for whole, *parts in zip(together, *apart, strict=True):
        np.testing.assert_allclose(whole, np.vstack(parts), rtol=1e-9, atol=1e-9)


def test_verdicts_compare_with_the_best_other() -> None:
    cell = {"errors": {"one": 0.4, "two": 0.2, "nettrim l0": 0.15}}
    assert best_other(cell) == ("two", pytest.approx(0.75))
    found = [verdict(ratio) for ratio in (0.9, 0.95, 0.96, 1.0, 1.01, 1.02)]
    expected = ["won by 5 %"] * 2 + ["won"] + ["within 1 %"] * 2 + ["LOST"]
    assert found == expected
