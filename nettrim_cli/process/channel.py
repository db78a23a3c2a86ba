"""Messages of a supervised run to its supervisor: limits, files, the current stage.

Where nobody supervises a run (the Python API), nothing is told.  A message is a list of texts,
the first of which says what it is about:

==========================  ========================================================
``limit NAME VALUE``        a limit that the user set, in seconds or bytes
``about TEXT``              the model, for sentences
``doing TEXT``              what is done now, for sentences
``worker NUMBER``           a process that works for the run, whose memory counts
``input PATH IDENTITY``     a file that must not change while the run lasts
``temporary PATH``          a file or empty folder to be removed, the last one first
``sidecar PATH``            the same, unless an output stands by then
``journal PATH``            a folder, if it is there, from which the same command carries on
``output PATH IDENTITY``    a file of this identity is about to be renamed to the path
``log PATH``                a file to which it is added how the run ends; empty once it says so
==========================  ========================================================
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from mmap import mmap

HEAD = struct.Struct("<I")
CLOCK_BYTES = 4096
NEVER = float("inf")


class Channel:
    """The run's end of the channel: a pipe for messages, shared memory for the engine's time."""

    def __init__(self, pipe: int, clock: memoryview[float]) -> None:
        self.pipe, self.clock = pipe, clock

    def send(self, *texts: str) -> None:
        """Send a message."""
        body = b"\0".join(os.fsencode(text.replace("\0", "")) for text in texts)
        unsent = HEAD.pack(len(body)) + body
        while unsent:
            unsent = unsent[os.write(self.pipe, unsent) :]


_channels: list[Channel] = []  # of this process: none, or the one


def connect(channel: Channel) -> None:
    """Make this process the supervised one."""
    _channels[:] = [channel]


def shared_clock() -> memoryview[float]:
    """A number that a run writes while its supervisor reads it.

    It is written at once, where ``struct`` would write zeros and then byte by byte.
    """
    clock = memoryview(mmap(-1, CLOCK_BYTES)).cast("d")
    clock[0] = NEVER
    return clock


def is_supervised() -> bool:
    """Whether this process has a supervisor."""
    return bool(_channels)


def tell(kind: str, *facts: object) -> None:
    """Tell the supervisor, if there is one."""
    for channel in _channels:
        channel.send(
            kind,
            *(os.fsdecode(fact) if isinstance(fact, os.PathLike) else str(fact) for fact in facts),
        )


@contextmanager
def engine_call(seconds: float) -> Iterator[None]:
    """Mark a call into native code that should end within ``seconds``; for a with-block."""
    for channel in _channels:
        channel.clock[0] = time.monotonic() + seconds
    try:
        yield
    finally:
        for channel in _channels:
            channel.clock[0] = NEVER


def identity(facts: os.stat_result) -> str:
    """A text that identifies a file with its content."""
    return f"{facts.st_dev}:{facts.st_ino}:{facts.st_size}:{facts.st_mtime_ns}"


def messages(buffer: bytearray) -> Iterator[list[str]]:
    """Take the complete messages out of a buffer."""
    while len(buffer) >= HEAD.size:
        (size,) = HEAD.unpack_from(buffer)
        end = HEAD.size + size
        if len(buffer) < end:
            return
        body = bytes(buffer[HEAD.size : end])
        del buffer[:end]
        yield [os.fsdecode(field) for field in body.split(b"\0")]
