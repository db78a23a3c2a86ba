"""How many threads BLAS may have, alone and beside workers."""

from __future__ import annotations

import os

import pytest
import scipy.linalg  # noqa: F401  (it brings a BLAS of its own)
from threadpoolctl import threadpool_info

from nettrim_cli.process.threads import thread_limits


@pytest.mark.parametrize("threads", [1, 2])
def test_blas_has_the_threads_that_were_asked_for_while_the_block_lasts(threads) -> None:
    before = [library["num_threads"] for library in threadpool_info()]
    with thread_limits(threads, 4) as count:
        assert count == threads
        assert {library["num_threads"] for library in threadpool_info()} == {threads}
    assert [library["num_threads"] for library in threadpool_info()] == before


@pytest.mark.parametrize(("workers", "threads"), [(1, 8), (2, 4), (3, 2), (8, 1), (100, 1)])
def test_processes_share_the_processors(monkeypatch, workers, threads) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    with thread_limits(None, workers) as count:
        assert count == threads
