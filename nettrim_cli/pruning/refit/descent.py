"""Adam with a rate for each tensor, for weights some of which stay zero.

Kingma and Ba, arXiv 1412.6980.  A step is a share of the tensor's own size, as in Adafactor
(Shazeer and Stern, arXiv 1804.04235), so that one rate suits all layers of all networks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.graph.gradient.parameters import Parameter

MOMENTUM, MEMORY = 0.9, 0.99
TINY = 1e-12
WARM_UP = 0.1  # share of the steps in which the rate rises
Values = dict[str, NDArray[np.floating]]


class Descent:
    """Values of parameters on their way.

    Parameters
    ----------
    parameters
        Where it starts; what is not free stays.

    Attributes
    ----------
    values
        By name, in the stored types.
    """

    def __init__(self, parameters: Sequence[Parameter]) -> None:
        self.values: Values = {each.name: each.values.copy() for each in parameters}
        self._free = {each.name: each.free for each in parameters}
        self._sizes = {each.name: _size(each) for each in parameters}
        self._means = {name: np.zeros_like(value) for name, value in self.values.items()}
        self._squares = {name: np.zeros_like(value) for name, value in self.values.items()}
        self._steps = 0

    def step(self, gradients: Mapping[str, NDArray[np.floating]], rate: float) -> None:
        """Move against the gradients (N, ...); a rate of 0.01 is a hundredth of a usual weight."""
        self._steps += 1
        share = math.sqrt(1 - MEMORY**self._steps) / (1 - MOMENTUM**self._steps)
        for name, gradient in gradients.items():
            free, mean, square = self._free[name], self._means[name], self._squares[name]
            mean *= MOMENTUM
            mean += (1 - MOMENTUM) * gradient
            square *= MEMORY
            square += (1 - MEMORY) * np.square(gradient)
            move = mean / (np.sqrt(square) + TINY)
            move *= rate * share * self._sizes[name]
            if free is not None:
                move *= free
            self.values[name] = (self.values[name] - move).astype(gradient.dtype, copy=False)


def rate_at(step: int, steps: int, highest: float) -> float:
    """A rate that rises for a while and then falls to 0, as half of a cosine."""
    share = (step + 1) / steps
    if share < WARM_UP:
        return highest * share / WARM_UP
    return highest * (1 + math.cos(math.pi * (share - WARM_UP) / (1 - WARM_UP))) / 2


def between(start: Values, end: Values, share: float) -> Values:
    """Values on the line from `start` to `end`, that are zero where both are."""
    return {
        name: (value + share * (end[name] - value)).astype(value.dtype)
        for name, value in start.items()
    }


def _size(parameter: Parameter) -> float:
    """Root mean square of what may change; 0 where nothing does."""
    values = parameter.values if parameter.free is None else parameter.values[parameter.free]
    return math.sqrt(float(np.mean(np.square(values, dtype=np.float64)))) if values.size else 0.0
