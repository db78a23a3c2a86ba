"""What layers take of the time: in products, and as the engine's nodes take it."""

from __future__ import annotations

import numpy as np
import pytest

from nettrim_cli.errors import BadInput
from nettrim_cli.graph.model import Model
from nettrim_cli.latency import nodes
from nettrim_cli.latency.nodes import NodeLatencies
from nettrim_cli.pipeline import prune
from nettrim_cli.pruning.shrinking import work
from nettrim_cli.pruning.shrinking.widths import block_shapes
from nettrim_cli.pruning.shrinking.work import MeasuredWork, Products, measured_work, measures_time
from nettrim_cli.settings import Settings
from tests.support.networks import Files, mlp, residual, save_data, save_model


def plane(slope):
    """Latencies of a node that takes so long for each weight."""
    sizes = np.array([0.0, 1000.0])
    return NodeLatencies(sizes, sizes, slope * np.multiply.outer(sizes, sizes))


def test_products_are_weights_times_what_they_read() -> None:
    shapes = block_shapes(Model(mlp()).layers, [])
    products = Products.of_blocks(shapes, dict.fromkeys(shapes, 3))
    assert sum(products.of(b, s.rows, s.columns, 99) for b, s in shapes.items()) == pytest.approx(1)
    block, shape = next(iter(shapes.items()))
    whole = products.of(block, shape.rows, shape.columns, 99)
    low = products.of(block, shape.rows, shape.columns, 2)
    assert low / whole == pytest.approx(
        2 * (shape.rows + shape.columns) / shape.rows / shape.columns
    )


def test_factors_take_the_time_of_both_nodes() -> None:
    products = Products({("a", 0): 1 / 100, ("b", 0): 1 / 100})
    nodes = plane(1e-6), plane(1e-6), plane(3e-6)
    measured = MeasuredWork({("a", 0): nodes}, products, 60e-6, 0.6)
    assert measured.of(("a", 0), 10, 6, 6) == pytest.approx(0.6)  # of low rank it would be larger
    assert measured.of(("a", 0), 10, 6, 2) == pytest.approx(0.6 * (20 + 3 * 12) / 60)
    assert measured.of(("b", 0), 5, 8, 8) == pytest.approx(0.4)
    np.testing.assert_allclose(
        measured.of(("a", 0), np.array([10, 5]), 6, 6), [0.6, 0.3], rtol=1e-12
    )


@pytest.fixture
def recorded(monkeypatch):
    """Sizes at which nodes were measured, by their kind; each takes what its weights say."""
    measured = {}

    def latencies(node, rows, columns, threads, cache):
        assert node.key not in measured
        assert threads == 1
        measured[node.key] = rows, columns
        return plane(1e-6)

    monkeypatch.setattr(work, "node_latencies", latencies)
    monkeypatch.setattr(work, "FEWEST_PRODUCTS", 0)
    return measured


def test_equal_nodes_are_measured_once_at_the_sizes_of_all_layers(tmp_path, recorded) -> None:
    proto = mlp(sizes=(16, 64, 48, 4))
    files = Files(
        save_model(tmp_path / "model.onnx", proto), save_data(tmp_path / "calib.h5", proto, 100)
    )
    report = prune(
        files.model,
        files.data,
        settings=Settings(structure="shrink", sparsity=0.5, refit="layers", widths="measured"),
    )
    assert report.sparsity >= 0.5
    (rows, columns), (ranks, wide) = recorded.values()  # MatMul, and Gemm behind it
    assert (rows[0], rows[-1], columns[0], columns[-1]) == (1, 64, 1, 64)
    assert (ranks[-1], wide[-1]) == (48, 64)
    assert len(rows) <= 5
    assert len(columns) <= 14


def test_small_networks_are_not_measured(tmp_path, recorded, monkeypatch) -> None:
    monkeypatch.setattr(work, "FEWEST_PRODUCTS", 1 << 18)
    proto = mlp()
    files = Files(
        save_model(tmp_path / "model.onnx", proto), save_data(tmp_path / "calib.h5", proto, 100)
    )
    prune(
        files.model,
        files.data,
        settings=Settings(structure="shrink", sparsity=0.5, refit="layers", widths="measured"),
    )
    assert not recorded


def test_a_sparsity_is_reached_where_all_that_is_smaller_was_measured_as_slower(
    tmp_path, recorded, monkeypatch
) -> None:
    """On a busy machine small nodes may seem slow; how many weights go is promised all the same."""
    sizes = np.array([0.0, 64.0])
    slower = NodeLatencies(sizes, sizes, np.array([[3e-3, 2e-3], [2e-3, 1e-3]]))
    monkeypatch.setattr(work, "node_latencies", lambda *_: slower)
    proto = mlp(sizes=(16, 64, 48, 4))
    files = Files(
        save_model(tmp_path / "model.onnx", proto), save_data(tmp_path / "calib.h5", proto, 100)
    )
    settings = Settings(structure="shrink", sparsity=0.5, refit="layers", widths="measured")
    assert prune(files.model, files.data, settings=settings).sparsity >= 0.5


def test_a_network_is_measured_in_the_engine(tmp_path, monkeypatch) -> None:
    """Whatever the engine takes: equal bytes the second time, as latencies are looked up."""
    monkeypatch.setattr(work, "FEWEST_PRODUCTS", 0)
    monkeypatch.setattr(work, "COLUMNS", 3)
    monkeypatch.setattr(nodes, "ROW_SECONDS", 0.001)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    proto = residual()
    files = Files(
        save_model(tmp_path / "model.onnx", proto), save_data(tmp_path / "calib.h5", proto, 60)
    )
    settings = Settings(structure="shrink", sparsity=0.5, threads=1, batch=4, refit="layers")
    contents = []
    for _ in range(2):
        prune(files.model, files.data, settings=settings, force=True)
        contents.append(files.output.read_bytes())
    assert contents[0] == contents[1]
    assert len(list((tmp_path / "cache" / "nettrim").iterdir())) == 1


def test_what_the_engine_cannot_run_is_counted(monkeypatch) -> None:
    model = Model(mlp())
    shapes = block_shapes(model.layers, [])
    products = Products.of_blocks(shapes, {})

    def fail(*_):
        raise BadInput("no shapes")

    monkeypatch.setattr(work, "tensor_shapes", fail)
    assert measured_work(model, model.layers, shapes, {}, products, None) is products


@pytest.mark.parametrize(
    ("options", "measured"),
    [
        ({"sparsity": 0.5}, False),
        ({"sparsity": 0.5, "batch": 8}, True),
        ({"sparsity": 0.5, "widths": "measured"}, True),
        ({"speedup": 2.0}, True),
        ({"speedup": 2.0, "widths": "products"}, False),
    ],
)
def test_time_is_measured_where_it_is_the_point(options, measured) -> None:
    assert measures_time(Settings(structure="shrink", **options)) is measured


@pytest.mark.parametrize("option", [{"widths": "products"}, {"batch": 8}])
def test_where_no_layer_gets_smaller_there_is_nothing_to_measure(option) -> None:
    with pytest.raises(BadInput, match="--structure shrink"):
        Settings(**option)
