"""One step of an LSTM, a GRU and an RNN, forwards and backwards.

The equations are those of the ONNX operators.  H units see N sequences; G gates stand side by side
in (N, G H) tensors, in the operators' order.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from nettrim_cli.graph.ops.base import FLOAT, Unsupported

if TYPE_CHECKING:
    from nettrim_cli.graph.gradient.builder import Builder

Names = Sequence[str]


class Cell(ABC):
    """What a node does at each step.

    Parameters
    ----------
    g
        Appends nodes outside of the steps.
    attributes
        Of the node.
    recurrent, bias
        Names of (G H, H) weights and (G H,) biases of the states; no bias for an empty name.
    kind
        Element type.

    Attributes
    ----------
    gates
        Their number G.
    states
        Number of tensors (N, H) that a step hands to the next.

    Raises
    ------
    Unsupported
        The node's gates are not treated.
    """

    gates: ClassVar[int]
    states: ClassVar[int] = 1
    usual: ClassVar[tuple[str, ...]]
    unusual: ClassVar[tuple[str, ...]] = ("clip", "layout")

    def __init__(
        self,
        g: Builder,
        attributes: Mapping[str, Any],
        recurrent: str,
        bias: str,
        kind: int = FLOAT,
    ) -> None:
        self.g, self.attributes = g, attributes
        self.recurrent, self.bias, self.kind = recurrent, bias, kind
        names = [*attributes.get("activations", self.usual)]
        ways = 2 if attributes.get("direction") == "bidirectional" else 1
        if "activations" in attributes and len(names) != ways * len(self.usual):
            raise Unsupported("has gates that are not treated")
        self.functions = names[: len(self.usual)]
        same = names == self.functions * (len(names) // len(self.functions))
        if not (same and self.treats(self.functions)) or any(map(attributes.get, self.unusual)):
            raise Unsupported("has gates that are not treated")

    def treats(self, functions: Names) -> bool:
        """Whether gates with these functions have gradients here."""
        return tuple(functions) == self.usual

    @abstractmethod
    def forward(self, g: Builder, product: str, *states: str) -> tuple[list[str], list[str]]:
        """The states after a step, and what is recorded for the way back.

        Parameters
        ----------
        g
            Appends to the step.
        product
            (N, G H) that the inputs add to the gates.
        states
            Those before the step; the first one is recorded by the caller.
        """

    @abstractmethod
    def backward(self, g: Builder, gradients: Names, record: Names) -> tuple[list[str], list[str]]:
        """Gradients of the states before a step, and of its products.

        Parameters
        ----------
        g
            Appends to the step.
        gradients
            Of the states after it.
        record
            (N, H) the first state before it, and what ``forward`` has recorded.

        Returns
        -------
        gradients
            Of the states.
        moves
            (N, G H) gradient of what the inputs add to the gates, and that of what the states add
            to them where it differs.
        """

    def recurrent_gradient(self, moves: Names, state: str, record: Names) -> str:
        """(G H, H) gradient of the weights.

        Parameters
        ----------
        moves
            (T N, G H) of all steps, as from ``backward``.
        state
            (T N, H).
        record
            What was recorded, of all steps, with T and N apart.
        """
        return self.g.Gemm(moves[-1], state, transA=1)

    def from_state(self, g: Builder, state: str) -> str:
        """(N, G H) that a state adds to the gates."""
        return gemm(g, state, self.recurrent, self.bias)

    def parts(self, g: Builder, name: str, axis: int = 1) -> list[str]:
        """The gates of a tensor."""
        numbered = {} if self.g.opset < 18 else {"num_outputs": self.gates}
        return g.split(self.gates, name, axis=axis, **numbered)

    def falling(self, g: Builder, name: str) -> str:
        """One less a tensor."""
        return g.Sub(g.constant(1.0, self.kind), name)

    def slope(self, g: Builder, function: str, value: str) -> str:
        """The derivative of a gate's function by its value."""
        if function == "Sigmoid":
            return g.Mul(value, self.falling(g, value))
        return g.Sign(value) if function == "Relu" else self.falling(g, g.Mul(value, value))


class Lstm(Cell):
    """Input, output, forget and cell gates; the second state is the cell."""

    gates = 4
    states = 2
    usual = ("Sigmoid", "Tanh", "Tanh")
    unusual = (*Cell.unusual, "input_forget")

    def forward(self, g: Builder, product: str, *states: str) -> tuple[list[str], list[str]]:
        """As ``Cell``."""
        state, cell = states
        split = self.parts(g, g.Add(product, self.from_state(g, state)))
        entry, out, forget = (g.Sigmoid(gate) for gate in split[:3])
        new = g.Tanh(split[3])
        new_cell = g.Add(g.Mul(forget, cell), g.Mul(entry, new))
        shown = g.Tanh(new_cell)
        gates = g.Concat(entry, out, forget, new, axis=1)
        return [g.Mul(out, shown), new_cell], [g.Identity(cell), gates, shown]

    def backward(self, g: Builder, gradients: Names, record: Names) -> tuple[list[str], list[str]]:
        """As ``Cell``."""
        (arriving, later), (_, cell, gates, shown) = gradients, record
        entry, out, forget, new = self.parts(g, gates)
        change = g.Add(later, g.Mul(g.Mul(arriving, out), self.slope(g, "Tanh", shown)))
        moves = g.Concat(
            g.Mul(g.Mul(change, new), self.slope(g, "Sigmoid", entry)),
            g.Mul(g.Mul(arriving, shown), self.slope(g, "Sigmoid", out)),
            g.Mul(g.Mul(change, cell), self.slope(g, "Sigmoid", forget)),
            g.Mul(g.Mul(change, entry), self.slope(g, "Tanh", new)),
            axis=1,
        )
        return [g.MatMul(moves, self.recurrent), g.Mul(change, forget)], [moves]


class Rnn(Cell):
    """One gate, which is the state."""

    gates = 1
    usual = ("Tanh",)

    def treats(self, functions: Names) -> bool:
        """As ``Cell``."""
        return functions[0] in ("Tanh", "Relu", "Sigmoid")

    def forward(self, g: Builder, product: str, *states: str) -> tuple[list[str], list[str]]:
        """As ``Cell``."""
        state = g.add(self.functions[0], g.Add(product, self.from_state(g, states[0])))
        return [state], [g.Identity(state)]

    def backward(self, g: Builder, gradients: Names, record: Names) -> tuple[list[str], list[str]]:
        """As ``Cell``."""
        moves = g.Mul(gradients[0], self.slope(g, self.functions[0], record[1]))
        return [g.MatMul(moves, self.recurrent)], [moves]


class Gru(Cell):
    """Update, reset and hidden gates; what the states add to the hidden one is reset after."""

    gates = 3
    usual = ("Sigmoid", "Tanh")

    def forward(self, g: Builder, product: str, *states: str) -> tuple[list[str], list[str]]:
        """As ``Cell``."""
        (state,), split = states, self.parts(g, product)
        products = self.parts(g, self.from_state(g, state))
        update, reset = (g.Sigmoid(g.Add(split[gate], products[gate])) for gate in (0, 1))
        new = g.Tanh(g.Add(split[2], g.Mul(reset, products[2])))
        new_state = g.Add(new, g.Mul(update, g.Sub(state, new)))
        return [new_state], [g.Concat(update, reset, new, axis=1), g.Identity(products[2])]

    def backward(self, g: Builder, gradients: Names, record: Names) -> tuple[list[str], list[str]]:
        """As ``Cell``."""
        state, gates, hidden_product = record
        update, reset, hidden = self._gates(g, gradients[0], state, gates)
        new = g.Mul(g.Mul(hidden, hidden_product), self.slope(g, "Sigmoid", reset))
        moves = g.Concat(update, new, hidden, axis=1)
        of_states = g.Concat(update, new, g.Mul(hidden, reset), axis=1)
        gradient = g.MatMul(of_states, self.recurrent)
        return [g.Add(self._kept(g, gradients[0], gates), gradient)], [moves, of_states]

    def _gates(self, g: Builder, arriving: str, state: str, gates: str) -> tuple[str, str, str]:
        """Gradient before the update gate, the reset gate, and gradient before the hidden gate."""
        update, reset, new = self.parts(g, gates)
        turned = g.Mul(g.Mul(arriving, g.Sub(state, new)), self.slope(g, "Sigmoid", update))
        hidden = g.Mul(g.Mul(arriving, self.falling(g, update)), self.slope(g, "Tanh", new))
        return turned, reset, hidden

    def _kept(self, g: Builder, arriving: str, gates: str) -> str:
        """Gradient of what the update gate lets through."""
        return g.Mul(arriving, self.parts(g, gates)[0])


class GruBefore(Gru):
    """A GRU whose states are reset before they are multiplied."""

    def forward(self, g: Builder, product: str, *states: str) -> tuple[list[str], list[str]]:
        """As ``Cell``."""
        (state,), split = states, self.parts(g, product)
        weights, biases = self._recurrent_parts()
        update, reset = (
            g.Sigmoid(g.Add(split[gate], gemm(g, state, weights[gate], biases[gate])))
            for gate in (0, 1)
        )
        hidden_product = gemm(g, g.Mul(reset, state), weights[2], biases[2])
        new = g.Tanh(g.Add(split[2], hidden_product))
        new_state = g.Add(new, g.Mul(update, g.Sub(state, new)))
        return [new_state], [g.Concat(update, reset, new, axis=1)]

    def backward(self, g: Builder, gradients: Names, record: Names) -> tuple[list[str], list[str]]:
        """As ``Cell``."""
        state, gates = record
        update, reset, hidden = self._gates(g, gradients[0], state, gates)
        weights, _ = self._recurrent_parts()
        through = g.MatMul(hidden, weights[2])
        new = g.Mul(g.Mul(through, state), self.slope(g, "Sigmoid", reset))
        gradient = g.Sum(
            self._kept(g, gradients[0], gates),
            g.Mul(through, reset),
            g.MatMul(update, weights[0]),
            g.MatMul(new, weights[1]),
        )
        return [gradient], [g.Concat(update, new, hidden, axis=1)]

    def recurrent_gradient(self, moves: Names, state: str, record: Names) -> str:
        """As ``Cell``."""
        g = self.g
        reset = g.Reshape(self.parts(g, record[0], axis=2)[1], g.shape(state))
        update, new, hidden = self.parts(g, moves[0])
        products = [(update, state), (new, state), (hidden, g.Mul(reset, state))]
        return g.Concat(*(g.Gemm(*pair, transA=1) for pair in products), axis=0)

    def _recurrent_parts(self) -> tuple[list[str], list[str]]:
        """Weights and biases of the states, gate by gate."""
        biases = self.parts(self.g, self.bias, axis=0) if self.bias else [""] * self.gates
        return self.parts(self.g, self.recurrent, axis=0), biases


def gemm(g: Builder, rows: str, weights: str, bias: str) -> str:
    """(N, M): rows times weights, and biases if there are any.

    Parameters
    ----------
    g
        Appends the node.
    rows, weights, bias
        (N, K), (M, K) and (M,); an empty name for none.
    """
    return g.Gemm(*([rows, weights, bias] if bias else [rows, weights]), transB=1)


def gru(g: Builder, attributes: Mapping[str, Any], *weights: Any) -> Cell:
    """The kind of GRU that the attributes tell."""
    kind = Gru if attributes.get("linear_before_reset", 0) else GruBefore
    return kind(g, attributes, *weights)
