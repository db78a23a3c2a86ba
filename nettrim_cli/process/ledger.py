"""A supervisor's record of a run: its limits, its files, and sentences for its endings."""

from __future__ import annotations

import math
import os
import signal
import time
from contextlib import suppress

from nettrim_cli.process.channel import identity, messages

NOTHING_WRITTEN = "nothing was written"
CARRIES_ON = f"{NOTHING_WRITTEN} yet: the same command carries on from here (--fresh starts over)"


class Ledger:
    """Record of a run's messages.

    Attributes
    ----------
    seconds, bytes
        Limits of the run.
    workers
        Numbers of the processes that work for it, those that have ended among them.
    """

    def __init__(self, default_bytes: int) -> None:
        self.seconds, self.bytes = math.inf, default_bytes
        self.has_limit = self.has_memory = False
        self.about, self.doing, self.log, self.journal = "the model", "", "", ""
        self.workers: list[int] = []
        self.temporaries: list[str] = []
        self.sidecars: list[str] = []
        self.outputs: list[tuple[str, str]] = []
        self.inputs: dict[str, str] = {}
        self._buffer = bytearray()

    def read(self, data: bytes) -> None:
        """Read messages, which may be cut off anywhere."""
        self._buffer += data
        for kind, *facts in messages(self._buffer):
            if kind == "limit":
                self._set_limit(*facts)
            elif kind in ("about", "doing", "log", "journal"):
                setattr(self, kind, facts[0])
            elif kind == "worker":
                self.workers.append(int(facts[0]))
            elif kind == "temporary":
                self.temporaries.append(facts[0])
            elif kind == "sidecar":
                self.sidecars.append(facts[0])
            elif kind == "output":
                self.outputs.append((facts[0], facts[1]))
            elif kind == "input":
                self.inputs[facts[0]] = facts[1]

    def clean_up(self) -> str:
        """Remove the run's temporary files, and say which outputs were written."""
        written = [path for path, file_identity in self.outputs if _identity(path) == file_identity]
        temporaries = reversed(self.temporaries)  # files before the folder that holds them
        for path in (*temporaries, *(() if written else self.sidecars)):
            with suppress(OSError):
                remove = os.rmdir if os.path.isdir(path) else os.unlink
                remove(path)
        if not written:
            return CARRIES_ON if os.path.isdir(self.journal) else NOTHING_WRITTEN
        if len(written) == 1:
            return written_alone(written[0])
        return f"{', '.join(dict.fromkeys(written))} were written, the rest was not"

    def write_down(self, sentence: str, seconds: float) -> None:
        """Add how the run ended, after so many seconds, to its log, if it has one."""
        if not os.path.isfile(self.log):
            return
        import json
        from datetime import datetime, timezone

        line = f"{time.strftime('%H:%M:%S')}  failed: {sentence}"
        if self.log.lower().endswith(".jsonl"):
            now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
            facts = {"time": now, "seconds": round(seconds, 3), "outcome": "failed"}
            line = json.dumps({"event": "end", **facts, "text": sentence})
        with suppress(OSError), open(self.log, "a", encoding="utf-8") as file:
            file.write(f"{line}\n")

    def ended_by(self, number: int) -> str:
        """Say that a signal ended the run."""
        name = signal.Signals(number).name
        return "interrupted" if number == signal.SIGINT else f"ended by {name}"

    def out_of_time(self) -> str:
        """Say that the run is over its time."""
        return f"{self.about}: over --time-limit, {self.seconds:g} s{self._stage}"

    def engine_hangs(self) -> str:
        """Say that the engine does not come back."""
        return (
            f"{self.about}: onnxruntime did not come back in a time that is generous for such a "
            f"model{self._stage}; it may hold a loop that never ends (--time-limit allows more)"
        )

    def out_of_memory(self, used: int) -> str:
        """Say that the run is over its memory."""
        limit = (
            f"--max-memory, {size(self.bytes)}"
            if self.has_memory
            else f"the default limit of {size(self.bytes)}, most of what was free "
            "(--max-memory sets another)"
        )
        return (
            f"{self.about}: {size(used)} of memory{self._stage} are over {limit}; use fewer "
            "--samples or smaller ones, or leave the largest layers out (--exclude)"
        )

    def killed_for_memory(self) -> str:
        """Say that the system has ended the run for want of memory."""
        return (
            f"{self.about}: the system ran out of memory{self._stage} and ended the run; use "
            "fewer --samples or smaller ones, or leave the largest layers out (--exclude)"
        )

    def crashed(self, number: int) -> tuple[int, str]:
        """Give the exit code of a crash of native code, and say why."""
        for path, file_identity in self.inputs.items():
            if _identity(path) != file_identity:
                return 65, f"{path}: changed while the run read it; start anew"
        name = signal.Signals(number).name
        return 69, (
            f"{self.about}: the inference engine crashed ({name}){self._stage}; the model asks "
            "for something that onnxruntime does not survive"
        )

    @property
    def _stage(self) -> str:
        return f" while {self.doing}" if self.doing else ""

    def _set_limit(self, name: str, value: str) -> None:
        if name == "seconds":
            self.seconds, self.has_limit = float(value), True
        else:
            self.bytes, self.has_memory = int(value), True


def written_alone(path: object) -> str:
    """Say that an output stands whose run has ended before its report."""
    return f"{path} was written, its report was not"


def size(count: int) -> str:
    """Bytes in words."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6)):
        if count >= factor:
            return f"{count / factor:.3g} {unit}"
    return f"{count / 1000:.3g} kB"


def _identity(path: str) -> str:
    try:
        return identity(os.stat(path))
    except OSError:
        return ""
