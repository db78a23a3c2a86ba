"""Functions that tests map over jobs in other processes."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path


def add(array, progress):
    """The array with one more in each place, changed where it lies; and who did it."""
    array += 1
    progress(1, 1)
    return array, os.getpid()


def failing(text, _):
    raise ValueError(text)


class Odd(Exception):
    """An error that cannot be pickled."""

    def __init__(self, first, second):
        super().__init__(f"{first} and {second}")


def failing_oddly(_, progress):
    raise Odd("one", "other")


def local(_, progress):
    """A result that cannot be pickled."""
    return lambda: None


def dying(number, _):
    os.kill(os.getpid(), number)
    time.sleep(60)


def dying_once(job, _):
    """Twice the number of a job, if a file is there; its process dies when it makes the file."""
    path, number = job
    with suppress(FileExistsError):
        Path(path).touch(exist_ok=False)
        os.kill(os.getpid(), signal.SIGKILL)
    return 2 * number


def sleeping(seconds, _):
    time.sleep(seconds)
