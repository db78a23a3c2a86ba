"""Gradients of an LSTM: its steps are made again, and then walked backwards.

Both ways are a Scan, so sequences may have any length.  The equations are those of the ONNX
operator; gates come in the order input, output, forget, cell.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from nettrim_cli.graph.ops.base import FLOAT, Unsupported
from nettrim_cli.graph.ops.gradients.context import GradientContext

if TYPE_CHECKING:
    import onnx

    from nettrim_cli.graph.gradient.builder import Builder

GATES = 4
X, W, R, B, LENGTHS, H0, C0, PEEPHOLES = range(8)
REVERSED = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}
USUAL = ("Sigmoid", "Tanh", "Tanh")


def lstm_gradient(context: GradientContext) -> Mapping[int, str]:
    """Of the inputs, both kinds of weights, biases and initial states.

    Raises
    ------
    Unsupported
        It has peepholes, lengths of sequences, or gates of its own kind.
    """
    _check(context)
    g = context.g
    backwards = REVERSED[context.attributes.get("direction", "forward")]
    gradients: dict[int, list[str]] = {}
    for number, reverse in enumerate(backwards):
        for slot, name in _Direction(context, number, backwards=reverse).parts().items():
            gradients.setdefault(slot, []).append(name)
    parts = {slot: g.Concat(*names, axis=0) for slot, names in gradients.items() if slot != X}
    return parts | {X: g.sum_of(gradients[X])}


def _check(context: GradientContext) -> None:
    attributes = context.attributes
    names = [*attributes.get("activations", ())]
    if any(context.name(slot) for slot in (LENGTHS, PEEPHOLES)):
        raise Unsupported("has peepholes or lengths of sequences")
    if names != list(USUAL) * (len(names) // 3) or "clip" in attributes:
        raise Unsupported("has gates that are not treated")
    if attributes.get("input_forget", 0) or attributes.get("layout", 0):
        raise Unsupported("has gates that are not treated")


class _Direction:
    """One direction of a node.

    Parameters
    ----------
    context
        Of the node.
    number
        Of the direction.
    backwards
        Whether it begins at the last step.
    """

    def __init__(self, context: GradientContext, number: int, *, backwards: bool) -> None:
        self.context, self.g, self.number = context, context.g, number
        self.backwards = int(backwards)
        self.kind = context.facts.types.get(context.name(), FLOAT)
        self.width = context.attributes["hidden_size"]
        self.flat = self.g.constant([-1, GATES * self.width])

    def parts(self) -> dict[int, str]:
        """Gradients by slot, with a first axis for the direction but for that of the inputs."""
        g, context = self.g, self.context
        inputs, recurrent = self._of(W), self._of(R)
        products = g.MatMul(context.name(X), g.Transpose(inputs, perm=[1, 0]))
        if context.name(B):
            products = g.Add(products, g.ReduceSum(self._biases(), g.constant([0]), keepdims=0))
        record = self._forward(products, g.Transpose(recurrent, perm=[1, 0]))
        moves, state, cell = self._backward(record, recurrent)
        flat = g.Reshape(moves, self.flat)
        gradients = {
            X: g.MatMul(moves, inputs),
            W: self._joined(g.Gemm(flat, self._rows(context.name(X), inputs), transA=1)),
            R: self._joined(g.Gemm(flat, self._rows(record[0], recurrent), transA=1)),
            H0: self._joined(state),
            C0: self._joined(cell),
        }
        if context.name(B):
            total = g.ReduceSum(flat, g.constant([0]), keepdims=0)
            gradients[B] = self._joined(g.Concat(total, total, axis=0))
        return {
            slot: name for slot, name in gradients.items() if slot in context.wanted or slot == X
        }

    def _forward(self, products: str, recurrent: str) -> list[str]:
        """States and cells before each step, gates, and what the cell gives out.

        Parameters
        ----------
        products
            (T, N, 4 H) of the inputs, with biases.
        recurrent
            (H, 4 H).
        """

        def step(g: Builder, state: str, cell: str, product: str) -> Sequence[str]:
            """One step of the forward pass.

            Parameters
            ----------
            g
                Appends to the body.
            state, cell, product
                Names of the state and the cell before it, and of what the inputs add to the gates.
            """
            split = _equal_parts(g, g.Add(product, g.MatMul(state, recurrent)))
            entry, out, forget = (g.Sigmoid(gate) for gate in split[:3])
            new = g.Tanh(split[3])
            after = g.Add(g.Mul(forget, cell), g.Mul(entry, new))
            shown = g.Tanh(after)
            gates = g.Concat(entry, out, forget, new, axis=1)
            return [g.Mul(out, shown), after, g.Identity(state), g.Identity(cell), gates, shown]

        starts = [self._initial(slot) for slot in (H0, C0)]
        return self._scan(step, starts, [products], self.backwards)[2:]

    def _backward(self, record: Sequence[str], recurrent: str) -> list[str]:
        """Gradients (T, N, 4 H) of what the gates are made of, and those of the initial states.

        Parameters
        ----------
        record
            What the way there has left.
        recurrent
            (4 H, H).
        """

        def step(g: Builder, state: str, later: str, *seen: str) -> Sequence[str]:
            """One step back; the gradients of the state and of the cell, then what was recorded."""
            cell, gates, shown, arriving = seen
            entry, out, forget, new = _equal_parts(g, gates)
            state = g.Add(state, arriving)
            change = g.Add(later, g.Mul(g.Mul(state, out), self._falling(g, g.Mul(shown, shown))))
            moves = [
                g.Mul(g.Mul(change, new), g.Mul(entry, self._falling(g, entry))),
                g.Mul(g.Mul(state, shown), g.Mul(out, self._falling(g, out))),
                g.Mul(g.Mul(change, cell), g.Mul(forget, self._falling(g, forget))),
                g.Mul(g.Mul(change, entry), self._falling(g, g.Mul(new, new))),
            ]
            joined = g.Concat(*moves, axis=1)
            return [g.MatMul(joined, recurrent), g.Mul(change, forget), joined]

        states, cells, gates, shown = record
        zero = self._zeros()
        steps, state, cell = [*self.context.gradients, "", ""][:3]
        arriving = (
            self.g.Gather(steps, self._index(), axis=1) if steps else self._zeros_like(states)
        )
        starts = [self._given(name) if name else zero for name in (state, cell)]
        state, cell, moves = self._scan(
            step, starts, [cells, gates, shown, arriving], 1 - self.backwards
        )
        return [moves, state, cell]

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

    def _falling(self, g: Builder, name: str) -> str:
        """One less a tensor."""
        return g.Sub(g.constant(1.0, self.kind), name)

    def _index(self) -> str:
        return self.g.constant(self.number)

    def _of(self, slot: int) -> str:
        """Part of an input for the direction."""
        return self._given(self.context.name(slot))

    def _given(self, name: str) -> str:
        return self.g.Gather(name, self._index(), axis=0)

    def _joined(self, name: str) -> str:
        return self.g.Unsqueeze(name, self.g.constant([0]))

    def _biases(self) -> str:
        """(2, 4 H): of the inputs and of the states."""
        return self.g.Reshape(self._of(B), self.g.constant([2, GATES * self.width]))

    def _rows(self, name: str, weights: str) -> str:
        """(T, N, K) as (T N, K), with the columns of some weights."""
        g = self.g
        columns = g.Slice(g.shape(weights), g.constant([1]), g.constant([2]))
        return g.Reshape(name, g.Concat(g.constant([-1]), columns, axis=0))

    def _initial(self, slot: int) -> str:
        return self._of(slot) if self.context.name(slot) else self._zeros()

    def _zeros(self) -> str:
        """(N, H)."""
        g = self.g
        count = g.Slice(g.shape(self.context.name(X)), g.constant([1]), g.constant([2]))
        shape = g.Concat(count, g.constant([self.width]), axis=0)
        return g.Expand(self.context.number_like(0.0), shape)

    def _zeros_like(self, name: str) -> str:
        return self.g.Expand(self.context.number_like(0.0), self.g.shape(name))


def _equal_parts(g: Builder, name: str) -> list[str]:
    """The gates (N, H) of a tensor (N, 4 H)."""
    numbered = {} if g.opset < 18 else {"num_outputs": GATES}
    return g.split(GATES, name, axis=1, **numbered)


def _tensor(name: str, kind: int) -> onnx.ValueInfoProto:
    from onnx import helper  # the table needs none

    return helper.make_tensor_value_info(name, kind, None)
