"""A model beside its backward pass: the squared distance to targets, and its gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from onnx import helper

from nettrim_cli.graph.gradient.backward import Boundary, backward
from nettrim_cli.graph.gradient.builder import Builder
from nettrim_cli.graph.gradient.flat_model import flat_model
from nettrim_cli.graph.ir.index import Index
from nettrim_cli.graph.layer import Runnable

LOSS = "loss"
TARGET, WEIGHT = "target:", "weight:"
"""Before the name of an output: what it should be, and the weight of its squared distance."""


@dataclass(frozen=True)
class FitGraph:
    """A graph that computes a loss and its gradients.

    Its inputs are those of the model, the parameters, and a target and a weight of each output;
    its outputs are those of the model, the loss ``sum of weight * |output - target|^2``, and the
    gradients in the order of `parameters`.

    Attributes
    ----------
    runnable
        The graph.
    forward
        The same without the backward pass.
    outputs
        The model's outputs.
    parameters
        Stored tensors with a gradient.
    gradients
        Names of the gradients.
    boundaries
        What gradients do not come through.
    """

    runnable: Runnable
    forward: Runnable
    outputs: tuple[str, ...]
    parameters: tuple[str, ...]
    gradients: tuple[str, ...]
    boundaries: tuple[Boundary, ...]


def fit_graph(
    index: Index,
    parameters: Sequence[str],
    outputs: Sequence[str],
    branches: Mapping[str, bool] = MappingProxyType({}),
) -> FitGraph:
    """The graph that fits stored tensors of a model to targets of some of its tensors.

    Parameters
    ----------
    index
        The model.
    parameters
        Names of stored tensors of floating-point numbers, as in the flat view.
    outputs
        Names of tensors of floating-point numbers.
    branches
        See ``flat_model``.

    Raises
    ------
    BadInput
        The model cannot be converted to an operator set with gradients.
    """
    model = flat_model(index, parameters, outputs, branches)
    graph = model.proto.graph
    forward = model.external.runnable(model.proto)
    g = Builder(graph, model.index.opset, model.index.all_names())
    facts, seeds, losses = model.facts, {}, []
    inputs = []
    for name in outputs:
        kind = facts.types.get(name, 1)
        target, weight = TARGET + name, WEIGHT + name
        inputs.append(helper.make_tensor_value_info(target, kind, None))
        inputs.append(helper.make_tensor_value_info(weight, kind, []))
        residual = g.Sub(name, target)
        scaled = g.Mul(residual, weight)
        losses.append(g.ReduceSum(g.Mul(residual, scaled), keepdims=0))
        seeds[name] = g.Mul(scaled, g.constant(2.0, kind))
    gradients = backward(model, g, seeds, model.parameters)
    graph.input.extend(inputs)
    g.Sum(*losses, output=LOSS)
    graph.output.add(name=LOSS)
    found = tuple(name for name in model.parameters if name in gradients.names)
    names = tuple(gradients.names[name] for name in found)
    graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    return FitGraph(
        model.external.runnable(model.proto),
        forward,
        tuple(outputs),
        found,
        names,
        gradients.boundaries,
    )


def scores_graph(index: Index, outputs: Sequence[str]) -> Runnable:
    """The part of a model that some of its tensors depend on, with these as outputs.

    Raises
    ------
    BadInput
        The model cannot be converted.
    """
    model = flat_model(index, (), outputs)
    return model.external.runnable(model.proto)
