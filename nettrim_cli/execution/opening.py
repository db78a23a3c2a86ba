"""The executor that a run asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from nettrim_cli.execution.executor import Callback, Executor
from nettrim_cli.execution.processes import ProcessExecutor
from nettrim_cli.execution.serial import SerialExecutor


@contextmanager
def opened_executor(
    workers: int,
    cluster: str | None,
    threads: int,
    functions: Sequence[Callable[..., Any]],
    progress: Callback,
) -> Iterator[Executor]:
    """Open an executor; for a with-block.

    Parameters
    ----------
    workers
        Processes that do jobs; with 1, and no cluster, this one does them.
    cluster
        Address of the scheduler of one that does jobs.
    threads
        Threads of BLAS in each.
    functions
        Those that will be mapped.
    progress
        Called with whatever a job tells of its progress, where it is done here.
    """
    if cluster is not None:
        from nettrim_cli.execution.cluster import ClusterExecutor

        with ClusterExecutor(cluster, threads) as executor:
            yield executor
    elif workers > 1:
        with ProcessExecutor(workers, threads, functions) as processes:
            yield processes
    else:
        yield SerialExecutor(progress)
