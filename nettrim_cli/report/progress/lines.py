"""Progress in lines: for logs, for continuous integration, and for other programs."""

from __future__ import annotations

import json
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from typing import Any, TextIO

from nettrim_cli.report import formatting
from nettrim_cli.report.progress.pace import Pace, layer_line
from nettrim_cli.report.result import LayerReport

EVERY_SECONDS, EVERY_SECONDS_JSON = 10.0, 1.0  # without any other line


class Written(Pace, ABC):
    """Writes lines to a stream while the ``with`` block runs, one every few seconds at least.

    Parameters
    ----------
    stream
        Where they are written.  What it refuses is lost, and no error.
    every
        Seconds after which a line tells how far the run has come, if nothing else was written.
    """

    def __init__(self, stream: TextIO, every: float = EVERY_SECONDS) -> None:
        super().__init__()
        self.begun = time.monotonic()
        self._stream, self._every = stream, every
        self._last = self.begun
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._clock = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> Written:
        self._clock.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._clock.join()

    @property
    def seconds(self) -> float:
        """Since it was begun."""
        return time.monotonic() - self.begun

    def write(self, line: str) -> None:
        """Write a line at once."""
        with self._lock, suppress(OSError, ValueError):
            self._last = time.monotonic()
            self._stream.write(f"{line}\n")
            self._stream.flush()

    @abstractmethod
    def start(self, command: str) -> None:
        """Write what is run."""

    @abstractmethod
    def alive(self) -> None:
        """Write how far the run has come."""

    @abstractmethod
    def conclude(self, outcome: str, lines: Sequence[str]) -> None:
        """Write how it ended, and what there is to say."""

    def _tick(self) -> None:
        """Write a line whenever there was none for long."""
        while not self._ended.wait(max(0.01, self._last + self._every - time.monotonic())):
            if time.monotonic() - self._last >= self._every:
                self.alive()


class Lines(Written):
    """Lines for people.

    Parameters
    ----------
    stream, every
        See ``Written``.
    events
        Whether each stage, layer and message has a line; else there are only those every few
        seconds.
    stamp
        What each line begins with.
    """

    def __init__(
        self,
        stream: TextIO,
        every: float = EVERY_SECONDS,
        *,
        events: bool = True,
        stamp: Callable[[], str] = str,
    ) -> None:
        super().__init__(stream, every)
        self._events, self._stamp = events, stamp

    def start(self, command: str) -> None:
        """Write the command and the time."""
        self.write(f"{command}, {time.strftime('%Y-%m-%d %H:%M:%S %z')}")

    def stage(self, text: str) -> None:
        """Write the stage."""
        super().stage(text)
        self.message(self.text)

    def end(self, layer_report: LayerReport) -> None:
        """Write a line about a finished layer."""
        super().end(layer_report)
        self.message(layer_line(layer_report, len(self.done), self.number[1]))

    def message(self, text: str) -> None:
        """Write a message."""
        if self._events:
            self.write(f"{self._stamp()}{formatting.clean(text)}")

    def alive(self) -> None:
        """Write the stage or layer, with the time passed and left."""
        parts = [f"{self.headline}, {formatting.duration(self.seconds)}"]
        if self.share:
            parts.append(f"{formatting.percent(self.share, 0)} % done")
        self.write(self._stamp() + ", ".join(filter(None, (*parts, self.clock))))

    def conclude(self, outcome: str, lines: Sequence[str]) -> None:
        """Write the lines, then the outcome with the time that it took."""
        for line in (*lines, f"{outcome} after {formatting.duration(self.seconds)}"):
            self.message(line)


class JsonLines(Written):
    """A JSON object a line, for programs; docs/usage.md lists its keys."""

    def start(self, command: str) -> None:
        """Write the command."""
        self.event("start", text=command)

    def stage(self, text: str) -> None:
        """Write the stage."""
        super().stage(text)
        self.event("stage", text=self.text)

    def end(self, layer_report: LayerReport) -> None:
        """Write figures of a finished layer."""
        super().end(layer_report)
        self.event(
            "layer",
            name=layer_report.name,
            number=len(self.done),
            of=self.number[1],
            pruned=layer_report.pruned,
            sparsity=layer_report.sparsity_after,
            error_calibration=layer_report.error_calibration,
            error_holdout=layer_report.error_holdout,
            status=layer_report.status,
            note=layer_report.note,
        )

    def message(self, text: str) -> None:
        """Write a message."""
        self.event("message", text=text)

    def alive(self) -> None:
        """Write how far the run has come."""
        self.event(
            "progress",
            text=self.headline,
            share=round(self.share, 4),
            seconds_left=None if self.seconds_left is None else round(self.seconds_left, 1),
        )

    def conclude(self, outcome: str, lines: Sequence[str]) -> None:
        """Write the outcome and the lines."""
        self.event("end", outcome=outcome, text=" ".join(lines))

    def event(self, kind: str, **values: Any) -> None:
        """Write an event; numbers that are none become null."""
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        line = {"event": kind, "time": now, "seconds": round(self.seconds, 3)} | values
        self.write(json.dumps({key: _plain(value) for key, value in line.items()}))


def _plain(value: Any) -> Any:
    """A value as strict JSON has it."""
    return None if isinstance(value, float) and value - value != 0 else value
