"""A curve in sentences, and its columns."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence

from nettrim_cli.report import formatting
from nettrim_cli.report.curve.result import MEASURED, Curve, CurvePoint
from nettrim_cli.report.text_table import ESSENTIAL, Column

BOLD = {MEASURED: "bold"}


def verdict(curve: Curve) -> str:
    """How much can be pruned, in a sentence."""
    last = curve.points[-1].sparsity
    if curve.cheap >= last:
        return f"Even {whole(last)} % {noun(curve)} cost less than {limit(curve)}."
    if not is_cheap(curve):
        first = whole(curve.trend.sparsities[1])
        return f"Even {first} % {noun(curve)} cost more than {limit(curve)}."
    return f"Up to {whole(curve.cheap)} % {noun(curve)} cost less than {limit(curve)}."


def is_cheap(curve: Curve) -> bool:
    """Whether some sparsity costs less than the limit."""
    return curve.cheap >= curve.trend.sparsities[1]


def basis(curve: Curve) -> str:
    """What the figures rest on, in a sentence."""
    measured = [point.sparsity for point in curve.points[1:] if point.how == MEASURED]
    samples = f"{formatting.count(curve.samples)} held-out samples"
    if len(measured) == len(curve.points) - 1:
        return f"Every network was pruned, and measured on {samples}."
    if not measured:
        return f"Predicted from what zeros cost in each layer; nothing was pruned. {samples}."
    shares = formatting_list([f"{formatting.plain_percent(share)} %" for share in measured])
    networks = "the network that was pruned" if len(measured) == 1 else "networks that were pruned"
    return f"Predicted from what zeros cost in each layer and {networks} to {shares}; {samples}."


def advice(curve: Curve) -> str:
    """The command to try next."""
    words = ["nettrim", "prune", curve.model, "--data", curve.data, *curve.options]
    if not is_cheap(curve):
        option = "--max-drop" if curve.has_answers else "--max-error"
        return shlex.join([*words, option, f"{formatting.plain_percent(curve.trend.limit)}%"])
    return shlex.join([*words, "--sparsity", f"{whole(curve.cheap)}%"])


def limit(curve: Curve) -> str:
    """What is cheap, in words."""
    if not curve.has_answers:
        return f"an output error of {formatting.plain_percent(curve.trend.limit)} %"
    return "1 point of accuracy" if curve.labels else "1 % of the answers"


def noun(curve: Curve) -> str:
    """What a sparsity is a share of."""
    return "zeros" if curve.structure == "zeros" else "of the weights gone"


def whole(share: float) -> int:
    """A share in whole per cent, rounded down."""
    return math.floor(100 * share + 1e-6)


def columns(curve: Curve) -> list[Column]:
    """The points as a table."""
    points = curve.points
    lost = "points lost" if curve.labels else "% changed"
    raw = [formatting.size(point.bytes_raw) for point in points]
    times = [point.latency_ratio for point in points]
    return [
        Column(f"{'zeros' if curve.structure == 'zeros' else 'gone'} %", _shares(points)),
        Column("error %", [formatting.error(point.error) for point in points], priority=60),
        Column(
            "about",
            [_points(point.drop) for point in points],
            lost if curve.has_answers else "",
            ESSENTIAL + 9,
        ),
        Column("at most", [_points(point.drop_bound) for point in points], lost, 20),
        *([Column("as it lies", raw, "file", 35)] if len(set(raw)) > 1 else []),
        Column("gzipped", [formatting.size(point.bytes_gzip) for point in points], "file", 40),
        Column("compact", [formatting.size(point.bytes_compact) for point in points], "file", 30),
        Column("time", ["" if ratio is None else f"{ratio:.2f}" for ratio in times], "", 45),
        Column(
            "how",
            ["dense", *(point.how for point in points[1:])],
            priority=50,
            right=False,
            styles=["dim", *(BOLD.get(point.how, "dim") for point in points[1:])],
        ),
    ]


def formatting_list(words: Sequence[str]) -> str:
    """Words as ``a, b and c``."""
    *others, last = words
    return f"{', '.join(others)} and {last}" if others else last


def _shares(points: Sequence[CurvePoint]) -> list[str]:
    return [formatting.plain_percent(round(point.sparsity, 4)) for point in points]


def _points(share: float | None) -> str:
    """A drop in points, never rounded to nothing."""
    if share is None or not math.isfinite(share):
        return "" if share is None else formatting.UNKNOWN
    if share == 0:
        return "0"
    return f"<{0.01}" if 0 < share < 0.00005 else f"{100 * share:.2f}".replace("-0.00", "0.00")
