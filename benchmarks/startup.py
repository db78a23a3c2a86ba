"""Wall time of `nettrim --help`."""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

FLOOR_SECONDS = 0.3


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=11)
    options = parser.parse_args()
    script = Path(sys.executable).with_name("nettrim")
    command = [str(script)] if script.exists() else [sys.executable, "-m", "nettrim_cli"]
    seconds = []
    for _ in range(options.runs + 1):
        begun = time.perf_counter()
        subprocess.run([*command, "--help"], check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - begun)
    seconds = sorted(seconds[1:])  # the first run also fills the disk's cache
    median = statistics.median(seconds)
    verdict = "held" if median <= FLOOR_SECONDS else "MISSED"
    print(
        f"nettrim --help: median {median:.3f} s of {options.runs} runs ({seconds[0]:.3f} to "
        f"{seconds[-1]:.3f}), floor {FLOOR_SECONDS} s: {verdict}"
    )


if __name__ == "__main__":
    main()
