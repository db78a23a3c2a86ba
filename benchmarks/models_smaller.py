"""Real models with fewer units and lower ranks, and in compact files: what that costs and brings.

For each model of `models.py`, with some of its calibration samples and one thread:

- `--structure shrink`: weights gone, output error on other samples, agreement with the dense
  model's answers, latency as `nettrim bench` measures it, and the layers that stay whole;
- `--store compact` with scattered zeros: bytes of the file as it lies to the dense file's.

Figures are kept in the folder, so that a later run with other models adds to the table:

    python -m benchmarks.models_smaller --folder /tmp/models --models magika --table docs/models.md
"""

from __future__ import annotations

import json
import math
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import models
from benchmarks.common import arguments, machine, print_table
from benchmarks.few_samples import draw, write_table
from benchmarks.models_samples import open_session
from nettrim_cli import Settings, prune
from nettrim_cli.latency.inputs import file_inputs
from nettrim_cli.latency.measure import latency_ratio
from nettrim_cli.latency.timing import Patience
from nettrim_cli.loading import load_models, open_samples
from nettrim_cli.pipeline import compare
from nettrim_cli.report.result import LayerReport, Report

SHARE, SAMPLES = 0.3, 100  # weights that are to go, and samples to prune with, at most
JUDGED = 100  # test samples, at most
PATIENCE = Patience(seconds=20.0, precision=0.02)
KEPT = "smaller.json"
ZEROS = {"ocr-det": 0.5, "ocr-cls": 0.5, "ocr-rec": 0.5}  # mobile networks bear little
MOST_ZEROS = 0.9
HEADERS = ("model", "samples", "weights gone", "error", "agreement", "latency", "zeros", "error")
HEADERS += ("bytes", "whole layers, and why")
SMALLER, FAILED = 0.97, "failed"  # a ratio of latencies below this is worth the name
PLAIN: dict[str, Any] = {"augment": "none", "final_fit": "none"}
LARGE = ("ocr-det", "ocr-rec", "minilm", "nudenet", "captcha", "captcha-det", "captcha-int8")
NOTHING = {FAILED: "not measured"}


def main() -> None:
    """Run it."""
    parser = arguments(__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="where everything is kept")
    parser.add_argument("--models", nargs="+", choices=models.MODELS, default=list(models.MODELS))
    parser.add_argument("--samples", type=int, default=SAMPLES, help="for calibration, at most")
    parser.add_argument("--sparsity", type=float, default=SHARE, help="share of weights to go")
    parser.add_argument("--finished", action="store_true", help="measure nothing")
    parser.add_argument("--table", type=Path, help="write all figures of the folder here, too")
    options = parser.parse_args()
    print(machine(options.threads), flush=True)
    for name in () if options.finished else options.models:
        try:
            home = models.prepare(name, options.folder)
        except FileNotFoundError as error:
            print(f"{name}: skipped: {error}", flush=True)
            continue
        print(*row(name, measured(name, home, options)), sep=" | ", flush=True)
    kept = {name: options.folder / name / KEPT for name in models.MODELS}
    found = {name: json.loads(file.read_text()) for name, file in kept.items() if file.exists()}
    rows = [row(name, figures) for name, figures in found.items()]
    lines = list(summary(list(found.values())))
    print_table(HEADERS, rows)
    print(*lines, sep="\n")
    if options.table:
        write_table(options.table, "smaller models", HEADERS, rows, lines)


def measured(name: str, home: Path, options: Any) -> dict[str, Any]:
    """Figures of one model; of each way what it said where it ended in an error."""
    dense, few, file = home / "model.onnx", home / "few.h5", home / KEPT
    draw(home / "calib.h5", few, options.samples, 0)
    figures: dict[str, Any] = {"samples": min(options.samples, models.MODELS[name].calibration)}
    if file.exists():
        figures |= json.loads(file.read_text())
    threads, zeros = options.threads, ZEROS.get(name, MOST_ZEROS)
    shrink = Settings(sparsity=options.sparsity, structure="shrink", threads=threads)
    compact = Settings(sparsity=zeros, store="compact", allocate="network", threads=threads)
    ways = {
        "shrink": replace(shrink, **PLAIN) if name in LARGE else shrink,
        "compact": replace(compact, **PLAIN),
    }
    for way, settings in ways.items():
        if way in figures:
            continue
        output, begun = home / f"{way}.onnx", sum(os.times()[:2])
        try:
            report = prune(dense, few, output, settings, force=True)
            seconds = sum(os.times()[:2]) - begun
            figures[way] = judged(name, home, output, report, threads) | {"seconds": seconds}
        except Exception as error:
            figures[way] = {FAILED: f"{type(error).__name__}: {error}"}
        file.write_text(json.dumps(figures, indent=1))
    return figures


def judged(name: str, home: Path, output: Path, report: Report, threads: int) -> dict[str, Any]:
    """Error, bytes, agreement and latency of a written model; the layers that stay whole."""
    dense, test, task = home / "model.onnx", home / "some.h5", models.MODELS[name].task
    draw(home / "test.h5", test, JUDGED, 0)
    whole = [layer for layer in report.layers if not layer.lost or not layer.pruned]
    figures = {
        "gone": report.sparsity,
        "error": compare(dense, output, test, threads=threads).error,
        "bytes": output.stat().st_size / dense.stat().st_size,
        "layers": len(report.layers),
        "whole": Counter(map(why_whole, whole)),
    }
    if not report.smaller:
        return figures
    feeds, _ = models.read_samples(test)
    sessions = [open_session(path, threads) for path in (dense, output)]
    wanted, found = (task.answers(session, feeds) for session in sessions)
    (model,) = load_models([dense], test)
    with open_samples(test, model) as samples:
        inputs = file_inputs(samples, (1,))
    timing = latency_ratio([dense, output], inputs.batches, threads, PATIENCE)[0]
    figures["latency"] = vars(timing.ratios[0])
    return figures | {"agreement": float(task.measure(found, wanted))}


def why_whole(layer: LayerReport) -> str:
    """Why a layer keeps all its weights."""
    if not layer.pruned:
        return re.split("[:;]", layer.note)[0]
    return layer.note.partition("outputs stay: ")[2] or "others cost less"


def row(name: str, figures: dict[str, Any]) -> list[Any]:
    """A line of the table."""
    shrink, compact = (figures.get(way, NOTHING) for way in ("shrink", "compact"))
    line: list[Any] = [name, figures["samples"]]
    if FAILED in shrink:
        line += [""] * 4
        told = without_names(shrink[FAILED].partition("onnx: ")[2].partition(". ")[0])
    else:
        ratio = shrink["latency"]
        line += [f"{shrink['gone']:.0%}", f"{shrink['error']:.3f}", f"{shrink['agreement']:.3f}"]
        known = math.isfinite(ratio["high"])
        interval = f"{ratio['low']:.2f} to {ratio['high']:.2f}" if known else "too few calls"
        line += [f"{ratio['median']:.2f} ({interval})"]
        told = whole_layers(shrink)
    if FAILED in compact:
        line += [compact[FAILED][:80], *[""] * 2]
    else:
        line += [f"{compact['gone']:.0%}", f"{compact['error']:.3f}", f"{compact['bytes']:.3f}"]
    return [*line, told]


def whole_layers(figures: dict[str, Any]) -> str:
    """How many layers keep all their weights, and why."""
    counts: Counter[str] = Counter()
    for reason, count in figures["whole"].items():
        counts[without_names(reason)] += count
    reasons = ", ".join(f"{count} {reason}" for reason, count in counts.most_common())
    return f"{counts.total()} of {figures['layers']}" + (f": {reasons}" if reasons else "")


def without_names(text: str) -> str:
    """A text about nodes without their names."""
    return re.sub(r"(\w+) '[^']*'", r"\1", text)


def summary(figures: list[dict[str, Any]]) -> Iterator[str]:
    """How many models ran through, and how many are faster."""
    shrunk = [f["shrink"] for f in figures if FAILED not in f.get("shrink", NOTHING)]
    compact = [f["compact"] for f in figures if FAILED not in f.get("compact", NOTHING)]
    faster = sum(each["latency"]["high"] < SMALLER for each in shrunk)
    yield f"{len(shrunk)} of {len(figures)} models are shrunk and {len(compact)} compact"
    yield f"{faster} of the {len(shrunk)} shrunk models take less than {SMALLER} of the dense time"


if __name__ == "__main__":
    main()
