"""A curve in files: tables, JSON, pictures."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from dataclasses import asdict

from nettrim_cli.report.curve.result import Curve
from nettrim_cli.report.render import as_json

FIELDS = (
    *("sparsity", "error", "drop", "drop_bound", "bytes_raw", "bytes_gzip", "bytes_compact"),
    *("latency_ratio", "how"),
)


def render_curve(curve: Curve, suffix: str) -> str:
    """Render a curve as the text of a file; write it with ``newline=""``.

    Raises
    ------
    KeyError
        If the suffix (with its dot, in any case) is not in ``CURVE_FORMATS``.
    """
    return CURVE_FORMATS[suffix.lower()](curve)


def as_json_text(curve: Curve) -> str:
    """The verdict and all figures as JSON."""
    from nettrim_cli.report.curve.words import verdict

    return as_json({"verdict": verdict(curve), **curve.as_dict()})


def _csv(curve: Curve) -> str:
    """One line per point (RFC 4180); fractions and bytes."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(FIELDS)
    for point in curve.points:
        row = asdict(point)
        writer.writerow([row[field] for field in FIELDS])
    return text.getvalue()


def _html(curve: Curve) -> str:
    from nettrim_cli.report.curve.picture import html

    return html(curve)


def _svg(curve: Curve) -> str:
    from nettrim_cli.report.curve.picture import svg

    return svg(curve)


CURVE_FORMATS: Mapping[str, Callable[[Curve], str]] = {
    ".json": as_json_text,
    ".csv": _csv,
    ".html": _html,
    ".svg": _svg,
}
