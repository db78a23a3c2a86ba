"""Few bits of thin factors and of smaller layers, and zeros in these."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nettrim_cli.errors import BadInput
from nettrim_cli.graph.channels.factors import halves
from nettrim_cli.graph.model import Model
from nettrim_cli.pipeline import compare, convert, prune
from nettrim_cli.settings import Settings
from nettrim_cli.solve.gram.rounding import to_nearest
from tests.support.effort import examples, thinned
from tests.support.networks import Files, mlp, save_data, save_model
from tests.support.sparse import results

LAYERS = {"threads": 1, "refit": "layers", "augment": "none", "final_fit": "none"}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder, proto = tmp_path_factory.mktemp("second"), mlp(sizes=(16, 64, 48, 4))
    return Files(
        save_model(folder / "model.onnx", proto), save_data(folder / "calib.h5", proto, 300)
    )


def weights_of(path):
    model = Model.load(path)
    return [weight for layer in model.layers for weight in model.weight(layer)[0]]


def integers(column, bits):
    """Whether the weights of an output are integers of so many bits times one number."""
    filled = np.unique(np.abs(column[column != 0])).astype(np.float64)
    counts = np.arange(1, 2 ** (bits - 1))
    return not len(filled) or any(
        np.allclose(filled / (filled[0] / count), np.rint(filled / (filled[0] / count)), atol=1e-3)
        and filled[-1] / (filled[0] / count) < 2 ** (bits - 1) - 0.5
        for count in counts
    )


@examples(25)
@given(rank=st.integers(1, 6), seed=st.integers(0, 99), bits=st.sampled_from([8, 6, 4]))
def test_rounded_factors_give_nearly_what_they_were(rank, seed, bits) -> None:
    """However the singular values fall, each factor has a scale that serves all its weights."""
    random = np.random.default_rng(seed)
    P, _, Q = np.linalg.svd(random.standard_normal((20, 12)), full_matrices=False)
    U = (P[:, :rank] * 10.0 ** -np.arange(rank)) @ Q[:rank]
    first, second = halves(U, rank)
    np.testing.assert_allclose(first @ second, U, atol=1e-9)
    rounded = to_nearest(first, bits) @ to_nearest(second, bits)
    step = 1 / (2 ** (bits - 1) - 1)
    assert np.linalg.norm(rounded - U) < 2.5 * step * np.linalg.norm(U)


@pytest.mark.parametrize(
    ("structure", "bits"),
    thinned([("ranks", 4), ("ranks", 8), ("ranks", 6), ("shrink+zeros", 4)], 4),
)
def test_all_parts_of_smaller_layers_are_on_grids(files, structure, bits) -> None:
    options = {"sparsity": 0.7, "structure": structure} | LAYERS
    whole = prune(files.model, files.data, settings=Settings(**options), force=True)
    report = prune(files.model, files.data, settings=Settings(**options, bits=bits), force=True)
    assert structure != "ranks" or any(layer.rank for layer in report.layers)
    assert report.nonzeros <= whole.nonzeros
    weights = weights_of(files.output)
    assert all(integers(column, bits) for weight in weights for column in weight.T)
    allowed = {8: 1.02, 6: 1.1, 4: 1.6}[bits]
    assert report.comparison.error < allowed * whole.comparison.error
    assert all(layer.error_holdout < 1 for layer in report.layers)


@pytest.mark.slow
def test_files_of_smaller_layers_with_few_bits_are_the_same_packed_or_not(tmp_path, files) -> None:
    sizes = {}
    for store in ("plain", "compact"):
        output = tmp_path / f"{store}.onnx"
        options = Settings(epsilon=0.3, structure="shrink+zeros", bits=4, store=store, **LAYERS)
        prune(files.model, files.data, output, settings=options)
        sizes[store] = output.stat().st_size
    assert sizes["compact"] < 0.5 * sizes["plain"]
    unpacked = tmp_path / "unpacked.onnx"
    convert(tmp_path / "compact.onnx", unpacked, compact=False)
    assert compare(tmp_path / "plain.onnx", unpacked, files.data).error == 0
    x = np.random.default_rng(0).standard_normal((5, 16)).astype(np.float32)
    packed, plain = (onnx.load(tmp_path / f"{store}.onnx") for store in sizes)
    names = [output.name for output in plain.graph.output]
    feeds = {plain.graph.input[0].name: x}
    runs = zip(results(packed, names, feeds), results(plain, names, feeds), strict=True)
    for (actual,), (expected,) in runs:
        np.testing.assert_allclose(actual, expected, atol=1e-5)


@pytest.mark.slow
def test_zeros_in_smaller_layers_count_as_weights_gone(files) -> None:
    options = Settings(sparsity=0.8, structure="shrink+zeros", **LAYERS)
    report = prune(files.model, files.data, settings=options, force=True)
    left = sum(int(np.count_nonzero(weight)) for weight in weights_of(files.output))
    assert report.nonzeros == left
    # Units that nothing reads any more go with weights that were not counted.
    assert -0.002 <= report.sparsity - 0.8 <= 0.01
    assert 0 < report.mix.zeros < 1
    assert "zeros in smaller layers" in report.verdict.outcome


def test_each_response_is_kept_by_both_steps_together(files) -> None:
    options = Settings(epsilon=0.3, structure="shrink+zeros", **LAYERS)
    report = prune(files.model, files.data, settings=options, force=True)
    assert report.sparsity > 0.1
    assert all(layer.error_holdout < 0.45 for layer in report.layers)


@pytest.mark.parametrize(
    ("structure", "target"),
    [
        ("zeros", {"max_error": 0.3}),
        pytest.param("shrink", {"max_bytes": 2500}, marks=pytest.mark.slow),
        pytest.param("shrink+zeros", {"max_error": 0.3}, marks=pytest.mark.slow),
        pytest.param("shrink+zeros", {"max_bytes": 2500}, marks=pytest.mark.slow),
    ],
)
def test_bits_are_chosen_with_zeros_and_widths(files, structure, target) -> None:
    options = Settings(**target, structure=structure, bits="auto", store="compact", **LAYERS)
    report = prune(files.model, files.data, settings=options, force=True)
    assert report.mix.bits in (8, 6, 4, 3)
    assert report.target.met
    if "max_bytes" in target:
        assert files.output.stat().st_size <= target["max_bytes"]
    assert f"{report.mix.bits} bits" in report.verdict.outcome
    weights = weights_of(files.output)
    assert all(integers(column, report.mix.bits) for weight in weights for column in weight.T)


@pytest.mark.parametrize("target", [{"sparsity": 0.5}, {"epsilon": 0.1}])
def test_bits_are_chosen_where_the_whole_network_tells(target) -> None:
    with pytest.raises(BadInput, match="--bits auto"):
        Settings(bits="auto", **target)
