"""Temporary files that never stay, and locks on files that are to be written.

Both are files named ``.nettrim-*.tmp`` in the folder of what they are for, and both are locked as
long as the process that made them lives: the system lets go of the lock when it dies, however
that happens.  So a file that nobody holds is left over, and the next run in the folder removes it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from nettrim_cli.errors import Busy
from nettrim_cli.process.channel import tell

try:
    import fcntl
except ImportError:  # not a Unix
    fcntl = None  # type: ignore[assignment]

BINARY = getattr(os, "O_BINARY", 0)
PREFIX, SUFFIX = ".nettrim-", ".tmp"
TRIES, PAUSE_SECONDS = 10, 0.01  # a lock that another run takes to look at a file is short


@contextlib.contextmanager
def temporary_file(folder: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """Open a new file for writing; close it after the with-block, and remove it if it is there.

    It stays open until then, as closing it releases its lock.
    """
    while True:
        path = folder / f"{PREFIX}{secrets.token_hex(8)}{SUFFIX}"
        tell("temporary", path)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | BINARY, 0o666)
        if _lock(handle) is not False and os.fstat(handle).st_nlink:
            break
        os.close(handle)  # another run took it for a left-over in the meantime
    file = os.fdopen(handle, "wb")
    try:
        yield path, file
    finally:
        with contextlib.suppress(OSError):
            path.unlink()
        with contextlib.suppress(OSError):  # of what could not be written, which has been told
            file.close()


def share(file: BinaryIO) -> None:
    """Let readers lock a temporary file, too; it is still not taken for a left-over."""
    if fcntl is not None:
        with contextlib.suppress(OSError):
            fcntl.flock(file.fileno(), fcntl.LOCK_SH)


@contextlib.contextmanager
def hold(path: str | os.PathLike[str]) -> Iterator[None]:
    """Keep other runs from writing `path` during the with-block.

    Left-overs of dead runs in its folder are removed first.  Where the system knows no locks
    nobody is kept from anything.

    Raises
    ------
    Busy
        Another run holds it.
    OSError
        The folder takes no files.
    """
    target = Path(os.path.realpath(path))
    sweep(target.parent)
    name = hashlib.sha256(os.fsencode(target.name)).hexdigest()[:16]
    lock = target.parent / f"{PREFIX}{name}{SUFFIX}"
    tell("temporary", lock)
    handle = _locked_handle(lock, target)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            lock.unlink()
        os.close(handle)


def sweep(folder: Path) -> None:
    """Remove the files of runs that are dead."""
    if fcntl is None:
        return
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(PREFIX) and entry.name.endswith(SUFFIX):
                with contextlib.suppress(OSError):
                    _remove_unless_held(entry.path)


def _remove_unless_held(path: str) -> None:
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK
    handle = os.open(path, flags)
    try:
        if stat.S_ISREG(os.fstat(handle).st_mode) and _lock(handle):
            os.unlink(path)
    finally:
        os.close(handle)


def _locked_handle(lock: Path, target: Path) -> int:
    """A handle to the lock's file, locked, while the file is at its path."""
    for _ in range(TRIES):
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        is_locked = _lock(handle)
        if is_locked is None or (is_locked and _is_at(handle, lock)):
            return handle
        os.close(handle)
        if not is_locked:
            time.sleep(PAUSE_SECONDS)
    raise Busy(
        f"{target}: another run of nettrim is about to write it; wait for that, or choose another "
        "output"
    )


def _lock(handle: int) -> bool | None:
    """Whether the lock could be taken; None where there are none."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in (errno.EWOULDBLOCK, errno.EACCES) else None
    return True


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except OSError:
        return False
