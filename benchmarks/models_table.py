"""The tables of `docs/models.md`, from the figures that `models.py` keeps."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"


def write_table(target: Path, models: Mapping[str, Any], folder: Path) -> None:
    """Put the tables between the marks of a file that has them."""
    runs = [
        (name, model, float(path.stem), json.loads(path.read_text()))
        for name, model in models.items()
        for path in sorted((folder / name).glob("0.*.json"))
    ]
    before, rest = target.read_text("utf-8").split(BEGIN)
    after = rest.split(END)[1]
    tables = [layers(runs), results(runs)]
    target.write_text("\n\n".join([before + BEGIN, *tables, END + after]), "utf-8")


def layers(runs: list[tuple[str, Any, float, dict[str, Any]]]) -> str:
    """What was found, pruned and left in each model."""
    seen: dict[str, list[Any]] = {}
    for name, model, _, figures in runs:
        if "layers" not in figures:  # not even read
            seen[name] = [name, f"{model.package} {model.version}, {model.kind}", *[""] * 4]
            continue
        kept = figures["layers"]
        left = Counter(each["reason"] for each in kept if each["reason"])
        reasons = "; ".join(f"{count} {reason}" for reason, count in left.most_common())
        covered = sum(each["weights"] for each in kept if not each["reason"])
        seen[name] = [
            name,
            f"{model.package} {model.version}, {model.kind}",
            len(kept),
            len(kept) - sum(left.values()),
            f"{covered / figures['parameters']:.1%}",
            reasons,
        ]
    return markdown(
        ["model", "package", "layers", "pruned", "of all weights", "left, and why"],
        list(seen.values()),
    )


def results(runs: list[tuple[str, Any, float, dict[str, Any]]]) -> str:
    """What came out at each sparsity."""
    rows = []
    for name, model, sparsity, figures in runs:
        if figures["code"]:
            rows.append(
                [name, f"{sparsity:.0%}", figures["said"].split(": ", 2)[-1][:80], *[""] * 6]
            )
            continue
        compared = figures["compare"]
        scores = figures.get("scores")
        rows.append(
            [
                name,
                f"{sparsity:.0%}",
                f"{figures['report']['sparsity']:.1%}",
                f"{figures['report']['comparison']['error']:.3f}",
                f"{compared['error']:.3f}",
                model.task.title,
                " → ".join(f"{each:.3f}" for each in scores) if scores else "",
                f"{figures['agreement']:.3f}",
                f"{figures['peak_bytes'] / 2**20:,.0f} MiB",
            ]
        )
    head = ["model", "asked", "zeros", "error held out", "error on test", "task"]
    return markdown([*head, "score", "agreement", "run"], rows)


def markdown(head: list[str], rows: list[list[Any]]) -> str:
    """A table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
