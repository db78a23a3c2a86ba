"""Draw the figures of docs/ from the JSON files that the benchmarks wrote.

    python -m benchmarks.net_trim --threads 2 --json net_trim.json
    python -m benchmarks.layers --json layers.json
    python -m benchmarks.peers --json peers.json
    python -m benchmarks.plots --net-trim net_trim.json --layers layers.json --peers peers.json

matplotlib is needed for this script alone (``pip install -e .[bench]``).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

mpl.use("svg")
import matplotlib.pyplot as plt

DOCS = Path(__file__).resolve().parent.parent / "docs"
GOOD = 0.005
COLOURS = {
    "magnitude": "#b0b0b0",
    "Wanda": "#8c8c8c",
    "SparseGPT": "#d98c5f",
    "SparseGPT+refit": "#b5543a",
    "ALPS": "#7fa6c9",
    "ALPS+refit": "#4b7fab",
    "nettrim l0": "#0b6e4f",
}
PEERS = {
    "magnitude": COLOURS["magnitude"],
    "magnitude global": "#6a6a6a",
    "onnxsim magnitude": "#c9b27f",
    "onnxsim Wanda": COLOURS["ALPS"],
    "onnxsim SparseGPT": COLOURS["SparseGPT+refit"],
    "nettrim": COLOURS["nettrim l0"],
}


def main() -> None:
    """Draw what was given."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--net-trim", type=Path, metavar="FILE")
    parser.add_argument("--layers", type=Path, metavar="FILE")
    parser.add_argument("--peers", type=Path, metavar="FILE")
    options = parser.parse_args()
    plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    plt.rcParams.update({"svg.hashsalt": "nettrim", "svg.fonttype": "none"})
    if options.net_trim:
        net_trim(json.loads(options.net_trim.read_text()))
    if options.layers:
        layers(json.loads(options.layers.read_text()))
    if options.peers:
        peers(json.loads(options.peers.read_text()))


def net_trim(cells: list[dict[str, Any]]) -> None:
    """Distance from the optimum against time, nettrim's being 1, for each cell."""
    columns = 3
    figure, axes = plt.subplots(
        -(-len(cells) // columns),
        columns,
        figsize=(9.5, 2.9 * -(-len(cells) // columns)),
        sharex=True,
        sharey=True,
        squeeze=False,
    )
    for axis, cell in zip(axes.flat, cells, strict=False):
        unit = min(each["seconds"] for each in cell["nettrim"])
        path = cell["baseline"]["path"]
        time = [each["seconds"] / unit for each in path]
        worst = [max(abs(each["gap"]), each["violation"]) for each in path]
        axis.loglog(time, worst, color=COLOURS["SparseGPT+refit"], label="paper's ADMM, NumPy")
        ours = [max(abs(each["gap"]), each["violation"]) for each in cell["nettrim"]]
        axis.loglog([1], [max(ours)], "o", color=COLOURS["nettrim l0"], label="nettrim")
        axis.axhline(GOOD, color="#999999", lw=0.8, ls=":")
        shape = " x ".join(map(str, cell["shape"]))
        axis.set_title(f"{shape}, {cell['columns']:,} samples", fontsize=9)
        axis.set_xticks([0.5, 1, 2, 5, 10, 20], ["0.5", "1", "2", "5", "10", "20"], minor=False)
        axis.set_xticks([], minor=True)
    for axis in axes[-1]:
        axis.set_xlabel("time, nettrim's being 1")
    for axis in axes[:, 0]:
        axis.set_ylabel("gap or violation, the larger")
    axes[0, 0].legend(frameon=False, fontsize=8, loc="upper right")
    for axis in axes.flat[len(cells) :]:
        axis.set_visible(False)
    save(figure, "solver-net-trim.svg")


def layers(cells: list[dict[str, Any]]) -> None:
    """Mean error of each method relative to nettrim's, by model and sparsity."""
    models = list(dict.fromkeys(cell["model"] for cell in cells))
    figure, axes = plt.subplots(1, len(models), figsize=(10.5, 3.1), sharey=True, squeeze=False)
    for axis, model in zip(axes.flat, models, strict=False):
        mine = [cell for cell in cells if cell["model"] == model]
        levels = sorted({cell["sparsity"] for cell in mine})
        for method, colour in COLOURS.items():
            if method not in mine[0]["errors"]:
                continue
            means = [
                np.mean([cell["errors"][method] for cell in mine if cell["sparsity"] == level])
                for level in levels
            ]
            axis.semilogy([100 * each for each in levels], means, "o-", ms=3, color=colour)
            axis.lines[-1].set_label(method)
        axis.set_title(model, fontsize=9)
        axis.set_xlabel("zeros in each layer, %")
    axes[0, 0].set_ylabel("mean relative response error, test images")
    axes[0, -1].legend(frameon=False, fontsize=7, loc="lower right")
    save(figure, "solver-layers.svg")


def peers(figures: dict[str, Any]) -> None:
    """Output error of each method against the zeros that it reached, by model.

    A model at one sparsity makes no line and is left to the table.
    """
    levels = {(each["model"], each["sparsity"]) for each in figures["cells"]}
    models = [m for m in figures["models"] if sum(name == m for name, _ in levels) > 1]
    columns = 3
    lines = -(-len(models) // columns)
    size = {"figsize": (10, 2.8 * lines), "sharey": True}
    figure, axes = plt.subplots(lines, columns, squeeze=False, **size)
    shown = {}
    for axis, model in zip(axes.flat, models, strict=False):
        for method, colour in PEERS.items():
            mine = [
                (100 * each["reached"], each["error"])
                for each in figures["cells"]
                if (each["model"], each["method"]) == (model, method) and "error" in each
            ]
            if mine:
                (shown[method],) = axis.semilogy(
                    *zip(*sorted(mine), strict=True), "o-", ms=3, color=colour
                )
        axis.set_title(model, fontsize=9)
        axis.set_xlabel("zeros in the pruned layers, %")
    for axis in axes.flat[len(models) :]:
        axis.set_visible(False)
    for axis in axes[:, 0]:
        axis.set_ylabel("output error, test samples")
    place = {"loc": "lower center", "bbox_to_anchor": (0.5, 1), "ncols": len(shown)}
    figure.legend(shown.values(), shown.keys(), frameon=False, fontsize=8, **place)
    save(figure, "benchmarks.svg")


def save(figure: Any, name: str) -> None:
    """Write a figure and say so."""
    figure.tight_layout()
    figure.savefig(DOCS / name, metadata={"Date": None}, bbox_inches="tight")
    print(f"wrote docs/{name}")


if __name__ == "__main__":
    main()
