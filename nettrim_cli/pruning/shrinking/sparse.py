"""Fewer units, lower ranks, and zeros anywhere in what is left of the layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from nettrim_cli.data.sample_set import SampleSet
from nettrim_cli.graph.model import Model
from nettrim_cli.pruning.compression import Attempt
from nettrim_cli.pruning.context import Context
from nettrim_cli.pruning.layerwise import PassResult, WarmStart, prune_pass
from nettrim_cli.pruning.mixing import weight_bytes
from nettrim_cli.pruning.scattered import ScatteredZeros, without_smallest
from nettrim_cli.pruning.second_step import after, few_bits, step_context
from nettrim_cli.pruning.shrinking.compression import SMALLEST, Shrinking
from nettrim_cli.pruning.shrinking.widths import Widths

START = 0.5
NODES = 1 - np.geomspace(0.995, 0.005, 16)  # sparsities between which errors are interpolated
LEAST = 1e-9  # of an error
DEARER = 0.3  # power of the density by which errors rise with zeros


class SparseShrinking(Shrinking):
    """A measured network whose layers can be smaller, and sparse besides.

    Of the weights that are left of the layers, the mix's share is zero.
    """

    zeros: Sequence[float] = (0.0, 0.25, START, 0.65, 0.8, 0.9)

    def __init__(self, context: Context, samples: SampleSet, bits: Sequence[int | None]) -> None:
        super().__init__(context, samples, bits)
        self.mix = replace(self.mix, zeros=START)

    def limits(self) -> tuple[float, float]:
        """The least and the largest sparsity."""
        low, _ = super().limits()
        return low, 1 - SMALLEST

    def error(self, sparsity: float) -> float:
        """The network's relative error by those of the single widths, and of zeros."""
        errors = [super(SparseShrinking, self).error(node) for node in NODES]
        share = self._gone(sparsity)
        error = math.exp(np.interp(share, NODES, np.log(np.maximum(errors, LEAST))))
        return error * float((1 - self.mix.zeros) ** -DEARER)

    def stored_bytes(self, sparsity: float) -> float:
        """About the bytes of the layers' weights in a compact file."""
        left = 1 - self._gone(sparsity)
        density = min(1.0, (1 - sparsity) / left)
        return left * self.total * weight_bytes(density, self.mix.bits)

    def widths(self, sparsity: float) -> Widths:
        """Widths that leave so many weights that the rest is zeros."""
        return super().widths(self._gone(sparsity))

    def _gone(self, sparsity: float) -> float:
        """The share of the weights that go with units and ranks."""
        low, high = super().limits()
        return min(max(1 - (1 - sparsity) / (1 - self.mix.zeros), low), high)

    def small_preview(self, sparsity: float) -> Model:
        """The dense weights with units gone, ranks cut, and the smallest of the rest zero."""
        model = super().small_preview(sparsity)
        left = self.problem.size_of(self.widths(sparsity))
        share = 1 - min(1.0, (1 - sparsity) * self.total / left)
        for layer in model.layers if share else ():
            if layer.prunable:
                weights, biases = model.weight(layer)
                zeros = round(share * layer.parameters)
                model.set_weight(layer, without_smallest(weights, zeros), biases)
        return model

    def compress(self, sparsity: float, last: Attempt | None) -> Attempt:
        """The network at a sparsity."""
        small, weights = self.shrunk(self.widths(sparsity)), round((1 - sparsity) * self.total)
        if self.mix.zeros:
            small = with_zeros(self.context, self.measured_samples, small, weights)
        return Attempt(few_bits(self.context, self.samples, small), 1 - sparsity)

    def within(self, epsilon: float) -> PassResult:
        """The network whose layers' responses are kept, each of both steps half of the square."""
        share = epsilon / 2**0.5
        small = self.shrunk(self.problem.within(share))
        sparse = zeros_within(self.context, self.measured_samples, small, share)
        return few_bits(self.context, self.samples, sparse)


def with_zeros(
    context: Context, samples: SampleSet, result: PassResult, weights: int
) -> PassResult:
    """A network of smaller layers with zeros in them.

    Parameters
    ----------
    context, samples
        Those of the run.
    result
        The pruned network.
    weights
        How many weights stay.
    """
    step = step_context(context, result, sparsity=0.5)
    there = sum(report.nonzeros_after for report in result.layers)
    total = sum(layer.parameters for layer in step.layers)
    if there <= weights:
        return result
    scattered = ScatteredZeros(step, samples)
    low, high = scattered.limits()
    sparsity = min(max((there - weights) / total, low), high)
    return after(context, result, scattered.compress(sparsity, None).result)


def zeros_within(
    context: Context, samples: SampleSet, result: PassResult, epsilon: float
) -> PassResult:
    """A network of smaller layers with zeros that keep each response within a relative error.

    Parameters
    ----------
    context, samples
        Those of the run.
    result
        The pruned network.
    epsilon
        The error.
    """
    step = step_context(context, result, epsilon=epsilon)
    return after(context, result, prune_pass(step, samples, None, {}, WarmStart()))
