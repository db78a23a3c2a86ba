"""LSTM, GRU and RNN: W acts on the inputs, R on the states that the node itself has made.

Columns run over the time steps and, within a step, over the sequences of the batch; steps
beyond a sequence's length are left out.  At time t a forward direction reads the state of
t - 1, a reverse one that of t + 1; where there is none, the initial state (ONNX operators).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.graph.layer import Floats, Geometry
from nettrim_cli.graph.ops.base import (
    Applied,
    Arrays,
    Op,
    Reads,
    Shape,
    Unsupported,
    WeightNode,
    working,
)
from nettrim_cli.graph.ops.channel_context import ChannelContext, Counted, on_axis, varying
from nettrim_cli.graph.ops.channel_rules import Outputs, joined
from nettrim_cli.graph.ops.channel_weights import ALONE, read_rows
from nettrim_cli.graph.ops.gradients.cells import Lstm
from nettrim_cli.graph.ops.gradients.recurrent import (
    REVERSED,
    gru_gradient,
    lstm_gradient,
    rnn_gradient,
)
from nettrim_cli.graph.ops.rank_rules import fixed
from nettrim_cli.graph.ops.spec import OpSpec

W, R, B, LENGTHS, INITIAL, PEEPHOLES = 1, 2, 3, 4, 5, 7
ALPHAS = ("affine", "leakyrelu", "thresholdedrelu", "scaledtanh", "hardsigmoid", "elu")
BETAS = ("affine", "scaledtanh", "hardsigmoid")


class Recurrent(Op):
    """Weights ``(directions, gates * H, inputs)``.

    W is one block, its directions side by side; R has one for each direction.  Attributes of
    the geometry: ``reversed`` (of each direction), ``layout``, ``gates``.
    """

    weights = (W, R)
    bias_input = B
    slot_names: Mapping[int, str] = {W: "W", R: "R"}

    def __init__(self, gates: int) -> None:
        self.gates = gates

    def geometry(self, node: WeightNode, shape: Shape) -> Geometry:
        """Directions and layout.

        Raises
        ------
        Unsupported
            Such a node, or such a weight, is not treated.
        """
        direction = node.attributes.get("direction", "forward")
        if direction not in REVERSED:
            raise Unsupported(f"direction '{direction}' is not known")
        turned = REVERSED[direction]
        fits = len(shape) == 3 and shape[0] == len(turned) and shape[1] % self.gates == 0
        if not fits or (node.slot == R and shape[1] != self.gates * shape[2]):
            raise Unsupported(
                f"weight of shape {shape} does not match {node.op}'s direction and gates"
            )
        layout = int(node.attributes.get("layout", 0))
        facts = {
            "reversed": turned,
            "layout": layout,
            "gates": self.gates,
            "applied": self._activations(node.attributes, len(turned)),
        }
        key = ("steps", layout) if node.slot == W else ("states", layout, turned)
        return Geometry(node.op, node.slot, facts, key)

    def _activations(self, attributes: Mapping[str, Any], directions: int) -> tuple[Applied, ...]:
        """The different functions of the gates; an LSTM's third one is its cell's."""
        count = {4: 3, 3: 2, 1: 1}[self.gates]
        defaults = (Lstm.usual[:count] if count > 1 else Lstm.usual[1:2]) * directions
        names = attributes.get("activations") or defaults
        used = [name for position, name in enumerate(names) if position % count < 2]
        return tuple((name, {}) for name in dict.fromkeys(used))

    def views(self, weight: NDArray[Any], geometry: Geometry) -> list[NDArray[Any]]:
        """Matrix (N, M) as ``(inputs, directions, gates * H)``, or one for each direction."""
        return [weight.transpose(2, 0, 1)] if geometry.slot == W else list(weight.swapaxes(1, 2))

    def blocks(self, geometry: Geometry, shape: Shape) -> tuple[tuple[int, int], ...]:
        """One, or one for each direction."""
        directions, outputs, inputs = shape
        if geometry.slot == W:
            return ((inputs, directions * outputs),)
        return ((inputs, outputs),) * directions

    def reads(self, geometry: Geometry) -> Reads:
        """Inputs for W; all states (the node's first output) for R."""
        lengths = {"lengths": ("input", LENGTHS)}
        if geometry.slot == W:
            return {"x": ("input", 0), **lengths}
        return {"y": ("output", 0), "initial": ("input", INITIAL), **lengths}

    def columns(self, arrays: Arrays, geometry: Geometry, block: int) -> Floats:
        """Inputs, or states before each step, of the steps within the lengths."""
        if geometry.slot == W:
            x = _time_first(working(arrays["x"]), geometry)
            return _valid(x, arrays)
        return _valid(_states(arrays, geometry, block), arrays)

    def count(self, arrays: Arrays, geometry: Geometry, block: int) -> int:
        """Steps within the lengths."""
        if geometry.slot == W:
            steps, sequences = _time_first(arrays["x"], geometry).shape[:2]
        else:
            y = arrays["y"]
            sequences, steps = y.shape[:2] if geometry.attributes["layout"] else y.shape[2::-2]
        if "lengths" not in arrays:
            return int(steps * sequences)
        return int(np.clip(arrays["lengths"], 0, steps).sum())

    def bias_shape(self, geometry: Geometry, shape: Shape) -> Shape:
        """W's biases and then R's, of each direction."""
        return (shape[0], 2 * shape[1])

    def bias_views(
        self, stored: NDArray[Any], geometry: Geometry, shape: Shape
    ) -> list[NDArray[Any]]:
        """Vectors (M,): W's half in one, or R's half of each direction."""
        halves = stored.reshape(shape[0], 2, shape[1])
        return [halves[:, 0]] if geometry.slot == W else list(halves[:, 1])


class Gru(Recurrent):
    """A recurrent op whose last gate reads the state after it was reset, unless
    ``linear_before_reset``: then R has two blocks for each direction, the second for that gate.
    """

    def geometry(self, node: WeightNode, shape: Shape) -> Geometry:
        """As `Recurrent`, with what it takes to make the reset gate again (``reset``)."""
        plain = super().geometry(node, shape)
        if node.slot == W or node.attributes.get("linear_before_reset", 0):
            return plain
        directions = range(shape[0])
        reset = tuple(_activation(node.attributes, 2 * direction) for direction in directions)
        clip = node.attributes.get("clip", 0.0)
        facts = {**plain.attributes, "reset": reset, "clip": clip}
        return Geometry(node.op, node.slot, facts, (*plain.key, "reset", reset, clip))

    def views(self, weight: NDArray[Any], geometry: Geometry) -> list[NDArray[Any]]:
        """Matrices (N, M): update and reset gate, then the last one."""
        return self._split(super().views(weight, geometry), geometry)

    def blocks(self, geometry: Geometry, shape: Shape) -> tuple[tuple[int, int], ...]:
        """Two for each direction."""
        if "reset" not in geometry.attributes:
            return super().blocks(geometry, shape)
        hidden = shape[2]
        return ((hidden, 2 * hidden), (hidden, hidden)) * shape[0]

    def reads(self, geometry: Geometry) -> Reads:
        """Inputs and weights, too, where the reset gate is made again."""
        plain = super().reads(geometry)
        if "reset" not in geometry.attributes:
            return plain
        slots = {"x": 0, "W": W, "R": R, "B": B}
        return {**plain, **{role: ("input", slot) for role, slot in slots.items()}}

    def columns(self, arrays: Arrays, geometry: Geometry, block: int) -> Floats:
        """States, or states times the reset gate for the second block of a direction."""
        if "reset" not in geometry.attributes:
            return super().columns(arrays, geometry, block)
        direction, last = divmod(block, 2)
        states = _states(arrays, geometry, direction)
        if last:
            states = states * self._reset(arrays, geometry, direction, states)
        return _valid(states, arrays)

    def bias_views(
        self, stored: NDArray[Any], geometry: Geometry, shape: Shape
    ) -> list[NDArray[Any]]:
        """Vectors (M,): R's half is divided as R is."""
        return self._split(super().bias_views(stored, geometry, shape), geometry)

    def _split(self, views: list[NDArray[Any]], geometry: Geometry) -> list[NDArray[Any]]:
        if "reset" not in geometry.attributes:
            return views
        size = views[0].shape[-1] // 3 * 2
        return [half for view in views for half in (view[..., :size], view[..., size:])]

    def _reset(self, arrays: Arrays, geometry: Geometry, direction: int, states: Floats) -> Floats:
        """The reset gate: ``f(x W_r' + h R_r' + Wb_r + Rb_r)``."""
        hidden = states.shape[-1]
        gate = slice(hidden, 2 * hidden)
        x = _time_first(working(arrays["x"]), geometry)
        sums: Floats = x @ working(arrays["W"][direction, gate]).T
        sums += states @ working(arrays["R"][direction, gate]).T
        if "B" in arrays:
            sums += working(arrays["B"][direction]).reshape(2, 3, hidden)[:, 1].sum(axis=0)
        clip = geometry.attributes["clip"]
        if clip:
            np.clip(sums, -clip, clip, out=sums)
        kind, alpha, beta = geometry.attributes["reset"][direction]
        if kind == "hardsigmoid":
            sums = np.clip(alpha * sums + beta, 0, 1)
        else:
            sums = 0.5 + 0.5 * np.tanh(0.5 * sums)  # the sigmoid, without overflow
        return sums


def _activation(attributes: Mapping[str, Any], gate: int) -> tuple[str, float, float]:
    """Name, alpha and beta of a gate's activation, of those that are treated.

    The lists of alphas and betas have entries only for activations that use them.
    """
    names = [name.lower() for name in attributes.get("activations", ())] or ["sigmoid", "tanh"] * 2
    kind = names[gate] if gate < len(names) else ""
    if kind not in ("sigmoid", "hardsigmoid"):
        raise Unsupported(f"a reset gate with activation '{kind}' is not treated")
    values = []
    for attribute, users, usual in (
        ("activation_alpha", ALPHAS, 0.2),
        ("activation_beta", BETAS, 0.5),
    ):
        listed = attributes.get(attribute, ())
        place = sum(name in users for name in names[:gate])
        values.append(float(listed[place]) if kind in users and place < len(listed) else usual)
    return kind, values[0], values[1]


def _time_first(x: NDArray[Any], geometry: Geometry) -> NDArray[Any]:
    """Steps, sequences, values: ``layout`` 1 has the first two turned."""
    return x.swapaxes(0, 1) if geometry.attributes["layout"] else x


def _states(arrays: Arrays, geometry: Geometry, direction: int) -> Floats:
    """State that a direction has read at each step (steps, sequences, H)."""
    y = working(arrays["y"])
    y = y[:, :, direction].swapaxes(0, 1) if geometry.attributes["layout"] else y[:, direction]
    states = np.zeros_like(y, order="C")
    if len(y) == 0:
        return states
    first: Any = 0
    if geometry.attributes["reversed"][direction]:
        states[:-1] = y[1:]
        first = np.asarray(arrays.get("lengths", np.full(y.shape[1], len(y)))) - 1
    else:
        states[1:] = y[:-1]
    initial: Any = 0
    if "initial" in arrays:
        initial = _time_first(arrays["initial"], geometry)[direction]
    states[first, np.arange(y.shape[1])] = initial
    return states


def _valid(x: Floats, arrays: Arrays) -> Floats:
    """Columns of the steps within the lengths, from (steps, sequences, values)."""
    if "lengths" not in arrays:
        return x.reshape(-1, x.shape[-1]).T
    within = np.arange(len(x))[:, None] < np.asarray(arrays["lengths"])
    return x[within].T


def recurrent_channels(context: ChannelContext) -> Outputs:
    """Hidden units, of both directions at once; they read themselves one step before.

    Raises
    ------
    Unsupported
        A weight is left alone.
    """
    layers = {site.geometry.slot: layer for layer, site in context.layers}
    if {*layers} != {W, R}:
        raise Unsupported("one of its weights is left alone", "not-followed")
    labels, hidden = context.of(), context.shape(R)[2]
    if labels is not None and varying(labels) not in ((), (2,)):
        raise Unsupported("it mixes units of another axis", "mixed")
    gates = context.shape(R)[1] // hidden
    read_rows(context, layers[W], labels, 1)
    if labels is not None:
        context.cut(W, on_axis(labels.reshape(-1), 2, 3))
    units = context.units.fresh(hidden)
    context.units.set_columns(layers[W], 0, np.tile(units, layers[W].blocks[0][1] // hidden))
    for block, (_, outputs) in enumerate(layers[R].blocks):
        context.units.set_columns(layers[R], block, np.tile(units, outputs // hidden))
        context.units.read_rows(layers[R], block, units)
    if hidden == 1:
        context.units.refuse(units, ALONE)
        return ()
    cuts = ((W, gates, 1), (R, gates, 1), (R, 1, 2), (B, 2 * gates, 1), (PEEPHOLES, 3, 1))
    for slot, count, axis in cuts:
        rank = len(context.shape(slot)) if context.name(slot) else 2
        context.cut(slot, on_axis(np.tile(units, count), axis, rank))
    last = on_axis(units, 2, 3)
    for slot in (INITIAL, INITIAL + 1):
        if context.name(slot):
            joined(context, [slot], last)
    context.edits.append(Counted("hidden_size", units))
    return (last[None], last, last)


RECURRENT: dict[str, OpSpec] = {
    "LSTM": OpSpec(
        weight=Recurrent(gates=4),
        rank=fixed(4),
        channels=recurrent_channels,
        gradient=lstm_gradient,
    ),
    "GRU": OpSpec(
        weight=Gru(gates=3),
        rank=fixed(4),
        channels=recurrent_channels,
        gradient=gru_gradient,
    ),
    "RNN": OpSpec(
        weight=Recurrent(gates=1),
        rank=fixed(4),
        channels=recurrent_channels,
        gradient=rnn_gradient,
    ),
}
