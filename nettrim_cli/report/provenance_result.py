"""Where the figures of a report come from, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from nettrim_cli.report.plain import Facts


@dataclass(frozen=True)
class FileFacts(Facts):
    """A file of a run.

    Attributes
    ----------
    role
        What it was: ``model`` (of a comparison, the reference), ``candidate``, ``data`` or
        ``output``; external data of a model have its role.
    path
        As it was given.
    bytes
        Its size.
    sha256
        Digest of its content, as ``sha256sum`` has it.
    """

    role: str
    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Provenance(Facts):
    """Files, versions and machine of a run.

    Attributes
    ----------
    files
        All that were read or written; none for what was in memory alone.
    versions
        Of nettrim, Python and the libraries, by name.
    platform
        Kind of system and processor.
    time
        When the report was made, in UTC (ISO 8601).
    """

    files: tuple[FileFacts, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    platform: str = ""
    time: str = ""
