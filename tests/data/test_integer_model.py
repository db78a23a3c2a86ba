"""Models with integers: zeros stay zeros, weights on a grid stay, results are near."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from nettrim_cli.data.dataset import Batch
from nettrim_cli.data.integer_model import PRODUCTS, dynamic_integers, static_integers
from nettrim_cli.errors import EngineFailed
from nettrim_cli.graph.layer import Runnable
from tests.support.networks import input_samples, mlp
from tests.support.small import run

SAMPLES = 200


@pytest.fixture(scope="module")
def network() -> onnx.ModelProto:
    """A network with three quarters of its weights zero."""
    proto = mlp()
    for tensor in proto.graph.initializer:
        if tensor.name.startswith("w"):
            values = numpy_helper.to_array(tensor).copy()
            values[np.abs(values) < np.quantile(np.abs(values), 0.75)] = 0
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    return proto


def integers(form: str, proto: onnx.ModelProto, grids=None) -> onnx.ModelProto:
    model, grids = Runnable(proto.SerializeToString()), grids or {}
    samples = input_samples(proto, SAMPLES, seed=1)
    name = proto.graph.input[0].name
    batches = [Batch({name: half}, len(half), {}) for half in np.split(samples, 2)]
    payload = {
        "static": lambda: static_integers(model, batches, grids),
        "products": lambda: static_integers(model, batches, grids, PRODUCTS),
        "dynamic": lambda: dynamic_integers(model, grids),
    }[form]()
    return onnx.load_from_string(payload)


def codes(proto: onnx.ModelProto) -> dict[str, np.ndarray]:
    """The integers of the weights, by their old names."""
    arrays = {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}
    return {
        name.split("_")[0]: array
        for name, array in arrays.items()
        if name.startswith("w") and array.dtype == np.int8 and array.ndim == 2
    }


@pytest.mark.parametrize("form", ["static", "products", "dynamic"])
def test_zeros_stay_and_results_are_near(network, form) -> None:
    quantised = integers(form, network)
    onnx.checker.check_model(quantised, full_check=True)
    weights = {t.name: numpy_helper.to_array(t) for t in network.graph.initializer}
    stored = codes(quantised)
    assert len(stored) == 3
    for name, integer in stored.items():
        assert integer.dtype == np.int8
        assert np.abs(integer.astype(int)).max() <= 64  # two products of 255 fit into 16 bits
        assert not integer[weights[name] == 0].any()
    feeds = {network.graph.input[0].name: input_samples(network, 50, seed=7)}
    names = [network.graph.output[0].name]
    (dense,), (rounded,) = run(network, names, feeds), run(quantised, names, feeds)
    # Half a step of 1/64 and of 1/255 of the range in each of three layers, of independent signs.
    assert 0 < np.linalg.norm(rounded - dense) < 0.05 * np.linalg.norm(dense)


@pytest.mark.parametrize("form", ["static", "dynamic"])
def test_weights_on_a_grid_keep_their_values(network, form) -> None:
    proto = onnx.ModelProto()
    proto.CopyFrom(network)
    grids, wanted = {}, {}
    for tensor in proto.graph.initializer:
        if tensor.name.startswith("w"):
            values = numpy_helper.to_array(tensor)
            scale = (np.abs(values).max(axis=0) / 50).astype(np.float32)  # no quantiser's choice
            wanted[tensor.name] = np.rint(values / scale)
            grids[tensor.name] = (1, scale)
            rounded = (wanted[tensor.name] * scale).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(rounded, tensor.name))
    stored = codes(integers(form, proto, grids))
    for name, integer in wanted.items():
        np.testing.assert_array_equal(stored[name], integer)


def test_what_the_quantiser_does_not_take_is_an_error_of_a_line(network) -> None:
    with pytest.raises(EngineFailed, match="outside"):
        dynamic_integers(Runnable(network.SerializeToString(), folder="elsewhere"), {})
    with pytest.raises(EngineFailed) as caught:
        dynamic_integers(Runnable(b"no model"), {})
    assert "\n" not in str(caught.value)
