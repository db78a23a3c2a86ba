"""Statements about new samples: exact by counting, and true as often as they say."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from nettrim_cli.data.dataset import split
from nettrim_cli.data.values import OutputPart
from nettrim_cli.errors import BadInput
from nettrim_cli.evaluation.new_samples import (
    error_bound,
    fewest_samples,
    new_sample_errors,
    order_statistic,
)
from nettrim_cli.evaluation.output_error import OutputError
from nettrim_cli.pipeline import compare, prune
from nettrim_cli.settings import Settings
from tests.support.networks import Files, input_samples, mlp, save_data, save_model
from tests.support.options import QUICK


def binomial(count: int, below: int, share: float) -> float:
    """P(Bin(count, share) < below), term by term."""
    terms = (math.comb(count, k) * share**k * (1 - share) ** (count - k) for k in range(below))
    return math.fsum(terms)


@pytest.mark.parametrize(
    ("share", "confidence", "fewest"), [(0.95, 0.95, 59), (0.9, 0.9, 22), (0.99, 0.95, 299)]
)
def test_so_few_samples_say_something(share, confidence, fewest) -> None:
    assert fewest_samples(share, confidence) == fewest
    assert order_statistic(fewest - 1, share, confidence) is None
    assert order_statistic(fewest, share, confidence) == fewest


@pytest.mark.parametrize("count", [59, 92, 93, 124, 500])
def test_the_rank_is_the_least_that_counting_allows(count) -> None:
    rank = order_statistic(count)
    assert rank is not None
    assert binomial(count, rank, 0.95) >= 0.95 > binomial(count, rank - 1, 0.95)


def tied(random: np.random.Generator, count: int) -> np.ndarray:
    """Errors of which many are equal."""
    return np.ceil(200 * random.exponential(size=count)) / 200


DRAWS: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "long tail": lambda random, count: random.standard_cauchy(count) ** 2,
    "two kinds": lambda random, count: np.where(
        random.random(count) < 0.04, 5 + random.random(count), random.random(count)
    ),
    "tied": tied,
}


@pytest.mark.parametrize("count", [59, 150, 400])
@pytest.mark.parametrize("kind", DRAWS)
def test_statements_hold_as_often_as_they_say(kind, count) -> None:
    random = np.random.default_rng(0)
    population = np.sort(DRAWS[kind](random, 200_000))
    held = 0
    for _ in range(1000):
        bound = error_bound(random.choice(population, count))
        held += np.searchsorted(population, bound, side="right") / len(population) >= 0.95
    assert 940 <= held <= 990


def test_few_errors_say_nothing_and_ties_at_the_top_say_no_less() -> None:
    assert error_bound(np.zeros(58)) is None
    assert error_bound(np.zeros(59)) == 0
    assert error_bound(np.full(59, math.nan)) == math.inf


def test_errors_are_those_of_samples() -> None:
    output = OutputError()
    for start in range(0, 60, 20):
        y = np.full((20, 3), 2.0)
        z = y + np.arange(start, start + 20)[:, None] / 100
        output.add_parts(OutputPart(y), OutputPart(z), 20)
    np.testing.assert_allclose(output.sample_errors, np.arange(60) / 200)
    (found,) = new_sample_errors({"y": output})
    assert (found.error, found.samples, found.needed) == (pytest.approx(0.295), 60, 59)


def test_outputs_without_an_axis_of_samples_say_nothing() -> None:
    output = OutputError()
    for _ in range(60):
        output.add_parts(OutputPart(np.ones(3)), OutputPart(np.zeros(3)), 2)
    assert new_sample_errors({"y": output}) == ()


def test_a_sample_of_zeros_that_moves_has_no_error_that_is_a_number() -> None:
    output = OutputError()
    output.add_parts(
        OutputPart(np.zeros((2, 3))), OutputPart(np.float64([[0, 0, 0], [0, 0, 1]])), 2
    )
    assert output.sample_errors.tolist() == [0, math.inf]


def test_a_run_tells_it_of_samples_that_it_does_not_use(tmp_path) -> None:
    proto = mlp()
    files = Files(save_model(tmp_path / "model.onnx", proto), tmp_path / "calib.h5")
    save_data(files.data, proto, 100)
    for samples, count in ((40, 60), (60, 40)):
        settings = Settings(**QUICK, samples=samples)
        report = prune(files.model, files.data, settings=settings, force=True)
        (found,) = report.comparison.new_samples
        assert found.samples == (count if count > 59 else 0)
        assert (found.error is None) == (count < 59)
    compared = compare(files.model, files.output, files.data)
    (found,) = compared.new_samples
    assert found.samples == 100
    assert found.error > compared.error


def test_samples_that_a_run_does_not_use_may_be_bad(tmp_path) -> None:
    proto = mlp()
    files = Files(save_model(tmp_path / "model.onnx", proto), tmp_path / "calib.npz")
    settings = Settings(**QUICK, samples=40)
    fitted, holdout = split(200, 40, settings.holdout, settings.seed)
    x = np.full((200, 16), np.nan, np.float32)
    used = np.union1d(fitted, holdout)
    x[used] = input_samples(proto, 40)
    np.savez(files.data, x=x)
    (found,) = prune(files.model, files.data, settings=settings).comparison.new_samples
    assert (found.error, found.needed) == (None, 59)


@pytest.mark.parametrize(("level", "parts"), [("none", 0), ("quick", 3), ("full", 3)])
def test_levels_of_a_certificate(level, parts, tmp_path) -> None:
    proto = mlp()
    files = Files(save_model(tmp_path / "model.onnx", proto), tmp_path / "calib.h5")
    save_data(files.data, proto, 400)
    report = prune(files.model, files.data, settings=Settings(**QUICK, certificate=level))
    certificate = report.certificate
    assert len(certificate.costs.parts) == len(certificate.layers) == parts
    assert certificate.costs.samples == {"none": 0, "quick": 66, "full": 80}[level]
    for cost_sum in certificate.costs.sums:
        assert cost_sum.error <= cost_sum.bound


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(BadInput, match="certificate is 'all'"):
        Settings(certificate="all")
