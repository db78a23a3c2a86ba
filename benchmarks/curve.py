"""What the figures of `nettrim curve` are worth, against real prunes at the same sparsities.

    python -m benchmarks.curve --models mlp lenet --json curve.json

For every model the curve is told with one measured network (`--measured`), then the model is pruned
to each of its sparsities.  Errors are compared on the same held-out samples; drops with those of
`test.h5`, which nothing was fitted to; bytes with those of the written file.  At the end the model
is pruned to what the curve calls cheap, and processor time is held against one prune at 70 %.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import arguments, machine, print_table, sample_file, write_json
from nettrim_cli.pipeline import compare, prune
from nettrim_cli.preview.curve import curve
from nettrim_cli.report.curve.result import ONE_POINT, PREDICTED
from nettrim_cli.settings import Settings
from nettrim_cli.settings.curve import SPARSITIES

USUAL = 0.7  # the sparsity whose prune tells what a curve may take
ERROR_FLOOR, DROP_FLOOR, TIME_FLOOR = 1.25, 0.005, 1.2


def pruned(name: str, sparsity: float, folder: Path, threads: int) -> dict[str, Any]:
    """A real prune: on held-out samples, on the test data, in bytes, and its processor seconds."""
    model, output = sample_file(name, "model.onnx"), folder / "pruned.onnx"
    begun = time.process_time()
    settings = Settings(sparsity=sparsity, threads=threads)
    report = prune(model, sample_file(name, "calib.h5"), output, settings, force=True)
    seconds = time.process_time() - begun
    found = compare(model, output, sample_file(name, "test.h5"), threads=threads)
    return {
        "error": report.comparison.error,
        "gzip": report.comparison.candidate.bytes_gzip,
        "test_error": found.error,
        "test_drop": found.drop,
        "seconds": seconds,
    }


def cells(
    name: str, options: argparse.Namespace, folder: Path
) -> Iterator[tuple[dict[str, Any], Sequence[Any]]]:
    """The model's points beside real prunes, each with the line of a table."""
    begun = time.process_time()
    told = curve(
        sample_file(name, "model.onnx"),
        sample_file(name, "calib.h5"),
        Settings(threads=options.threads),
        sparsities=options.at,
        measured=options.measured,
    )
    seconds = time.process_time() - begun
    for point in told.points[1:]:
        real = pruned(name, point.sparsity, folder, options.threads)
        cell = {
            "model": name,
            "sparsity": point.sparsity,
            "how": point.how,
            "predicted": point.error,
            "drop": point.drop,
            "bytes": point.bytes_gzip,
            "curve_seconds": seconds,
            **{f"real_{key}": value for key, value in real.items()},
        }
        yield cell, line(cell)
    real = pruned(name, told.cheap, folder, options.threads)
    yield (
        {"model": name, "cheap": told.cheap, "test_drop": real["test_drop"]},
        [name, f"{told.cheap:.1%}", "cheap", "", "", "", ONE_POINT, real["test_drop"], "", ""],
    )


def line(cell: dict[str, Any]) -> Sequence[Any]:
    """A cell as the line of a table."""
    return [
        cell["model"],
        f"{cell['sparsity']:.0%}",
        cell["how"],
        cell["predicted"],
        cell["real_error"],
        cell["real_test_error"],
        cell["drop"],
        cell["real_test_drop"],
        cell["bytes"],
        cell["real_gzip"],
    ]


def summary(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """What predictions were off by, and what they took."""
    guesses = [row for row in rows if row.get("how") == PREDICTED]
    off = [abs(math.log(row["predicted"] / row["real_error"])) for row in guesses]
    drops = [abs(row["drop"] - row["real_test_drop"]) for row in guesses]
    sizes = [abs(row["bytes"] / row["real_gzip"] - 1) for row in guesses]
    median = math.exp(float(np.median(off)))
    yield (
        f"{len(guesses)} predicted networks: error off by a factor of {median:.2f} in the median "
        f"(floor {ERROR_FLOOR}: {word(median <= ERROR_FLOOR)}), of {math.exp(max(off)):.2f} at most"
    )
    mean = float(np.mean(drops))
    yield (
        f"drop on test data off by {100 * mean:.2f} points in the mean (floor "
        f"{100 * DROP_FLOOR:g}: {word(mean <= DROP_FLOOR)}), by {100 * max(drops):.2f} at most; "
        f"gzipped bytes by {np.median(sizes):.1%} in the median, {max(sizes):.1%} at most"
    )
    ratios = {
        row["model"]: row["curve_seconds"] / row["real_seconds"]
        for row in rows
        if row.get("sparsity") == USUAL
    }
    told = ", ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items())
    yield (
        f"processor time to one prune at {USUAL:.0%}: {told}; floor {TIME_FLOOR}: "
        f"{word(max(ratios.values()) <= TIME_FLOOR)}"
    )


def word(kept: bool) -> str:
    """Whether a floor was held."""
    return "held" if kept else "MISSED"


def main() -> None:
    """Print a table, and what it comes to."""
    parser = arguments(__doc__, models=True)
    parser.add_argument("--at", nargs="+", type=float, default=SPARSITIES, help="sparsities")
    parser.add_argument("--measured", type=int, default=1, help="networks that a curve measures")
    given = parser.parse_args()
    print(machine(given.threads), flush=True)
    rows: list[dict[str, Any]] = []
    headers = ["model", "zeros", "how", "error", "held-out", "test", "drop", "test", "gzip", "real"]
    with tempfile.TemporaryDirectory() as folder:
        for name in given.models:
            lines = []
            for cell, text in cells(name, given, Path(folder)):
                rows.append(cell)
                lines.append(text)
            print_table(headers, lines)
    for text in summary(rows):
        print(text, flush=True)
    write_json(given.json, rows)


if __name__ == "__main__":
    main()
