"""Classes of files: by their folders, or by a table of file names."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nettrim_cli.errors import BadInput, MissingInput

SHOWN = 3  # names in a message


@dataclass(frozen=True)
class Classes:
    """A class for each file.

    Attributes
    ----------
    numbers
        Of the files' classes.
    names
        Of all classes, in the order of their numbers; empty where they were numbers already.
    note
        What a user should know; a note without numbers says why there are no classes.
    """

    numbers: Sequence[int] | None
    names: tuple[str, ...] = ()
    note: str = ""


def find_classes(
    option: str | None, root: Path, files: Sequence[Path], answers: int | None
) -> Classes:
    """The classes that the option ``--labels`` asks for.

    Parameters
    ----------
    option
        ``folders``, ``none``, a CSV file, or None for folders where these seem to be classes.
    root
        The folder above all files.
    answers
        Number of the model's classes; None where that is not known.

    Raises
    ------
    BadInput
        There are no such classes, or not as many as the model has.
    MissingInput
        There is no such table.
    """
    if option == "none" or (option is None and not root.is_dir()):
        return Classes(None)
    if option not in (None, "folders"):
        return _of_table(Path(option or ""), root, files, answers)
    folders = [path.relative_to(root).parts[:-1] if root.is_dir() else () for path in files]
    names = [parts[0] if parts else "" for parts in folders]
    if "" in names or len(set(names)) < 2:
        if option is None:
            return Classes(None)
        raise BadInput(f"{root}: not all files are in folders, one for each class.")
    classes = numbered(names, answers)
    if classes.numbers is None and option is not None:
        raise BadInput(f"{root}: {classes.note}.")
    return classes


def numbered(names: Sequence[str], answers: int | None) -> Classes:
    """Numbers of classes from their names: those that they are, or by the names' order.

    Without numbers a note says why there are none.
    """
    distinct = sorted(set(names))
    if all(name.isascii() and name.isdigit() for name in distinct):
        highest = max(map(int, distinct))
        if answers is not None and highest >= answers:
            text = f"class {highest} is too large: the model has {answers} classes, from 0 on"
            return Classes(None, note=f"{text}; labels were left out")
        return Classes([int(name) for name in names])
    if answers is not None and len(distinct) != answers:
        return Classes(
            None,
            note=f"{len(distinct)} folders or names of classes, but the model has {answers} "
            "classes, so that nobody knows which is which; labels were left out: name classes by "
            "their numbers (from 0 on), or give a table (--labels FILE)",
        )
    place = {name: number for number, name in enumerate(distinct)}
    note = f"classes were numbered by the order of their names, from '{distinct[0]}' on"
    return Classes([place[name] for name in names], tuple(distinct), note)


def _of_table(table: Path, root: Path, files: Sequence[Path], answers: int | None) -> Classes:
    rows = _rows(table)
    by_name = dict(rows)
    keys = [next((key for key in _spellings(path, root) if key in by_name), None) for path in files]
    missing = [str(path) for path, key in zip(files, keys, strict=True) if key is None]
    if missing:
        more = f" and {len(missing) - SHOWN:,} more" if len(missing) > SHOWN else ""
        raise BadInput(
            f"{table}: there is no class for {', '.join(missing[:SHOWN])}{more}: "
            "add a line for each file, FILE,CLASS."
        )
    classes = numbered([by_name[key] for key in keys if key is not None], answers)
    if classes.numbers is None:
        raise BadInput(f"{table}: {classes.note}.")
    return classes


def _rows(table: Path) -> list[tuple[str, str]]:
    """File names and classes of a table, without its header."""
    try:
        text = table.read_bytes().decode("utf-8-sig", "surrogateescape")
    except OSError as error:
        raise MissingInput(f"{table} cannot be read ({error.strerror}).") from error
    try:
        mark = "\t" if "\t" in text.partition("\n")[0] else ","
        rows = [row for row in csv.reader(text.splitlines(), delimiter=mark) if row]
    except csv.Error as error:
        raise BadInput(f"{table}: is no table of file names and classes ({error}).") from error
    for number, row in enumerate(rows):
        if len(row) < 2:
            raise BadInput(f"{table}: line {number + 1} has no two columns: write FILE,CLASS.")
    return [(row[0].strip(), row[1].strip()) for row in rows]


def _spellings(path: Path, root: Path) -> tuple[str, ...]:
    """How a table may name a file."""
    inner = path.relative_to(root).as_posix() if root.is_dir() else path.name
    return inner, path.as_posix(), path.name, path.stem
