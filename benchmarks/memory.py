"""Peak memory of `nettrim prune` as the calibration file, or the model, grows.

The file grows tenfold at equal --samples.  The model has external data and grows fourfold; two
layers of it are pruned, and memory is counted that the system cannot take back.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FLOOR = 0.05
WIDTH = 1280
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
    parser.add_argument("--megabytes", type=int, default=300, help="of the smaller model")
    parser.add_argument("--growth", choices=("samples", "model"), default="samples")
    options = parser.parse_args()
    if options.growth == "model":
        grow_model(options)
        return
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


def grow_model(options: argparse.Namespace) -> None:
    """Prune a model and one of four times as many layers."""
    layers = max(10, options.megabytes * 2**20 // (4 * WIDTH**2))
    peaks = []
    for count in (layers, 4 * layers):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_chain(folder, count)
            peaks.append(anonymous_peak(folder, count, options))
        size = 4 * WIDTH**2 * count / 2**20
        print(f"{count} layers, {size:,.0f} MiB: {peaks[-1] / 2**20:.0f} MiB", flush=True)
    growth = peaks[1] / peaks[0] - 1
    verdict = "held" if growth <= FLOOR else "MISSED"
    print(f"growth at four times the model: {growth:+.1%}, floor {FLOOR:.0%}: {verdict}")


def write_chain(folder: Path, layers: int) -> None:
    """A chain of square MatMul and Relu, with one layer's weights in memory at a time."""
    import numpy as np
    from onnx import TensorProto, helper, save

    random, graph = np.random.default_rng(0), []
    weights = []
    with open(folder / "weights.bin", "wb") as file:
        for at in range(layers):
            values = random.standard_normal((WIDTH, WIDTH), np.float32) * (2 / WIDTH) ** 0.5
            tensor = TensorProto(name=f"w{at}", data_type=1, dims=values.shape, data_location=1)
            facts = {"location": "weights.bin", "offset": file.tell(), "length": values.nbytes}
            for key, value in facts.items():
                tensor.external_data.add(key=key, value=str(value))
            weights.append(tensor)
            file.write(values.data)
            graph.append(helper.make_node("MatMul", [f"h{at}", f"w{at}"], [f"z{at}"], f"layer{at}"))
            graph.append(helper.make_node("Relu", [f"z{at}"], [f"h{at + 1}"]))
    ends = [helper.make_tensor_value_info(name, 1, ["N", WIDTH]) for name in ("h0", f"h{layers}")]
    made = helper.make_graph(graph, "chain", ends[:1], ends[1:], weights)
    opsets = [helper.make_opsetid("", 17)]
    save(helper.make_model(made, opset_imports=opsets, ir_version=8), folder / "model.onnx")
    np.save(folder / "calib.npy", random.standard_normal((64, WIDTH), np.float32))


def anonymous_peak(folder: Path, layers: int, options: argparse.Namespace) -> int:
    """Largest memory of its own of a run that prunes two layers of the chain."""
    chosen = [f"--include=layer{tenth * layers // 10}" for tenth in range(0, 10, 6)]
    command = [sys.executable, "-m", "nettrim_cli", "prune", str(folder / "model.onnx"), *chosen]
    command += ["--data", str(folder / "calib.npy"), "--sparsity", "0.5", "--quiet"]
    command += ["--threads", str(options.threads), "--augment", "none", "--final-fit", "none"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    peak = 0
    while process.poll() is None:
        peak = max(peak, sum(map(anonymous_bytes, family(process.pid))))
        time.sleep(0.01)
    if process.returncode:
        raise SystemExit(f"nettrim prune failed ({process.returncode})")
    return peak


def family(process: int) -> list[int]:
    """A process and those that it started."""
    with contextlib.suppress(OSError):
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
        return [process, *map(int, children)]
    return []


def anonymous_bytes(process: int) -> int:
    """Memory of a process that no file holds."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith("RssAnon"):
                return int(line.split()[1]) * 1024
    return 0


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
