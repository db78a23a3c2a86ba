"""Results that are saved in the format of a file's ending.

A new format is one function and one line in ``FORMATS``; a new kind of result is a subclass of
``Saved``.  ``--help`` names the formats: what they need is imported when they are used.
"""

from __future__ import annotations

import csv
import io
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from nettrim_cli.errors import WrongUsage
from nettrim_cli.report.plain import Facts, json_text, plain

if TYPE_CHECKING:
    from nettrim_cli.report.document import Document

SCHEMA_VERSION = 1  # of all documents; a field that goes, or means another thing, makes a new one


class Saved(Facts, ABC):
    """A result of a command.

    Attributes
    ----------
    kind
        Name of the command, by which JSON names its schema.
    """

    kind: ClassVar[str] = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain values with the schema that they keep to, for JSON."""
        schema = {"schema": f"nettrim-{self.kind}", "schema_version": SCHEMA_VERSION}
        return {**schema, **super().as_dict()}

    @property
    def formats(self) -> dict[str, Format]:
        """Formats by their endings."""
        return FORMATS

    @abstractmethod
    def document(self) -> Document:
        """What people read of it, as Markdown or HTML."""

    @abstractmethod
    def rows(self) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
        """Names of the columns of its table, and the rows, for CSV; machine numbers."""

    def render(self, suffix: str) -> str:
        """The text of a file, to be written with ``newline=""``.

        Raises
        ------
        KeyError
            The suffix (with its dot, in any case) is not in ``formats``.
        """
        return self.formats[suffix.lower()](self)

    def save(self, path: str | os.PathLike[str], *, force: bool = False) -> Path:
        """Write a report in the format of the file's ending, as a whole or not at all.

        Parameters
        ----------
        path
            The file: ``.html``, ``.md``, ``.json`` or ``.csv``.
        force
            Whether an existing file may be replaced.

        Raises
        ------
        WrongUsage
            There is no format of that ending.
        CannotWrite, DiskFailed
            The file cannot be written.
        """
        from nettrim_cli.files.atomic import check_output, write_atomically

        target = Path(path)
        if target.suffix.lower() not in self.formats:
            endings = ", ".join(self.formats)
            raise WrongUsage(f"{target}: a report ends in one of {endings}.")
        check_output(target, (), force)
        write_atomically(target, self.render(target.suffix).encode("utf-8"))
        return target

    def _repr_html_(self) -> str:
        """The report in a notebook."""
        from nettrim_cli.report.formats.html import fragment

        return fragment(self.document())


Format = Callable[[Saved], str]


def _markdown(result: Saved) -> str:
    from nettrim_cli.report.formats.markdown import markdown

    return markdown(result.document())


def _html(result: Saved) -> str:
    from nettrim_cli.report.formats.html import page

    return page(result.document())


def _csv(result: Saved) -> str:
    """A table (RFC 4180); numbers that are not finite are empty."""
    text = io.StringIO()
    writer = csv.writer(text)
    names, rows = result.rows()
    writer.writerow(names)
    writer.writerows(plain(list(row)) for row in rows)
    return text.getvalue()


FORMATS: dict[str, Format] = {
    ".html": _html,
    ".md": _markdown,
    ".json": lambda result: json_text(result.as_dict()),
    ".csv": _csv,
}
