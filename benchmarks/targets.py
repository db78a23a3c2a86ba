"""What targets of the whole network cost, and whether they hold on data that nobody has seen.

    python -m benchmarks.targets --models mlp --seeds 20 --drops .01

For every model and target: processor seconds against one prune at the sparsity that was found,
rounds, and the figure on the test data.  For `--max-drop` every seed draws other calibration
samples; "above" counts the runs whose drop on the test data exceeds D by more than the sampling
noise of those data, 1.645 standard deviations of a difference of paired answers.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nettrim_cli.errors import GateFailed
from nettrim_cli.pipeline import compare, prune
from nettrim_cli.settings import Settings

SAMPLES = Path(__file__).parents[1] / "sample_models"
MODELS = ("mlp", "lenet", "resnet", "transformer")
ERRORS, DROPS, BYTES = (0.02, 0.05, 0.1), (0.005, 0.01, 0.02), (0.5, 0.25)
NOISE = 1.645
FLOOR = 2.0  # times one prune that a search may take


def timed(model: Path, output: Path, **options: Any) -> tuple[Any, float]:
    """A run's report and its processor seconds."""
    begun = time.process_time()
    settings = Settings(threads=1, **options)
    report = prune(model, model.parent / "calib.h5", output, settings, force=True)
    return report, time.process_time() - begun


def costs(name: str, folder: Path) -> Iterator[dict[str, Any]]:
    """Each target once, and a plain prune to the sparsity that it found."""
    model, output = SAMPLES / name / "model.onnx", folder / "pruned.onnx"
    packed = compare(model, model, model.parent / "test.h5", threads=1).reference.bytes_gzip
    targets = [
        *({"max_error": each} for each in ERRORS),
        *({"max_drop": each} for each in DROPS),
        *({"max_bytes": round(each * packed)} for each in BYTES),
    ]
    for target in targets:
        report, seconds = timed(model, output, **target)
        found = compare(model, output, model.parent / "test.h5", threads=1)
        plain, once = timed(model, output, sparsity=report.target.sparsity)
        ((kind, wanted),) = target.items()
        yield {
            "model": name,
            "target": kind,
            "wanted": wanted,
            "reached": report.target.reached,
            "bound": report.target.bound,
            "sparsity": report.sparsity,
            "rounds": len(report.target.rounds),
            "seconds": seconds,
            "seconds_once": once,
            "ratio": seconds / once,
            "error_against_once": report.comparison.error / plain.comparison.error,
            "test_error": found.error,
            "test_drop": found.drop,
        }


def drops(name: str, wishes: list[float], seeds: int, folder: Path) -> Iterator[dict[str, Any]]:
    """Every drop with many draws of calibration samples."""
    model, output = SAMPLES / name / "model.onnx", folder / "pruned.onnx"
    for wanted in wishes:
        for seed in range(seeds):
            options: dict[str, Any] = {"samples": 1000, "seed": seed}
            try:
                report, _ = timed(model, output, max_drop=wanted, **options)
            except GateFailed:
                yield {"model": name, "wanted": wanted, "seed": seed, "sparsity": None}
                continue
            found = compare(model, output, model.parent / "test.h5", threads=1)
            changed = 1 - (found.outputs[0].agreement or 0.0)
            yield {
                "model": name,
                "wanted": wanted,
                "seed": seed,
                "sparsity": report.sparsity,
                "reached": report.target.reached,
                "bound": report.target.bound,
                "test_drop": found.drop,
                "noise": NOISE * math.sqrt(changed / found.samples),
            }


def summary(rows: list[dict[str, Any]]) -> Iterator[str]:
    """A line for each drop."""
    for wanted in dict.fromkeys(each["wanted"] for each in rows):
        mine = [each for each in rows if each["wanted"] == wanted]
        done = [each for each in mine if each["sparsity"] is not None]
        if not done:
            continue
        falls = [each["test_drop"] for each in done]
        above = sum(each["test_drop"] > wanted + each["noise"] for each in done)
        zeros = sum(each["sparsity"] for each in done) / len(done)
        yield (
            f"--max-drop {wanted}: {len(done)} of {len(mine)} runs reached it, {zeros:.1%} zeros; "
            f"drop on test data {sum(falls) / len(falls):.2%} on average, {max(falls):.2%} at "
            f"most; above by more than noise: {above}"
        )


def main() -> None:
    """Print a table of costs, then of drops, and keep all of it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--models", nargs="*", choices=MODELS, default=list(MODELS))
    parser.add_argument("--drops", nargs="*", type=float, default=list(DROPS))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    everything: list[dict[str, Any]] = []
    print("model        target             reached  bound  zeros  rounds  seconds  ratio  test")
    with tempfile.TemporaryDirectory() as folder:
        for name in given.models:
            for row in costs(name, Path(folder)):
                everything.append(row)
                bound = "" if row["bound"] is None else f"{row['bound']:.4f}"
                test = row["test_drop" if row["target"] == "max_drop" else "test_error"]
                print(
                    f"{name:12} {row['target']:9} {row['wanted']:<8g} {row['reached']:8.4g} "
                    f"{bound:>6} {row['sparsity']:6.1%} {row['rounds']:5}  {row['seconds']:8.1f} "
                    f"{row['ratio']:6.2f} {test:6.4f}",
                    flush=True,
                )
        worst = max(everything, key=lambda each: each["ratio"])
        word = "held" if worst["ratio"] <= FLOOR else "MISSED"
        print(
            f"search over one prune, processor time: {worst['ratio']:.2f} at most "
            f"({worst['model']} {worst['target']} {worst['wanted']:g}), floor {FLOOR:g}: {word}"
        )
        rows: list[dict[str, Any]] = []
        for row in drops("mlp", given.drops, given.seeds, Path(folder)):
            rows.append(row)
            print(json.dumps(row), flush=True)
        for line in summary(rows):
            print(line, flush=True)
    if given.json:
        given.json.write_text(json.dumps(everything + rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
