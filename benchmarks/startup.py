"""Wall time of commands that should answer at once, beside that of importing onnxruntime."""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
IMPORT = [sys.executable, "-c", "import onnxruntime"]
ALLOWANCE = 0.1  # seconds
FLOORS = {  # of the import's time, with ALLOWANCE beside
    ("--help",): 0.15,
    ("prune", "--help"): 0.2,
    ("inspect", str(ROOT / "sample_models" / "mlp" / "model.onnx")): 0.5,
}


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=11)
    options = parser.parse_args()
    script = Path(sys.executable).with_name("nettrim")
    command = [str(script)] if script.exists() else [sys.executable, "-m", "nettrim_cli"]
    lines = {words: [*command, *words] for words in FLOORS}
    seconds: dict[tuple[str, ...], list[float]] = {words: [] for words in ((), *FLOORS)}
    for _ in range(options.runs + 1):  # by turns, so that what slows the machine slows all
        for words, line in {(): IMPORT, **lines}.items():
            seconds[words].append(timed(line))
    medians = {words: statistics.median(times[1:]) for words, times in seconds.items()}
    print(f"import onnxruntime: {medians[()]:.3f} s, median of {options.runs} runs")
    for words, share in FLOORS.items():
        floor = share * medians[()] + ALLOWANCE
        verdict = "held" if medians[words] <= floor else "MISSED"
        name = " ".join(Path(word).name for word in words)
        print(f"nettrim {name}: {medians[words]:.3f} s, floor {floor:.3f} s: {verdict}")


def timed(line: list[str]) -> float:
    """Seconds that a command takes; the first also compiles what is imported, and fills caches."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    begun = time.perf_counter()
    subprocess.run(line, check=True, stdout=subprocess.DEVNULL, env=kept)
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
