"""onnxsim's fine-tuning on top of its SparseGPT: kept weights fitted to the dense network.

Its Adam fits the weights of one block of layers after the other, or of the whole network, to what
the dense network answers; zeros stay.  It is given what it wants: `Constant` nodes as
initializers, constants folded, shapes fixed where nodes ask for them, `Flatten` as `Reshape`,
`HardSigmoid` as `Clip`, and opset 17.  Rate and number of steps are chosen on held-out
calibration samples.  Its steps through convolutions and attention are slow, so these get fewer and
smaller ones.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from operator import itemgetter
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper, version_converter

from nettrim_cli.data.engine import silent_onnxruntime

RATES = (1e-4, 3e-4, 1e-3)
STEPS, SLOW_STEPS = (300, 1000), (100, 600)  # to choose a rate, and with the chosen one
ROWS, SLOW_ROWS = 256, 32  # samples of a step
SLOW = {"Conv", "Softmax"}  # ops of networks whose steps are slow
HELD_OUT = 5  # one batch of so many chooses
OPSET = 17  # of the graphs that onnxsim makes of blocks

Batch = dict[str, NDArray[Any]]


def finetune(
    dense: onnx.ModelProto,
    pruned: onnx.ModelProto,
    batches: Sequence[Batch],
    layers: int,
    threads: int,
) -> onnx.ModelProto:
    """The pruned network with the rate and number of steps that held-out samples choose.

    The rates are tried with few steps, the best of them with many.

    Parameters
    ----------
    dense, pruned
        Networks of the same nodes, with initializers only.
    batches
        Calibration samples.
    layers
        How many layers a block may have.
    threads
        Threads of onnxruntime.

    Raises
    ------
    ValueError
        No block can be trained.
    """
    teacher, student = (differentiable(model, batches[0]) for model in (dense, pruned))
    batches = [batch for batch in batches if shapes(batch) == shapes(batches[0])]
    fitted = [batch for i, batch in enumerate(batches) if i % HELD_OUT]
    held = batches[::HELD_OUT]
    wanted = answers(teacher, held, threads)
    tried = [(held_error(answers(student, held, threads), wanted), 0.0, student)]

    def attempt(rate: float, steps: int) -> None:
        model = trained(teacher, student, fitted, rate, steps, layers)
        tried.append((held_error(answers(model, held, threads), wanted), rate, model))
        print(f"rate {rate:g}, {steps} steps: {tried[-1][0]:.4f}", file=sys.stderr, flush=True)

    few, many = SLOW_STEPS if slow(teacher) else STEPS
    for rate in RATES:
        attempt(rate, few)
    attempt(min(tried[1:], key=itemgetter(0))[1], many)
    return min(tried, key=itemgetter(0))[2]


def trained(
    teacher: onnx.ModelProto,
    student: onnx.ModelProto,
    batches: Sequence[Batch],
    rate: float,
    steps: int,
    layers: int,
) -> onnx.ModelProto:
    """The student after so many steps in each of its blocks.

    Raises
    ------
    ValueError
        No block can be trained.
    """
    import onnxsim

    found, blocks = onnxsim.apply_block_finetune_all_blocks(
        teacher,
        student,
        calibration_data=batches,
        num_iterations=steps,
        learning_rate=rate,
        batch_size=rows(teacher),
        max_layers_per_block=layers,
        preserve_sparsity=True,
    )
    if not any(block.trained for block in blocks):
        reasons = sorted({str(block.skipped_reason) for block in blocks})
        raise ValueError("; ".join(reasons) or "onnxsim finds no block to train")
    return found


def differentiable(model: onnx.ModelProto, batch: Batch) -> onnx.ModelProto:
    """A network of the same weights as onnxsim can train more of it."""
    import onnxsim

    found, _ = onnxsim.simplify(model, perform_optimization=False)
    if any(node.op_type == "Shape" for node in found.graph.node):
        fixed = {name: list(shape) for name, shape in shapes(batch).items()}
        found, _ = onnxsim.simplify(found, perform_optimization=False, overwrite_input_shapes=fixed)
    if found.opset_import[0].version < OPSET:
        found = version_converter.convert_version(found, OPSET)
    nodes = [part for node in found.graph.node for part in supported(node, found.graph)]
    del found.graph.node[:]
    found.graph.node.extend(nodes)
    return found


def supported(node: onnx.NodeProto, graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """A node, or what says the same in ops that onnxsim differentiates."""
    if node.op_type == "Flatten":
        shape = constant(graph, f"{node.output[0]}_shape", np.array([0, -1]))
        return [helper.make_node("Reshape", [node.input[0], shape], node.output, node.name)]
    if node.op_type == "HardSigmoid":
        slope, shift = (
            next((each.f for each in node.attribute if each.name == name), default)
            for name, default in (("alpha", 0.2), ("beta", 0.5))
        )
        names = [f"{node.output[0]}_{part}" for part in ("slope", "shift", "zero", "one")]
        for name, value in zip(names, (slope, shift, 0, 1), strict=True):
            constant(graph, name, np.float32(value))
        scaled, shifted = f"{node.output[0]}_scaled", f"{node.output[0]}_shifted"
        return [
            helper.make_node("Mul", [node.input[0], names[0]], [scaled]),
            helper.make_node("Add", [scaled, names[1]], [shifted]),
            helper.make_node("Clip", [shifted, *names[2:]], node.output, node.name),
        ]
    return [node]


def constant(graph: onnx.GraphProto, name: str, values: Any) -> str:
    """The name of a new initializer."""
    graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))
    return name


def shapes(batch: Batch) -> dict[str, tuple[int, ...]]:
    """Shapes of the inputs."""
    return {name: values.shape for name, values in batch.items()}


def slow(model: onnx.ModelProto) -> bool:
    """Whether it has convolutions or attention."""
    return any(node.op_type in SLOW for node in model.graph.node)


def rows(model: onnx.ModelProto) -> int:
    """Samples of a step: as many as the model's inputs have where their shapes are fixed."""
    inputs = [each.type.tensor_type.shape.dim for each in model.graph.input]
    fixed = max((dims[0].dim_value for dims in inputs if dims), default=0)
    return fixed if fixed > 0 else SLOW_ROWS if slow(model) else ROWS


def answers(model: onnx.ModelProto, batches: Sequence[Batch], threads: int) -> list[NDArray[Any]]:
    """Every output over all batches."""
    onnxruntime = silent_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    found = zip(*(session.run(None, batch) for batch in batches), strict=True)
    return [np.concatenate([part.ravel() for part in parts]) for parts in found]


def held_error(found: Sequence[NDArray[Any]], wanted: Sequence[NDArray[Any]]) -> float:
    """The worst relative error of the outputs."""
    pairs = zip(found, wanted, strict=True)
    return max(float(np.linalg.norm(a - b) / np.linalg.norm(b)) for a, b in pairs)
