"""Kinds of errors, each with the exit code of the command line.

A message is one or two sentences for a person: which file, layer or dataset, what was
wanted, what was found, and what to do next.  docs/usage.md explains the codes; 1 is
never used, so an exit of 1 is always a defect.
"""

from __future__ import annotations

from typing import Any


class NettrimError(Exception):
    """Base of every error that nettrim raises on purpose."""

    exit_code = 70


class WrongUsage(NettrimError):
    """The command makes no sense for these files."""

    exit_code = 2


class GateFailed(NettrimError):
    """A limit of the user (``--max-drop``, ``--max-error``) was exceeded.

    ``report`` is a ``report.result.Report`` of the nearest result, or None.
    """

    exit_code = 3
    report: Any = None


class NothingToDo(NettrimError):
    """No prunable layer, or the target is already met: nothing is written."""

    exit_code = 4


class BadInput(NettrimError):
    """The model or the data is malformed, of the wrong shape or dtype, or not finite."""

    exit_code = 65


class MissingInput(NettrimError):
    """An input file is missing or unreadable."""

    exit_code = 66


class EngineFailed(NettrimError):
    """The inference engine could not run the model."""

    exit_code = 69


class WorkersFailed(NettrimError):
    """Workers died, or the cluster is out of reach."""

    exit_code = 69


class OutOfMemory(NettrimError):
    """The work does not fit into memory, or into ``--max-memory``."""

    exit_code = 71


class CannotWrite(NettrimError):
    """The output cannot be created; raised before any work starts."""

    exit_code = 73


class DiskFailed(NettrimError):
    """The disk is full or failed while an output was written."""

    exit_code = 74


class Busy(NettrimError):
    """Another run holds the output."""

    exit_code = 75


class Refused(NettrimError):
    """Refused for security: a file that leads out of its own folder, or a pickle."""

    exit_code = 77


class OutOfTime(NettrimError):
    """``--time-limit`` is reached; the supervisor says so."""

    exit_code = 124
