"""How many threads a run may start."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager

from threadpoolctl import threadpool_limits


class thread_limits(AbstractContextManager[int]):
    """Holds BLAS to a number of threads and gives that number."""

    def __init__(self, threads: int | None) -> None:
        available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
        self.threads = threads or available or os.cpu_count() or 1

    def __enter__(self) -> int:
        self._limits = threadpool_limits(self.threads)
        return self.threads

    def __exit__(self, *_: object) -> None:
        self._limits.restore_original_limits()
