"""What people read of a curve in files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from typing import Any

from nettrim_cli.report.curve.picture import drawing
from nettrim_cli.report.curve.result import Curve
from nettrim_cli.report.curve.words import advice, basis, columns, is_cheap, verdict
from nettrim_cli.report.diagnostic import Severity
from nettrim_cli.report.document import Document, Figure, Notice
from nettrim_cli.report.documents.parts import as_table

HOLLOW = "Full dots are measured, hollow ones predicted."
MINOR = frozenset({"at most points lost", "at most % changed", "as it lies file", "compact file"})
FIELDS = (
    *("sparsity", "error", "drop", "drop_bound", "bytes_raw", "bytes_gzip", "bytes_compact"),
    *("latency_ratio", "how"),
)


def curve_document(curve: Curve) -> Document:
    """The picture, the points, and what to try."""
    *figures, how = columns(curve)
    return Document(
        title="nettrim curve",
        headline=verdict(curve),
        good=is_cheap(curve),
        lines=[basis(curve), f"Try: {advice(curve)}"],
        table=replace(as_table([how, *figures]), minor=MINOR),
        picture=Figure("", lambda: drawing(curve), HOLLOW),
        notices=[Notice(note, Severity.NOTE) for note in curve.notes],
    )


def curve_rows(curve: Curve) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
    """A row for each point; fractions and bytes."""
    points = [asdict(point) for point in curve.points]
    return FIELDS, [[point[name] for name in FIELDS] for point in points]
