"""The tables of `peers.py`, on the screen and in `docs/benchmarks.md`.

The page tells time as a multiple of SparseGPT's, which another machine can be held against.

python -m benchmarks.peers_table peers.json docs/benchmarks.md
"""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import print_table, verdict

BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
PLOT = "![Output error against the zeros reached, by model and method](benchmarks.svg)"
WIDTH = 116  # of lines of prose
OURS = "nettrim"
UNIT = "onnxsim SparseGPT"  # its processor time is 1 on the page
FLOORS = {  # with aims: of ratios to SparseGPT, and of nettrim's output errors
    "error, 50 to 90 %, geometric mean": (0.5, 0.3),
    "error, worst cell": (1.0, 0.7),
    "CPU time at 70 %, geometric mean": (0.6, 0.3),
}
ERRORS = {("minilm", 0.7): (0.45, 0.36), ("minilm", 0.8): (0.56, 0.45), ("mlp", 0.95): (0.11, 0.08)}
NEAR = 0.01  # two cells are of equal sparsity within this
SEEN, KEPT = ("zeros", "method", "reached", "error", "score"), ("MiB", "MB", "gzip MB")
HEADERS = (*SEEN, "s", "CPU s", *KEPT)
PAGE_HEADERS = (*SEEN, "CPU time", *KEPT)
RATIOS = ("nettrim against", "cells", "error", "50 to 90 %", "equal zeros", "worst cell")
TIMES = {"processor_seconds": "CPU time", "seconds": "wall time"}

Cell = dict[str, Any]
Figures = dict[str, Any]


def show(figures: Figures) -> None:
    """Print everything."""
    for name, about in figures["models"].items():
        print(f"\n{name}: {summary(about)}")
        print_table(list(HEADERS), rows(figures, name))
        for note in notes(figures, name):
            print(f"  {note}")
    if ratios := compared(figures["cells"]):
        print("\nnettrim's over the other's, geometric means (below 1: nettrim is better)")
        print_table([*RATIOS, *TIMES.values()], ratios)
        for line in [*lost(figures["cells"]), *floors(figures["cells"])]:
            print(f"  {line}")


def write_table(target: Path, figures: Figures) -> None:
    """Put the tables between the marks of a file that has them."""
    before, rest = target.read_text("utf-8").split(BEGIN)
    after = rest.split(END)[1]
    parts = [PLOT, f"{figures['machine']}, onnxsim {figures['onnxsim']}."]
    if ratios := [each[:-1] for each in compared(figures["cells"])]:  # wall time is the machine's
        parts += ["### nettrim's figures over the others', geometric means"]
        parts += [markdown([*RATIOS, TIMES["processor_seconds"]], ratios)]
        lines = [*lost(figures["cells"]), *floors(figures["cells"])]
        parts += [bullets(lines)]
    for name, about in figures["models"].items():
        parts += [
            f"### {name}",
            wrapped(summary(about)),
            markdown(PAGE_HEADERS, rows(figures, name, page=True)),
            bullets(notes(figures, name)),
        ]
    body = "\n\n".join(each for each in parts if each)
    target.write_text(f"{before}{BEGIN}\n\n{body}\n\n{END}{after}", "utf-8")


def bullets(lines: Iterable[str]) -> str:
    """A list in Markdown."""
    return "\n".join(wrapped(f"- {line}", subsequent_indent="  ") for line in lines)


def wrapped(text: str, **options: Any) -> str:
    """Text in lines of the pages' width."""
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False, **options)


def summary(about: dict[str, Any]) -> str:
    """A dense model in a line."""
    count = sum(each["weights"] for each in about["layers"].values())
    return (
        f"{len(about['layers'])} layers, {count:,} weights; dense {about['score']:.4f} "
        f"({about['scored']}), {about['bytes_raw'] / 1e6:.2f} MB, "
        f"gzipped {about['bytes_gzip'] / 1e6:.2f} MB"
    )


def rows(figures: Figures, model: str, *, page: bool = False) -> list[list[str]]:
    """One line for each cell of a model; the lowest error of each sparsity is marked."""
    mine = [each for each in figures["cells"] if each["model"] == model]
    width = len(PAGE_HEADERS if page else HEADERS)
    found = []
    for each in mine:
        head = [f"{each['sparsity']:.0%}", each["method"]]
        if "failed" in each:
            found.append([*head, *[""] * (width - 3), each["failed"]])
            continue
        times = [f"{each['seconds']:.1f}", f"{each['processor_seconds']:.1f}"]
        errors = [c["error"] for c in mine if c["sparsity"] == each["sparsity"] and "error" in c]
        found.append(
            [
                *head,
                f"{each['reached']:.2%}",
                f"{each['error']:.4f}{' *' if each['error'] == min(errors) else ''}",
                f"{each['score']:.4f}",
                *([multiple(each, mine)] if page else times),
                f"{each['peak_bytes'] / 2**20:.0f}",
                f"{each['bytes_raw'] / 1e6:.2f}",
                f"{each['bytes_gzip'] / 1e6:.3f}",
            ]
        )
    return found


def multiple(cell: Cell, cells: Iterable[Cell]) -> str:
    """Processor time over that of SparseGPT at the same sparsity; empty where that has none."""
    wanted = (UNIT, cell["sparsity"])
    units = [c for c in cells if (c["method"], c["sparsity"]) == wanted and "failed" not in c]
    return f"{cell['processor_seconds'] / units[0]['processor_seconds']:.2f}" if units else ""


def notes(figures: Figures, model: str) -> list[str]:
    """Layers that a method sets no zeros in, and those in which Wanda is plain magnitude.

    Only where it is so at every sparsity: a layer not treated, a fall-back, or, where the zeros
    are shared out over the layers, one that gets none.
    """
    dense = figures["models"][model]["layers"]
    mine = [each for each in figures["cells"] if each["model"] == model and "layers" in each]
    lines = []
    for method in dict.fromkeys(each["method"] for each in mine):
        own = [each["layers"] for each in mine if each["method"] == method]
        left = [k for k in dense if all(each[k]["where"] == dense[k]["where"] for each in own)]
        if left:
            lines.append(f"{method} sets no zeros in: {listed(left)}")
    twins = [(each["layers"], twin["layers"]) for each in mine if (twin := twin_of(each, mine))]
    plain = [k for k in dense if all(a[k]["where"] == b[k]["where"] for a, b in twins)]
    if twins and plain:
        lines.append(
            f"onnxsim Wanda keeps the weights that its magnitude keeps in: {listed(plain)}"
        )
    return lines


def twin_of(cell: Cell, cells: Iterable[Cell]) -> Cell | None:
    """The plain magnitude cell beside one of Wanda."""
    if cell["method"] != "onnxsim Wanda":
        return None
    wanted = ("onnxsim magnitude", cell["sparsity"])
    return next((each for each in cells if (each["method"], each["sparsity"]) == wanted), None)


def listed(names: Iterable[str], most: int = 6) -> str:
    """Names in a line, the first few where there are many."""
    all_names = list(names)
    more = f" and {len(all_names) - most} more" if len(all_names) > most else ""
    return ", ".join(all_names[:most]) + more


# ---- ratios


def pairs(cells: Sequence[Cell], method: str) -> list[tuple[Cell, Cell]]:
    """Pairs of cells, of nettrim and of another method, wherever both are done."""
    done = [each for each in cells if "failed" not in each]
    ours = {(c["model"], c["sparsity"]): c for c in done if c["method"] == OURS}
    theirs = [each for each in done if each["method"] == method]
    keys = [(each["model"], each["sparsity"]) for each in theirs]
    return [(ours[key], each) for key, each in zip(keys, theirs, strict=True) if key in ours]


def geometric_mean(values: Iterable[float]) -> float | None:
    """Geometric mean of positive numbers; None of none."""
    found = list(values)
    return float(np.exp(np.mean(np.log(found)))) if found else None


def equal(ours: Cell, theirs: Cell) -> bool:
    """Whether two cells reached the same sparsity."""
    return bool(abs(ours["reached"] - theirs["reached"]) <= NEAR)


def compared(cells: Sequence[Cell]) -> list[list[str]]:
    """One line for each other method."""
    others = dict.fromkeys(each["method"] for each in cells if each["method"] != OURS)
    found = []
    for method in others:
        both = pairs(cells, method)
        if not both:
            continue

        def over(key: str, chosen: Callable[[Cell, Cell], bool] = lambda *_: True) -> str:
            mean = geometric_mean(a[key] / b[key] for a, b in both if chosen(a, b))  # noqa: B023
            return "" if mean is None else f"{mean:.3f}"

        worst = max(both, key=lambda pair: pair[0]["error"] / pair[1]["error"])
        found.append(
            [
                method,
                str(len(both)),
                over("error"),
                over("error", lambda a, _: 0.5 <= a["sparsity"] <= 0.9),
                over("error", equal),
                f"{worst[0]['error'] / worst[1]['error']:.3f} "
                f"({worst[0]['model']} {worst[0]['sparsity']:.0%})",
                *map(over, TIMES),
            ]
        )
    return found


def lost(cells: Sequence[Cell]) -> list[str]:
    """The cells in which another method's error is no larger than nettrim's, and unequal ones."""
    lines = []
    for method in dict.fromkeys(each["method"] for each in cells if each["method"] != OURS):
        both = pairs(cells, method)
        above = [pair for pair in both if pair[0]["error"] >= pair[1]["error"]]
        for ours, theirs in above:
            lines.append(
                f"{method} is better: {ours['model']} {ours['sparsity']:.0%}, "
                f"{theirs['error']:.4f} against {ours['error']:.4f}"
            )
        if both and not above:
            lines.append(f"{method}: nettrim's error is lower in all {len(both)} cells")
        apart = [pair for pair in both if not equal(*pair)]
        if apart:
            where = listed(f"{a['model']} {a['sparsity']:.0%}" for a, _ in apart)
            lines.append(f"{method} reached another sparsity than nettrim: {where}")
    return lines


def floors(cells: Sequence[Cell]) -> list[str]:
    """Whether what the project promises against SparseGPT, and of single errors, is held."""
    both = pairs(cells, UNIT)
    ratios = [(a["sparsity"], a["error"] / b["error"]) for a, b in both]
    key = "processor_seconds"
    found = [
        geometric_mean(ratio for sparsity, ratio in ratios if 0.5 <= sparsity <= 0.9),
        max((ratio for _, ratio in ratios), default=None),
        geometric_mean(a[key] / b[key] for a, b in both if a["sparsity"] == 0.7),
    ]
    lines = [
        f"over SparseGPT's, {name}: {verdict(figure, *FLOORS[name])}"
        for name, figure in zip(FLOORS, found, strict=True)
        if figure is not None
    ]
    for each in cells:
        limits = ERRORS.get((each["model"], each["sparsity"]))
        if limits and each["method"] == OURS and "failed" not in each:
            name = f"{each['model']} {each['sparsity']:.0%}"
            lines.append(f"nettrim's error, {name}: {verdict(each['error'], *limits)}")
    return lines


def markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table, numbers to the right."""
    rule = ["---:" if i >= 2 else "---" for i in range(len(head))]
    return "\n".join("| " + " | ".join(each) + " |" for each in (head, rule, *lines))


if __name__ == "__main__":
    write_table(Path(sys.argv[2]), json.loads(Path(sys.argv[1]).read_text()))
