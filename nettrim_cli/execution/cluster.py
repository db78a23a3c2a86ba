"""A Dask cluster: each group of jobs is a task of one of its workers.

A task carries its jobs as bytes: the scheduler looks into none, and gives them to another worker
where one dies.
"""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from threading import Lock
from typing import Any, ClassVar

from nettrim_cli.errors import WorkersFailed, WrongUsage
from nettrim_cli.execution.executor import Callback, Job, Result
from nettrim_cli.execution.worker import Outcome, outcome, results_of
from nettrim_cli.process.threads import thread_limits

PATIENCE_SECONDS = 30  # with a scheduler that does not answer, and for its first worker
PACKAGES = ("nettrim_cli", "numpy", "scipy")  # whose versions are the same everywhere
CONFIGURATION = {
    "distributed.admin.large-graph-warning-threshold": "1TiB",  # tasks carry their jobs
    "distributed.comm.timeouts.connect": PATIENCE_SECONDS,
}


class ClusterExecutor:
    """Does groups of jobs on a cluster; for a with-block.

    Parameters
    ----------
    address
        Of the scheduler.  What TLS needs is in Dask's own configuration.
    threads
        BLAS threads of each task.

    Raises
    ------
    WrongUsage
        Dask is not installed.
    WorkersFailed
        The cluster cannot be reached, has no workers, or other versions of nettrim.
    """

    def __init__(self, address: str, threads: int) -> None:
        try:
            import dask
            import distributed
        except ImportError as error:
            raise WrongUsage(
                f"--cluster {address} needs Dask: pip install 'nettrim-cli[cluster]'."
            ) from error
        self.address, self.threads = address, threads
        with ExitStack() as stack:
            stack.enter_context(dask.config.set(CONFIGURATION))
            stack.callback(_loggers_hold(logging.CRITICAL))
            try:
                self.client = distributed.Client(
                    address, timeout=PATIENCE_SECONDS, set_as_default=False, name="nettrim"
                )
                stack.callback(self.client.close)
                self.client.wait_for_workers(1, timeout=PATIENCE_SECONDS)
                facts = self.client.get_versions(packages=list(PACKAGES))
            except (OSError, TypeError, ValueError, RuntimeError) as error:
                raise WorkersFailed(
                    f"--cluster {address}: no scheduler with workers is there ({error}); 'dask "
                    f"scheduler' starts one, 'dask worker {address}' a worker."
                ) from error
            self._check_versions(facts)
            self._ending = stack.pop_all()

    def __enter__(self) -> ClusterExecutor:
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the cluster; it lets go of the tasks that nobody waits for any more."""
        self._ending.close()

    @property
    def places(self) -> int:
        """Threads of all workers, of which there may be more or fewer by and by."""
        threads: dict[str, int] = self.client.nthreads()
        return max(1, sum(threads.values()))

    def map(
        self, function: Callable[[Job, Callback], Result], jobs: Iterable[Job]
    ) -> Iterator[Result]:
        """Send a group of jobs to the cluster, and give their results when they are asked for.

        With the first result comes the error of a job, as it was raised, or ``WorkersFailed``.
        """
        content = pickle.dumps((function, list(jobs)), protocol=5)
        return self._results(self.client.submit(do_task, content, self.threads, pure=False))

    def _results(self, future: Any) -> Iterator[Any]:
        """The results of a task.

        Raises
        ------
        WorkersFailed
            Workers died of it, or the cluster is gone.
        """
        from distributed import CancelledError, KilledWorker

        try:
            answer: Outcome = future.result()
        except CancelledError as error:
            raise WorkersFailed(
                f"--cluster {self.address}: the connection to its scheduler was lost; start the "
                "run again when it is back."
            ) from error
        except KilledWorker as error:
            raise WorkersFailed(
                f"--cluster {self.address}: several workers died while they did the same task; "
                "their logs may tell why, memory may have run out."
            ) from error
        except Exception as error:
            raise WorkersFailed(
                f"--cluster {self.address}: it gave a task up ({error}); the logs of its workers "
                "may tell why."
            ) from error
        finally:
            future.release()
        yield from results_of(answer)

    def _check_versions(self, facts: Any) -> None:
        """Make sure that everybody has the same versions.

        Raises
        ------
        WorkersFailed
            A worker or the scheduler has another one, or none.
        """
        here = facts["client"]["packages"]
        for place, there in {"the scheduler": facts["scheduler"], **facts["workers"]}.items():
            for name in PACKAGES:
                if (found := there["packages"].get(name)) != here[name]:
                    has = f"{name} {found}" if found else f"no {name}"
                    raise WorkersFailed(
                        f"--cluster {self.address}: {place} has {has}, and this machine "
                        f"{here[name]}: install the same version on all."
                    )


class _Threads:
    """BLAS threads of a worker's process, which may do several tasks at once."""

    lock: ClassVar = Lock()
    tasks: ClassVar = 0
    limit: ClassVar = ExitStack()

    @classmethod
    def begin(cls, threads: int) -> None:
        """Hold BLAS to so many threads from the first task on."""
        with cls.lock:
            if cls.tasks == 0:
                cls.limit.enter_context(thread_limits(threads))
            cls.tasks += 1

    @classmethod
    def end(cls) -> None:
        """Let go with the last task."""
        with cls.lock:
            cls.tasks -= 1
            if cls.tasks == 0:
                cls.limit.close()


def do_task(content: bytes, threads: int) -> Outcome:
    """Do a task on a worker.

    Parameters
    ----------
    content
        A function and its jobs, pickled.
    threads
        BLAS threads.
    """
    function, jobs = pickle.loads(content)
    _Threads.begin(threads)
    try:
        return outcome(function, jobs)
    finally:
        _Threads.end()


def _loggers_hold(level: int) -> Callable[[], None]:
    """Let Dask's loggers say nothing below a level; the function that undoes it."""
    names = [name for name in logging.root.manager.loggerDict if name.startswith("distributed")]
    before = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(level)

    def undo() -> None:
        """Set the levels of before."""
        for name, old in before.items():
            logging.getLogger(name).setLevel(old)

    return undo
