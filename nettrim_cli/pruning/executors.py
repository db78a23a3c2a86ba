"""Where the jobs of a run are done: an executor maps a pure function over them, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")
Callback = Callable[..., None]


class Executor(Protocol):
    """Does jobs somewhere: here, in other processes, or on other machines.

    Jobs and results are pure values that can be pickled, and the function can be imported.
    """

    def map(
        self, function: Callable[[Job, Callback], Result], jobs: Iterable[Job]
    ) -> Iterator[Result]:
        """Yield the result of each job in the order of the jobs.

        Parameters
        ----------
        function
            Takes a job and a callback for its progress.
        jobs
            May be lazy: the next job is asked for when there is room for it.
        """


@dataclass(frozen=True)
class SerialExecutor:
    """Does one job after the other in this process.

    Attributes
    ----------
    progress
        Called with whatever a job tells of its progress.
    """

    progress: Callback

    def map(
        self, function: Callable[[Job, Callback], Result], jobs: Iterable[Job]
    ) -> Iterator[Result]:
        """Yield the result of each job before the next job is asked for."""
        for job in jobs:
            yield function(job, self.progress)


def silent(*_: Any) -> None:
    """The callback of a job whose progress nobody looks at."""
