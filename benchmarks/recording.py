"""Recording against its floor: one forward pass, and the products for C and B.

The floor of a model is the time of one forward pass over the same samples in the same batches,
plus the multiplications that C (one triangle) and B take at this machine's rate of float32
matrix products.  For MiniLM the parallel scheme may take 1.5 times as long, and the cascade 2.5
times as long as the parallel scheme; the exit code is 1 where they take longer.  Nothing is
solved: in the cascade each layer's weights are merely scaled.

Models: a transformer encoder of MiniLM's shapes (6 layers, 384 and 1,536 inputs, random weights),
a bidirectional LSTM and GRU, and sample models; or any file with its data:

    python -m benchmarks.recording --model model.onnx --data calib.h5
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from benchmarks.common import arguments, blas_threads, machine, print_table, sample_file, write_json
from nettrim_cli.data.batching import batch_size
from nettrim_cli.data.dataset import Batch, Calibration
from nettrim_cli.data.engine import Engine
from nettrim_cli.graph.model import Model
from nettrim_cli.pruning.propagation import propagate, stages

PARALLEL, CASCADE = 1.5, 2.5
TEXTS, TOKENS, BATCH = 512, 27, 64
Flagged = list[tuple[Batch, bool]]


def main() -> None:
    """Run it."""
    parser = arguments(__doc__)
    parser.add_argument("--model", type=Path, help="only this model, with --data")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--samples", type=int, default=2000, help="of models from files, at most")
    parser.add_argument("--runs", type=int, default=3, help="of which the fastest counts")
    parser.add_argument("--only", nargs="+", default=[], help="names of models")
    options = parser.parse_args()
    print(machine(options.threads), "\n")
    if options.model is not None:
        models: dict[str, Callable[[], tuple[Model, Flagged]]] = {
            options.model.name: lambda: from_file(options.model, options.data, options)
        }
    else:
        models = {"MiniLM": encoder, "recurrent": recurrent}
        for name in ("transformer", "resnet"):
            files = (sample_file(name, "model.onnx"), sample_file(name, "calib.h5"))
            models[name] = lambda files=files: from_file(*files, options)
    figures, rows, held = {}, [], True
    with blas_threads(options.threads):
        for name, make in models.items():
            if options.only and name not in options.only:
                continue
            found = measure(*make(), options)
            figures[name] = found
            parallel, cascade = found["parallel"] / found["floor"], found["cascade"]
            if name == "MiniLM":
                held = parallel <= PARALLEL and cascade / found["parallel"] <= CASCADE
            keys = ("forward", "products", "parallel")
            rows.append([name, *(found[key] for key in keys), parallel, cascade])
            rows[-1].append(cascade / found["parallel"])
    heads = ["model", "forward", "products", "parallel", f"to floor (<= {PARALLEL})", "cascade"]
    print_table([*heads, f"to parallel (<= {CASCADE})"], rows)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"seconds; peak memory of this process {peak:.2f} GiB")
    write_json(options.json, figures)
    if not held:
        sys.exit(1)


def measure(model: Model, batches: Flagged, options: Any) -> dict[str, float]:
    """Seconds of everything for one model."""
    chosen = [layer for layer in model.layers if layer.prunable]
    plan = stages(chosen)

    def forward() -> None:
        engine = Engine(model.runnable(), threads=options.threads)
        for batch, _ in batches:
            engine.run(batch.feeds)

    def record(cascade: bool) -> int:
        work, pruned = 0, model.clone() if cascade else None
        steps = propagate(model, pruned, plan, batches, threads=options.threads, seed=0)
        for stage in steps:
            for number, (layer, blocks) in enumerate(stage):
                work += sum(2 * n * n * m for n, m in layer.blocks)
                if number == 0:
                    shapes = zip(blocks, layer.blocks, strict=True)
                    work += sum(
                        each.columns * n * n for each, (n, _) in shapes if each.C is not None
                    )
                if pruned is not None:
                    weights, _ = pruned.weight(layer)
                    pruned.set_weight(layer, [0.99 * each for each in weights], None)
        return work

    work = record(False)
    rate = product_rate(options.threads)
    seconds = {
        "forward": best(forward, options.runs, options.threads),
        "products": work / rate,
        "parallel": best(lambda: record(False), options.runs, options.threads),
        "cascade": best(lambda: record(True), options.runs, options.threads),
    }
    return {**seconds, "floor": seconds["forward"] + seconds["products"]}


def best(act: Callable[[], Any], runs: int, threads: int) -> float:
    """Seconds of the fastest run."""
    found = []
    for _ in range(runs):
        begun = clock(threads)
        act()
        found.append(clock(threads) - begun)
    return min(found)


def clock(threads: int) -> float:
    """Seconds; of the processor where one thread runs, which other programs do not disturb."""
    return time.process_time() if threads == 1 else time.perf_counter()


def product_rate(threads: int) -> float:
    """Multiplications and additions a second in float32 matrix products."""
    A = np.random.default_rng(0).standard_normal((1024, 1024)).astype(np.float32)
    return 2 * 1024**3 / best(lambda: A @ A, 8, threads)


def from_file(path: Path, data: Path, options: Any) -> tuple[Model, Flagged]:
    """A model and its samples, a fifth held out."""
    model = Model.load(path)
    with Calibration.open(data, model.inputs) as samples:
        size = batch_size(samples, model, options.threads)
        count = min(options.samples, samples.samples)
        fitted, held = np.arange(count * 4 // 5), np.arange(count * 4 // 5, count)
        batches = [(each, False) for each in samples.batches(fitted, size)]
        return model, batches + [(each, True) for each in samples.batches(held, size)]


def encoder(layers: int = 6, width: int = 384, inner: int = 1536, heads: int = 12) -> Any:
    """A transformer encoder on embedded tokens, as exporters write it; and its samples."""
    graph = Graph()
    x, each = "x", width // heads
    for _ in range(layers):
        parts = []
        for perm in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]):
            made = graph.dense(x, width, width)
            split = graph.add("Reshape", made, graph.keep(np.array([0, 0, heads, each])))
            parts.append(graph.add("Transpose", split, perm=perm))
        scores = graph.add("MatMul", parts[0], parts[1])
        scaled = graph.add("Div", scores, graph.keep(np.float32(np.sqrt(each))))
        weights = graph.add("Softmax", scaled, axis=-1)
        joined = graph.add("Transpose", graph.add("MatMul", weights, parts[2]), perm=[0, 2, 1, 3])
        flat = graph.add("Reshape", joined, graph.keep(np.array([0, 0, width])))
        x = graph.normalised(graph.add("Add", graph.dense(flat, width, width), x), width)
        hidden = graph.add("Gelu", graph.dense(x, width, inner))
        x = graph.normalised(graph.add("Add", graph.dense(hidden, inner, width), x), width)
    return graph.model([x], ["N", "T", width]), samples((TEXTS, TOKENS, width), BATCH)


def recurrent(width: int = 96, hidden: int = 192) -> Any:
    """A bidirectional LSTM, a GRU and a Gemm-like head; and its samples."""
    graph, directions = Graph(), 2
    tensors = [
        graph.random((directions, 4 * hidden, width)),
        graph.random((directions, 4 * hidden, hidden)),
        graph.random((directions, 8 * hidden)),
    ]
    states = graph.add("LSTM", "x", *tensors, hidden_size=hidden, direction="bidirectional")
    turned = graph.add("Transpose", states, perm=[0, 2, 1, 3])
    wide = graph.add("Reshape", turned, graph.keep(np.array([0, 0, 2 * hidden])))
    tensors = [graph.random((1, 3 * hidden, n)) for n in (2 * hidden, hidden)]
    states = graph.add("GRU", wide, *tensors, hidden_size=hidden)
    last = graph.add("Squeeze", states, graph.keep(np.array([1])))
    y = graph.dense(last, hidden, 40)
    batches = samples((50, 512, width), 64, axis=1)
    return graph.model([y], ["T", "N", width]), batches


def samples(shape: Sequence[int], size: int, axis: int = 0) -> Flagged:
    """Random batches along an axis, a fifth held out."""
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    count = shape[axis]
    parts = [np.take(x, range(at, min(at + size, count)), axis) for at in range(0, count, size)]
    kept = len(parts) * 4 // 5
    return [(Batch({"x": p}, p.shape[axis], None), at >= kept) for at, p in enumerate(parts)]


class Graph:
    """Nodes and tensors as they are added."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.tensors: list[Any] = []
        self.rng = np.random.default_rng(0)

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        """One more node; its output."""
        output = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [output], **attributes))
        return output

    def keep(self, values: Any) -> str:
        """One more tensor; its name."""
        name = f"c{len(self.tensors)}"
        self.tensors.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def random(self, shape: Sequence[int]) -> str:
        """Weights of the usual scale."""
        values = self.rng.standard_normal(shape) / np.sqrt(shape[-1])
        return self.keep(values.astype(np.float32))

    def dense(self, x: str, inputs: int, outputs: int) -> str:
        """A MatMul and its bias."""
        product = self.add("MatMul", x, self.random((inputs, outputs)))
        return self.add("Add", product, self.random((outputs,)))

    def normalised(self, x: str, width: int) -> str:
        """A LayerNormalization."""
        ones, zeros = np.ones(width, np.float32), np.zeros(width, np.float32)
        return self.add("LayerNormalization", x, self.keep(ones), self.keep(zeros), axis=-1)

    def model(self, outputs: Sequence[str], shape: Sequence[Any]) -> Model:
        """The whole."""
        graph = helper.make_graph(
            self.nodes,
            "g",
            [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)],
            [onnx.ValueInfoProto(name=name) for name in outputs],
            self.tensors,
        )
        opsets = [helper.make_opsetid("", 20)]
        return Model(helper.make_model(graph, opset_imports=opsets, ir_version=9))


if __name__ == "__main__":
    main()
