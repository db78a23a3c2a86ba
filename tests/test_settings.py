"""Each option's bounds hold, whoever makes the settings."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from dataclasses import FrozenInstanceError, fields

import pytest

from nettrim_cli.errors import BadInput
from nettrim_cli.settings import (
    ALLOCATIONS,
    DEFAULT_EPSILON,
    DEFAULT_TARGET,
    METHODS,
    SCHEMES,
    TARGETS,
    Gate,
    LayerOptions,
    Limit,
    Settings,
)


def test_every_field_explains_itself() -> None:
    for each in (*fields(Settings), *fields(Gate), *fields(LayerOptions)):
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
        {"max_error": 0.1, "sparsity": 0.5},
        {"max_error": 0},
        {"max_drop": 0.0},
        {"max_drop": 1},
        {"max_bytes": 0},
        {"allocate": "fair"},
        {"bits": 5},
        {"store": "small"},
        {"limit": ("fc4",)},
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
        {"gamma": 1, "method": "net-trim"},
        {"samples": 2},
        {"threads": 1024},
        *({"method": each} for each in METHODS),
        *({"scheme": each} for each in SCHEMES),
        *({"allocate": each, "sparsity": 0.5} for each in ALLOCATIONS),
        {"max_bytes": 10**13},
        {"limit": ("fc4=0:0.5", "*=:.9")},
    ],
    ids=str,
)
def test_values_within_bounds_are_kept(right) -> None:
    settings = Settings(**right)
    assert {k: getattr(settings, k) for k in right} == right


def test_epsilon_is_the_target_of_the_papers_methods() -> None:
    assert Settings(method="net-trim").target_epsilon == DEFAULT_EPSILON
    assert Settings().target_epsilon is None
    assert Settings(epsilon=0.3).target_epsilon == 0.3
    assert Settings(sparsity=0.5).target_epsilon is None


def test_settings_are_plain_values_and_do_not_change() -> None:
    settings = Settings(include=("a*", "b"), sparsity=0.5)
    assert json.loads(json.dumps(settings.as_dict()))["include"] == ["a*", "b"]
    with pytest.raises(FrozenInstanceError):
        settings.seed = 3  # type: ignore[misc]


def test_every_target_is_one() -> None:
    assert Settings(method="one-sided").target == ("epsilon", DEFAULT_EPSILON)
    assert Settings().target[0] == DEFAULT_TARGET
    for name in TARGETS:
        value = {"max_bytes": 1000, "speedup": 2}.get(name, 0.5)
        structure = "shrink" if name == "speedup" else "zeros"
        settings = Settings(**{name: value}, structure=structure)
        assert settings.target == (name, value)
        assert (settings.target_epsilon is None) == (name != "epsilon")


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("fc4=0:0.5", Limit("fc4", 0, 0.5)),
        ("*=:0.9", Limit("*", 0, 0.9)),
        ("/a=b:0/c=.25:", Limit("/a=b:0/c", 0.25, 1)),
        ("x=1:1", Limit("x", 1, 1)),
    ],
)
def test_limits_as_people_write_them(text, limit) -> None:
    assert Limit.parse(text) == limit


@pytest.mark.parametrize(
    "text",
    ["", "fc4", "fc4=0.5", "=0:1", "a=0.6:0.5", "a=-1:0", "a=0:2", "a=x:1", "a=nan:1", "a:0:1"],
)
def test_what_is_no_limit(text) -> None:
    with pytest.raises(ValueError, match="is no limit"):
        Limit.parse(text)


def test_the_last_limit_that_matches_holds() -> None:
    settings = Settings(limit=("*=0:0.9", "fc*=0.2:0.5", "fc2=:"))
    assert settings.bounds_of("conv") == (0, 0.9)
    assert settings.bounds_of("fc1") == (0.2, 0.5)
    assert settings.bounds_of("fc2") == (0, 1)
    assert Settings().bounds_of("fc2") == (0, 1)


def test_waiting_threads_of_blas_give_the_processor_up() -> None:
    """The wish is in place before NumPy is loaded, and a user's own is left."""
    script = "import nettrim_cli, os, sys; print(os.environ[K], 'numpy' in sys.modules)"
    script = script.replace("K", "'OPENBLAS_THREAD_TIMEOUT'")
    usual = {k: v for k, v in os.environ.items() if k != "OPENBLAS_THREAD_TIMEOUT"}
    for own, expected in (({}, "16"), ({"OPENBLAS_THREAD_TIMEOUT": "20"}, "20")):
        said = subprocess.run(
            [sys.executable, "-c", script], env=usual | own, capture_output=True, text=True
        )
        assert said.stdout.split() == [expected, "False"]


def test_limits_take_per_cent() -> None:
    assert Limit.parse("fc=5%:50%") == Limit("fc", 0.05, 0.5)
    assert Limit.parse("fc=0:1").high == 1


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"max_drop": -0.1}, "max_drop"),
        ({"max_error": -1}, "max_error"),
        ({"max_drop": 0.1, "confidence": 0.5}, "confidence"),
        ({"max_drop": 0.1, "confidence": 1}, "confidence"),
        ({"confidence": 0.9}, "give --max-drop or --max-error"),
    ],
)
def test_gates_that_make_no_sense(wrong, words) -> None:
    with pytest.raises(BadInput, match=words):
        Gate(**wrong)
