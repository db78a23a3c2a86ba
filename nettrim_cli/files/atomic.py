"""Writing files so that nobody ever sees half of one."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from nettrim_cli.errors import CannotWrite, DiskFailed, NettrimError
from nettrim_cli.files.temporary import hold, temporary_file
from nettrim_cli.process.channel import identity, tell

DIGITS = 16
WRITTEN = "nettrim_output"  # what an exception says of a file that stands

# Everything else that the system reports while writing counts as a failing disk.
NOT_ALLOWED = frozenset(
    (
        errno.EACCES,
        errno.EPERM,
        errno.EROFS,
        errno.ENOENT,
        errno.ENOTDIR,
        errno.EISDIR,
        errno.ENAMETOOLONG,
        errno.ELOOP,
    )
)


def check_output(
    path: str | os.PathLike[str], inputs: Sequence[str | os.PathLike[str]], force: bool
) -> None:
    """Make sure, before any work, that `path` can be written.

    Parameters
    ----------
    path
        The file to be written later.
    inputs
        Files that must not be overwritten, whatever `force` says.
    force
        Whether an existing file may be replaced.

    Raises
    ------
    CannotWrite
        `path` is a folder, or one of the inputs (also through a link), or exists without
        `force`, or its folder is missing or not writable.
    DiskFailed
        The disk has no room even for an empty file.
    """
    target = Path(path)
    for source in inputs:
        if _same_file(target, Path(source)):
            raise CannotWrite(
                f"{target}: the output is the same file as the input {Path(source)}; "
                "choose another output, the input is never overwritten"
            )
    try:
        mode = os.stat(target).st_mode if target.exists() else None
    except OSError as error:
        raise _as_ours(error, target) from error
    if mode is not None and stat.S_ISDIR(mode):
        raise CannotWrite(f"{target}: the output is a folder; name a file in it")
    if mode is not None and not stat.S_ISREG(mode):
        raise CannotWrite(f"{target}: the output is not a regular file; choose another output")
    if os.path.lexists(target) and not force:
        raise CannotWrite(
            f"{target}: the output exists already; add --force to replace it, "
            "or choose another output"
        )
    folder = Path(os.path.realpath(target)).parent
    if not folder.is_dir():
        raise CannotWrite(f"{target}: the folder {folder} does not exist; create it first")
    # Modes say nothing to root and little on network disks: try it.
    try:
        with temporary_file(folder):
            pass
    except OSError as error:
        raise _as_ours(error, target) from error


@contextlib.contextmanager
def reserved(path: str | os.PathLike[str]) -> Iterator[None]:
    """Keep other runs from writing `path` during the with-block.

    Raises
    ------
    Busy
        Another run is about to write it.
    CannotWrite, DiskFailed
        Its folder takes no files.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(hold(path))
        except OSError as error:
            raise _as_ours(error, Path(path)) from error
        yield


def write_atomically(
    path: str | os.PathLike[str],
    payload: bytes,
    check: Callable[[Path], None] | None = None,
) -> None:
    """Write `payload` to `path` as a whole, or change nothing.

    A temporary file in the same folder is written, synced, read back, compared, checked and
    renamed over the target.  It is removed on any exception, KeyboardInterrupt included.  A
    link is followed, so that it stays a link.

    Parameters
    ----------
    path
        The file to create or replace.  A replaced file keeps its mode.
    payload
        Its whole content.
    check
        Called with the path of the temporary file; what it raises ends the writing.

    Raises
    ------
    CannotWrite
        The system does not allow the file to be created.
    DiskFailed
        The disk is full or failed, or what was read back differs.
    """
    with replacing(path) as (temporary, file):
        _write_synced(file, (payload,))
        if temporary.read_bytes() != payload:
            raise DiskFailed(f"{path}: what was read back differs from what was written")
        del payload  # the check may need the memory
        if check is not None:
            check(temporary)


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[tuple[Path, BinaryIO]]:
    """Give a new file in the folder of `path`, which takes its place when the with-block ends well.

    It keeps the mode of a file that it replaces, and is removed on any exception.

    Raises
    ------
    CannotWrite
        The system does not allow the file to be created.
    DiskFailed
        The disk is full or failed.
    """
    target = Path(os.path.realpath(path))
    try:
        with temporary_file(target.parent) as (temporary, file):
            yield temporary, file
            if (mode := _mode(target)) is not None:
                os.chmod(temporary, mode)
            file.flush()
            os.fsync(file.fileno())
            tell("output", target, identity(os.fstat(file.fileno())))
            if os.name == "nt":  # where open files cannot be renamed, nor removed by another run
                file.close()
            os.replace(temporary, target)
            _sync_folder(target.parent)
    except OSError as error:
        raise _as_ours(error, Path(path)) from error


def check_sidecar(path: str | os.PathLike[str]) -> None:
    """Make sure, before any work, that `path` can have a sidecar.

    Raises
    ------
    CannotWrite
        Its name is too long, or it is a link into another folder, from which the sidecar would not
        be found.
    """
    target = Path(os.path.realpath(path))
    if target.parent != Path(os.path.realpath(Path(path).parent)):
        raise CannotWrite(
            f"{path}: the output is a link into another folder, {target.parent}, and its external "
            "data could not be found beside the link; name the file itself"
        )
    name = f"{_stem(target)}.{'0' * DIGITS}.data"
    try:
        os.lstat(target.with_name(name))
    except FileNotFoundError:
        pass
    except OSError as error:
        raise _as_ours(error, target.with_name(name)) from error


@contextlib.contextmanager
def sidecar_file(
    path: str | os.PathLike[str], pieces: Iterable[bytes], *, keep: Iterable[Path] = ()
) -> Iterator[str]:
    """Write a file beside `path`, to which the new content of `path` refers; for a with-block.

    The sidecar is named by its content, so that it never replaces the sidecar of the old content:
    whenever the process ends, `path` refers to a file that exists.  Older sidecars of `path` are
    removed when the block ends well, the new one when it does not.

    Parameters
    ----------
    path
        The file that refers to the sidecar.
    pieces
        Content of the sidecar, in order.
    keep
        Files that stay, whatever their names.

    Yields
    ------
    str
        Name of the sidecar in the folder of `path`.

    Raises
    ------
    CannotWrite
        The system does not allow the file to be created.
    DiskFailed
        The disk is full or failed, or what was read back differs.
    """
    target = Path(os.path.realpath(path))
    new_path: Path | None = None
    try:
        with temporary_file(target.parent) as (temporary, file):
            digest = _write_synced(file, pieces)
            if _digest(temporary) != digest:
                raise DiskFailed(f"{target}: what was read back differs from what was written")
            final = target.with_name(f"{_stem(target)}.{digest}.data")
            if not final.exists():
                new_path = final
                tell("sidecar", final)
            if os.name == "nt":
                file.close()
            os.replace(temporary, final)
            _sync_folder(target.parent)
        yield final.name
        new_path = None
    except OSError as error:
        raise _as_ours(error, Path(path)) from error
    finally:
        # The new content may be in place although what came after it has failed.
        if new_path is not None and not _refers(target, new_path.name):
            with contextlib.suppress(OSError):
                new_path.unlink()
    kept_paths = set(map(os.path.realpath, (*keep, final)))
    for old_path in target.parent.iterdir():
        if _is_sidecar(old_path.name, target) and os.path.realpath(old_path) not in kept_paths:
            with contextlib.suppress(OSError):
                old_path.unlink()


def _stem(target: Path) -> str:
    """The file's name as text, as a model refers to a sidecar by text alone."""
    return os.fsencode(target.name).decode("utf-8", "replace")


def _is_sidecar(name: str, target: Path) -> bool:
    pattern = rf"{re.escape(_stem(target))}\.[0-9a-f]{{{DIGITS}}}\.data"
    return re.fullmatch(pattern, name) is not None


def _write_synced(file: BinaryIO, pieces: Iterable[bytes]) -> str:
    """Write a file's content, synced; gives its digest."""
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
        file.write(piece)
    file.flush()
    os.fsync(file.fileno())
    return digest.hexdigest()[:DIGITS]


def _refers(target: Path, sidecar: str) -> bool:
    """Whether a file holds the name of a sidecar."""
    try:
        return sidecar.encode("utf-8") in target.read_bytes()
    except OSError:
        return False


def _digest(path: Path) -> str:
    return _hashed(path).hexdigest()[:DIGITS]


def _hashed(path: Path) -> hashlib._Hash:
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while piece := file.read(1 << 24):
            digest.update(piece)
    return digest


def sha256(path: str | os.PathLike[str]) -> str:
    """Digest of a file's content, as ``sha256sum`` has it."""
    return _hashed(Path(path)).hexdigest()


def _same_file(target: Path, source: Path) -> bool:
    with contextlib.suppress(OSError):
        return os.path.samefile(target, source)
    return os.path.realpath(target) == os.path.realpath(source)


def _mode(target: Path) -> int | None:
    try:
        return stat.S_IMODE(os.stat(target).st_mode)
    except OSError:
        return None


def _sync_folder(folder: Path) -> None:
    # Some systems cannot open or sync a folder; the rename is done all the same.
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES):
            raise
    finally:
        os.close(handle)


def _as_ours(error: OSError, path: Path) -> NettrimError:
    reason = os.strerror(error.errno) if error.errno else str(error)
    if error.errno in NOT_ALLOWED:
        return CannotWrite(f"{path}: the output cannot be created: {reason}")
    return DiskFailed(f"{path}: writing failed: {reason}; free some space or choose another disk")


@contextlib.contextmanager
def standing(output: Path) -> Iterator[None]:
    """Mark whatever ends the run from here on with the file that has been written."""
    try:
        yield
    except BaseException as error:
        setattr(error, WRITTEN, output)
        raise
