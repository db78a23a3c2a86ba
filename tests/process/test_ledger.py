"""What a supervisor removes behind a run."""

from __future__ import annotations

import os

from nettrim_cli.process.channel import HEAD
from nettrim_cli.process.ledger import NOTHING_WRITTEN, Ledger


def message(*fields: object) -> bytes:
    body = b"\0".join(os.fsencode(str(field)) for field in fields)
    return HEAD.pack(len(body)) + body


def test_a_temporary_folder_goes_with_the_files_that_were_told(tmp_path) -> None:
    folder = tmp_path / "profiles"
    folder.mkdir()
    (folder / "a.json").touch()
    ledger = Ledger(1)
    ledger.read(message("temporary", folder) + message("temporary", folder / "a.json"))
    assert ledger.clean_up() == NOTHING_WRITTEN
    assert os.listdir(tmp_path) == []


def test_a_folder_with_files_of_others_stays(tmp_path) -> None:
    (tmp_path / "mine").touch()
    ledger = Ledger(1)
    ledger.read(message("temporary", tmp_path))
    ledger.clean_up()
    assert os.listdir(tmp_path) == ["mine"]
