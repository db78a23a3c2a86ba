"""A journal: results of jobs are kept on disk, so that a run that ended early carries on.

A result is found again by the digest of its job: the function, the version, and every array and
option that the job has.  So a result of another model, other samples or settings is never taken,
and a run that carries on writes the bytes of one that was not interrupted.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import shutil
import time
import typing
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any, Generic

import numpy as np
from threadpoolctl import threadpool_info

from nettrim_cli import __version__
from nettrim_cli.errors import DiskFailed, OutOfMemory, OutOfTime, WorkersFailed
from nettrim_cli.execution.executor import Callback, Executor, Job, Result
from nettrim_cli.execution.stored_values import Damaged, read_value, write_value
from nettrim_cli.process.channel import tell

WORTH_SECONDS = 0.2  # what is done in less is done again
SUFFIX = ".result"
KEPT_AFTER = (KeyboardInterrupt, DiskFailed, MemoryError, OutOfMemory, OutOfTime, WorkersFailed)


@contextlib.contextmanager
def journal_of(
    target: Path, message: Callable[[str], None], *, fresh: bool = False
) -> Iterator[Journal]:
    """The journal of a run, beside the file that it writes; for a with-block.

    It stays where something ends the run that another try may get over: a signal, a limit, a full
    disk.  Otherwise it is removed.

    Parameters
    ----------
    target
        The file.
    message
        Is told a sentence for people.
    fresh
        Whether to remove what an earlier run has left.
    """
    name = hashlib.sha256(os.fsencode(target.name)).hexdigest()[:16]
    journal = Journal(target.parent / f".nettrim-{name}.journal", message)
    if fresh:
        journal.remove()
    tell("journal", journal.folder)
    try:
        yield journal
    except KEPT_AFTER:
        raise
    except BaseException:
        journal.remove()
        raise
    journal.remove()


@dataclass
class Journal:
    """A folder with the results of a run's jobs; it is made when the first is written.

    Attributes
    ----------
    folder
        The folder.
    message
        Is told a sentence for people.
    found, written
        How many results were read and written so far.
    """

    folder: Path
    message: Callable[[str], None]
    found: int = 0
    written: int = 0
    _broken: bool = False

    def read(self, key: str, kind: type[Result]) -> Result | None:
        """The result of a job by its key; None where there is none."""
        try:
            value = read_value(self.folder / (key + SUFFIX), kind)
        except (OSError, Damaged):
            return None
        if not self.found:
            self.message(f"carrying on with what {self.folder} holds; --fresh starts over")
        self.found += 1
        return value

    def write(self, key: str, result: Any) -> None:
        """Keep the result of a job.  Where that fails, the run goes on without a journal."""
        if self._broken:
            return
        path = self.folder / (key + SUFFIX)
        partial = path.with_suffix(".partial")
        try:
            self.folder.mkdir(exist_ok=True)
            with open(partial, "wb") as file:
                write_value(result, file)
            os.replace(partial, path)
        except OSError as error:
            self._broken = True
            with contextlib.suppress(OSError):
                partial.unlink()
            self.message(f"{self.folder}: the journal cannot be written: {error.strerror}")
        else:
            self.written += 1

    def remove(self) -> None:
        """Remove all results."""
        shutil.rmtree(self.folder, ignore_errors=True)


class _End(Enum):
    """What comes after the last result."""

    END = "end"


@dataclass
class _Slot(Generic[Result]):
    """A job's place in the order: its key, and its result where that was found."""

    key: str
    stored: Result | None


@dataclass(frozen=True)
class JournaledExecutor:
    """Takes results from a journal, and has the other jobs done by another executor.

    Attributes
    ----------
    executor
        Does the jobs.
    journal
        Keeps their results.
    """

    executor: Executor
    journal: Journal

    @property
    def places(self) -> int:
        """How many groups of jobs are done at once."""
        return self.executor.places

    def map(
        self, function: Callable[[Job, Callback], Result], jobs: Iterable[Job]
    ) -> Iterator[Result]:
        """The results of a group of jobs in their order, see ``Executor.map``."""
        kind = typing.get_type_hints(function)["return"]
        slots: deque[_Slot[Result]] = deque()

        def misses() -> Iterator[Job]:
            """The jobs without a result so far."""
            for job in jobs:
                key = digest(function, job)
                stored = self.journal.read(key, kind)
                slots.append(_Slot(key, stored))
                if stored is None:
                    yield job

        return self._merged(self.executor.map(function, misses()), slots)

    def _merged(self, results: Iterator[Result], slots: deque[_Slot[Result]]) -> Iterator[Result]:
        """Results that were found and such that were not, in the order of their jobs."""
        while True:
            start = time.monotonic()
            result = next(results, _End.END)
            seconds = time.monotonic() - start
            while slots and (stored := slots[0].stored) is not None:
                slots.popleft()
                yield stored
            if isinstance(result, _End):
                return
            key = slots.popleft().key
            if seconds >= WORTH_SECONDS or self.places > 1:  # elsewhere it may have taken long
                self.journal.write(key, result)
            yield result


def digest(function: Callable[..., Any], job: Any) -> str:
    """A digest of what decides a result: equal digests stand for equal results."""
    content = hashlib.blake2b(_origin().encode(), digest_size=20)
    content.update(f"{function.__module__}.{function.__qualname__}\n".encode())

    class Stream:
        """A file that is not kept."""

        def write(self, data: bytes) -> None:
            """Add to the digest."""
            content.update(data)

    pickle.Pickler(
        Stream(), protocol=5, buffer_callback=lambda buffer: content.update(buffer.raw())
    ).dump(job)
    return content.hexdigest()


@cache
def _origin() -> str:
    """What other machines and versions may compute in another way."""
    libraries = sorted(
        f"{library['internal_api']} {library.get('version')} {library.get('architecture')}"
        for library in threadpool_info()
    )
    return "\n".join([__version__, np.__version__, *libraries, ""])
