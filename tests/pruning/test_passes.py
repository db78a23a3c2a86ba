"""More passes over the layers: the best network is kept, and what was asked for still holds."""

from __future__ import annotations

import re

import numpy as np
import pytest

from nettrim_cli.errors import BadInput
from nettrim_cli.pipeline import prune
from nettrim_cli.report.progress import Silent
from nettrim_cli.settings import Settings
from tests.support.effort import thinned
from tests.support.networks import NETWORKS, Files, mlp, save_data, save_model
from tests.support.options import PLAIN


class Told(Silent):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def message(self, text: str) -> None:
        self.messages.append(text)


def pruned(files: Files, **options):
    listener = Told()
    settings = Settings(**PLAIN, **options)
    return prune(files.model, files.data, settings=settings, force=True, listener=listener), [
        each for each in listener.messages if each.startswith("sweep")
    ]


@pytest.fixture(params=thinned(NETWORKS, 2))
def network(request, tmp_path) -> Files:
    proto = NETWORKS[request.param]()
    return Files(
        save_model(tmp_path / "model.onnx", proto), save_data(tmp_path / "calib.h5", proto, 150)
    )


@pytest.mark.parametrize("scheme", thinned(["cascade", "parallel"], 2))
def test_the_best_of_all_passes_is_written(network, scheme) -> None:
    options = {"sparsity": 0.7, "scheme": scheme}
    once, nothing = pruned(network, **options)
    report, told = pruned(network, sweeps=3, **options)
    assert not nothing
    assert len(told) == 2
    # What each pass was told to have reached, the first of them by the run of one pass.
    least = once.comparison.error
    for text in told:
        error, before = (float(each) / 100 for each in re.findall(r"([\d.]+)%", text))
        assert before == pytest.approx(least, abs=1e-4)
        if error != before:  # two digits tell which is less
            assert text.endswith("not kept") == (error > before)
        least = min(least, error)
    assert report.comparison.error == pytest.approx(least, abs=1e-4)
    assert [each.nonzeros_after for each in report.layers] == [
        each.nonzeros_after for each in once.layers
    ]


def test_a_searched_limit_still_holds(network) -> None:
    once, _ = pruned(network, max_error=0.3)
    report, told = pruned(network, max_error=0.3, sweeps=2)
    assert len(told) == 1
    assert report.target.reached == report.comparison.error <= once.comparison.error <= 0.3
    assert report.sparsity == pytest.approx(once.sparsity)
    assert report.target.rounds == once.target.rounds


@pytest.mark.slow
def test_sweeps_lower_the_error_where_units_lose_their_readers(tmp_path) -> None:
    ratios = []
    for seed in range(3):
        proto = mlp(seed, sizes=(16, 64, 48, 4))
        files = Files(
            save_model(tmp_path / "m.onnx", proto), save_data(tmp_path / "c.h5", proto, 600)
        )
        once, more = (pruned(files, sparsity=0.9, sweeps=each)[0] for each in (1, 3))
        ratios.append(more.comparison.error / once.comparison.error)
    assert max(ratios) <= 1
    assert np.mean(ratios) < 0.99


def test_elsewhere_there_is_nothing_to_sweep_for() -> None:
    convex = {"method": "net-trim"}
    for options in (convex, {"epsilon": 0.1}, {"sparsity": 0.5} | convex):
        with pytest.raises(BadInput, match="sweeps need method l0 and a target"):
            Settings(sweeps=2, **options)
    assert Settings(sparsity=np.float64(0.5), sweeps=2).sweeps == 2
