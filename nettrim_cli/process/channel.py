"""What a supervised run tells its supervisor: limits, files, and what the engine is at.

Where nobody supervises a run (the Python API), nothing is told.  A message is a list of texts,
the first of which says what it is about:

==========================  ========================================================
``limit NAME VALUE``        a limit that the user set, in seconds or bytes
``about TEXT``              the model, for sentences
``doing TEXT``              what is done now, for sentences
``input PATH IDENTITY``     a file that must not change while the run lasts
``temporary PATH``          a file to be removed, wherever the run ends
``sidecar PATH``            the same, unless an output stands by then
``output PATH IDENTITY``    a file of this identity is about to be renamed to the path
==========================  ========================================================
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

HEAD = struct.Struct("<I")
CLOCK = struct.Struct("<d")
CLOCK_BYTES = 4096
NEVER = float("inf")


class Channel:
    """The run's end: a pipe for messages, and shared memory for the time the engine may take."""

    def __init__(self, pipe: int, clock: Any) -> None:
        self.pipe, self.clock = pipe, clock

    def send(self, *texts: str) -> None:
        """Send a message."""
        body = b"\0".join(os.fsencode(each.replace("\0", "")) for each in texts)
        left = HEAD.pack(len(body)) + body
        while left:
            left = left[os.write(self.pipe, left) :]


_channels: list[Channel] = []  # of this process: none, or the one


def connect(channel: Channel) -> None:
    """Let this process be the one that is supervised."""
    _channels[:] = [channel]


def supervised() -> bool:
    """Whether anybody listens."""
    return bool(_channels)


def tell(kind: str, *facts: object) -> None:
    """Tell the supervisor, if there is one."""
    for channel in _channels:
        channel.send(
            kind, *(os.fsdecode(x) if isinstance(x, os.PathLike) else str(x) for x in facts)
        )


@contextmanager
def engine_call(seconds: float) -> Iterator[None]:
    """A call into native code that ends within so many seconds, or never will."""
    for channel in _channels:
        CLOCK.pack_into(channel.clock, 0, time.monotonic() + seconds)
    try:
        yield
    finally:
        for channel in _channels:
            CLOCK.pack_into(channel.clock, 0, NEVER)


def identity(facts: os.stat_result) -> str:
    """What tells a file, and whether its content has changed."""
    return f"{facts.st_dev}:{facts.st_ino}:{facts.st_size}:{facts.st_mtime_ns}"


def messages(buffer: bytearray) -> Iterator[list[str]]:
    """Take whole messages out of what has been read."""
    while len(buffer) >= HEAD.size:
        (size,) = HEAD.unpack_from(buffer)
        end = HEAD.size + size
        if len(buffer) < end:
            return
        body = bytes(buffer[HEAD.size : end])
        del buffer[:end]
        yield [os.fsdecode(each) for each in body.split(b"\0")]
