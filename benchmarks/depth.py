"""How the time of `nettrim prune` grows with a network's depth, and what weighing layers takes.

Chains of small layers with random weights are pruned to 90 % zeros on random samples: plain ones
(a product and a ReLU), and residual blocks of two convolutions.

    python -m benchmarks.depth --depths 40 80 200
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import h5py
import numpy as np
import onnx
from onnx import helper, numpy_helper

from benchmarks.common import arguments, blas_threads, machine, print_table, verdict, write_json
from nettrim_cli.pipeline import prune
from nettrim_cli.pruning import measurement
from nettrim_cli.pruning.output_gradients import OutputGradients
from nettrim_cli.settings import Settings

WIDTH, CHANNELS, SIDE = 32, 8, 6
EXPONENT = 1.1, 1.02  # floor and aim, from the second depth to the last
SHARE = 0.05, 0.02
KINDS = ("plain", "residual")


def main() -> None:
    """Run it."""
    parser = arguments(__doc__)
    parser.add_argument("--depths", nargs="+", type=int, default=[40, 80, 200])
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    options = parser.parse_args()
    print(machine(options.threads), "\n")
    found = [measured(kind, options) for kind in options.kinds]
    print_table(
        ["network", *(f"{depth} layers" for depth in options.depths), "exponent", "weighing"],
        [[f["kind"], *f["relative"], f["exponent"], f["share"]] for f in found],
    )
    print("times relative to the first; exponent between the last two; share at the last\n")
    for f in found:
        if len(options.depths) > 1:
            print(f"{f['kind']}: exponent {verdict(f['exponent'], *EXPONENT)}")
        print(f"{f['kind']}: share of weighing {verdict(f['share'], *SHARE)}")
    write_json(options.json, found)


def measured(kind: str, options: Any) -> dict[str, Any]:
    """Times of one kind of network at all depths."""
    seconds, shares = [], []
    for depth in options.depths:
        with tempfile.TemporaryDirectory() as folder, blas_threads(options.threads):
            total, weighing = timed_prune(kind, depth, Path(folder), options)
        seconds.append(total)
        shares.append(weighing / total)
    exponent = math.nan
    if len(seconds) > 1:
        growth = options.depths[-1] / options.depths[-2]
        exponent = math.log(seconds[-1] / seconds[-2]) / math.log(growth)
    return {
        "kind": kind,
        "depths": options.depths,
        "relative": [each / seconds[0] for each in seconds],
        "exponent": exponent,
        "share": shares[-1],
    }


def timed_prune(kind: str, depth: int, folder: Path, options: Any) -> tuple[float, float]:
    """Processor seconds of a run, and of what tells in it how much layers and outputs matter."""
    model, data = folder / "model.onnx", folder / "data.h5"
    onnx.save(chain(kind, depth), model)
    shape = (options.samples, WIDTH) if kind == "plain" else (options.samples, CHANNELS, SIDE, SIDE)
    with h5py.File(data, "w") as file:
        file["x"] = np.random.default_rng(1).standard_normal(shape, np.float32)
    settings = Settings(sparsity=0.9, threads=options.threads)
    weighing = 0.0

    def counted(method: Callable[..., Any]) -> Callable[..., Any]:
        """The method, with its time added up."""

        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal weighing
            begun = time.process_time()
            try:
                return method(*args, **kwargs)
            finally:
                weighing += time.process_time() - begun

        return call

    with (
        patch.object(measurement, "movements", counted(measurement.movements)),
        patch.object(OutputGradients, "importance", counted(OutputGradients.importance)),
    ):
        begun = time.process_time()
        prune(model, data, folder / "pruned.onnx", settings, force=True)
        return time.process_time() - begun, weighing


def chain(kind: str, depth: int) -> onnx.ModelProto:
    """A network of so many layers, with random weights that keep signals at their size."""
    random, nodes, weights = np.random.default_rng(0), [], []

    def weight(name: str, *shape: int, gain: float = 2.0) -> str:
        scale = math.sqrt(gain / math.prod(shape[1:] if len(shape) > 2 else shape[:1]))
        values = (scale * random.standard_normal(shape)).astype(np.float32)
        weights.append(numpy_helper.from_array(values, name))
        return name

    def node(op: str, *inputs: str, **attributes: Any) -> str:
        output = f"t{len(nodes)}"
        nodes.append(helper.make_node(op, list(inputs), [output], **attributes))
        return output

    def convolution(x: str, name: str, gain: float = 2.0) -> str:
        kernel = weight(name, CHANNELS, CHANNELS, 3, 3, gain=gain)
        return node("Conv", x, kernel, weight(f"{name}b", CHANNELS, gain=0), pads=[1, 1, 1, 1])

    x = "x"
    if kind == "plain":
        for number in range(depth):
            product = node("MatMul", x, weight(f"w{number}", WIDTH, WIDTH))
            x = node("Relu", node("Add", product, weight(f"b{number}", WIDTH, gain=0.01)))
        shape = ["n", WIDTH]
    else:
        for number in range(depth // 2):
            inner = node("Relu", convolution(x, f"a{number}"))
            x = node("Relu", node("Add", x, convolution(inner, f"b{number}", gain=0.2)))
        shape = ["n", CHANNELS, SIDE, SIDE]
    nodes[-1].output[0] = "y"
    info = [helper.make_tensor_value_info(name, 1, shape) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "chain", info[:1], info[1:], weights)
    opsets = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


if __name__ == "__main__":
    main()
