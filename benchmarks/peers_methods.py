"""The methods that `peers.py` compares, each run in a process of its own with a job's file.

onnxsim is given the model as a proto (a path makes it prune another graph than the one it
writes), with `Constant` nodes turned into initializers, as it looks at no others.  What it
changes outside the layers that nettrim prunes is put back: its methods treat every layer by
itself, so that this is what it would have made of these layers alone.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from benchmarks.peak import peak_bytes
from benchmarks.peers_finetune import finetune

Array = NDArray[Any]
Layers = dict[str, list[onnx.TensorProto]]
METHODS = (
    "nettrim",
    "magnitude",
    "magnitude global",
    "onnxsim magnitude",
    "onnxsim Wanda",
    "onnxsim SparseGPT",
)
FITTED = ("nettrim network refit", "onnxsim SparseGPT + blocks", "onnxsim SparseGPT + network")
RECURRENT = {"W": 1, "R": 2}  # how nettrim calls the two weights of a recurrent layer
PASSING = ("Cast", "Concat", "Flatten", "Identity", "Reshape", "Slice", "Squeeze", "Transpose")
PASSING += ("Unsqueeze",)
BATCH = 50  # samples that onnxsim is given at once


@dataclass(frozen=True)
class Job:
    """What one process does.

    Attributes
    ----------
    layers
        Names of the layers to prune; of no interest to nettrim, which finds them.
    result
        Where peak memory goes and, of nettrim, the layers that it pruned.
    """

    method: str
    sparsity: float
    model: str
    calibration: str
    output: str
    layers: Sequence[str]
    threads: int
    result: str


def main() -> None:
    """Do the job that a JSON file describes."""
    job = Job(**json.loads(Path(sys.argv[1]).read_text()))
    found: dict[str, Any] = {}
    if job.method.startswith("nettrim"):
        found["pruned"] = nettrim(job)
    else:
        model = onnx.load(job.model)
        PRUNERS[job.method](model, job)
        onnx.save(model, job.output)
    found["peak_bytes"] = peak_bytes()
    Path(job.result).write_text(json.dumps(found))


# ---- weights


def stored_weights(model: onnx.ModelProto, layers: Sequence[str]) -> Layers:
    """The stored tensors that make up the weight of each layer, to read or to overwrite.

    Raises
    ------
    LookupError
        The model holds no such layer, or its weight is not constant.
    """
    nodes: dict[str, onnx.NodeProto] = {}
    makers: dict[str, onnx.NodeProto] = {}
    tensors: dict[str, onnx.TensorProto] = {}
    for graph in _graphs(model.graph):
        tensors.update({each.name: each for each in graph.initializer})
        for node in graph.node:
            nodes.setdefault(node.name or node.output[0], node)
            makers.update(dict.fromkeys(node.output, node))
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                tensors[node.output[0]] = node.attribute[0].t

    def behind(name: str) -> Iterator[onnx.TensorProto]:
        if name in tensors:
            yield tensors[name]
        elif name in makers and makers[name].op_type in PASSING:
            node = makers[name]
            for each in node.input if node.op_type == "Concat" else node.input[:1]:
                yield from behind(each)

    def weight(layer: str) -> list[onnx.TensorProto]:
        title, _, part = layer.rpartition(".")
        recurrent = layer not in nodes and title in nodes and part in RECURRENT
        node = nodes.get(title if recurrent else layer)
        for slot in (RECURRENT[part],) if recurrent else (1, 0):
            found = list(behind(node.input[slot])) if node is not None else []
            if found:
                return list({id(each): each for each in found}.values())
        raise LookupError(f"the weight of layer {layer} was not found")

    return {layer: weight(layer) for layer in layers}


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _graphs(attribute.g)


def counted(model: onnx.ModelProto, layers: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Weights and zeros of each layer, and a digest of where these zeros are."""
    found = {}
    for layer, tensors in stored_weights(model, layers).items():
        masks = [numpy_helper.to_array(each) == 0 for each in tensors]
        where = hashlib.sha256(b"".join(np.packbits(each).tobytes() for each in masks))
        found[layer] = {
            "weights": sum(each.size for each in masks),
            "zeros": sum(int(np.count_nonzero(each)) for each in masks),
            "where": where.hexdigest()[:16],
        }
    return found


def _overwrite(tensor: onnx.TensorProto, values: Array) -> None:
    kind = numpy_helper.to_array(tensor).dtype
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values, kind), tensor.name))


# ---- methods


def nettrim(job: Job) -> dict[str, int]:
    """Prune with nettrim as it comes; the layers that it pruned, with their numbers of weights."""
    from nettrim_cli import Settings, prune

    settings = Settings(sparsity=job.sparsity, threads=job.threads)
    if job.method == "nettrim network refit":
        settings = replace(settings, refit="network")
    report = prune(job.model, job.calibration, job.output, settings)
    return {each.name: each.weights for each in report.layers if each.pruned}


def magnitude(model: onnx.ModelProto, job: Job) -> None:
    """Keep the largest weights of each layer."""
    for tensors in stored_weights(model, job.layers).values():
        keep_largest(tensors, job.sparsity)


def global_magnitude(model: onnx.ModelProto, job: Job) -> None:
    """Keep the largest weights of all layers together."""
    found = stored_weights(model, job.layers)
    keep_largest([each for tensors in found.values() for each in tensors], job.sparsity)


def keep_largest(tensors: Sequence[onnx.TensorProto], sparsity: float) -> None:
    """Zero the smallest entries of some tensors, taken together, to a share of zeros."""
    arrays = [numpy_helper.to_array(each) for each in tensors]
    sizes = np.abs(np.concatenate([each.ravel() for each in arrays]).astype(np.float32))
    gone = np.zeros(sizes.size, bool)
    gone[np.argsort(sizes, kind="stable")[: round(sparsity * sizes.size)]] = True
    parts = np.split(gone, np.cumsum([each.size for each in arrays])[:-1])
    for tensor, values, part in zip(tensors, arrays, parts, strict=True):
        _overwrite(tensor, np.where(part.reshape(values.shape), 0, values))


def from_onnxsim(name: str, *, calibrated: bool) -> Callable[[onnx.ModelProto, Job], None]:
    """One of onnxsim's functions as a method."""

    def method(model: onnx.ModelProto, job: Job) -> None:
        import onnxsim

        options: dict[str, Any] = {"sparsity": job.sparsity}
        if calibrated:
            options["calibration_data"] = batches(model, Path(job.calibration))
        found = getattr(onnxsim, name)(with_initializers(model), **options)
        take_over(model, found, job.layers)

    return method


def finetuned(layers: int) -> Callable[[onnx.ModelProto, Job], None]:
    """Onnxsim's SparseGPT and fine-tuning, with at most so many layers in a block, as a method."""

    def method(model: onnx.ModelProto, job: Job) -> None:
        dense, samples = with_initializers(model), batches(model, Path(job.calibration))
        PRUNERS["onnxsim SparseGPT"](model, job)
        pruned = with_initializers(model)
        fitted = finetune(dense, pruned, samples, layers, job.threads)
        before = {each.name: numpy_helper.to_array(each) for each in pruned.graph.initializer}
        stored = main_tensors(model)
        for tensor in fitted.graph.initializer:
            values = numpy_helper.to_array(tensor)
            if tensor.name in before and not np.array_equal(values, before[tensor.name]):
                _overwrite(stored[tensor.name], values)

    return method


PRUNERS: dict[str, Callable[[onnx.ModelProto, Job], None]] = {
    "magnitude": magnitude,
    "magnitude global": global_magnitude,
    "onnxsim magnitude": from_onnxsim("apply_magnitude_pruning", calibrated=False),
    "onnxsim Wanda": from_onnxsim("apply_wanda_pruning", calibrated=True),
    "onnxsim SparseGPT": from_onnxsim("apply_sparsegpt_pruning", calibrated=True),
    "onnxsim SparseGPT + blocks": finetuned(2),
    "onnxsim SparseGPT + network": finetuned(10**6),
}


def main_tensors(model: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    """The constants of the main graph, to be overwritten."""
    found = {each.name: each for each in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            found[node.output[0]] = node.attribute[0].t
    return found


def with_initializers(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose `Constant` nodes of the main graph are initializers."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.ir_version = max(model.ir_version, 4)  # below, initializers would have to be inputs, too
    others = []
    for node in copy.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            tensor = copy.graph.initializer.add()
            tensor.CopyFrom(node.attribute[0].t)
            tensor.name = node.output[0]
        else:
            others.append(node)
    del copy.graph.node[:]
    copy.graph.node.extend(others)
    return copy


def take_over(model: onnx.ModelProto, found: onnx.ModelProto, layers: Sequence[str]) -> None:
    """Overwrite the weights of some layers by those that another copy of the model has.

    Raises
    ------
    ValueError
        A weight is of another shape there.
    """
    theirs = stored_weights(found, layers)
    for layer, tensors in stored_weights(model, layers).items():
        values = [numpy_helper.to_array(each) for each in theirs[layer]]
        if [each.shape for each in values] != [tuple(each.dims) for each in tensors]:
            raise ValueError(f"the weight of layer {layer} has changed its shape")
        for tensor, each in zip(tensors, values, strict=True):
            _overwrite(tensor, each)


def batches(model: onnx.ModelProto, path: Path) -> list[dict[str, Array]]:
    """The samples of a file in batches as the model takes them.

    A model of fixed batch size gets batches of that; a dataset with an axis more than the
    model's input holds one run in each row.
    """
    inputs = {each.name: each.type.tensor_type.shape.dim for each in model.graph.input}
    for each in model.graph.initializer:
        inputs.pop(each.name, None)
    with h5py.File(path) as file:
        arrays = {name: file[name][()] for name in inputs}
    alone = any(arrays[name].ndim > len(dims) for name, dims in inputs.items())
    fixed = [dims[0].dim_value for dims in inputs.values() if dims and dims[0].dim_value > 0]
    size = 1 if alone else min(fixed, default=BATCH)
    count = max(map(len, arrays.values()))
    found = []
    for at in range(0, count - size + 1 if fixed else count, size):
        batch = {}
        for name, values in arrays.items():
            part = values[at : at + size] if len(values) > 1 else values
            batch[name] = np.asarray(part[0] if values.ndim > len(inputs[name]) else part)
        found.append(batch)
    return found


if __name__ == "__main__":
    main()
