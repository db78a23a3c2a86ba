"""What holds for some layers only: it is kept to, and contradictions are told."""

from __future__ import annotations

import numpy as np
import pytest

from nettrim_cli import Settings, prune
from nettrim_cli.errors import BadInput, WrongUsage
from nettrim_cli.graph.model import Model
from nettrim_cli.settings import LayerOptions
from tests.support.networks import mlp, save_data, save_model
from tests.support.options import PLAIN


@pytest.fixture
def network(tmp_path):
    """Paths of a model and its samples, and the names of its layers."""
    proto = mlp()
    model = save_model(tmp_path / "model.onnx", proto)
    data = save_data(tmp_path / "calib.h5", proto, 150)
    return model, data, [layer.name for layer in Model.load(model).layers]


def pruned(network, tmp_path, **options):
    model, data, _ = network
    settings = Settings(**PLAIN | options)
    report = prune(model, data, tmp_path / "out.onnx", settings)
    return report, Model.load(tmp_path / "out.onnx")


def weights(model, name):
    layer = next(layer for layer in model.layers if layer.name == name)
    return model.weight(layer)[0][0]


def test_sparsity_and_limits_are_kept_to_and_the_last_table_holds(network, tmp_path) -> None:
    first, second, *_ = network[2]
    layers = (
        LayerOptions("*", limit="0.1:0.9"),
        LayerOptions(first, sparsity=0.25),
        LayerOptions(second, sparsity=0.9),
        LayerOptions(second, limit="0:0.3"),
    )
    report, _ = pruned(network, tmp_path, sparsity=0.27, layers=layers)
    shares = {each.name: 1 - each.nonzeros_after / each.weights for each in report.layers}
    assert shares[first] == pytest.approx(0.25, abs=0.02)
    assert shares[second] <= 0.3
    assert report.sparsity == pytest.approx(0.27, abs=0.02)
    assert report.as_dict()["settings"]["layers"][1] == {"name": first, "sparsity": 0.25}


def test_layers_are_left_out_and_solved_by_methods_of_their_own(network, tmp_path) -> None:
    first, second, *_ = network[2]
    layers = (LayerOptions(first, exclude=True), LayerOptions(second, method="net-trim"))
    report, model = pruned(network, tmp_path, sparsity=0.5, layers=layers)
    told = {each.name: each for each in report.layers}
    assert told[first].reason == "excluded"
    np.testing.assert_array_equal(weights(model, first), weights(Model.load(network[0]), first))
    plain, _ = pruned(network, tmp_path / "..", sparsity=0.5, layers=layers[:1])
    other = {each.name: each for each in plain.layers}
    assert told[second].iterations != other[second].iterations


def test_patterns_are_those_of_the_layer(network, tmp_path) -> None:
    first, second, *_ = network[2]
    layers = (LayerOptions(first, pattern="2:4"), LayerOptions(second, pattern="1x4"))
    _, model = pruned(network, tmp_path, sparsity=0.5, layers=layers)
    W = weights(model, first)
    groups = np.count_nonzero(W[: len(W) // 4 * 4].reshape(-1, 4, W.shape[1]), axis=1)
    assert groups.max() <= 2
    W = weights(model, second)
    blocks = np.count_nonzero(W[:, : W.shape[1] // 4 * 4].reshape(len(W), -1, 4), axis=2)
    assert set(np.unique(blocks)) <= {0, 4}


def test_bits_are_those_of_the_layer(network, tmp_path) -> None:
    first, second, *_ = network[2]
    layers = (LayerOptions(first, bits=32), LayerOptions(second, bits=8))
    _, model = pruned(network, tmp_path, sparsity=0.3, bits=3, layers=layers)
    levels = [
        max(len(np.unique(np.abs(column[column != 0]))) for column in weights(model, name).T)
        for name in network[2]
    ]
    assert levels[0] > 4
    assert levels[1] > 4
    assert all(count <= 4 for count in levels[2:])


@pytest.mark.parametrize("structure", ["units", "ranks"])
def test_units_and_ranks_are_those_of_the_layer(network, tmp_path, structure) -> None:
    options = {"sparsity": 0.4, "structure": "shrink", "no_delete": False}
    layers = (LayerOptions("*", structure=structure),)
    _, model = pruned(network, tmp_path, **options, layers=layers)
    widths = [weights(model, layer.name).shape[1] for layer in model.layers]
    dense = [weights(Model.load(network[0]), name).shape[1] for name in network[2]]
    if structure == "ranks":  # two layers in place of one, and all units stay
        assert len(widths) > len(dense)
        assert sorted(set(dense) - set(widths)) == []
    else:
        assert len(widths) == len(dense)
        assert widths < dense


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_sparsities_at_the_ends_are_kept_to(network, tmp_path, share) -> None:
    first, *_ = network[2]
    layers = (LayerOptions(first, sparsity=share),)
    _, model = pruned(network, tmp_path, sparsity=0.3 + 0.4 * share, layers=layers)
    W = weights(model, first)
    assert np.count_nonzero(W) == (1 - share) * W.size


@pytest.mark.parametrize("pattern", ["2:4", "1x4"])
@pytest.mark.parametrize("whole", [True, False])
def test_patterns_hold_with_more_zeros_than_asked_for(tmp_path, pattern, whole) -> None:
    """Blocks and silent inputs have more zeros than were asked for; none comes back alone."""
    proto = mlp()
    model = save_model(tmp_path / "model.onnx", proto)
    values = np.random.default_rng(0).standard_normal((150, 16)).astype(np.float32)
    values[:, : 8 if pattern == "2:4" else 0] = 0
    np.save(tmp_path / "calib.npy", values)
    name = Model.load(model).layers[0].name
    options = LayerOptions(name, pattern=pattern, sparsity=None if ":" in pattern else 0.305)
    settings = {"layers": (options,), "sparsity": 0.4}
    if whole:
        settings = {"pattern": pattern} | ({} if ":" in pattern else {"sparsity": 0.305})
    prune(model, tmp_path / "calib.npy", tmp_path / "out.onnx", Settings(**PLAIN | settings))
    zero = weights(Model.load(tmp_path / "out.onnx"), name) == 0
    if pattern == "2:4":
        assert zero.reshape(-1, 4, zero.shape[1]).sum(axis=1).min() >= 2
    else:
        assert set(np.unique(zero.reshape(len(zero), -1, 4).sum(axis=2))) == {0, 4}


@pytest.mark.parametrize(
    ("run", "options"),
    [
        ({"sparsity": 0.5}, {}),
        ({"sparsity": 0.5}, {"exclude": True, "bits": 8}),
        ({"sparsity": 0.5}, {"sparsity": 0.5, "limit": "0:1"}),
        ({"sparsity": 0.5}, {"structure": "ranks"}),
        ({"sparsity": 0.5}, {"bits": 8}),
        ({"sparsity": 0.5, "bits": 4}, {"bits": 5}),
        ({"sparsity": 0.5}, {"limit": "0.5"}),
        ({"sparsity": 0.5}, {"pattern": "4:2"}),
        ({"sparsity": 0.5}, {"pattern": "2:4", "sparsity": 0.5}),
        ({"sparsity": 0.5}, {"pattern": "2:4", "sparsity": 0.0}),
        ({"sparsity": 0.5, "method": "net-trim"}, {"pattern": "1x4"}),
        ({"sparsity": 0.5}, {"pattern": "1x4", "method": "net-trim"}),
        ({"epsilon": 0.1}, {"pattern": "1x4"}),
        ({"pattern": "2:4"}, {"sparsity": 0.5}),
        ({"sparsity": 0.5, "structure": "shrink"}, {"sparsity": 0.5}),
        ({"sparsity": 0.5, "structure": "units"}, {"structure": "ranks"}),
    ],
)
def test_contradictions_are_told_with_the_layer(run, options) -> None:
    with pytest.raises(BadInput, match=r'^layers\."fc\*": .*\.$'):
        Settings(**run, layers=(LayerOptions("fc*", **options),))


def test_a_pattern_that_matches_nothing_is_wrong_usage(network, tmp_path) -> None:
    with pytest.raises(WrongUsage, match=r'layers\."fc9" matches no layer'):
        pruned(network, tmp_path, sparsity=0.5, layers=(LayerOptions("fc9", sparsity=0.2),))
