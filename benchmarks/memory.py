"""Peak memory of `nettrim prune` as the calibration file grows tenfold at equal --samples."""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

FLOOR = 0.05
MLP = Path(__file__).resolve().parent.parent / "sample_models" / "mlp"


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--times", type=int, default=10, help="how much larger the file gets")
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=3, help="of each file, by turns")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        small, large = MLP / "calib.h5", folder / "large.h5"
        tile(small, large, options.times)
        peaks: dict[Path, list[int]] = {small: [], large: []}
        for _ in range(options.runs):
            for data, found in peaks.items():
                found.append(peak_bytes(data, folder, options))
    middle = {data: statistics.median(found) for data, found in peaks.items()}
    growth = middle[large] / middle[small] - 1
    for data, found in peaks.items():
        runs = ", ".join(f"{each / 2**20:.1f}" for each in found)
        print(f"{data.name:9} median {middle[data] / 2**20:.1f} MiB ({runs})")
    verdict = "held" if growth <= FLOOR else "MISSED"
    print(
        f"growth at {options.times} times the samples: {growth:+.1%}, floor {FLOOR:.0%}: {verdict}"
    )


def tile(source: Path, target: Path, times: int) -> None:
    """Write a file's datasets several times over, one copy in memory at a time."""
    import h5py

    with h5py.File(source) as old, h5py.File(target, "w") as new:
        for name, dataset in old.items():
            rows = len(dataset)
            copy = new.create_dataset(
                name,
                (times * rows, *dataset.shape[1:]),
                dataset.dtype,
                chunks=dataset.chunks,
                compression=dataset.compression,
                shuffle=dataset.shuffle,
            )
            for at in range(0, times * rows, rows):
                copy[at : at + rows] = dataset[:]


def peak_bytes(data: Path, folder: Path, options: argparse.Namespace) -> int:
    """Largest resident set of one `nettrim prune`.

    The kernel's count for a child starts at what its parent held, so this process stays far
    smaller than what it measures.
    """
    command = [sys.executable, "-m", "nettrim_cli", "prune", str(MLP / "model.onnx")]
    command += ["--data", str(data), "--output", str(folder / "pruned.onnx"), "--force"]
    command += ["--samples", str(options.samples), "--threads", str(options.threads), "--quiet"]
    command += ["--sparsity", "0.9"]
    with (folder / "stderr").open("w+") as said:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            raise SystemExit(f"nettrim prune failed ({process.returncode}): {said.read()}")
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main()
