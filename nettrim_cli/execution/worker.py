"""A worker process: it does the tasks that it is sent, until its run ends."""

from __future__ import annotations

import pickle
import signal
import socket
import traceback
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from nettrim_cli.execution.executor import silent
from nettrim_cli.execution.parcels import receive, send
from nettrim_cli.process.supervisor import end_with
from nettrim_cli.process.threads import thread_limits

Outcome = tuple[bool, Any]
"""Whether all jobs of a task were done, and their results; or the error, and its traceback."""


class ErrorElsewhere(Exception):
    """Where an error was raised in a worker, as the cause of the error here."""


def work(handle: int, parent: int) -> None:
    """Do the tasks that come on a socket: first threads of BLAS, then functions with their jobs.

    Parameters
    ----------
    handle
        Of the socket.
    parent
        Number of the process of the run, with which this one ends.
    """
    end_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the run decides what a Ctrl-C ends
    warnings.simplefilter("ignore")
    with socket.socket(fileno=handle) as connection:
        threads, _ = receive(connection)  # functions come along so that they are imported early
        with thread_limits(threads):
            while True:
                try:
                    answer = outcome(*receive(connection))
                except (EOFError, ConnectionError):
                    return
                except Exception as error:
                    answer = failure(error)
                try:
                    send(connection, answer)
                except ConnectionError:
                    return
                except Exception as error:  # results that cannot be sent
                    send(connection, failure(error))
                del answer


def outcome(function: Callable[..., Any], jobs: Sequence[Any]) -> Outcome:
    """What comes of jobs of a function."""
    try:
        return True, [function(job, silent) for job in jobs]
    except Exception as error:
        return failure(error)


def failure(error: Exception) -> Outcome:
    """An error that can be sent; one that cannot be is told in words."""
    text = traceback.format_exc()
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        error = RuntimeError(f"{type(error).__name__}: {error}")
    return False, (error, text)


def results_of(answer: Outcome) -> list[Any]:
    """The results of a task.

    Raises
    ------
    Exception
        The error of a job, as it was raised.
    """
    done, value = answer
    if done:
        results: list[Any] = value
        return results
    error, text = value
    raise error from ErrorElsewhere(text)
