"""Net-Trim's program on one layer: nettrim against the paper's algorithm, side by side.

Both solve the strict ReLU program in this process on the same data, by turns.  Their answers
are judged by one function that belongs to neither (`certificate`): the value against a lower
bound on the optimum, and the distance from the constraints.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from baselines import Iterate, net_trim_iterates
from certificate import Program
from common import (
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

from nettrim_cli.data.calibration import Batch, Calibration
from nettrim_cli.data.engine import Engine
from nettrim_cli.graph import ops
from nettrim_cli.graph.layer import Layer
from nettrim_cli.graph.model import Model
from nettrim_cli.solve.net_trim import solve_net_trim
from nettrim_cli.solve.task import Samples, Task
from nettrim_cli.walk import dense_matrix, layer_task

QUALITY = 0.005  # gap and violation asked for
FASTER = 8  # floor of the ratio of the times
LOOK_EVERY = 10  # iterations of the baseline between two looks at its iterate


def main() -> None:
    """Run it."""
    parser = arguments(__doc__)
    parser.add_argument("--model", choices=MODELS, default="mlp")
    parser.add_argument("--layer", default="fc2", help="a layer whose name contains this")
    parser.add_argument("--samples", type=int, default=4000, help="samples of test.h5")
    parser.add_argument("--epsilon", type=float, default=0.1, help="as a share of ||Y||")
    parser.add_argument("--rho", type=float, default=100, help="of the baseline")
    parser.add_argument("--iterations", type=int, default=200, help="of the baseline")
    parser.add_argument("--rounds", type=int, default=2, help="runs of each, by turns")
    parser.add_argument(
        "--reference",
        type=int,
        default=400,
        help="untimed, over-relaxed iterations at --reference-rho that find the lower bound",
    )
    parser.add_argument("--reference-rho", type=float, default=30)
    options = parser.parse_args()
    with blas_threads(options.threads):
        run(options)


def run(options: Any) -> None:
    """Time both and print what they reached."""
    model = Model.load(sample_file(options.model, "model.onnx"))
    layer = find_layer(model, options.layer)
    X = recorded_inputs(model, layer, options)
    task = make_task(model, layer, X, options)
    program = Program.parallel(X[task.rows], task.W, options.epsilon)
    (inputs, outputs), columns = layer.shape, X.shape[1]
    print(machine(options.threads))
    print(
        f"{options.model} {layer.name}: {inputs}x{outputs}, {columns:,} columns, epsilon "
        f"{options.epsilon} ||Y||; strict ReLU program, l1, bias in the program\n"
    )
    ours: list[dict[str, Any]] = []
    theirs: list[dict[str, Any]] = []
    rates = [gemm_rate()]
    bound = 0.0
    for turn in range(options.rounds):
        ours.append(time_nettrim(task, program))
        looking = turn == 0
        figures, found = time_baseline(task.W, program, options, looking=looking)
        bound = max(bound, found)
        theirs.append(figures)
        rates.append(gemm_rate())
    bound = max(bound, reference_bound(task.W, program, options))
    figures = {
        "model": options.model,
        "layer": layer.name,
        "shape": list(layer.shape),
        "columns": columns,
        "epsilon": options.epsilon,
        "threads": options.threads,
        "lower_bound": bound,
        "gflops_float32": rates,
        "nettrim": ours,
        "baseline": theirs,
    }
    report(figures, options)
    write_json(options.json, figures)


def report(figures: dict[str, Any], options: Any) -> None:
    """Print the table and the verdicts."""
    bound, ours, theirs = figures["lower_bound"], figures["nettrim"], figures["baseline"]
    rows = [row(f"nettrim {at + 1}", each, bound) for at, each in enumerate(ours)] + [
        row(f"paper's ADMM {at + 1}", each, bound) for at, each in enumerate(theirs)
    ]
    headers = ["", "seconds", "iterations", "l1 norm", "gap", "violation", "non-zeros"]
    print_table(headers, rows)
    rates = figures["gflops_float32"]
    print(f"lower bound on the optimum {bound:.2f} (from the baseline's multipliers)")
    print(
        f"nettrim's own figures: gap {ours[-1]['own_gap']}, violation {ours[-1]['own_violation']}"
    )
    print("float32 matrix products meanwhile, GFLOP/s: " + ", ".join(f"{r:.0f}" for r in rates))
    fastest = min(each["seconds"] for each in ours)
    (inputs, outputs), columns = figures["shape"], figures["columns"]
    work = 4e-9 * inputs * outputs * columns * ours[0]["iterations"]
    print(f"nettrim's loop at two products an iteration: {work / fastest:.0f} GFLOP/s overall")
    quickest = min(each["seconds"] for each in theirs)
    print(f"\n{options.iterations} iterations of the paper's algorithm / nettrim: ", end="")
    print(f"{quickest / fastest:.1f} (floor {FASTER})")
    good = first_good(theirs[0]["path"], bound)
    if good is None:
        print(f"the paper's algorithm does not reach {QUALITY:.1%} in {options.iterations}")
    else:
        print(
            f"its first iterate within {QUALITY:.1%} (looking every {LOOK_EVERY}): number "
            f"{good['number']}, {good['seconds']:.1f} s, / nettrim: {good['seconds'] / fastest:.1f}"
        )
    gap = max(abs(each["l1"] / bound - 1) for each in ours)
    violation = max(each["violation"] for each in ours)
    held = gap <= QUALITY and violation <= QUALITY
    print(f"nettrim within {QUALITY:.1%}: gap {gap:.3%}, violation {violation:.3%}: ", end="")
    print("held" if held else "MISSED")


def row(name: str, each: dict[str, Any], bound: float) -> list[Any]:
    """One line of the table."""
    gap = f"{each['l1'] / bound - 1:.3%}"
    return [
        name,
        each["seconds"],
        each["iterations"],
        f"{each['l1']:.1f}",
        gap,
        f"{each['violation']:.3%}",
        f"{each['share']:.2%}",
    ]


def time_nettrim(task: Task, program: Program) -> dict[str, Any]:
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


def time_baseline(
    W: Matrix, program: Program, options: Any, *, looking: bool
) -> tuple[dict[str, Any], float]:
    """One run of the paper's algorithm, and the best lower bound seen if looking."""
    path: list[dict[str, Any]] = []
    bound, seconds = 0.0, 0.0
    last: Iterate | None = None
    for spent, iterate in timed(W, program, options):
        seconds, last = spent, iterate
        if looking and (iterate.number % LOOK_EVERY == 0 or iterate.number == options.iterations):
            bound = max(bound, program.lower_bound(iterate.multiplier))
            path.append(
                {
                    "number": iterate.number,
                    "seconds": seconds,
                    "l1": program.value(iterate.sparse),
                    "violation": program.violation(iterate.sparse),
                }
            )
    assert last is not None
    figures = {
        "seconds": seconds,
        "iterations": last.number,
        "path": path,
        **judged(program, last.sparse),
    }
    return figures, bound


def timed(W: Matrix, program: Program, options: Any) -> Iterator[tuple[float, Iterate]]:
    """Iterates of the baseline with the seconds spent in it so far, looks not counted."""
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


def reference_bound(W: Matrix, program: Program, options: Any) -> float:
    """A lower bound on the optimum from a longer run that suits the multiplier."""
    if options.reference < 1:
        return 0.0
    best = 0.0
    for iterate in net_trim_iterates(
        program.X,
        W,
        program.epsilon,
        options.reference_rho,
        options.reference,
        Y=program.Y,
        V=program.V,
        relaxation=1.7,
    ):
        if iterate.number % 50 == 0 or iterate.number == options.reference:
            best = max(best, program.lower_bound(iterate.multiplier))
    return best


def first_good(path: list[dict[str, Any]], bound: float) -> dict[str, Any] | None:
    """The first iterate looked at that is as good as asked for."""
    for each in path:
        if abs(each["l1"] / bound - 1) <= QUALITY and each["violation"] <= QUALITY:
            return each
    return None


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


def recorded_inputs(model: Model, layer: Layer, options: Any) -> Matrix:
    """(N+1, P) float32 inputs of a layer in the dense network, the row of ones last.

    Samples come from test.h5, which has more than calib.h5; where even those do not suffice,
    from the same images moved by a pixel, to the right first.
    """
    proto = onnx.ModelProto.FromString(model.proto.SerializeToString())
    proto.graph.output.append(onnx.ValueInfoProto(name=layer.input))
    engine = Engine(proto.SerializeToString(), threads=options.threads)
    found: list[Matrix] = []
    path = sample_file(options.model, "test.h5")
    with Calibration.open(path, model.inputs) as samples:
        left = options.samples
        for shift in ((0, 0), (0, 1), (1, 0), (0, -1), (-1, 0)):
            for batch in samples.batches(np.arange(min(left, samples.samples)), 500):
                (value,) = engine.run(moved(batch, shift), [layer.input])
                found.append(ops.columns(value, layer.geometry))
                left -= batch.count
    if left > 0:
        raise SystemExit(f"{path.name} gives at most {options.samples - left:,} samples")
    X = np.concatenate(found, axis=1)
    return np.vstack([X, np.ones((1, X.shape[1]))]).astype(np.float32)


def moved(batch: Batch, shift: tuple[int, int]) -> dict[str, Matrix]:
    """A batch's images moved along their last two axes."""
    if shift == (0, 0):
        return batch.feeds
    return {name: np.roll(value, shift, axis=(-2, -1)) for name, value in batch.feeds.items()}


def make_task(model: Model, layer: Layer, X: Matrix, options: Any) -> Task:
    """The layer's task with all columns kept and none held out."""
    whole = dense_matrix(model, layer)
    C = X.astype(np.float64) @ X.T
    Z = whole.T @ X
    none = (X[:, :0], Z[:, :0])
    samples = Samples(C, C @ whole, X, Z, *none, True)
    return replace(
        layer_task(model, layer, samples), epsilon=options.epsilon, threads=options.threads
    )


if __name__ == "__main__":
    main()
