"""Elementwise functions of a tensor, as small programs of ONNX operators on plain arrays.

Exporters write one activation in many ways (GELU as one op, by ``Erf``, by ``Tanh``); as a
program each of them is simply computed.  The functions are those of the ops' entries
(``nettrim_cli.graph.ops``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.graph.layer import Floats
from nettrim_cli.graph.ops import OPS

BLOCK_VALUES = 1 << 17  # that a core's own cache holds, with what is made of them
GRID = np.linspace(-30, 30, 241, dtype=np.float32)


@dataclass(frozen=True)
class Step:
    """One operator of a program.

    Attributes
    ----------
    op
        Key in ``ops.OPS``.
    inputs
        Numbers of earlier results (0 is the argument), or constants: (), or (M, 1) with a value
        for each output of the layer.
    attributes
        Those of the node.
    """

    op: str
    inputs: tuple[int | Floats, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Elementwise:
    """A function of one argument; its last step's result is the value."""

    steps: tuple[Step, ...]

    def __call__(self, A: Floats) -> NDArray[np.float32]:
        """Apply it to (M, P) results of the layer, in float32, some columns at a time."""
        if A.size <= BLOCK_VALUES:
            return self._of_block(A)
        result = np.empty_like(A, np.float32)
        step = max(1, BLOCK_VALUES // len(A))
        for start in range(0, A.shape[1], step):
            result[:, start : start + step] = self._of_block(A[:, start : start + step])
        return result

    def of_outputs(self, outputs: NDArray[np.integer[Any]]) -> Elementwise:
        """The function of some of the layer's outputs, by number (M,)."""
        steps = [
            replace(
                step,
                inputs=tuple(
                    value if isinstance(value, int) or np.ndim(value) == 0 else value[outputs]
                    for value in step.inputs
                ),
            )
            for step in self.steps
        ]
        return Elementwise(tuple(steps))

    def _of_block(self, A: Floats) -> NDArray[np.float32]:
        results: list[Any] = [np.asarray(A, np.float32)]
        with np.errstate(all="ignore"):
            for step in self.steps:
                inputs = [results[i] if isinstance(i, int) else i for i in step.inputs]
                results.append(function_of(step.op, step.attributes, *inputs))
        return np.asarray(results[-1], np.float32)


def function_of(op: str, attributes: Mapping[str, Any], *inputs: Any) -> Any:
    """Values of an elementwise op, of attributes and inputs of shapes that broadcast."""
    function = OPS[op].function
    assert function is not None
    return function(attributes, *inputs)


def is_activation(function: Elementwise, outputs: int) -> bool:
    """Whether values stay finite, grow no faster than linearly, and are no affine function."""
    values = function(np.broadcast_to(GRID, (outputs, GRID.size))).astype(np.float64)
    if values.shape != (outputs, GRID.size) or not np.isfinite(values).all():
        return False
    ends, halfway = np.abs(values[:, [0, -1]]), np.abs(values[:, [60, 180]])
    tame = bool((ends <= 3 * halfway + 3 * (1 + np.abs(values[:, [120]]))).all())
    bent = np.abs(np.diff(values, 2)).max(initial=0) > 1e-4 * np.abs(np.diff(values)).max(initial=0)
    return tame and bool(bent)


def name_of(function: Elementwise) -> str:
    """Name of a program, whatever its spelling, up to a positive factor; its ops if it has none."""
    values = function(GRID[None])
    titled = [(op, spec.title) for op, spec in OPS.items() if spec.title]
    for op, title in titled if len(values) == 1 else ():
        expected = np.asarray(function_of(op, {}, GRID), np.float64)
        factor = float(np.vdot(expected, values[0]) / np.vdot(expected, expected))
        alike = np.allclose(values[0], factor * expected, rtol=1e-3, atol=1e-3 * factor)
        if factor > 0 and alike:
            return title
    return ", ".join(step.op.rpartition(".")[2] for step in function.steps)
