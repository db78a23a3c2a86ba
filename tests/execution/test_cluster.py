"""A cluster of Dask gives the bytes of one process; what goes wrong there is a sentence."""

from __future__ import annotations

import os
import sys
import time

import numpy as np
import pytest

from nettrim_cli import Settings, pipeline
from nettrim_cli.errors import WorkersFailed, WrongUsage
from nettrim_cli.execution.cluster import ClusterExecutor
from nettrim_cli.execution.executor import in_order
from nettrim_cli.execution.worker import ErrorElsewhere
from tests.support import elsewhere
from tests.support.effort import thinned
from tests.support.networks import NETWORKS, save_data, save_model
from tests.support.options import PLAIN, QUICK

distributed = pytest.importorskip("distributed")
pytestmark = pytest.mark.filterwarnings("ignore")  # those of Dask


@pytest.fixture(scope="module")
def cluster():
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, processes=True
    ) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def executor(cluster):
    with ClusterExecutor(cluster.scheduler_address, 1) as executor:
        yield executor


def test_results_come_in_the_order_of_the_jobs_from_other_processes(executor) -> None:
    assert executor.places == 2
    arrays = [np.full((3, 2), number, np.float32) for number in range(9)]
    results = list(in_order(executor, elsewhere.add, [arrays[:2], [], arrays[2:8], arrays[8:]]))
    for number, (array, process) in enumerate(results):
        assert np.array_equal(array, arrays[number] + 1)
        assert process != os.getpid()
    assert len(results) == 9


def test_errors_keep_their_type_and_message_and_the_place_where_they_were_raised(executor) -> None:
    with pytest.raises(ValueError, match="no such thing") as caught:
        list(executor.map(elsewhere.failing, ["no such thing"]))
    assert isinstance(caught.value.__cause__, ErrorElsewhere)
    assert "in failing" in str(caught.value.__cause__)


@pytest.mark.parametrize(
    "settings", thinned([QUICK | {"scheme": "parallel"}, PLAIN | {"sparsity": 0.6}], 2)
)
def test_the_bytes_are_those_of_one_process(cluster, tmp_path, settings) -> None:
    proto = NETWORKS["mlp"]()
    model, data = save_model(tmp_path / "m.onnx", proto), save_data(tmp_path / "c.h5", proto, 60)
    written = []
    for address in (None, cluster.scheduler_address):
        options = Settings(**settings, cluster=address)
        pipeline.prune(model, data, tmp_path / "out.onnx", options, force=True)
        written.append((tmp_path / "out.onnx").read_bytes())
    assert written[0] == written[1]


@pytest.mark.slow
def test_a_killed_worker_costs_its_tasks_only(executor, tmp_path) -> None:
    groups = [[(str(tmp_path / f"{at}"), at)] for at in range(2)]
    assert list(in_order(executor, elsewhere.dying_once, groups)) == [0, 2]


@pytest.mark.slow
def test_a_task_of_which_workers_die_ends_the_run_with_a_sentence(executor) -> None:
    with pytest.raises(WorkersFailed, match="several workers died while they did the same task"):
        list(executor.map(elsewhere.dying, [9]))


def test_other_versions_are_told(cluster, monkeypatch) -> None:
    real = distributed.Client.get_versions

    def other(self, **options):
        facts = real(self, **options)
        facts["scheduler"]["packages"]["numpy"] = None
        return facts

    monkeypatch.setattr(distributed.Client, "get_versions", other)
    with pytest.raises(WorkersFailed, match="the scheduler has no numpy, and this machine"):
        ClusterExecutor(cluster.scheduler_address, 1)


def test_a_cluster_that_is_not_there_is_told(monkeypatch) -> None:
    monkeypatch.setattr("nettrim_cli.execution.cluster.PATIENCE_SECONDS", 0.2)
    with pytest.raises(WorkersFailed, match=r"--cluster tcp://127\.0\.0\.1:1: .* 'dask scheduler'"):
        ClusterExecutor("tcp://127.0.0.1:1", 1)


def test_a_cluster_that_goes_away_is_told() -> None:
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, dashboard_address=None, processes=False
        ) as cluster,
        ClusterExecutor(cluster.scheduler_address, 1) as executor,
    ):
        results = executor.map(elsewhere.sleeping, [0.5])
        time.sleep(0.1)
        cluster.close()
        with pytest.raises(WorkersFailed, match="the connection to its scheduler was lost"):
            list(results)


def test_without_dask_it_is_told_how_to_get_it(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(WrongUsage, match=r"pip install 'nettrim-cli\[cluster\]'"):
        ClusterExecutor("tcp://127.0.0.1:1", 1)
