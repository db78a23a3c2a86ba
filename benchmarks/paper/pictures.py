"""Pictures of docs/paper.md; matplotlib is needed (``pip install -e .[bench]``)."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.paper.recovery import INPUTS
from benchmarks.plots import COLOURS, plt, save
from nettrim_cli.solve.recovery import half_success, samples_needed, theorem_samples

Figures = dict[str, Any]
LINES = {
    "net-trim": ("o-", COLOURS["nettrim l0"]),
    "net-trim, refitted": ("o--", COLOURS["nettrim l0"]),
    "magnitude": ("s-", COLOURS["SparseGPT+refit"]),
    "magnitude, refitted": ("s--", COLOURS["SparseGPT+refit"]),
}


def draw(figures: Figures) -> None:
    """Draw what there are figures for."""
    plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    plt.rcParams.update({"svg.hashsalt": "nettrim", "svg.fonttype": "none"})
    groups = {
        name: [row for key, row in figures.items() if key.startswith(name)]
        for name in ("sweep", "recovery", "noise", "spirals parallel", "spirals cascade")
    }
    if groups["sweep"]:
        sweep(groups["sweep"])
    if groups["recovery"]:
        recovery(groups["recovery"])
    if groups["noise"]:
        noise(groups["noise"])
    if groups["spirals parallel"]:
        spirals(groups["spirals parallel"], groups["spirals cascade"])


def sweep(rows: list[Figures]) -> None:
    """Error and accuracy against zeros, a line of panels for each model."""
    models = list(dict.fromkeys(row["model"] for row in rows))
    figure, axes = plt.subplots(len(models), 2, figsize=(9, 3.1 * len(models)), squeeze=False)
    for (left, right), model in zip(axes, models, strict=True):
        for name, (style, colour) in LINES.items():
            mine = sorted(
                (100 * row["zeros"], 100 * row[name]["error"], 100 * row[name]["accuracy"])
                for row in rows
                if row["model"] == model
            )
            zeros, errors, accuracies = zip(*mine, strict=True)
            left.semilogy(zeros, errors, style, ms=3, lw=1.2, color=colour, label=name)
            right.plot(zeros, accuracies, style, ms=3, lw=1.2, color=colour)
        dense = next(row["dense"] for row in rows if row["model"] == model)
        right.axhline(100 * dense, color="#999999", lw=0.8, ls=":")
        left.set_title(f"{model}: error of the scores, %", fontsize=9)
        right.set_title(f"{model}: accuracy, % (dots: dense)", fontsize=9)
        for axis in (left, right):
            axis.set_xlabel("zeros in the pruned layers, %")
    axes[0, 0].legend(frameon=False, fontsize=8)
    save(figure, "paper-sweep.svg")


def recovery(rows: list[Figures]) -> None:
    """Shares of neurons that are found, and the counts of three theories."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.3))
    shades = plt.get_cmap("viridis")(np.linspace(0.1, 0.8, len(rows)))
    for row, colour in zip(rows, shades, strict=True):
        share = np.array(row["samples"]) / row["dimension"]
        label = f"s = {row['nonzeros']}"
        left.plot(share, row["nettrim"], "o-", ms=3, lw=1.2, color=colour, label=label)
        left.plot(share, row["linear program"], "--", lw=1, color=colour)
    left.set_xlabel("samples to twice the statistical dimension")
    left.set_ylabel("share found (dashed: linear program)")
    left.legend(frameon=False, fontsize=8)
    counts = np.arange(1, 41)
    theories = {
        "Theorem 3, 95 %": [theorem_samples(int(s), INPUTS) for s in counts],
        "Gaussian width": [samples_needed(int(s), INPUTS, relu=True) for s in counts],
        "statistical dimension": [half_success(int(s), INPUTS, relu=True) for s in counts],
    }
    for (name, values), style in zip(theories.items(), ("-", "--", ":"), strict=True):
        right.semilogy(counts, values, style, color="#555555", lw=1.2, label=name)
    for name, mark in (("nettrim", "o"), ("linear program", "x")):
        found = [(row["nonzeros"], row["half"][name]) for row in rows]
        label = f"half found, {name}"
        right.semilogy(*zip(*found, strict=True), mark, ms=5, label=label)
    right.set_xlabel(f"weights s of {INPUTS}")
    right.set_ylabel("samples P")
    right.legend(frameon=False, fontsize=8)
    save(figure, "paper-recovery.svg")


def noise(rows: list[Figures]) -> None:
    """Accuracy against noise."""
    figure, axis = plt.subplots(figsize=(5, 3.1))
    for row in rows:
        label = "dense" if row["epsilon"] is None else f"epsilon {row['epsilon']:g}"
        axis.plot(row["levels"], [100 * share for share in row["accuracy"]], lw=1.3, label=label)
    axis.set_xlabel("norm of the noise to the image's")
    axis.set_ylabel("accuracy, %")
    axis.legend(frameon=False, fontsize=8)
    save(figure, "paper-noise.svg")


def spirals(parallel: list[Figures], cascade: list[Figures]) -> None:
    """Density of each layer against the error of the scores, for both schemes."""
    figure, axes = plt.subplots(1, 3, figsize=(9, 2.9), sharey=True)
    for k, axis in enumerate(axes):
        for rows, name, style in ((parallel, "parallel", "s--"), (cascade, "cascade", "o-")):
            path = sorted((100 * row["error"], row["after"][k] / row["before"][k]) for row in rows)
            axis.plot(*zip(*path, strict=True), style, ms=3, lw=1.2, label=name)
        axis.set_title(f"layer {k + 1}", fontsize=9)
        axis.set_xlabel("error of the scores, %")
    axes[0].set_ylabel("share of weights left")
    axes[0].legend(frameon=False, fontsize=8)
    save(figure, "paper-spirals.svg")
