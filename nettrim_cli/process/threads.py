"""How many threads a run may start."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from threadpoolctl import ThreadpoolController


@contextmanager
def thread_limits(threads: int | None, processes: int = 1) -> Iterator[int]:
    """Hold BLAS to a number of threads, and give that number.

    Parameters
    ----------
    threads
        The number; by default so many processes share all processors.
    """
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    count = threads or max(1, (available or os.cpu_count() or 1) // processes)
    with _blas().limit(limits=count):
        yield count


@cache
def _blas() -> ThreadpoolController:
    """The libraries of NumPy and SciPy, which are loaded by now; to look for them takes a while."""
    return ThreadpoolController()
