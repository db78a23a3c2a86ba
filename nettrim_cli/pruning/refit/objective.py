"""How far a network's outputs are from those of another, as a function of its parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.data.engine import Engine
from nettrim_cli.graph.analysis.before_softmax import before_softmax
from nettrim_cli.graph.gradient.backward import Boundary
from nettrim_cli.graph.gradient.fit_graph import (
    LOSS,
    TARGET,
    WEIGHT,
    fit_graph,
    scores_graph,
)
from nettrim_cli.graph.gradient.parameters import Parameter
from nettrim_cli.graph.model import Model

Array = NDArray[Any]
FLOATS = ("tensor(float)", "tensor(double)")


@dataclass(frozen=True)
class Scores:
    """A network's answers before a Softmax.

    Attributes
    ----------
    engine
        Runs the network.
    names
        The tensors: one an output of floating-point numbers.
    """

    engine: Engine
    names: tuple[str, ...]

    def of(self, feeds: Mapping[str, Array]) -> list[Array]:
        """Their values for a batch."""
        return self.engine.run(feeds, self.names)


def paired_scores(dense: Model, student: Model, threads: int) -> tuple[Scores, tuple[str, ...]]:
    """The answers of one network, and the names of the same answers in another.

    Parameters
    ----------
    dense, student
        Networks whose outputs agree in number and order.
    threads
        Threads of the engine.
    """
    pairs = []
    for first, second in zip(dense.outputs, student.outputs, strict=True):
        pair = before_softmax(dense.index, first.name), before_softmax(student.index, second.name)
        if (pair[0] == first.name) != (pair[1] == second.name):
            pair = first.name, second.name
        pairs.append(pair)
    engine = Engine(
        scores_graph(dense.index, list(dict.fromkeys(name for name, _ in pairs))),
        threads=threads,
        optimise=True,
    )
    real = [pair for pair in dict.fromkeys(pairs) if engine.types[pair[0]] in FLOATS]
    return Scores(engine, tuple(name for name, _ in real)), tuple(name for _, name in real)


class Objective:
    """Mean squared distance of a network's answers to targets, over the targets' mean square.

    Parameters
    ----------
    student
        The network.
    parameters
        What may change in it.
    outputs
        Names of the answers.
    sizes
        Sum of squares of a sample's targets on average, one an answer.
    threads
        Threads of the engine.
    branches
        See ``branches.constant_branches``.

    Attributes
    ----------
    parameters
        Those with a gradient.
    boundaries
        What gradients do not come through.
    """

    def __init__(
        self,
        student: Model,
        parameters: Sequence[Parameter],
        outputs: Sequence[str],
        sizes: Sequence[float],
        threads: int,
        branches: Mapping[str, bool] = MappingProxyType({}),
    ) -> None:
        names = [parameter.name for parameter in parameters]
        graph = fit_graph(student.index, names, outputs, branches)
        self.engine = Engine(graph.runnable, threads=threads, optimise=True)
        self.forward = Engine(graph.forward, threads=threads, optimise=True)
        self.outputs, self.sizes = tuple(outputs), tuple(sizes)
        self.boundaries: tuple[Boundary, ...] = graph.boundaries
        self.parameters = [p for p in parameters if p.name in graph.parameters]
        self._gradients = dict(zip(graph.parameters, graph.gradients, strict=True))
        self._fixed = {p.name: p.values for p in parameters if p.name not in graph.parameters}

    def gradients(
        self, values: Mapping[str, Array], feeds: Mapping[str, Array], targets: Sequence[Array]
    ) -> tuple[float, dict[str, Array]]:
        """The distance on a batch, and its gradients by parameter."""
        fed = self._fixed | dict(values) | dict(feeds)
        for name, target, size in zip(self.outputs, targets, self.sizes, strict=True):
            share = 1 / (max(1, len(target)) * size * len(self.outputs))
            fed[TARGET + name] = target
            fed[WEIGHT + name] = np.array(share, target.dtype)
        loss, *gradients = self.engine.run(fed, [LOSS, *self._gradients.values()])
        return float(loss), dict(zip(self._gradients, gradients, strict=True))

    def answers(self, values: Mapping[str, Array], feeds: Mapping[str, Array]) -> list[Array]:
        """The network's answers on a batch."""
        return self.forward.run(self._fixed | dict(values) | dict(feeds), self.outputs)

    def squares(
        self, values: Mapping[str, Array], feeds: Mapping[str, Array], targets: Sequence[Array]
    ) -> float:
        """The squared distance on a batch, summed over samples and averaged over answers."""
        total, answers = 0.0, self.answers(values, feeds)
        for answer, target, size in zip(answers, targets, self.sizes, strict=True):
            total += float(np.square(answer - target, dtype=np.float64).sum()) / size
        return total / len(self.outputs)
