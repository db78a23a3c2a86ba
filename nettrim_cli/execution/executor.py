"""What an executor is: it maps a pure function over jobs, wherever these are done."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")
Callback = Callable[..., None]


class Executor(Protocol):
    """Does jobs somewhere: here, in other processes, or on other machines.

    Jobs and results are pure values that can be pickled, and the function can be imported.
    """

    @property
    def places(self) -> int:
        """How many groups of jobs are done at once; 1 where nothing begins before it is asked."""

    def map(
        self, function: Callable[[Job, Callback], Result], jobs: Iterable[Job]
    ) -> Iterator[Result]:
        """Do a group of jobs at one place, and give their results in the order of the jobs.

        Jobs of a group may share what is computed for them.  With one place the next job is asked
        for when the result before it has been taken; with several all are asked for at once, and
        the call returns while they are done.

        Parameters
        ----------
        function
            Takes a job and a callback for its progress.
        jobs
            May be lazy.
        """


def in_order(
    executor: Executor,
    function: Callable[[Job, Callback], Result],
    groups: Iterable[Iterable[Job]],
) -> Iterator[Result]:
    """The results of groups of jobs, in the order of the jobs.

    So many groups are asked for ahead as keep all places busy, and no more.
    """
    begun: deque[Iterator[Result]] = deque()
    for group in groups:
        begun.append(executor.map(function, group))
        if len(begun) > executor.places or executor.places == 1:
            yield from begun.popleft()
    for results in begun:
        yield from results


def silent(*_: Any) -> None:
    """The callback of a job whose progress nobody looks at."""
