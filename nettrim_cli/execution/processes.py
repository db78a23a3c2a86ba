"""Worker processes on this machine: they live as long as a run, and none outlives it.

A worker that is killed costs the task that it was at: another one is started, and gets it.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from queue import SimpleQueue
from typing import Any

from nettrim_cli.errors import NettrimError, OutOfMemory, WorkersFailed
from nettrim_cli.execution.executor import Callback, Job, Result
from nettrim_cli.execution.parcels import receive, send
from nettrim_cli.execution.worker import Outcome, results_of
from nettrim_cli.process.channel import tell

ATTEMPTS = 3  # workers that may die of one task
PATIENCE_SECONDS = 5  # with a process that does not listen any more
START = (
    "import sys; sys.path[:] = {path!r}; from nettrim_cli.execution.worker import work; "
    "work({handle}, {parent})"
)


class ProcessExecutor:
    """Does groups of jobs in some worker processes; for a with-block.

    Parameters
    ----------
    workers
        How many.
    threads
        BLAS threads of each.
    functions
        Those that will be mapped: workers import them while the run begins.
    """

    def __init__(
        self, workers: int, threads: int, functions: Sequence[Callable[..., Any]] = ()
    ) -> None:
        self.places = workers
        self.workers: list[Worker] = []
        self._greeting = threads, tuple(functions)
        self._closed = False
        self._idle: SimpleQueue[Worker] = SimpleQueue()
        self._pool = ThreadPoolExecutor(workers)  # each thread waits for one worker
        for _ in range(workers):
            self._idle.put(self._started())

    def __enter__(self) -> ProcessExecutor:
        return self

    def __exit__(self, *_: object) -> None:
        """End all workers, whatever they are doing."""
        self._closed = True
        for worker in self.workers:
            worker.process.kill()
        self._pool.shutdown(cancel_futures=True)
        for worker in self.workers:  # one may have been started meanwhile
            worker.process.kill()
            worker.end()

    def map(
        self, function: Callable[[Job, Callback], Result], jobs: Iterable[Job]
    ) -> Iterator[Result]:
        """Send a group of jobs to a worker, and give their results when they are asked for.

        With the first result comes the error of a job, as it was raised, or the one of ``_do``.
        """
        return _awaited(self._pool.submit(self._do, function, list(jobs)))

    def _do(self, function: Callable[..., Any], jobs: list[Any]) -> list[Any]:
        """Have a worker do the jobs, and another one where it dies.

        Raises
        ------
        OutOfMemory, WorkersFailed
            Too many have died.
        """
        endings: list[int] = []
        while len(endings) < ATTEMPTS:
            worker = self._idle.get()
            try:
                answer = worker.do(function, jobs)
            except (EOFError, ConnectionError):
                if self._closed:
                    raise
                endings.append(worker.end())
                self.workers.remove(worker)
                worker = self._started()
            else:
                return results_of(answer)
            finally:
                self._idle.put(worker)
        raise _given_up(endings)

    def _started(self) -> Worker:
        worker = Worker(self._greeting)
        self.workers.append(worker)
        return worker


class Worker:
    """A worker process, started from nothing, so that it inherits no threads and no locks."""

    def __init__(self, greeting: Any) -> None:
        self.connection, other = socket.socketpair()
        with other:
            facts = {"path": sys.path, "handle": other.fileno(), "parent": os.getpid()}
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-c", START.format(**facts)],
                pass_fds=[other.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        tell("worker", self.process.pid)
        with suppress(ConnectionError):  # it is found to be dead when it gets a task
            send(self.connection, greeting)

    def do(self, function: Callable[..., Any], jobs: list[Any]) -> Outcome:
        """Send a task, and wait for what comes of it.

        Raises
        ------
        EOFError, ConnectionError
            The process died.
        """
        send(self.connection, (function, jobs))
        answer: Outcome = receive(self.connection)
        return answer

    def end(self) -> int:
        """Wait until the process has ended, and give its exit code."""
        self.connection.close()
        try:
            return self.process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


def _awaited(results: Future[list[Result]]) -> Iterator[Result]:
    yield from results.result()


def _given_up(endings: Sequence[int]) -> NettrimError:
    """The error of a task of which workers died with these exit codes, negative for signals."""
    names = [signal.Signals(-code).name if code < 0 else f"exit code {code}" for code in endings]
    head = f"{len(endings)} worker processes ended one after the other while they did the same task"
    head = f"{head} ({', '.join(dict.fromkeys(names))})"
    if -signal.SIGKILL in endings:
        return OutOfMemory(
            f"{head}, as they do where the system runs out of memory; use fewer --workers or fewer "
            "--samples"
        )
    return WorkersFailed(f"{head}; try it without --workers")
