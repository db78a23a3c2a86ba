"""Einsum with one constant operand, where it is a matrix product in disguise.

The signal x is what the other operands make together.  Axes of the constant are of three kinds:
those that x has, too, and the output has not are contracted (inputs of U), those that x has not are
outputs of U, and those that all three have number the blocks.  Axes of x alone become columns, or
are summed up before anything else.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.graph.layer import Floats, Geometry
from nettrim_cli.graph.ops.base import Arrays, Op, Reads, Shape, Unsupported, WeightNode, working
from nettrim_cli.graph.ops.channel_context import ChannelContext, Labels, varying
from nettrim_cli.graph.ops.channel_rules import Outputs, broadcast, mixed
from nettrim_cli.graph.ops.channel_weights import ALONE, OUTSIDE, only_layer
from nettrim_cli.graph.ops.gradients.products import einsum_gradient
from nettrim_cli.graph.ops.spec import OpSpec

REST = "..."


class Einsum(Op):
    """Two operands or more, one of them constant: the weight of what the others make together.

    Attributes of the geometry: ``weight`` (axes of the constant as letters), ``blocks``,
    ``inputs``, ``outputs`` (those of the three kinds), ``sizes`` (of the axes of blocks and
    inputs), ``signals`` and ``y`` (axes of what is read and made), ``kept`` (axes that become
    columns).
    """

    product = True
    bias_input = None

    def slots(self, count: int) -> Shape:
        """Any operand."""
        return tuple(range(count)) if count > 1 else ()

    def geometry(self, node: WeightNode, shape: Shape) -> Geometry:
        """Sort the axes by what they do.

        Raises
        ------
        Unsupported
            Such a node, or such a weight, is not treated.
        """
        operands, y = _terms(node.attributes.get("equation", ""))
        if len(operands) < 2 or node.slot >= len(operands):
            raise Unsupported("Einsum's equation does not match its operands")
        for term in operands:
            if len(set(term)) < len(term):
                raise Unsupported("Einsum that takes a diagonal is not treated")
        weight = operands.pop(node.slot)
        x = list(dict.fromkeys(itertools.chain(*operands)))
        if REST in weight:
            if len(weight) - 1 != len(shape):
                raise Unsupported("Einsum with '...' in the weight is not treated")
            weight.remove(REST)
        if len(weight) != len(shape):
            raise Unsupported("Einsum's equation does not match the weight")
        if any(axis not in x and axis not in y for axis in weight):
            raise Unsupported("Einsum that sums up an axis of the weight alone is not treated")
        if all(axis in y or axis not in x for axis in weight):
            raise Unsupported("Einsum that sums up no products is not treated")
        if REST in x and REST not in y:
            raise Unsupported("Einsum that sums up '...' is not treated")
        # An axis of size 1 meets any number of the signal's: it neither sorts nor contracts.
        sizes = dict(zip(weight, shape, strict=True))
        shared = [axis for axis in weight if axis in x and sizes[axis] > 1]
        blocks = tuple(axis for axis in shared if axis in y)
        inputs = tuple(axis for axis in shared if axis not in y)
        outputs = tuple(axis for axis in weight if axis not in x)
        axes = {
            "weight": tuple(weight),
            "blocks": blocks,
            "inputs": inputs,
            "outputs": outputs,
            "sizes": tuple(sizes[axis] for axis in blocks + inputs),
            "signals": tuple(tuple(term) for term in operands),
            "y": tuple(y),
            "kept": tuple(axis for axis in x if axis in y and axis not in blocks),
        }
        names = ("blocks", "inputs", "sizes", "signals", "kept")
        return Geometry(node.op, node.slot, axes, ("einsum", *(axes[name] for name in names)))

    def views(self, weight: NDArray[Any], geometry: Geometry) -> list[NDArray[Any]]:
        """Matrices (N, M): axes in the order of blocks, inputs, outputs."""
        a = geometry.attributes
        first = a["blocks"] + a["inputs"]
        order = (*first, *(axis for axis in a["weight"] if axis not in first))
        view = weight.transpose([a["weight"].index(axis) for axis in order])
        count = len(a["blocks"])
        return [view[place] for place in np.ndindex(*view.shape[:count])]

    def blocks(self, geometry: Geometry, shape: Shape) -> tuple[tuple[int, int], ...]:
        """One for each place on the axes of the blocks."""
        count, inputs = math.prod(_block_sizes(geometry)), math.prod(_input_sizes(geometry))
        return ((inputs, math.prod(shape) // (count * inputs)),) * count

    def reads(self, geometry: Geometry) -> Reads:
        """The other operands: "x", "x2" and so on."""
        slots = range(len(geometry.attributes["signals"]) + 1)
        operands = [slot for slot in slots if slot != geometry.slot]
        return {_role(position): ("input", slot) for position, slot in enumerate(operands)}

    def columns(self, arrays: Arrays, geometry: Geometry, block: int) -> Floats:
        """Contracted axes first, the others flattened behind them."""
        a = geometry.attributes
        first = a["blocks"] + a["inputs"]
        signals = [working(arrays[_role(position)]) for position in range(len(a["signals"]))]
        x = _arranged(signals, a["signals"], first + a["kept"])
        x = np.broadcast_to(x, a["sizes"] + x.shape[len(first) :])
        x = x[np.unravel_index(block, _block_sizes(geometry))] if a["blocks"] else x
        sizes = x.shape[len(a["inputs"]) :]
        return x.reshape(math.prod(_input_sizes(geometry)), math.prod(sizes))

    def outputs(self, y: NDArray[Any], geometry: Geometry, block: int) -> Floats:
        """Columns (M, P): axes of the outputs first, the others flattened."""
        a = geometry.attributes
        y = _arranged([working(y)], [a["y"]], a["blocks"] + a["outputs"] + a["kept"])
        y = y[np.unravel_index(block, _block_sizes(geometry))] if a["blocks"] else y
        sizes = y.shape[: len(a["outputs"])], y.shape[len(a["outputs"]) :]
        return y.reshape(math.prod(sizes[0]), math.prod(sizes[1]))

    def output_axis(self, geometry: Geometry) -> int | None:
        """The axis of the outputs, if there is just one."""
        outputs: tuple[str, ...] = geometry.attributes["outputs"]
        y: tuple[str, ...] = geometry.attributes["y"]
        if len(outputs) != 1:
            return None
        axis = y.index(outputs[0])
        return axis - len(y) if REST in y[:axis] else axis


def _terms(equation: str) -> tuple[list[list[str]], list[str]]:
    """Axes of the operands and of the output (ONNX operators, Einsum: implicit output, too)."""
    terms, arrow, right = equation.replace(" ", "").partition("->")
    operands = [_axes(term) for term in terms.split(",")]
    if arrow:
        return operands, _axes(right)
    axes = list(itertools.chain(*operands))
    single = sorted(axis for axis in set(axes) if axes.count(axis) == 1 and axis != REST)
    return operands, [REST] * (REST in axes) + single


def _axes(term: str) -> list[str]:
    start, middle, end = term.partition(REST)
    return [*start, *([middle] if middle else []), *end]


def _role(position: int) -> str:
    return f"x{position + 1}" if position else "x"


def _arranged(
    signals: Sequence[Floats], axes: Sequence[tuple[str, ...]], order: tuple[str, ...]
) -> Floats:
    """Products of signals with axes in an order, summed up over those that are not in it."""
    terms = ",".join("".join(term) for term in axes)
    result: Floats = np.einsum(f"{terms}->{''.join(order)}", *signals)
    return result


def _block_sizes(geometry: Geometry) -> Shape:
    sizes: Shape = geometry.attributes["sizes"][: len(geometry.attributes["blocks"])]
    return sizes


def _input_sizes(geometry: Geometry) -> Shape:
    sizes: Shape = geometry.attributes["sizes"][len(geometry.attributes["blocks"]) :]
    return sizes


def einsum_channels(context: ChannelContext) -> Outputs:
    """Axes are followed by their letters; a constant reads some of a signal's and makes others.

    Raises
    ------
    Unsupported
        The letters do not tell axes one by one, or several matrices are multiplied.
    """
    operands, y = _terms(context.attributes.get("equation", ""))
    terms = (*operands, y)
    if any(REST in term or len(set(term)) < len(term) for term in terms):
        raise Unsupported("its letters do not tell axes one by one", "not-followed")
    constants = [slot for slot in range(context.count) if context.is_constant(slot)]
    if not constants:
        return (_of_signals(context, operands, y),)
    layer, site = only_layer(context)
    if context.count != 2 or len(layer.blocks) != 1:
        raise Unsupported("it multiplies by several matrices", "not-followed")
    (slot,), facts = constants, site.geometry.attributes
    labels, letters, weight = context.of(1 - slot), operands[1 - slot], operands[slot]
    if labels is None:
        context.units.keep_rows(layer, OUTSIDE)
    else:
        if any(letters[axis] not in facts["inputs"] for axis in varying(labels)):
            raise Unsupported("units of another axis pass through the layer", "fixed-partner")
        rows = np.broadcast_to(_placed(labels, letters, facts["inputs"]), facts["sizes"])
        context.units.read_rows(layer, 0, rows.reshape(-1))
        context.cut(slot, _placed(labels, letters, weight))
    columns = context.units.columns(layer, 0)
    if len(columns) == 1:
        context.units.refuse(columns, ALONE)
        return ()
    outputs = facts["outputs"]
    shaped = columns.reshape([context.shape(slot)[weight.index(letter)] for letter in outputs])
    context.cut(slot, _placed(shaped, outputs, weight))
    return (_placed(shaped, outputs, y),)


def _of_signals(
    context: ChannelContext, operands: Sequence[Sequence[str]], y: Sequence[str]
) -> Labels | None:
    """Units of signals: those that meet go together, those that are summed over go whole."""
    parts: list[tuple[Labels | None, Shape]] = []
    for slot, letters in enumerate(operands):
        labels, shape = context.of(slot), context.shape(slot)
        summed = [axis for axis, letter in enumerate(letters) if letter not in y]
        if labels is not None:
            labels = mixed(context, labels, summed)
            stays = any(labels.shape[axis] > 1 for axis in summed)
            labels = None if stays else _placed(labels, letters, y)
        sizes = dict(zip(letters, shape, strict=True))
        parts.append((labels, tuple(sizes.get(letter, 1) for letter in y)))
    return broadcast(context, parts)


def _placed(labels: Labels, letters: Sequence[str], target: Sequence[str]) -> Labels:
    """Labels whose axes have letters, on the axes of other letters; 1 where there is none."""
    sizes = dict(zip(letters, labels.shape, strict=True))
    gone = [axis for axis, letter in enumerate(letters) if letter not in target]
    shared = [letter for letter in letters if letter in target]
    order = [shared.index(letter) for letter in target if letter in sizes]
    squeezed = np.squeeze(labels, tuple(gone)).transpose(order)
    return squeezed.reshape([sizes.get(letter, 1) for letter in target])


EINSUM: dict[str, OpSpec] = {
    "Einsum": OpSpec(weight=Einsum(), gradient=einsum_gradient, channels=einsum_channels)
}
