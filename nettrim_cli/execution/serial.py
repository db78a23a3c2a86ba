"""The default: jobs are done in the process of the run, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

from nettrim_cli.execution.executor import Callback, Job, Result


@dataclass(frozen=True)
class SerialExecutor:
    """Does one job after the other in this process.

    Attributes
    ----------
    progress
        Called with whatever a job tells of its progress.
    """

    progress: Callback
    places: ClassVar[int] = 1

    def map(
        self, function: Callable[[Job, Callback], Result], jobs: Iterable[Job]
    ) -> Iterator[Result]:
        """Yield the result of each job before the next job is asked for."""
        for job in jobs:
            yield function(job, self.progress)
