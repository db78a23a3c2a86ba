"""An output is there as a whole or not at all, and bad targets are known beforehand."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from nettrim_cli.errors import BadInput, CannotWrite, DiskFailed
from nettrim_cli.files.atomic import check_output, write_atomically


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "out"
    path.write_bytes(b"old")
    return path


def test_write(tmp_path):
    seen = []
    write_atomically(tmp_path / "out", b"new", lambda path: seen.append(path.read_bytes()))
    assert (tmp_path / "out").read_bytes() == b"new"
    assert seen == [b"new"]
    assert names(tmp_path) == ["out"]


def test_a_new_file_has_the_usual_mode_and_a_replaced_one_keeps_its_own(tmp_path, old):
    before = os.umask(0o027)
    try:
        write_atomically(tmp_path / "new", b"")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640
    old.chmod(0o604)
    write_atomically(old, b"new")
    assert stat.S_IMODE(old.stat().st_mode) == 0o604


def test_a_link_stays_a_link(tmp_path, old):
    link = tmp_path / "link"
    link.symlink_to(old)
    write_atomically(link, b"new")
    assert link.is_symlink()
    assert old.read_bytes() == b"new"


@pytest.mark.parametrize("error", [BadInput("no"), KeyboardInterrupt(), MemoryError()])
def test_a_failing_check_leaves_the_old_file(tmp_path, old, error):
    def check(temporary: Path) -> None:
        assert names(tmp_path) != ["out"]
        raise error

    with pytest.raises(type(error)):
        write_atomically(old, b"new", check)
    assert old.read_bytes() == b"old"
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.ENOSPC, DiskFailed),
        (errno.EIO, DiskFailed),
        (errno.EDQUOT, DiskFailed),
        (errno.EFBIG, DiskFailed),
        (errno.EACCES, CannotWrite),
        (errno.EROFS, CannotWrite),
    ],
)
@pytest.mark.parametrize("function", ["replace", "fsync", "open"])
def test_a_failing_system_call_leaves_the_old_file(
    tmp_path, old, monkeypatch, function, number, expected
):
    def fail(*args: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, function, fail)
        with pytest.raises(expected, match=os.strerror(number)):
            write_atomically(old, b"new")
    assert old.read_bytes() == b"old"
    assert names(tmp_path) == ["out"]


def test_interrupted_while_syncing(tmp_path, old, monkeypatch):
    def interrupt(handle: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", interrupt)
        with pytest.raises(KeyboardInterrupt):
            write_atomically(old, b"new")
    assert old.read_bytes() == b"old"
    assert names(tmp_path) == ["out"]


def test_what_is_read_back_must_be_what_was_written(tmp_path, old, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", lambda path: b"rot")
        with pytest.raises(DiskFailed, match="differs"):
            write_atomically(old, b"new")
    assert old.read_bytes() == b"old"
    assert names(tmp_path) == ["out"]


def test_a_file_system_that_cannot_sync_folders(tmp_path, monkeypatch):
    real = os.fsync

    def sync(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        real(handle)

    monkeypatch.setattr(os, "fsync", sync)
    write_atomically(tmp_path / "out", b"new")
    assert (tmp_path / "out").read_bytes() == b"new"


def test_a_long_name(tmp_path):
    write_atomically(tmp_path / ("n" * 255), b"new")
    with pytest.raises(CannotWrite):
        write_atomically(tmp_path / ("n" * 256), b"new")
    with pytest.raises(CannotWrite):
        check_output(tmp_path / ("n" * 256), [], False)


# -- check_output


def test_a_good_output(tmp_path, old):
    check_output(tmp_path / "new", [old], False)
    check_output(old, [tmp_path / "other"], True)
    assert names(tmp_path) == ["out"]


def test_an_existing_output(tmp_path, old):
    with pytest.raises(CannotWrite, match="--force"):
        check_output(old, [], False)
    link = tmp_path / "dangling"
    link.symlink_to(tmp_path / "nowhere")
    with pytest.raises(CannotWrite, match="--force"):
        check_output(link, [], False)
    check_output(link, [], True)


def test_the_input_as_output(tmp_path, old):
    (tmp_path / "soft").symlink_to(old)
    (tmp_path / "hard").hardlink_to(old)
    for output in (old, tmp_path / "soft", tmp_path / "hard", tmp_path / "." / "out"):
        for force in (False, True):
            with pytest.raises(CannotWrite, match="input"):
                check_output(output, [tmp_path / "other", old], force)


def test_an_output_that_is_no_file(tmp_path):
    with pytest.raises(CannotWrite, match="folder"):
        check_output(tmp_path, [], True)
    with pytest.raises(CannotWrite, match="not a regular file"):
        check_output("/dev/null", [], True)
    with pytest.raises(CannotWrite, match="does not exist"):
        check_output(tmp_path / "none" / "out", [], False)


def test_an_output_below_a_file(old):
    with pytest.raises(CannotWrite):
        check_output(old / "out", [], False)


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    def fail(*args: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(CannotWrite, match="Read-only"):
        check_output(tmp_path / "new", [], False)
