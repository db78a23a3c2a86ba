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
    workers: int, threads: int, functions: Sequence[Callable[..., Any]], progress: Callback
) -> Iterator[Executor]:
    """Open an executor; for a with-block.

    Parameters
    ----------
    workers
        Processes that do jobs; with 1 this one does them.
    threads
        Threads of BLAS in each.
    functions
        Those that will be mapped.
    progress
        Called with whatever a job tells of its progress, where it is done here.
    """
    if workers == 1:
        yield SerialExecutor(progress)
        return
    with ProcessExecutor(workers, threads, functions) as executor:
        yield executor
