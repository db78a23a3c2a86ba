"""What errors of layers do to the network's outputs, to first order, from gradients of the outputs.

Outputs get random signs, and these are handed back through the network to all layers at once
(``graph.gradient.sign_graph``): squares of the gradients tell which outputs of a layer matter, and
their products with the layer's error how far that moves the network's outputs.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import NamedTuple

import numpy as np

from nettrim_cli.data.dataset import Batch
from nettrim_cli.data.engine import Engine
from nettrim_cli.errors import BadInput, EngineFailed, OutOfMemory
from nettrim_cli.graph import ops
from nettrim_cli.graph.analysis.before_softmax import before_softmax
from nettrim_cli.graph.analysis.difference import layers_alone
from nettrim_cli.graph.gradient.fit_graph import scores_graph
from nettrim_cli.graph.gradient.sign_graph import SCALE, SignGraph, sign_graph
from nettrim_cli.graph.layer import Layer
from nettrim_cli.graph.layers.paths import response_path
from nettrim_cli.graph.model import Model
from nettrim_cli.graph.ops import Unsupported
from nettrim_cli.pruning.branches import constant_branches
from nettrim_cli.solve.matrices import Matrix

DRAWS = 64  # of signs, at least, where their products count; samples have signs of their own
OPTIMISED = 48  # layers at most: more take longer to optimise than to run
LEAST = 1e-2  # of the root mean square importance, that every output has
FLOATS = ("float32", "float64")
REFUSALS = (BadInput, EngineFailed, OutOfMemory, Unsupported)
SHRINKAGE = 0.1  # of correlations between outputs, at least
MOST_OUTPUTS = 1024  # of layers whose outputs are taken together
FEW_PAIRS = 1 << 22  # of such outputs in all layers, or one for each weight of the network,
MOST_PAIRS = 1 << 26  # up to so many, which take 256 MB


class OutputImportance(NamedTuple):
    """How much errors of a block's outputs matter to the network's.

    Attributes
    ----------
    weights
        (M,) of each alone: the root of the energy of its gradient, with mean square 1.
    correlation
        (M, M) of the gradients of two of them, with ones on the diagonal; None where outputs are
        too many.
    """

    weights: Matrix
    correlation: Matrix | None = None


Importance = Mapping[str, Sequence[OutputImportance]]
"""Of each block of a layer, by the layer's name."""


class Movement(NamedTuple):
    """Sums over the outputs of their relative squared errors: as they are, and unflattened."""

    outputs: float
    unflattened: float


class OutputGradients:
    """Gradients of the network's outputs on some samples.

    Parameters
    ----------
    dense
        The network.
    batches, judges
        A few samples each: any of them, and those that no weights were fitted to.
    threads
        Threads of the engine.
    """

    def __init__(
        self, dense: Model, batches: Sequence[Batch], judges: Sequence[Batch], *, threads: int
    ) -> None:
        self.dense, self.batches, self.threads = dense, batches, threads
        self.judges = judges
        self._scales_of: dict[tuple[str, ...], dict[str, Matrix]] = {}

    @cached_property
    def _branches(self) -> Mapping[str, bool]:
        """What conditions are that are the same on all samples."""
        feeds = (batch.feeds for batch in (*self.batches, *self.judges))
        return constant_branches(self.dense, feeds, self.threads)

    @cached_property
    def dense_importance(self) -> Importance:
        """How much each output matters in the dense network, see ``importance``."""
        return self.importance(self.dense)

    def importance(self, model: Model) -> Importance:
        """How much each output of the prunable layers matters, with mean square 1.

        Parameters
        ----------
        model
            The dense network, or one with other weights.

        Returns
        -------
        dict
            By name, that of each block.  Layers of whose outputs nothing is known are not in it.
        """
        channels: dict[str, int] = {}
        pairs: dict[str, int] = {}
        tensors: dict[str, list[str]] = {}
        coupled = _coupled(model)
        for layer in model.layers:
            axis = ops.output_axis(layer.geometry) if layer.prunable else None
            if axis is not None:
                tensors[layer.name] = [
                    response_path(model.index, layer, site)[1] for site in layer.sites
                ]
                wanted = pairs if layer.name in coupled else channels
                wanted |= dict.fromkeys(tensors[layer.name], axis)
        energies: dict[str, Matrix] = {}
        with suppress(*REFUSALS):
            graph = sign_graph(
                model.index,
                self._ends(scores=True),
                channels=channels,
                pairs=pairs,
                branches=self._branches,
            )
            for values in self._runs(graph, {**graph.energies, **graph.moments}, self.batches):
                for name, energy in values.items():
                    kept = energy if energy.ndim > 1 else energy.astype(np.float64)
                    energies[name] = energies.get(name, np.zeros(1, kept.dtype)) + kept
        importance = {}
        for layer in model.layers:
            places = [energies[name] for name in tensors.get(layer.name, ()) if name in energies]
            if blocks := _blocks(layer, places, sum(batch.count for batch in self.batches)):
                importance[layer.name] = blocks
        return importance

    def by_column(self, tensors: Mapping[str, int]) -> Callable[[Batch], dict[str, Matrix]]:
        """Squares of gradients at each place of some tensors, with new signs for every batch.

        Parameters
        ----------
        tensors
            Names, and the axis of the channels that are summed over.

        Returns
        -------
        function
            Of a batch: (P,) of each tensor, by name; of those that gradients do not reach none.
        """
        with suppress(*REFUSALS):
            ends = self._ends(scores=True)
            graph = sign_graph(self.dense.index, ends, places=tensors, branches=self._branches)
            if graph.columns:
                return self._values(graph, graph.columns)
        return lambda _: {}

    def movements(self, changed: Model) -> dict[str, Movement]:
        """What each layer's change alone does to the outputs, by name.

        Layers that are not changed, or that no gradient reaches, are not in it.

        Parameters
        ----------
        changed
            The dense network with other weights in some layers.
        """
        unflattened = self._moved(changed, scores=True)
        same = self._ends(scores=True) == self._ends(scores=False)
        outputs = unflattened if same else self._moved(changed, scores=False)
        return {
            name: Movement(outputs[name], unflattened[name])
            for name in outputs.keys() & unflattened.keys()
        }

    def _moved(self, changed: Model, *, scores: bool) -> dict[str, float]:
        """Relative squared errors of the outputs, or before a final Softmax or Sigmoid."""
        squares: dict[str, float] = {}
        try:
            index, copies = layers_alone(self.dense, changed)
            pairs = {response: copy for response, (_, copy) in copies.items()}
            names = {response: layer.layer.name for response, (layer, _) in copies.items()}
            graph = sign_graph(index, self._ends(scores=scores), copies=pairs)
            draws = rounds = 0
            run = self._values(graph, graph.products)
            while graph.products and self.judges and draws < DRAWS:
                rounds += 1
                for batch in self.judges:
                    moves = _by_layer(run(batch), names, batch.count)
                    draws += min(map(len, moves.values()))
                    for name, move in moves.items():
                        squares[name] = squares.get(name, 0.0) + float(move @ move)
        except REFUSALS:
            return {}
        hidden = {names[response] for response in pairs.keys() - graph.products}
        sites = [(layer.name, site) for layer in changed.layers for site in layer.sites]
        readers = Counter(site.node for _, site in sites)  # layers of one node change together
        hidden |= {name for name, site in sites if site.scope or readers[site.node] > 1}
        return {
            name: square / rounds
            for name, square in squares.items()
            if name not in hidden and math.isfinite(square)
        }

    def _ends(self, *, scores: bool) -> list[str]:
        """Outputs of floating-point numbers, or what a final Softmax or Sigmoid reads."""
        index = self.dense.index
        names = [output.name for output in self.dense.outputs if output.dtype in FLOATS]
        if scores:
            names = [before_softmax(index, name) for name in names]
        return [*dict.fromkeys(names)]

    def _runs(
        self, graph: SignGraph, wanted: Mapping[str, str], batches: Iterable[Batch]
    ) -> Iterator[dict[str, Matrix]]:
        """Values of some outputs of the graph, by tensor, for each batch and its signs."""
        if wanted:
            yield from map(self._values(graph, wanted), batches)

    def _values(
        self, graph: SignGraph, wanted: Mapping[str, str]
    ) -> Callable[[Batch], dict[str, Matrix]]:
        """A function that runs the graph on a batch, and gives some of its outputs by tensor."""
        scales = self._scales(graph.outputs)
        names = [*dict.fromkeys(wanted.values())]
        optimise = len(names) <= OPTIMISED
        engine = Engine(graph.runnable, threads=self.threads, optimise=optimise)

        def values(batch: Batch) -> dict[str, Matrix]:
            """Outputs by tensor."""
            outputs = dict(zip(names, engine.run(dict(batch.feeds) | scales, names), strict=True))
            return {tensor: outputs[name] for tensor, name in wanted.items()}

        return values

    def _scales(self, names: Sequence[str]) -> dict[str, Matrix]:
        """What makes errors of the outputs relative to their size over all samples."""
        key = tuple(names)
        if key not in self._scales_of:
            engine = Engine(scores_graph(self.dense.index, names), threads=self.threads)
            sizes = np.zeros(len(names))
            for batch in self.judges:
                outputs = engine.run(batch.feeds, names)
                sizes += [np.square(output, dtype=np.float64).sum() for output in outputs]
                kinds = [output.dtype for output in outputs]
            self._scales_of[key] = {
                SCALE + name: np.array(size**-0.5 if size > 0 else 0.0, kind)
                for name, size, kind in zip(names, sizes, kinds, strict=True)
            }
        return self._scales_of[key]


def blended(first: Importance, second: Importance) -> dict[str, Sequence[OutputImportance]]:
    """Importance in two versions of a model: geometric means, with mean square 1 again.

    Of a layer that is in one of them only, that one's.  Correlations are averaged.
    """
    result = {**first, **second}
    for name in first.keys() & second.keys():
        pairs = list(zip(first[name], second[name], strict=True))
        joint = [np.sqrt(a.weights * b.weights) for a, b in pairs]
        size = np.sqrt(np.mean(np.square(np.concatenate(joint))))
        result[name] = [
            OutputImportance(weights / size, _mean(a.correlation, b.correlation))
            for weights, (a, b) in zip(joint, pairs, strict=True)
        ]
    return result


def _coupled(model: Model) -> set[str]:
    """Names of the layers whose outputs are taken together: narrow ones first, for their memory."""
    layers = [layer for layer in model.layers if layer.prunable]
    room = min(max(FEW_PAIRS, sum(layer.parameters for layer in layers)), MOST_PAIRS)
    names = set()
    for layer in sorted(layers, key=lambda layer: layer.shape[1]):
        room -= layer.shape[1] ** 2
        if layer.shape[1] <= MOST_OUTPUTS and room >= 0:
            names.add(layer.name)
    return names


def _by_layer(
    products: Mapping[str, Matrix], names: Mapping[str, str], samples: int
) -> dict[str, Matrix]:
    """Sums of the products of each layer's places, by its name: one a sample, or (1,) of a batch.

    Parameters
    ----------
    products
        Of gradients and errors by tensor, see ``SignGraph``.
    names
        The layers of these tensors.
    samples
        Of the batch.
    """
    places: dict[str, list[Matrix]] = {}
    for tensor, product in products.items():
        places.setdefault(names[tensor], []).append(product)
    return {
        name: np.sum(parts, axis=0)
        if all(len(part) == samples for part in parts)
        else np.sum([part.sum() for part in parts], keepdims=True)
        for name, parts in places.items()
    }


def _mean(first: Matrix | None, second: Matrix | None) -> Matrix | None:
    return None if first is None or second is None else np.asarray((first + second) / 2)


def _blocks(layer: Layer, moments: Sequence[Matrix], samples: int) -> list[OutputImportance]:
    """The importance of each block's outputs; [] where nothing is known of them.

    Parameters
    ----------
    moments
        (M, M) sums of products of gradients in each of the layer's places, or (M,) of squares.
    samples
        That they are sums over.
    """
    if not moments or any(places.shape[0] != layer.shape[1] for places in moments):
        return []
    total = np.sum(moments, axis=0)
    energy = total.diagonal() if total.ndim > 1 else total
    average = float(energy.mean(dtype=np.float64))
    if not 0 < average < np.inf:
        return []
    blocks = layer.split_blocks(np.maximum(np.sqrt(energy / average), LEAST))
    if total.ndim == 1:
        return [OutputImportance(weights) for weights in blocks]
    numbers = layer.split_blocks(np.arange(len(total)))
    return [
        OutputImportance(weights, shrunk_correlation(total[np.ix_(places, places)], samples))
        for weights, places in zip(blocks, numbers, strict=True)
    ]


def shrunk_correlation(moments: Matrix, samples: int) -> Matrix:
    """Correlations (M, M) of second moments, drawn towards none as far as chance explains them.

    Chance gives a square of 1 / samples to each of them (Schäfer and Strimmer, "A shrinkage
    approach to large-scale covariance matrix estimation", 2005).

    Parameters
    ----------
    moments
        (M, M), float32.
    samples
        That they were computed of.
    """
    moments = moments.astype(np.float64)
    size = np.sqrt(np.maximum(moments.diagonal(), 0))
    size = np.maximum(size, LEAST**2 * size.max(initial=0.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        correlation = np.nan_to_num(moments / np.outer(size, size))
    np.fill_diagonal(correlation, 0)
    energy = float(np.square(correlation).sum())
    chance = len(size) * (len(size) - 1) / max(1, samples)
    correlation *= 1 - min(1.0, max(SHRINKAGE, chance / energy if energy else 1.0))
    np.fill_diagonal(correlation, 1)
    return np.asarray(correlation, np.float32)
