"""Latencies of single nodes: looked up where they are known, and in between interpolated."""

from __future__ import annotations

import numpy as np
import pytest

from nettrim_cli.graph.channels.alone import lone_nodes
from nettrim_cli.graph.model import Model
from nettrim_cli.latency import nodes
from nettrim_cli.latency.cache import LatencyCache
from nettrim_cli.latency.nodes import NodeLatencies, brief_seconds, node_latencies
from tests.support.networks import mlp


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def test_between_sizes_latencies_are_interpolated() -> None:
    from scipy.interpolate import RegularGridInterpolator  # takes long to import

    random = np.random.default_rng(0)
    rows, columns = np.array([1.0, 4, 16, 64]), np.array([2.0, 8, 20])
    seconds = random.random((4, 3))
    expected = RegularGridInterpolator((rows, columns), seconds)
    tall, wide = random.uniform(1, 64, 50), random.uniform(2, 20, 50)
    latencies = NodeLatencies(rows, columns, seconds)
    np.testing.assert_allclose(latencies.at(tall, wide), expected(np.stack([tall, wide], 1)))
    assert latencies.at(16, 8) == pytest.approx(seconds[2, 1])
    np.testing.assert_allclose(latencies.at(4, np.array([2, 8, 20])), seconds[1])
    assert NodeLatencies(rows[:1], columns[:1], seconds[:1, :1]).at(3, 7) == seconds[0, 0]


def test_each_model_gets_the_median_of_its_rounds() -> None:
    """A burst that slows one round down tells nothing."""
    numbers = iter(range(1000))

    def steady(seconds):
        return lambda count: [seconds * (50 if next(numbers) % 7 == 0 else 1)] * count

    assert brief_seconds([steady(1.0), steady(3.0)]) == [1.0, 3.0]


def test_nodes_are_measured_once_on_a_machine(monkeypatch) -> None:
    (layer, *_) = Model(mlp()).layers
    node, *_ = lone_nodes(layer, (1, 16), (1, 24))
    cache = LatencyCache(1)
    first = node_latencies(node, [4, 16], [8, 24], 1, cache)
    cache.save()
    assert first.seconds.shape == (2, 2)
    assert (first.seconds > 0).all()
    monkeypatch.setattr(nodes, "brief_seconds", None)  # it would be called
    again = node_latencies(node, [4, 16], [8, 24], 1, LatencyCache(1))
    np.testing.assert_array_equal(first.seconds, again.seconds)
