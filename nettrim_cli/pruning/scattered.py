"""Zeros anywhere in the layers, as a way to make a network smaller."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from nettrim_cli.data.sample_set import SampleSet
from nettrim_cli.errors import NothingToDo
from nettrim_cli.graph.model import Model
from nettrim_cli.pruning.blocks import nonzeros
from nettrim_cli.pruning.compression import Attempt, remixed
from nettrim_cli.pruning.context import Context
from nettrim_cli.pruning.layerwise import prune_pass
from nettrim_cli.pruning.measurement import allocate, measure
from nettrim_cli.pruning.mixing import weight_bytes
from nettrim_cli.pruning.second_step import few_bits, in_full
from nettrim_cli.report.result import Mix
from nettrim_cli.solve.gram.rounding import to_nearest
from nettrim_cli.solve.matrices import Matrix

NEAR = 3  # by which weights may differ between attempts for the choices to hold
REPAIRED, SLOPE = 0.64, 0.1  # what is left of independent errors in a cascade, at odds of 1


class ScatteredZeros:
    """A measured network, and what it delivered to its layers.

    Parameters
    ----------
    samples
        Those to fit, before any are made of them.
    """

    noun = "zeros"
    zeros: Sequence[float] = (0.0,)

    def __init__(
        self, context: Context, samples: SampleSet, bits: Sequence[int | None] = (None,)
    ) -> None:
        self.context, self.bits, self.mix = context, bits, Mix(context.settings.weight_bits)
        self.measured = measure(context, samples)
        self.cache = self.measured.cache
        self.samples, self.forecast = self.measured.samples, self.measured.forecast
        self.error_model = self.measured.error_model
        self.curves = self.error_model.told

    def limits(self) -> tuple[float, float]:
        """The least and the largest sparsity that limits and curves allow, over all layers.

        Raises
        ------
        NothingToDo
            There is none.
        """
        context, error_model = self.context, self.error_model
        if not error_model.curves:
            raise NothingToDo(f"{context.dense.path}: no layer can be measured on these samples.")
        low = high = total = zeros = 0.0
        for layer in (curve.layer for curve in error_model.curves):
            fewest, most = context.bounds[layer.name]
            total += layer.parameters
            zeros += layer.parameters - nonzeros(context.dense.weight(layer)[0])
            low += fewest
            high += max(fewest, min(most, error_model.levels[-1] * layer.parameters))
        low, high = max(low, zeros + 1) / total, high / total
        if low > high:
            raise NothingToDo(
                f"{context.dense.path}: --limit allows no more zeros than there are already; "
                "nothing was written. Allow more, or leave these layers out (--exclude)."
            )
        return low, high

    def error(self, sparsity: float) -> float:
        """The network's relative error by the layers' own."""
        return self.error_of(allocate(self.context, self.error_model, sparsity), sparsity)

    def error_of(self, zeros: Mapping[str, int], sparsity: float) -> float:
        """The network's relative error with so many zeros in each layer, by name, and over all.

        In a cascade later layers repair a part of it.
        """
        error = self.error_model.error(zeros)
        if self.context.settings.scheme == "cascade":
            error *= REPAIRED * (sparsity / (1 - sparsity)) ** SLOPE
        return error

    def stored_bytes(self, sparsity: float) -> float:
        """About the bytes of the layers' weights in a compact file."""
        total = sum(layer.parameters for layer in self.context.layers)
        return total * weight_bytes(1 - sparsity, self.mix.bits)

    def mixed(self, mix: Mix) -> ScatteredZeros:
        """The same with weights of other bits."""
        return remixed(self, mix)

    def preview(self, sparsity: float) -> Model:
        """The dense network with the smallest weights of each layer zero, the others rounded."""
        return self.without(allocate(self.context, self.error_model, sparsity))

    def without(self, zeros: Mapping[str, int]) -> Model:
        """The dense network with so many of each layer's smallest weights zero, others rounded."""
        dense = self.context.dense
        model, bits = dense.clone(), self.mix.bits
        for layer in self.context.layers:
            count = zeros.get(layer.name, 0)
            weights = without_smallest(dense.weight(layer)[0], count)
            if count or bits:
                model.set_weight(layer, [to_nearest(weight, bits) for weight in weights], None)
        return model

    def compress(self, sparsity: float, last: Attempt | None) -> Attempt:
        """The pruned network; choices of the last attempt hold where that is near."""
        context, density = self.context, 1 - sparsity
        warm, importance = self.measured.warm, context.dense_importance
        if last is not None and 1 / NEAR < density / last.density < NEAR:
            density = last.density
            warm = replace(last.result.warm, weights=last.result.model)
        zeros = allocate(context, self.error_model, sparsity)
        full = in_full(context)
        result = prune_pass(full, self.samples, zeros, importance, warm, cache=self.cache)
        if full is not context:
            result = few_bits(context, self.samples, result)
        return Attempt(result, density)


def without_smallest(weights: Sequence[Matrix], zeros: int) -> list[Matrix]:
    """Copies of the weights (N, M) of a layer's blocks, of which so many smallest are zero."""
    copies = [weight.copy() for weight in weights]
    if zeros:
        sizes = np.abs(np.concatenate([weight.ravel() for weight in weights]))
        least = np.partition(sizes, zeros - 1)[zeros - 1]
        for weight in copies:
            weight[np.abs(weight) <= least] = 0
    return copies
