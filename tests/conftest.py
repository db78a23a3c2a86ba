"""Fixtures: small models with their data, and the sample models."""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from threadpoolctl import threadpool_info, threadpool_limits

os.environ["ORT_DISABLE_TELEMETRY"] = os.environ["ORT_TELEMETRY_DISABLED"] = "1"
if "PYTEST_XDIST_WORKER" in os.environ:  # one of as many processes as there are processors
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from nettrim_cli.solve.gram import schedules
from tests.support.networks import Files, mlp, save_data, save_model

for name, examples in {"quick": 20, "slow": 100}.items():  # machines are busy: no test is timed
    slow = [HealthCheck.too_slow]
    settings.register_profile(
        name, deadline=None, suppress_health_check=slow, max_examples=examples
    )

ROOT = Path(__file__).parents[1]
LONGEST = ("test_quality.py", "test_readme.py")
SAMPLE_MODELS = ROOT / "sample_models"


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--threads N``: BLAS and nettrim's default have so many, whatever the machine has."""
    parser.addoption("--threads", type=int, help="threads of BLAS, and nettrim's default")


def pytest_configure(config: pytest.Config) -> None:
    """Hold BLAS to ``--threads``, and show nettrim so many processors."""
    settings.load_profile("quick" if config.getoption("-m") == "not slow" else "slow")
    os.environ.pop("COLUMNS", None)  # pytest-xdist sets it, and output is folded to it
    threads = config.getoption("--threads")
    if not threads:
        return
    if hasattr(os, "sched_setaffinity"):
        processors = sorted(os.sched_getaffinity(0))
        first = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % len(processors)
        processors = processors[first:] + processors[:first]
        if threads <= len(processors):  # processes that tests start see no more, either
            os.sched_setaffinity(0, processors[:threads])
        else:
            os.sched_getaffinity = lambda _: set(range(threads))
    import scipy.linalg  # noqa: F401  (it brings a BLAS of its own, as numpy does)

    threadpool_limits(threads)
    counts = {each["num_threads"] for each in threadpool_info()}
    if counts != {threads}:
        pytest.exit(f"BLAS has {counts} threads where --threads={threads}", 3)


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """Where all tests run, each worker compiles a part of them first, and finds the others done."""
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
    if not number or session.config.args != session.config.getini("testpaths"):
        return
    paths = sorted(Path(__file__).parent.rglob("test_*.py"))
    first = number * len(paths) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    for path in paths[first:]:
        with suppress(Exception, pytest.skip.Exception):  # which the collection tells
            importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest tests come first, so that no worker waits for one in the end."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture(autouse=True)
def _no_more_iterations(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """For small layers than for large ones: which weights are best is asked in tests/solve.

    Workers of tests/execution do not know of it.
    """
    if {"solve", "execution"}.isdisjoint(request.path.parts):
        monkeypatch.setattr(schedules, "MAX_FACTOR", 1)


@pytest.fixture(autouse=True, scope="session")
def _no_waiting_for_disks() -> Iterator[None]:
    """No test pulls the plug: what is written is safe in the system's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture(autouse=True, scope="session")
def _own_caches(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What is measured in tests stays with them."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def _originals(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """What ``files`` are copies of."""
    folder, proto = tmp_path_factory.mktemp("originals"), mlp()
    return Files(
        save_model(folder / "model.onnx", proto), save_data(folder / "calib.h5", proto, 120)
    )


@pytest.fixture
def files(tmp_path: Path, _originals: Files) -> Files:
    """A folder with a small model, labelled calibration data, and nothing else."""
    return Files(
        shutil.copyfile(_originals.model, tmp_path / "model.onnx"),
        shutil.copyfile(_originals.data, tmp_path / "calib.h5"),
    )


@pytest.fixture
def sample_model(request: pytest.FixtureRequest) -> Files:
    """One of the repository's sample models, by name."""
    folder = SAMPLE_MODELS / request.param
    if not (folder / "model.onnx").is_file():
        pytest.skip(f"{folder} is not here")
    return Files(folder / "model.onnx", folder / "calib.h5")
