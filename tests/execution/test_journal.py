"""A run that ended early carries on from its journal, and writes the same bytes."""

from __future__ import annotations

import errno
import itertools
import os
from contextlib import suppress

import pytest

from nettrim_cli.errors import DiskFailed
from nettrim_cli.execution import journal as journals
from nettrim_cli.execution.executor import in_order
from nettrim_cli.execution.journal import Journal, JournaledExecutor, digest, journal_of
from nettrim_cli.execution.serial import SerialExecutor
from nettrim_cli.pipeline import prune
from nettrim_cli.process.channel import HEAD
from nettrim_cli.process.ledger import CARRIES_ON, NOTHING_WRITTEN, Ledger
from nettrim_cli.report.progress.listener import Silent
from nettrim_cli.settings import Settings
from tests.support.effort import thinned
from tests.support.options import PLAIN, QUICK


class Interrupting(Silent):
    """Interrupts a run when so many layers are done."""

    def __init__(self, layers: int) -> None:
        self.layers = layers

    def end(self, report) -> None:
        self.layers -= 1
        if not self.layers:
            raise KeyboardInterrupt


@pytest.fixture(autouse=True)
def _all_is_worth_it(monkeypatch) -> None:
    monkeypatch.setattr(journals, "WORTH_SECONDS", 0.0)


@pytest.fixture
def solved(monkeypatch) -> list[object]:
    """The jobs that are solved."""
    jobs = []
    do = SerialExecutor.map

    def counted(self, function, asked):
        return do(self, function, (jobs.append(job) or job for job in asked))

    monkeypatch.setattr(SerialExecutor, "map", counted)
    return jobs


def folders(files) -> list[str]:
    return [name for name in files.listing if name.endswith(".journal")]


TARGETS = (
    QUICK,
    PLAIN | {"epsilon": 0.1},
    PLAIN | {"sparsity": 0.5, "sweeps": 2},
    PLAIN | {"epsilon": 0.1, "method": "net-trim", "scheme": "parallel"},
    PLAIN | {"max_error": 0.3},
    PLAIN | {"sparsity": 0.3, "structure": "shrink", "widths": "products", "no_delete": False},
)


@pytest.mark.parametrize(("options", "layers"), thinned(itertools.product(TARGETS, [1, 2]), 4))
def test_an_interrupted_run_carries_on_with_the_same_bytes(files, solved, options, layers) -> None:
    settings = Settings(**options)
    prune(files.model, files.data, files.output, settings)
    uninterrupted, jobs = files.output.read_bytes(), len(solved)
    files.output.unlink()
    assert folders(files) == []
    solved.clear()
    with pytest.raises(KeyboardInterrupt):
        prune(files.model, files.data, settings=settings, listener=Interrupting(layers))
    done = len(solved)
    assert 0 < done < jobs
    assert len(folders(files)) == 1
    prune(files.model, files.data, settings=settings)
    assert files.output.read_bytes() == uninterrupted
    assert len(solved) == jobs
    assert folders(files) == []


@pytest.mark.parametrize("change", [{"sparsity": 0.6}, {"seed": 1}, {"threads": 2}])
def test_other_settings_take_nothing_from_a_journal(files, solved, change) -> None:
    with pytest.raises(KeyboardInterrupt):
        prune(files.model, files.data, settings=Settings(**QUICK), listener=Interrupting(2))
    solved.clear()
    settings = Settings(**QUICK | change)
    prune(files.model, files.data, settings=settings)
    assert len(solved) == 3
    carried_on = files.output.read_bytes()
    prune(files.model, files.data, settings=settings, force=True)
    assert files.output.read_bytes() == carried_on


def test_fresh_starts_over(files, solved) -> None:
    settings = Settings(**QUICK)
    with pytest.raises(KeyboardInterrupt):
        prune(files.model, files.data, settings=settings, listener=Interrupting(2))
    solved.clear()
    prune(files.model, files.data, settings=settings, fresh=True)
    assert len(solved) == 3


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.99])
def test_a_damaged_result_is_none(files, solved, keep) -> None:
    settings = Settings(**QUICK)
    with pytest.raises(KeyboardInterrupt):
        prune(files.model, files.data, settings=settings, listener=Interrupting(2))
    (folder,) = folders(files)
    for path in (files.folder / folder).iterdir():
        content = path.read_bytes()
        size = int(keep * len(content)) if keep < 1 else keep
        path.write_bytes(content[:size])
    solved.clear()
    prune(files.model, files.data, settings=settings)
    assert len(solved) == 3


def test_a_bit_that_flipped_is_noticed(tmp_path) -> None:
    journal = Journal(tmp_path / "journal", print)
    job = 3.0
    executor = JournaledExecutor(SerialExecutor(lambda *_: None), journal)
    assert list(executor.map(halve, [job])) == [1.5]
    (path,) = journal.folder.iterdir()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert journal.read(path.stem, float) in (None, 1.5)  # 1.5 where the bit is of no account


def halve(job: float, progress) -> float:
    return job / 2


def test_found_and_new_results_come_in_the_order_of_the_jobs(tmp_path) -> None:
    done = []

    def noted(job: float, progress) -> float:
        done.append(job)
        return -job

    noted.__annotations__ = {"return": float}
    journal = Journal(tmp_path / "journal", lambda _: None)
    executor = JournaledExecutor(SerialExecutor(lambda *_: None), journal)
    assert list(in_order(executor, noted, [[1.0, 4.0, 5.0]])) == [-1, -4, -5]
    numbers = [float(number) for number in range(8)]
    assert list(in_order(executor, noted, [numbers[:5], numbers[5:]])) == [-n for n in numbers]
    assert done == [1, 4, 5, 0, 2, 3, 6, 7]


def test_a_full_disk_does_not_end_a_run(files, monkeypatch) -> None:
    def full(value, file) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(journals, "write_value", full)
    told = []
    listener = Silent()
    monkeypatch.setattr(listener, "message", told.append, raising=False)
    prune(files.model, files.data, settings=Settings(**QUICK), listener=listener)
    assert [text for text in told if "the journal cannot be written: No space left" in text]
    assert folders(files) == []


def test_a_journal_stays_after_what_another_try_may_get_over(tmp_path) -> None:
    target = tmp_path / "small.onnx"
    for error, stays in ((DiskFailed("full"), True), (ValueError("no"), False), (None, False)):
        with suppress(DiskFailed, ValueError), journal_of(target, print) as journal:
            journal.write("key", 1.0)
            assert journal.folder.exists()
            if error is not None:
                raise error
        assert journal.folder.exists() == stays


def test_a_supervisor_says_that_a_run_carries_on(tmp_path) -> None:
    for folder, words in ((tmp_path, CARRIES_ON), (tmp_path / "none", NOTHING_WRITTEN)):
        ledger = Ledger(1)
        body = b"\0".join([b"journal", os.fsencode(folder)])
        ledger.read(HEAD.pack(len(body)) + body)
        assert ledger.clean_up() == words


def test_digests_tell_jobs_and_functions_apart() -> None:
    assert digest(halve, 1.0) == digest(halve, 1.0)
    assert len({digest(halve, 1.0), digest(halve, 2.0), digest(digest, 1.0)}) == 3
