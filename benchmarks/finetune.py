"""nettrim against the strongest peers: SparseGPT, then fine-tuning to the dense outputs.

onnxsim fits the weights that its SparseGPT keeps by Adam, in blocks of two layers or the network as
one block, with the rate and number of steps that held-out samples choose (`peers_finetune.py`).
Errors are those of outputs on test samples that no method has seen:

    pip install '.[bench]'
    python -m benchmarks.finetune --models mlp captcha --table docs/benchmarks.md
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks import peers
from benchmarks.common import MODELS, arguments, machine, print_table, verdict, write_json
from benchmarks.few_samples import SLACK, pruned_layers, write_table
from benchmarks.peers_methods import FITTED
from benchmarks.peers_table import geometric_mean, pairs

OURS = ("nettrim", FITTED[0])
PEERS = ("onnxsim SparseGPT", *FITTED[1:])
SPARSITIES = dict.fromkeys(MODELS, (0.7, 0.9, 0.95))
SPARSITIES |= dict.fromkeys(("captcha", "magika", "ocr-cls:450", "vad-ifless"), (0.7, 0.9))
MEAN, WORST = (0.5, 0.3), (0.9, 0.7)  # floors and aims of error to the best peer's


def main() -> None:
    """Run it."""
    parser = arguments(__doc__)
    parser.add_argument("--models", nargs="+", default=[*SPARSITIES])
    parser.add_argument("--methods", nargs="+", choices=(*OURS, *PEERS), default=(*PEERS, *OURS))
    parser.add_argument("--sparsity", nargs="+", type=float, help="in place of each model's own")
    parser.add_argument("--folder", type=Path, default=Path("build/peers"), help="finished cells")
    parser.add_argument("--samples", type=int, default=5000, help="for calibration, at most")
    parser.add_argument("--time-limit", type=float, default=3600, help="seconds for a cell")
    parser.add_argument("--table", type=Path, metavar="FILE", help="write the table here, too")
    parser.add_argument("--finished", action="store_true", help="measure nothing")
    options = parser.parse_args()
    print(machine(options.threads), flush=True)
    methods = peers.available(options.methods)
    cells: list[peers.Cell] = []
    for name in options.models:
        try:
            subject = peers.prepared(name, options)
        except FileNotFoundError as error:
            print(f"{name}: skipped: {error}", flush=True)
            continue
        layers = pruned_layers(subject)
        samples = peers.digest(subject.model, subject.calibration, subject.test)
        for sparsity in options.sparsity or SPARSITIES[name]:
            for method in methods:
                cell = peers.cell(subject, method, sparsity, layers, samples, options)
                if cell is not None:
                    cells.append(cell)
                    print(peers.summary(cell), flush=True)
    headers, rows = ["model", "zeros", *PEERS, *OURS], table(cells)
    lines = [*verdicts(cells), *times(cells), *failures(cells)]
    print_table(headers, rows)
    print(*lines, sep="\n")
    if options.table:
        write_table(options.table, "finetune", headers, rows, lines)
    write_json(options.json, cells)


def table(cells: Sequence[peers.Cell]) -> list[list[Any]]:
    """A row for each model and sparsity: errors of all methods."""
    keys = dict.fromkeys((cell["model"], cell["sparsity"]) for cell in cells)
    return [
        [model, f"{sparsity:.0%}", *(errors.get(method) for method in (*PEERS, *OURS))]
        for model, sparsity in keys
        for errors in [by_method(cells, model, sparsity)]
    ]


def by_method(cells: Sequence[peers.Cell], model: str, sparsity: float) -> dict[str, float]:
    """Errors at one sparsity of a model."""
    return {
        cell["method"]: cell["error"]
        for cell in cells
        if (cell["model"], cell["sparsity"]) == (model, sparsity) and not failure(cell)
    }


def failure(cell: peers.Cell) -> str:
    """Why a cell does not count; empty where it does."""
    if "failed" in cell:
        return str(cell["failed"])
    few = cell["reached"] < cell["sparsity"] - SLACK  # it passes layers by in silence
    return f"only {cell['reached']:.0%} zeros" if few else ""


def verdicts(cells: Sequence[peers.Cell]) -> Iterator[str]:
    """Error of nettrim over that of the best peer in each cell."""
    keys = dict.fromkeys((cell["model"], cell["sparsity"]) for cell in cells)
    for ours in OURS:
        ratios: dict[float, str] = {}
        for model, sparsity in keys:
            errors = by_method(cells, model, sparsity)
            best = [errors[peer] for peer in PEERS if peer in errors]
            if ours in errors and best:
                ratios[errors[ours] / min(best)] = f"{model} at {sparsity:.0%}"
        if ratios:
            title, worst = f"{ours} over the best peer, {len(ratios)} cells, error", max(ratios)
            yield f"{title}, geometric mean: {verdict(geometric_mean(ratios) or 0, *MEAN)}"
            yield f"{title}, worst ({ratios[worst]}): {verdict(worst, *WORST)}"


def times(cells: Sequence[peers.Cell]) -> Iterator[str]:
    """Processor time of nettrim over that of peers at 70 %."""
    key = "processor_seconds"
    for method in PEERS:
        both = [pair for pair in pairs(cells, method) if pair[0]["sparsity"] == 0.7]
        ratio = geometric_mean(ours[key] / theirs[key] for ours, theirs in both)
        if ratio is not None:
            title = f"processor time of nettrim to that of {method} at 70 %"
            yield f"{title}, {len(both)} models, geometric mean: {ratio:.2f}"


def failures(cells: Sequence[peers.Cell]) -> Iterator[str]:
    """Where a method cannot run, and why."""
    reasons: dict[tuple[str, str, str], list[str]] = {}
    for cell in cells:
        if reason := failure(cell):
            key = (cell["model"], cell["method"], reason)
            reasons.setdefault(key, []).append(f"{cell['sparsity']:.0%}")
    for (model, method, reason), sparsities in reasons.items():
        yield f"{model}, {method} at {', '.join(sparsities)}: {reason}"


if __name__ == "__main__":
    main()
