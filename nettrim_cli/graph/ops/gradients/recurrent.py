"""Gradients of LSTM, GRU and RNN: the steps are made again, and then walked backwards.

Both ways are a Scan, so sequences may have any length.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from nettrim_cli.graph.ops.base import FLOAT, Unsupported
from nettrim_cli.graph.ops.gradients.cells import Cell, Lstm, Rnn, gru
from nettrim_cli.graph.ops.gradients.context import GradientContext

if TYPE_CHECKING:
    import onnx

    from nettrim_cli.graph.gradient.builder import Builder

X, W, R, B, LENGTHS, H0, C0, PEEPHOLES = range(8)
REVERSED = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}


def recurrent_gradient(
    make_cell: Callable[..., Cell], context: GradientContext
) -> Mapping[int, str]:
    """Of the inputs, both kinds of weights, biases and initial states.

    Parameters
    ----------
    make_cell
        Makes what the node does at each step, as ``Cell`` is made.
    context
        The node.

    Raises
    ------
    Unsupported
        It has peepholes, lengths of sequences, or gates of its own kind.
    """
    if any(context.name(slot) for slot in (LENGTHS, PEEPHOLES)):
        raise Unsupported("has peepholes or lengths of sequences")
    g = context.g
    backwards = REVERSED[context.attributes.get("direction", "forward")]
    gradients: dict[int, list[str]] = {}
    for number, reverse in enumerate(backwards):
        direction = _Direction(context, make_cell, number, backwards=reverse)
        for slot, name in direction.parts().items():
            gradients.setdefault(slot, []).append(name)
    parts = {slot: g.Concat(*names, axis=0) for slot, names in gradients.items() if slot != X}
    return parts | {X: g.sum_of(gradients[X])}


lstm_gradient = partial(recurrent_gradient, Lstm)
gru_gradient = partial(recurrent_gradient, gru)
rnn_gradient = partial(recurrent_gradient, Rnn)


class _Direction:
    """One direction of a node.

    Parameters
    ----------
    context
        Of the node.
    make_cell
        Makes what it does at each step.
    number
        Of the direction.
    backwards
        Whether it begins at the last step.
    """

    def __init__(
        self,
        context: GradientContext,
        make_cell: Callable[..., Cell],
        number: int,
        *,
        backwards: bool,
    ) -> None:
        self.context, self.g, self.number = context, context.g, number
        self.backwards = int(backwards)
        self.kind = context.facts.types.get(context.name(), FLOAT)
        self.width = context.attributes["hidden_size"]
        own, bias = self._biases() if context.name(B) else ("", "")
        self.bias = own
        self.cell = make_cell(self.g, context.attributes, self._of(R), bias, self.kind)

    def parts(self) -> dict[int, str]:
        """Gradients by slot, with a first axis for the direction but for that of the inputs."""
        g, context, inputs = self.g, self.context, self._of(W)
        products = g.MatMul(context.name(X), g.Transpose(inputs, perm=[1, 0]))
        if self.bias:
            products = g.Add(products, self.bias)
        state, *record = self._forward(products)
        moves, starts = self._backward(state, record)
        flat = [self._rows(name, g.constant([self.cell.gates * self.width])) for name in moves]
        rows = self._rows(context.name(X), self._columns(inputs))
        states = self._rows(state, g.constant([self.width]))
        gradients = {
            X: g.MatMul(moves[0], inputs),
            W: self._joined(g.Gemm(flat[0], rows, transA=1)),
            R: self._joined(self.cell.recurrent_gradient(flat, states, record)),
            **{slot: self._joined(name) for slot, name in zip((H0, C0), starts, strict=False)},
        }
        if self.bias:
            totals = [g.ReduceSum(name, g.constant([0]), keepdims=0) for name in flat]
            gradients[B] = self._joined(g.Concat(totals[0], totals[-1], axis=0))
        return {
            slot: name for slot, name in gradients.items() if slot in context.wanted or slot == X
        }

    def _forward(self, products: str) -> list[str]:
        """(T, N, H) states before the steps, and what the steps have recorded.

        Parameters
        ----------
        products
            (T, N, G H) of the inputs, with biases.
        """

        def step(g: Builder, *names: str) -> Sequence[str]:
            """One step, of the states before it and what the inputs add to the gates."""
            *states, product = names
            new_states, record = self.cell.forward(g, product, *states)
            return [*new_states, g.Identity(states[0]), *record]

        starts = [self._initial(slot) for slot in (H0, C0)[: self.cell.states]]
        return self._scan(step, starts, [products], self.backwards)[len(starts) :]

    def _backward(self, states: str, record: Sequence[str]) -> tuple[list[str], list[str]]:
        """(T, N, G H) gradients of what the gates are made of, and those of the initial states.

        Parameters
        ----------
        states
            (T, N, H) before the steps.
        record
            What the way there has left.
        """
        count = self.cell.states

        def step(g: Builder, *names: str) -> Sequence[str]:
            """One step back, of the gradients of the states, and what was recorded."""
            gradients, (arriving, *record) = [*names[:count]], names[count:]
            gradients[0] = g.Add(gradients[0], arriving)
            gradients, moves = self.cell.backward(g, gradients, record)
            return [*gradients, *moves]

        steps, *finals = [*self.context.gradients, "", ""][: 1 + count]
        arriving = (
            self.g.Gather(steps, self._index(), axis=1) if steps else self._zeros_like(states)
        )
        starts = [self._given(name) if name else self._zeros() for name in finals]
        results = self._scan(step, starts, [arriving, states, *record], 1 - self.backwards)
        return results[count:], results[:count]

    def _scan(
        self,
        step: Callable[..., Sequence[str]],
        starts: Sequence[str],
        rows: Sequence[str],
        direction: int,
    ) -> list[str]:
        """Results of a Scan: final states, and what each step gives out, in order of time.

        Parameters
        ----------
        step
            Makes the states after a step, and what it gives out.
        starts, rows
            Initial states, and (T, ...) what the steps read.
        direction
            0 forwards, 1 backwards.
        """
        import onnx  # the table needs none

        graph = onnx.GraphProto(name="step")
        body = self.g.nested(graph)
        names = [f"{body.prefix}input{number}" for number in range(len(starts) + len(rows))]
        results = step(body, *names)
        graph.input.extend(_tensor(name, self.kind) for name in names)
        graph.output.extend(_tensor(name, self.kind) for name in results)
        count = len(results)
        ways = [direction] * len(rows), [direction] * (count - len(starts))
        return self.g.add_many(
            "Scan",
            [*starts, *rows],
            count,
            body=graph,
            num_scan_inputs=len(rows),
            scan_input_directions=ways[0],
            scan_output_directions=ways[1],
        )

    def _index(self) -> str:
        return self.g.constant(self.number)

    def _of(self, slot: int) -> str:
        """Part of an input for the direction."""
        return self._given(self.context.name(slot))

    def _given(self, name: str) -> str:
        return self.g.Gather(name, self._index(), axis=0)

    def _joined(self, name: str) -> str:
        return self.g.Unsqueeze(name, self.g.constant([0]))

    def _biases(self) -> tuple[str, str]:
        """(G H,) of the inputs and of the states."""
        g, both = self.g, self._of(B)
        halves = {} if g.opset < 18 else {"num_outputs": 2}
        own, bias = g.split(2, both, axis=0, **halves)
        return own, bias

    def _columns(self, name: str) -> str:
        """(1,) size of the second axis of a tensor."""
        return self.g.Slice(self.g.shape(name), self.g.constant([1]), self.g.constant([2]))

    def _rows(self, name: str, columns: str) -> str:
        """(T, N, K) as (T N, K), with K from a tensor (1,)."""
        g = self.g
        return g.Reshape(name, g.Concat(g.constant([-1]), columns, axis=0))

    def _initial(self, slot: int) -> str:
        return self._of(slot) if self.context.name(slot) else self._zeros()

    def _zeros(self) -> str:
        """(N, H)."""
        g = self.g
        count = self._columns(self.context.name(X))
        shape = g.Concat(count, g.constant([self.width]), axis=0)
        return g.Expand(self.context.number_like(0.0), shape)

    def _zeros_like(self, name: str) -> str:
        return self.g.Expand(self.context.number_like(0.0), self.g.shape(name))


def _tensor(name: str, kind: int) -> onnx.ValueInfoProto:
    from onnx import helper  # the table needs none

    return helper.make_tensor_value_info(name, kind, None)
