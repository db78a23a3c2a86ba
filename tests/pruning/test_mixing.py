"""The best mix of bits and zeros, of networks whose errors and bytes are given."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from nettrim_cli.pruning import mixing
from nettrim_cli.pruning.mixing import best_mix, weight_bytes
from nettrim_cli.report.progress import Silent
from nettrim_cli.report.result import Mix


@dataclass
class Planned:
    """Networks whose error is least at some mix; their files may be larger than foreseen."""

    mix: Mix
    least: Mix
    larger: float = 0.0
    bits = (8, 6, 4, 3)
    zeros = (0.0, 0.25, 0.5, 0.65, 0.8)

    def limits(self):
        return 0.0, 1.0

    def stored_bytes(self, sparsity):
        return (1 - sparsity) * 1e4

    def mixed(self, mix):
        return Planned(mix, self.least, self.larger)

    def compress(self, sparsity, last):
        far = abs(self.mix.bits - self.least.bits) + 10 * abs(self.mix.zeros - self.least.zeros)
        size = 100 * (1 + self.larger * self.mix.zeros)
        model = SimpleNamespace(error=(1 + far) / 100, bytes=size, sparsity=sparsity)
        return SimpleNamespace(result=SimpleNamespace(model=model))


@pytest.fixture
def tried(monkeypatch):
    """The networks that were compared."""
    models = []
    monkeypatch.setattr(mixing, "stored_bytes", lambda model, compact: model.bytes)

    def compare(model):
        models.append(model)
        return model

    return SimpleNamespace(models=models, compare=compare)


@pytest.mark.parametrize("least", [Mix(8, 0.0), Mix(4, 0.5), Mix(3, 0.8), Mix(6, 0.25)])
@pytest.mark.parametrize("by_bytes", [True, False])
def test_the_mix_of_least_error_is_found_by_steps(tried, least, by_bytes) -> None:
    found = best_mix(Planned(Mix(4, 0.5), least), 0.9, tried, Silent(), by_bytes=by_bytes)
    assert found.mix == least
    assert len(tried.models) <= 8
    assert all(model.sparsity == pytest.approx(0.9, abs=1e-3) for model in tried.models)


def test_larger_files_have_to_be_worth_it(tried) -> None:
    planned = Planned(Mix(4, 0.25), Mix(4, 0.25), larger=20)
    assert best_mix(planned, 0.9, tried, Silent(), by_bytes=False).mix.zeros == 0.25
    assert best_mix(planned, 0.9, tried, Silent(), by_bytes=True).mix.zeros == 0.0


@pytest.mark.parametrize("bits", [None, 16, 8, 7, 6, 4, 3])
def test_bytes_of_a_weight_are_near_what_places_and_values_tell(bits) -> None:
    for density in (1.0, 0.9, 0.5, 0.1, 0.02):
        size = 8 * weight_bytes(density, bits)
        whole = {None: 32, 7: 8}.get(bits, bits)
        parts = [share * math.log2(share) for share in (density, 1 - density) if share > 0]
        least = density * whole - sum(parts)
        assert 0.9 * min(least, whole) < size < 1.35 * least + 0.1
