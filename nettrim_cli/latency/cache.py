"""Latencies that were measured on this machine before, in a file of the user's cache."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from nettrim_cli.data.engine import runtime

MOST = 5000  # entries of a file; the oldest go


def machine(threads: int) -> str:
    """What latencies depend on besides the model: processor, engine, and threads."""
    return f"{processor()}, {platform.system()}, {runtime()}, {threads} threads"


def processor() -> str:
    """The processor's name."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def folder() -> Path:
    """Where the user's caches are."""
    if os.environ.get("XDG_CACHE_HOME"):
        return Path(os.environ["XDG_CACHE_HOME"], "nettrim")
    if sys.platform == "darwin":
        return Path("~/Library/Caches/nettrim").expanduser()
    if sys.platform == "win32" and os.environ.get("LOCALAPPDATA"):
        return Path(os.environ["LOCALAPPDATA"], "nettrim", "cache")
    return Path("~/.cache/nettrim").expanduser()


class LatencyCache:
    """Lists of nanoseconds by what was measured, of a machine.

    A file that cannot be read is as none, and one that cannot be written is no error.

    Parameters
    ----------
    threads
        Of the engine.
    """

    def __init__(self, threads: int) -> None:
        self.machine = machine(threads)
        digest = hashlib.sha256(self.machine.encode()).hexdigest()[:16]
        self.path = folder() / f"latency-{digest}.json"
        self.fresh: dict[str, list[int]] = {}
        self.stored = self._read()

    def get(self, key: str, count: int) -> list[int] | None:
        """The nanoseconds of a key, of which there must be so many; None where there are none."""
        entry = self.fresh.get(key) or self.stored.get(key)
        if not isinstance(entry, list) or len(entry) != count:
            return None
        return entry if all(type(number) is int and number > 0 for number in entry) else None

    def add(self, key: str, nanoseconds: Sequence[int]) -> None:
        """Keep the nanoseconds of a key."""
        self.fresh[key] = list(nanoseconds)

    def save(self) -> None:
        """Write what is new beside what other runs have written meanwhile."""
        if not self.fresh:
            return
        entries = {**self._read(), **self.fresh}
        entries = dict(list(entries.items())[-MOST:])
        text = json.dumps({"machine": self.machine, "latencies": entries})
        with suppress(OSError, RuntimeError):  # no home, no room, no right to write
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=self.path.name)
            try:
                with os.fdopen(handle, "w", encoding="utf-8") as file:
                    file.write(text)
                os.replace(name, self.path)
            except OSError:
                os.unlink(name)

    def _read(self) -> dict[str, list[int]]:
        with suppress(OSError, ValueError, RecursionError):
            content = json.loads(self.path.read_text("utf-8"))
            if isinstance(content, dict) and content.get("machine") == self.machine:
                latencies = content.get("latencies")
                return latencies if isinstance(latencies, dict) else {}
        return {}
