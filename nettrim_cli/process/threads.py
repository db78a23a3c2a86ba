"""How many threads a run may start."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from threadpoolctl import ThreadpoolController


@contextmanager
def thread_limits(threads: int | None) -> Iterator[int]:
    """Hold BLAS to a number of threads, all processors by default, and give that number."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    count = threads or available or os.cpu_count() or 1
    with _blas().limit(limits=count):
        yield count


@cache
def _blas() -> ThreadpoolController:
    """The libraries of NumPy and SciPy, which are loaded by now; to look for them takes a while."""
    return ThreadpoolController()
