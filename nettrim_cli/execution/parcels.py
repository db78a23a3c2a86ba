"""Values on their way between processes of one machine: arrays lie in memory that both can see.

A parcel is a file without a name, in memory where the system has such files: it is gone when
nobody holds it any more, however the processes end.  Arrays are written to it once, and its
receiver reads them where they lie.
"""

from __future__ import annotations

import os
import pickle
import socket
import struct
import tempfile
from itertools import accumulate
from mmap import ACCESS_COPY, mmap
from typing import Any

HEAD = struct.Struct("<QQ")  # bytes of the pickle, and the number of arrays
ALIGNMENT = 64  # bytes, of a processor's cache line


def send(connection: socket.socket, value: Any) -> None:
    """Send a value that can be pickled.

    Raises
    ------
    OSError
        The other end is gone, or there is no room.
    """
    arrays: list[pickle.PickleBuffer] = []
    text = pickle.dumps(value, protocol=5, buffer_callback=arrays.append)
    views = [array.raw() for array in arrays]
    sizes = struct.pack(f"<{len(views)}Q", *(view.nbytes for view in views))
    handle = _unnamed()
    try:
        with os.fdopen(os.dup(handle), "wb", buffering=0) as file:
            places = _places(len(sizes) + len(text), [view.nbytes for view in views])
            parts: list[bytes | memoryview] = [sizes, text, *views]
            for place, part in zip((0, len(sizes), *places), parts, strict=True):
                file.seek(place)
                _write(file, part)
        socket.send_fds(connection, [HEAD.pack(len(text), len(views))], [handle])
    finally:
        os.close(handle)


def receive(connection: socket.socket) -> Any:
    """The next value; its arrays may be changed, which nobody else sees.

    Raises
    ------
    EOFError
        The other end is gone.
    OSError
        It is gone in the midst of a value.
    """
    head, handles, *_ = socket.recv_fds(connection, HEAD.size, 1, socket.MSG_WAITALL)
    if len(head) < HEAD.size or not handles:
        for handle in handles:
            os.close(handle)
        raise EOFError("the other end is gone")
    try:
        content = memoryview(mmap(handles[0], 0, access=ACCESS_COPY))
    finally:
        os.close(handles[0])
    text_bytes, count = HEAD.unpack(head)
    start = 8 * count
    sizes = struct.unpack_from(f"<{count}Q", content)
    places = _places(start + text_bytes, sizes)
    arrays = [content[place : place + size] for place, size in zip(places, sizes, strict=True)]
    return pickle.loads(content[start : start + text_bytes], buffers=arrays)


def _places(start: int, sizes: Any) -> list[int]:
    """Where arrays of these sizes begin behind `start` bytes."""
    rounded = [size + -size % ALIGNMENT for size in sizes]
    return list(accumulate(rounded[:-1], initial=start + -start % ALIGNMENT))[: len(rounded)]


def _unnamed() -> int:
    """A handle to a new file without a name."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("nettrim", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile(prefix="nettrim-") as file:
        return os.dup(file.fileno())


def _write(file: Any, part: bytes | memoryview) -> None:
    remaining = memoryview(part)
    while remaining:
        remaining = remaining[file.write(remaining) :]
