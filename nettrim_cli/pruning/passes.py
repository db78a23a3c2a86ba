"""All passes over the layers: the first, rival allocations, sweeps, and the final fit.

The first pass weighs the outputs of each layer by what matters to the dense network.  A pruned
network says itself what it still reads: a sweep chooses all supports anew by that, too, with as
many zeros in each layer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.data.sample_set import SampleSet
from nettrim_cli.data.stream import StreamCache
from nettrim_cli.errors import BadInput
from nettrim_cli.evaluation.comparison import ReferenceOutputs
from nettrim_cli.pruning.allocation import Forecast
from nettrim_cli.pruning.compression import Compression
from nettrim_cli.pruning.context import Context
from nettrim_cli.pruning.layerwise import PassResult, WarmStart, prune_pass
from nettrim_cli.pruning.measurement import StartingPoint, starting_point
from nettrim_cli.pruning.mixing import best_mix
from nettrim_cli.pruning.refit.network import fits_network, refit_again
from nettrim_cli.pruning.scattered import ScatteredZeros
from nettrim_cli.pruning.second_step import few_bits, fit_together, in_full
from nettrim_cli.pruning.sensitivity import SensitivityProbe
from nettrim_cli.pruning.shrinking.compression import Shrinking
from nettrim_cli.pruning.shrinking.sparse import SparseShrinking
from nettrim_cli.report.result import NO_MIX, ErrorCurve, Mix
from nettrim_cli.settings import AUTO, CHOSEN_BITS, FIRST_BITS

Zeros = Mapping[str, int]
SURE = 2.0  # standard errors by which a rival must be better to take the place of the first,
DOUBTFUL = 1.0  # and by which it may be worse and still be averaged with it


@dataclass(frozen=True)
class Outcome:
    """The network that all passes lead to.

    Attributes
    ----------
    samples
        Those that layers were fitted to, made ones among them, before a final fit.
    forecast
        What more samples would give, where that was asked for.
    mix
        What weights are stored as.
    curves
        Of the layers, where zeros are shared out by what they cost.
    """

    result: PassResult
    samples: SampleSet
    forecast: Forecast | None = None
    mix: Mix = NO_MIX
    curves: tuple[ErrorCurve, ...] = ()

    @property
    def final_samples(self) -> int:
        """Samples of the final fit; 0 where there was none."""
        return len(self.samples) if self.result.judged else 0


class Contestant(NamedTuple):
    """A network of some allocation, and (B,) squared errors of its outputs."""

    zeros: Zeros
    result: PassResult
    moved: NDArray[np.float64]


def prune_network(context: Context, samples: SampleSet, reference: ReferenceOutputs) -> Outcome:
    """Make all passes at a target that says how many zeros, or which error, each layer gets.

    Parameters
    ----------
    samples
        Those to fit and those held out.
    reference
        The dense network on the held-out samples.
    """
    settings = context.settings
    if settings.structure != "zeros":
        return shrink_network(context, samples, reference)
    mix = Mix(settings.weight_bits)
    first = starting_point(context, samples)
    together = fits_network(settings) and first.allocations is not None
    passes, share = in_full(context), 0.0
    result, samples = _passes(passes, first, reference)
    if passes is not context:
        result = few_bits(context, samples, result)
    if together:
        result, share = fit_together(context, samples, result, reference)
    few = first.allocations is not None and samples.few
    final = few and settings.method == "l0" and settings.final_fit == "auto"
    if final and context.deadline.allows("the fit to all samples", result.seconds):
        fitted = _fitted_to_all(context, samples.whole(), result, share)
        result = final_fit(result, fitted, reference)
    return Outcome(result, samples, first.forecast, mix, first.curves)


def _fitted_to_all(
    context: Context, samples: SampleSet, result: PassResult, share: float
) -> PassResult:
    """The network again, with the choices that were made.

    Parameters
    ----------
    context
        The dense network and its layers.
    samples
        All samples, to fit.
    result
        The network so far.
    share
        See ``refit_again``.
    """
    context.listener.stage(f"fitting to all {len(samples.fitted):,} samples")
    warm, passes = replace(result.warm, holdout_fitted=True), in_full(context)
    fitted = prune_pass(passes, samples, result.zeros, result.importance, warm)
    if share:
        fitted = refit_again(context, samples, fitted, share)
    if passes is not context:
        fitted = few_bits(context, samples, fitted, WarmStart(holdout_fitted=True))
    return fitted


def shrink_network(context: Context, samples: SampleSet, reference: ReferenceOutputs) -> Outcome:
    """Make layers smaller at a target of weights or of each layer's error.

    Raises
    ------
    BadInput
        So many weights cannot go.
    """
    shrinking, (name, value) = shrinking_of(context, samples), context.settings.target
    samples = shrinking.samples
    if name == "epsilon":
        return Outcome(shrinking.within(value), samples, mix=shrinking.mix)
    best = best_mix(shrinking, value, reference, context.listener, by_bytes=False)
    result = best.compress(value, None).result
    layers = [layer for layer in result.layers if layer.pruned]
    weights = sum(layer.weights for layer in layers)
    gone = weights - sum(layer.nonzeros_after for layer in layers)
    if gone + 1 <= value * weights:
        raise BadInput(
            f"{context.dense.path}: --structure {context.settings.structure} can take "
            f"{gone / weights:.1%} of the weights away at most; --sparsity {value} is more."
        )
    if fits_network(context.settings):
        result, _ = fit_together(context, samples, result, reference)
    return Outcome(result, samples, mix=best.mix)


def compression_of(context: Context, samples: SampleSet) -> Compression:
    """The way in which the settings make the network smaller."""
    if context.settings.structure != "zeros":
        return shrinking_of(context, samples)
    first, bits = _first_bits(context)
    return ScatteredZeros(first, samples, bits)


def shrinking_of(context: Context, samples: SampleSet) -> Shrinking:
    """Fewer units and lower ranks, with zeros in what is left if the settings say so."""
    first, bits = _first_bits(context)
    kind = SparseShrinking if context.settings.structure.endswith("+zeros") else Shrinking
    return kind(first, samples, bits)


def _first_bits(context: Context) -> tuple[Context, Sequence[int | None]]:
    """The context with the first of the bits that weights may have, and all of these."""
    settings = context.settings
    if settings.bits != AUTO:
        return context, (settings.weight_bits,)
    return context.with_settings(bits=FIRST_BITS), CHOSEN_BITS


def _passes(
    context: Context, first: StartingPoint, reference: ReferenceOutputs
) -> tuple[PassResult, SampleSet]:
    """The best network of all passes on the samples that are fitted to, and these."""
    samples = first.samples
    cache = first.cache or (StreamCache() if context.settings.sweeps > 1 else None)

    def attempt(zeros: Zeros | None, warm: WarmStart) -> PassResult:
        """A pass with so many zeros in each layer."""
        return prune_pass(context, samples, zeros, context.dense_importance, warm, cache=cache)

    if first.allocations is None:
        return attempt(None, first.warm), samples
    result = attempt(first.allocations[0], first.warm)
    weighed = context.weighed(samples)
    trials = len(first.allocations) + (weighed is not samples)
    if trials > 1 and context.deadline.allows("rival allocations", trials * result.seconds):
        judges = samples.judging_batches()
        probe = SensitivityProbe(context.dense, context.stages[:1], judges, threads=context.threads)
        tuned = result.warm

        def rival(zeros: Zeros) -> Contestant:
            """A network of another allocation, beside the first."""
            context.listener.stage("trying another allocation")
            result = attempt(zeros, tuned)
            return Contestant(zeros, result, probe.differences(result.model))

        leader = Contestant(first.allocations[0], result, probe.differences(result.model))
        leader = contest(leader, first.allocations[1:], rival)
        result = leader.result
        if weighed is not samples:
            context.listener.stage("trying columns that count by their gradients")
            other = prune_pass(context, weighed, leader.zeros, context.dense_importance, tuned)
            if excess(probe.differences(other.model), leader.moved) < -SURE:
                context.listener.message("columns count by their gradients from now on")
                result, samples, cache = other, weighed, None
    return sweep(context, samples, result, reference, cache=cache), samples


def final_fit(result: PassResult, fitted: PassResult, reference: ReferenceOutputs) -> PassResult:
    """The network that was fitted to all samples, with the errors of the one before.

    As in scikit-learn's ``refit`` after a search, errors stay those of before: no sample is left
    to measure others on.  Where the network is no better on the held-out samples, which are fitted
    to now, the fit has failed, and the one before stays.

    Parameters
    ----------
    result
        What came out of the passes before.
    fitted
        What came out of the fit to all samples, with the choices that held-out ones have made.
    reference
        The dense network on the held-out samples.
    """
    if not reference.compare(fitted.model).error <= reference.compare(result.model).error:
        return result
    errors = {layer.name: layer.error_holdout for layer in result.layers}
    layers = [replace(layer, error_holdout=errors[layer.name]) for layer in fitted.layers]
    return replace(fitted, layers=layers, judged=result.model)


def contest(
    leader: Contestant, allocations: Sequence[Zeros], attempt: Callable[[Zeros], Contestant]
) -> Contestant:
    """The network with the best of some allocations, by its outputs on held-out samples.

    The first is the best in general, and stays unless another is surely better.  Those that few
    samples do not tell apart from it are averaged with it.

    Parameters
    ----------
    leader
        The first.
    allocations
        Its rivals: zeros of each layer.
    attempt
        Makes a network of an allocation.
    """
    outcomes = [(leader.zeros, leader.moved)]  # without the networks, which take memory
    for zeros in allocations:
        rival = attempt(zeros)
        outcomes.append((zeros, rival.moved))
        if excess(rival.moved, leader.moved) < -SURE:
            leader = rival
    doubtful = [zeros for zeros, moved in outcomes if excess(moved, leader.moved) < DOUBTFUL]
    mean = averaged(doubtful or [leader.zeros])  # of none, where no output is finite
    if mean != leader.zeros:
        rival = attempt(mean)
        if excess(rival.moved, leader.moved) < DOUBTFUL:
            leader = rival
    return leader


def excess(moved: NDArray[np.float64], reference: NDArray[np.float64]) -> float:
    """Student's paired statistic of how much more one network's outputs move than another's.

    Parameters
    ----------
    moved, reference
        (B,) squared errors of both on the same B batches.
    """
    if not np.isfinite(moved).all():
        return math.inf
    if not np.isfinite(reference).all():
        return -math.inf
    change = moved - reference
    total = float(change.sum())
    noise = change.std(ddof=1) * math.sqrt(len(change)) if len(change) > 1 else math.inf
    if noise > 0:
        return total / float(noise)
    return math.copysign(math.inf, total) if total else 0.0


def averaged(allocations: Sequence[Mapping[str, int]]) -> dict[str, int]:
    """The mean zeros of each layer, rounded so that their sum is the allocations'."""
    means = np.mean([list(zeros.values()) for zeros in allocations], axis=0)
    ends = np.floor(np.cumsum(means) + 0.5).astype(int)
    return dict(zip(allocations[0], np.diff(ends, prepend=0).tolist(), strict=True))


def sweep(
    context: Context,
    samples: SampleSet,
    result: PassResult,
    reference: ReferenceOutputs,
    accept: Callable[[PassResult], PassResult | None] = lambda result: result,
    *,
    cache: StreamCache | None = None,
) -> PassResult:
    """Make the passes that the settings ask for after the first, and keep the best network.

    Parameters
    ----------
    result
        What came out of the first pass; all others give each layer as many zeros.
    reference
        The dense network on the held-out samples, which decide.
    accept
        Tells whether another network may be kept, and as what.
    cache
        What the dense network delivered in the passes before.
    """
    sweeps, least = context.settings.sweeps, math.inf
    if sweeps > 1:
        least = reference.compare(result.model).error
    last = result
    for number in range(2, sweeps + 1):
        if not context.deadline.allows(f"sweep {number}", last.seconds):
            break
        context.listener.stage(f"sweep {number} of {sweeps}")
        importance = context.importance(last.model)
        last = prune_pass(context, samples, result.zeros, importance, last.warm, cache=cache)
        error = reference.compare(last.model).error
        candidate = accept(last) if error < least else None
        words = "kept" if candidate is not None else "not kept"
        context.listener.message(
            f"sweep {number}: held-out output error {error:.2%}, {least:.2%} before: {words}"
        )
        if candidate is not None:
            result, least = candidate, error
    return result
