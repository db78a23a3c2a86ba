"""What shows a run's progress, by what the user asks for and where stderr leads."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from nettrim_cli.errors import CannotWrite
from nettrim_cli.process.channel import tell
from nettrim_cli.report.progress.bar import Bar, StatusLine
from nettrim_cli.report.progress.lines import EVERY_SECONDS, EVERY_SECONDS_JSON, JsonLines, Lines
from nettrim_cli.report.progress.listener import Listener, Several
from nettrim_cli.report.terminal import patient_console

LOG_HEADS = (b"nettrim ", b'{"event": "start"')  # of logs that are written on


@dataclass(frozen=True)
class Session:
    """How a run is shown.

    Attributes
    ----------
    kind
        One of ``listener.KINDS``.  auto: a bar on a terminal, elsewhere a line every few seconds.
    log_file
        File to which lines are added, too: JSON where it ends in ``.jsonl``.
    verbose
        Whether each stage and layer has a line, whatever is shown.
    still
        Whether nothing may move, as a bar would take time from what is timed.
    """

    kind: str = "auto"
    log_file: Path | None = None
    verbose: bool = False
    still: bool = False


class Progress(Several):
    """The listener of a session, and what came out in the end.

    Parameters
    ----------
    listeners
        All that show the run.
    logs
        Those of them that write it down.
    """

    def __init__(self, listeners: Sequence[Listener], logs: Sequence[Lines | JsonLines]) -> None:
        super().__init__(*listeners)
        self._logs = logs

    def start(self, command: str) -> None:
        """Write down what is run: the command, with the version."""
        for log in self._logs:
            log.start(command)

    def conclude(self, outcome: str, lines: Sequence[str]) -> None:
        """Write down how it ended: ``done`` or ``failed``, and what there is to say."""
        for log in self._logs:
            log.conclude(outcome, lines)
        tell("log", "")


@contextmanager
def session(asked: Session, command: str = "nettrim") -> Iterator[Progress]:
    """Show a run while the ``with`` block lasts.

    Parameters
    ----------
    command
        What is run, in words, for logs.

    Raises
    ------
    CannotWrite
        The log file cannot be written.
    """
    with ExitStack() as stack:
        shown = _display(asked)
        log = [_log(asked.log_file, stack)] if asked.log_file is not None else []
        listeners: list[Bar | StatusLine | Lines | JsonLines] = [*log]
        if shown is not None:
            listeners.append(shown)
        for listener in listeners:
            stack.enter_context(listener)
        machine = [shown] if isinstance(shown, JsonLines) else []
        progress = Progress(listeners, [*machine, *log])
        progress.start(command)
        if log:
            tell("log", asked.log_file)
        try:
            yield progress
        except BaseException as error:
            progress.conclude("failed", [str(error) or type(error).__name__])
            raise


def _display(asked: Session) -> Bar | StatusLine | Lines | JsonLines | None:
    """What shows the run on stderr; None where nothing does."""
    if asked.kind == "none" or sys.stderr is None:
        return None
    if asked.kind == "json":
        return JsonLines(sys.stderr, EVERY_SECONDS_JSON)
    console = patient_console(stderr=True, terminal=True if asked.kind == "bar" else None)
    movable = console.is_terminal and not console.is_dumb_terminal
    if asked.kind == "bar" or (asked.kind == "auto" and movable):
        return StatusLine(console) if asked.still else Bar(console, verbose=asked.verbose)
    return Lines(sys.stderr, events=asked.verbose or asked.kind == "plain")


def _log(path: Path, stack: ExitStack) -> Lines | JsonLines:
    """The log, open until the stack is closed; what is in it stays.

    Raises
    ------
    CannotWrite
        It cannot be opened, or is a file that is no log.
    """
    try:
        if path.is_file() and path.stat().st_size:
            with open(path, "rb") as file:
                head = file.read(max(map(len, LOG_HEADS)))
            if not head.startswith(LOG_HEADS):
                raise CannotWrite(
                    f"--log-file {path}: there is a file that is no log of nettrim, and nothing is "
                    "added to it: name another one."
                )
        stream = stack.enter_context(path.open("a", encoding="utf-8"))
    except OSError as error:
        raise CannotWrite(
            f"--log-file {path}: {error.strerror or error}; name a file in a folder that is there "
            "and can be written to."
        ) from error
    if path.suffix.lower() == ".jsonl":
        return JsonLines(stream, EVERY_SECONDS)
    return Lines(stream, stamp=lambda: time.strftime("%H:%M:%S  "))
