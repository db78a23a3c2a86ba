"""Net-Trim's program: nettrim against the paper's algorithm, side by side.

Both solve the strict ReLU program in this process on the same data, one after the other.  Their
answers are judged by one function that belongs to neither (`certificate`): the value against a
lower bound on the optimum, and the distance from the constraints.  The paper's algorithm is
stopped at its first iterate that is as good as asked for.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import onnx
from threadpoolctl import threadpool_limits

from benchmarks.baselines import Iterate, net_trim_iterates
from benchmarks.certificate import Program
from benchmarks.common import (
    MODELS,
    Matrix,
    arguments,
    blas_threads,
    gemm_rate,
    machine,
    print_table,
    sample_file,
    write_json,
)
from nettrim_cli.data.dataset import Batch, Calibration
from nettrim_cli.data.engine import Engine
from nettrim_cli.graph import ops
from nettrim_cli.graph.layer import Layer
from nettrim_cli.graph.model import Model
from nettrim_cli.pruning.propagation import dense_matrices, layer_problem
from nettrim_cli.solve.convex.layer_program import as_program
from nettrim_cli.solve.convex.net_trim import solve_net_trim, start_rho
from nettrim_cli.solve.convex.program import solve
from nettrim_cli.solve.convex.sample_space import SampleResponse
from nettrim_cli.solve.penalties import WeightedL1
from nettrim_cli.solve.problem import LayerProblem, Limits
from nettrim_cli.solve.responses import NormBall
from nettrim_cli.solve.samples import LayerSamples

QUALITY = 0.005  # gap and violation asked for
FASTER = 15  # floor of the ratio of the times
KEPT = 0.5  # floor of the share of the matrix rate
LOOK_EVERY = 10  # iterations of the baseline between two looks at its iterate
LOOP = 20  # steps of nettrim's ADMM over all samples that are timed


def main() -> None:
    """Run it."""
    parser = arguments(__doc__)
    parser.add_argument("--model", choices=MODELS, default="mlp")
    parser.add_argument("--layers", nargs="+", default=["fc1", "fc2", "fc3"], help="parts of names")
    parser.add_argument(
        "--samples", nargs="+", type=int, default=[4000, 20000], help="samples of test.h5"
    )
    parser.add_argument(
        "--epsilon", nargs="+", type=float, default=[0.05, 0.1], help="as a share of ||Y||"
    )
    parser.add_argument(
        "--schemes", nargs="+", choices=("parallel", "cascade"), default=["parallel", "cascade"]
    )
    parser.add_argument("--rho", type=float, default=100, help="of the baseline")
    parser.add_argument("--iterations", type=int, default=400, help="of the baseline, at most")
    parser.add_argument("--rounds", type=int, default=2, help="runs of nettrim")
    options = parser.parse_args()
    print(machine(options.threads), flush=True)
    cells: list[dict[str, Any]] = []
    with blas_threads(options.threads):
        for cell in product(options.samples, options.epsilon, options.schemes):
            pruned: list[Matrix] = []  # what the pruned layers deliver to the next one
            for name in options.layers:
                cells += measure(name, *cell, pruned, options)
                write_json(options.json, cells)
    worst = min(each["faster"] for each in cells)
    kept = min(each["kept"] for each in cells)
    good = all(each["good"] for each in cells)
    print(f"least ratio of times {worst:.1f}, floor {FASTER}: {verdict(worst >= FASTER)}")
    print(f"least share of the matrix rate {kept:.0%}, floor {KEPT:.0%}: {verdict(kept >= KEPT)}")
    print(f"gap and violation within {QUALITY:.1%} in every cell: {verdict(good)}")


def verdict(held: bool) -> str:
    """As it is printed."""
    return "held" if held else "MISSED"


def measure(
    name: str, samples: int, epsilon: float, scheme: str, pruned: list[Matrix], options: Any
) -> list[dict[str, Any]]:
    """Time both on a layer and judge what they reached; a cascade's first layer is not timed.

    The layers of a cascade have to follow one another; ``pruned`` holds the last one's results.
    """
    model = Model.load(sample_file(options.model, "model.onnx"))
    layer = find_layer(model, name)
    X = recorded_inputs(model, layer, samples, options)
    task = make_task(model, layer, X, pruned[-1] if pruned else X, options)
    task = replace(task, epsilon=epsilon)
    if scheme == "cascade":
        results = solve_net_trim(task, None).U.T @ task.samples.X[task.rows]
        pruned[:] = [np.vstack([np.maximum(results, 0), X[-1:]]).astype(np.float32)]
        if task.samples.inputs_exact:
            return []
    cell = {"scheme": scheme, **timings(layer, task, options)}
    report(cell, options)
    return [cell]


def timings(layer: Layer, task: LayerProblem, options: Any) -> dict[str, Any]:
    """Both on a task: what they took and reached."""
    program = paper_program(task)
    rates = [gemm_rate()]
    ours = [time_nettrim(task, program) for _ in range(options.rounds)]
    rates.append(gemm_rate())
    loop = loop_rate(task)
    rates.append(gemm_rate())
    bound = lower_bound(task, program)
    theirs = time_baseline(task.W, program, bound, options)
    rates.append(gemm_rate())
    for each in (*ours, *theirs["path"]):
        each["gap"] = each["l1"] / bound - 1
    seconds = min(each["seconds"] for each in ours)
    return {
        "model": options.model,
        "layer": layer.name,
        "shape": list(layer.shape),
        "columns": task.samples.X.shape[1],
        "epsilon": task.epsilon,
        "threads": options.threads,
        "lower_bound": bound,
        "gflops_float32": rates,
        "kept": loop / max(rates[1:3]),
        "nettrim": ours,
        "baseline": theirs,
        "reached": is_good(theirs["path"][-1]),
        "faster": theirs["seconds"] / seconds,
        "good": all(is_good(each) for each in ours),
    }


def paper_program(task: LayerProblem) -> Program:
    """The paper's program of a task, by its rule for the scheme."""
    X, W = task.samples.X[task.rows], task.W
    parallel = Program.parallel(X, W, task.epsilon or 0.0)
    if task.samples.inputs_exact:
        return parallel
    own, Y = W.T.astype(np.float64) @ X, np.maximum(task.samples.Z, 0).astype(np.float64)
    epsilon = task.gamma * float(np.linalg.norm((own - Y)[Y > 0]))
    return replace(parallel, Y=Y, V=np.where(Y > 0, 0, own), epsilon=epsilon)


def is_good(each: dict[str, Any]) -> bool:
    """Whether an answer is as good as asked for."""
    return bool(abs(each["gap"]) <= QUALITY and each["violation"] <= QUALITY)


def report(cell: dict[str, Any], options: Any) -> None:
    """Print the table of a layer and what follows from it."""
    (inputs, outputs), columns = cell["shape"], cell["columns"]
    print(
        f"\n{cell['model']} {cell['layer']}: {inputs}x{outputs}, {columns:,} columns, "
        f"{cell['scheme']}, epsilon {cell['epsilon']} ||Y||; "
        "strict ReLU program, l1, bias in the program\n"
    )
    last = {**cell["baseline"]["path"][-1], "seconds": cell["baseline"]["seconds"]}
    rows = [row(f"nettrim {at + 1}", each) for at, each in enumerate(cell["nettrim"])]
    rows.append(row("paper's ADMM", last))
    headers = ["", "seconds", "iterations", "l1 norm", "gap", "violation", "non-zeros"]
    print_table(headers, rows)
    rates = ", ".join(f"{rate:.0f}" for rate in cell["gflops_float32"])
    print(f"float32 matrix products meanwhile, GFLOP/s: {rates}")
    print(f"share of that rate kept by nettrim's steps over all samples: {cell['kept']:.0%}")
    reached = "" if cell["reached"] else f" (not as good after {last['iterations']}: at least)"
    print(f"paper's algorithm / nettrim{reached}: {cell['faster']:.1f}", flush=True)


def loop_rate(task: LayerProblem) -> float:
    """GFLOP/s of the two products of a step, over steps of ADMM on all samples."""
    layer = as_program(task)
    with threadpool_limits(1):
        response = SampleResponse(
            layer.X, layer.intervals, NormBall(0.1 * layer.size), threads=task.threads
        )
        target = np.zeros((len(layer.X), len(response.G)), np.float32)
        rho = start_rho(response, layer)
        response.solve(target, rho)
        begun = time.perf_counter()
        for _ in range(LOOP):
            target = response.solve(target, rho)
        seconds = time.perf_counter() - begun
    return 4e-9 * LOOP * layer.X.size * len(response.G) / seconds


def row(name: str, each: dict[str, Any]) -> list[Any]:
    """One line of the table."""
    return [
        name,
        each["seconds"],
        each["iterations"],
        f"{each['l1']:.1f}",
        f"{each['gap']:.3%}",
        f"{each['violation']:.3%}",
        f"{each['share']:.2%}",
    ]


def time_nettrim(task: LayerProblem, program: Program) -> dict[str, Any]:
    """One run of nettrim."""
    task.samples.shared.clear()
    begun = time.perf_counter()
    solution = solve_net_trim(task, None)
    seconds = time.perf_counter() - begun
    return {
        "seconds": seconds,
        "iterations": solution.iterations,
        "own_gap": solution.gap,
        "own_violation": solution.violation,
        "status": solution.status.value,
        **judged(program, solution.U),
    }


def time_baseline(W: Matrix, program: Program, bound: float, options: Any) -> dict[str, Any]:
    """A run of the paper's algorithm up to its first good iterate, looks not counted."""
    path: list[dict[str, Any]] = []
    spent = 0.0
    for seconds, iterate in timed(W, program, options):
        spent = seconds
        if iterate.number % LOOK_EVERY and iterate.number != options.iterations:
            continue
        found = {
            "iterations": iterate.number,
            "seconds": seconds,
            **judged(program, iterate.sparse),
        }
        path.append({**found, "gap": found["l1"] / bound - 1})
        if is_good(path[-1]):
            break
    return {"seconds": spent, "path": path}


def timed(W: Matrix, program: Program, options: Any) -> Iterator[tuple[float, Iterate]]:
    """Iterates of the baseline with the seconds spent in it so far."""
    iterates = net_trim_iterates(
        program.X, W, program.epsilon, options.rho, options.iterations, Y=program.Y, V=program.V
    )
    seconds = 0.0
    while True:
        begun = time.perf_counter()
        iterate = next(iterates, None)
        seconds += time.perf_counter() - begun
        if iterate is None:
            return
        yield seconds, iterate


def lower_bound(task: LayerProblem, program: Program) -> float:
    """A lower bound on the optimum from the multipliers of a longer run of nettrim.

    Any multipliers prove one; what they prove is worked out by the certificate alone.
    """
    layer, best = as_program(task), 0.0
    with threadpool_limits(1):
        response = SampleResponse(
            layer.X, layer.intervals, NormBall(program.epsilon), threads=task.threads
        )
        response.dual = np.zeros(program.Y.shape, np.float32)
        penalty = WeightedL1(layer.prices / response.unit)
        for tolerance in (QUALITY, QUALITY / 3):
            solve(response, penalty, start_rho(response, layer), None, Limits(tolerance))
            best = max(best, program.lower_bound(response.dual))
    return best


def judged(program: Program, U: Matrix) -> dict[str, float]:
    """What the benchmark itself says of an answer."""
    return {
        "l1": program.value(U),
        "violation": program.violation(U),
        "share": float(np.count_nonzero(U)) / U.size,
    }


def find_layer(model: Model, part: str) -> Layer:
    """The first prunable layer followed by a ReLU whose name contains a string."""
    for layer in model.layers:
        if part in layer.name and layer.prunable and layer.response.relu:
            return layer
    raise SystemExit(f"no ReLU layer's name contains {part!r}")


def recorded_inputs(model: Model, layer: Layer, samples: int, options: Any) -> Matrix:
    """(N+1, P) float32 inputs of a layer in the dense network, the row of ones last.

    Samples come from test.h5, which has more than calib.h5; where even those do not suffice,
    from the same images moved by a pixel, to the right first.
    """
    proto = onnx.ModelProto.FromString(model.proto.SerializeToString())
    proto.graph.output.append(onnx.ValueInfoProto(name=layer.input))
    engine = Engine(proto.SerializeToString(), threads=options.threads)
    found: list[Matrix] = []
    path = sample_file(options.model, "test.h5")
    with Calibration.open(path, model.inputs) as source:
        left = samples
        for shift in ((0, 0), (0, 1), (1, 0), (0, -1), (-1, 0)):
            for batch in source.batches(np.arange(min(left, source.samples)), 500):
                (value,) = engine.run(moved(batch, shift), [layer.input])
                found.append(ops.columns({"x": value}, layer.geometry))
                left -= batch.count
    if left > 0:
        raise SystemExit(f"{path.name} gives at most {samples - left:,} samples")
    X = np.concatenate(found, axis=1)
    return np.vstack([X, np.ones((1, X.shape[1]))]).astype(np.float32)


def moved(batch: Batch, shift: tuple[int, int]) -> dict[str, Matrix]:
    """A batch's images moved along their last two axes."""
    if shift == (0, 0):
        return batch.feeds
    return {name: np.roll(value, shift, axis=(-2, -1)) for name, value in batch.feeds.items()}


def make_task(model: Model, layer: Layer, X: Matrix, pruned: Matrix, options: Any) -> LayerProblem:
    """The layer's task with all columns kept and none held out; (N+1, P) inputs of both nets."""
    (whole,) = dense_matrices(model, layer)
    wide = pruned.astype(np.float64)
    Z = whole.T @ X
    none = (X[:, :0], Z[:, :0])
    samples = LayerSamples(wide @ pruned.T, wide @ Z.T, pruned, Z, *none, pruned is X)
    return replace(layer_problem(model, layer, samples), threads=options.threads)


if __name__ == "__main__":
    main()
