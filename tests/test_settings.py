"""Each option's bounds hold, whoever makes the settings."""

from __future__ import annotations

import json
import math
from dataclasses import FrozenInstanceError, fields

import pytest

from nettrim_cli.errors import BadInput
from nettrim_cli.settings import DEFAULT_EPSILON, METHODS, SCHEMES, Settings


def test_every_field_explains_itself() -> None:
    for each in fields(Settings):
        assert each.metadata["help"].endswith((".", ").")), each.name


@pytest.mark.parametrize(
    "wrong",
    [
        {"epsilon": 0},
        {"epsilon": 1},
        {"epsilon": math.nan},
        {"sparsity": -0.1},
        {"sparsity": 1},
        {"sparsity": math.inf},
        {"gamma": 0.9},
        {"gamma": math.nan},
        {"samples": 1},
        {"holdout": 0},
        {"holdout": 1.0},
        {"seed": -1},
        {"threads": 0},
        {"threads": 4096},
        {"method": "magic"},
        {"scheme": "spiral"},
        {"epsilon": 0.1, "sparsity": 0.5},
    ],
    ids=str,
)
def test_values_out_of_bounds_are_refused_by_name(wrong) -> None:
    with pytest.raises(BadInput) as caught:
        Settings(**wrong)
    assert next(iter(wrong)) in str(caught.value)


@pytest.mark.parametrize(
    "right",
    [
        {},
        {"epsilon": 1e-9},
        {"sparsity": 0.999},
        {"gamma": 1},
        {"samples": 2},
        {"threads": 1024},
        *({"method": each} for each in METHODS),
        *({"scheme": each} for each in SCHEMES),
    ],
    ids=str,
)
def test_values_within_bounds_are_kept(right) -> None:
    settings = Settings(**right)
    assert {k: getattr(settings, k) for k in right} == right


def test_epsilon_is_the_target_unless_sparsity_is() -> None:
    assert Settings().target_epsilon == DEFAULT_EPSILON
    assert Settings(epsilon=0.3).target_epsilon == 0.3
    assert Settings(sparsity=0.5).target_epsilon is None


def test_settings_are_plain_values_and_do_not_change() -> None:
    settings = Settings(include=("a*", "b"), sparsity=0.5)
    assert json.loads(json.dumps(settings.as_dict()))["include"] == ["a*", "b"]
    with pytest.raises(FrozenInstanceError):
        settings.seed = 3  # type: ignore[misc]
