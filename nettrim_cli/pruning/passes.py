"""More passes over the layers, with what the passes before them tell.

The first pass weighs the outputs of each layer by what matters to the dense network and to a rough
sparse one.  Once there is a pruned network, it says itself what it still reads: every further
pass chooses all supports anew by that, with as many zeros in each layer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.data.sample_set import SampleSet
from nettrim_cli.evaluation.comparison import ReferenceOutputs
from nettrim_cli.pruning.layerwise import Batches, PassResult, Run
from nettrim_cli.pruning.sensitivity import SensitivityProbe
from nettrim_cli.solve.problem import TunedOptions

Choices = Mapping[tuple[str, int], TunedOptions]
SURE = 2.0  # standard errors by which a rival must be better to take the place of the first,
DOUBTFUL = 1.0  # and by which it may be worse and still be averaged with it


def solved(run: Run, samples: SampleSet, reference: ReferenceOutputs) -> PassResult:
    """All passes at a target that says how many zeros, or which error, each layer gets."""
    allocations, samples = run.allocations(samples)
    zeros: Mapping[str, int] | None = allocations[0] if allocations else None
    layers = run.prune_layers(samples.flagged_batches, zeros)
    best = PassResult(run.pruned, layers)
    if zeros is None:
        return best
    if len(allocations) > 1:
        best, zeros = contest(run, samples, allocations, best)
    best = sweep(run, samples.flagged_batches, zeros, best, reference)
    settings = run.settings
    if samples.few and settings.method == "l0" and settings.final_fit == "auto":
        return final_fit(run, samples, zeros, best, reference)
    return best


def final_fit(
    run: Run,
    samples: SampleSet,
    zeros: Mapping[str, int],
    best: PassResult,
    reference: ReferenceOutputs,
) -> PassResult:
    """Fit the layers to all samples, with the choices that the held-out ones have made.

    As in scikit-learn's ``refit`` after a search, errors stay those of before: no sample is left
    to measure others on.  Where the network is no better on the held-out samples, which are fitted
    to now, the fit has failed, and the one before stays.

    Parameters
    ----------
    zeros
        Of each layer, as in the passes before.
    best
        What came out of these.
    reference
        The dense network on the held-out samples.
    """
    run.listener.stage(f"fitting to all {len(samples):,} samples")
    run.trail = None  # the batches are others
    layers = run.prune_layers(samples.whole().flagged_batches, zeros, again=True, seen=True)
    if not reference.compare(run.pruned).error <= reference.compare(best.model).error:
        run.pruned = best.model
        return best
    before = {layer.name: layer.error_holdout for layer in best.layers}
    layers = [replace(layer, error_holdout=before[layer.name]) for layer in layers]
    run.final_samples = len(samples)
    return PassResult(run.pruned, layers, judged=best.model)


def contest(
    run: Run, samples: SampleSet, allocations: Sequence[Mapping[str, int]], first: PassResult
) -> tuple[PassResult, Mapping[str, int]]:
    """The network with the best of some allocations, by its outputs on held-out samples.

    The first is the best in general, and stays unless another is surely better.  Those that few
    samples do not tell apart from it are averaged with it.  A final Softmax or Sigmoid is looked
    behind, as few samples are in doubt there.

    Parameters
    ----------
    allocations
        Zeros of each layer; of these the first has been solved.
    first
        What came out of it.
    """
    judges = samples.judging_batches()
    probe = SensitivityProbe(run.dense, run.plan[:1], judges, threads=run.threads)
    leader = _Contestant(allocations[0], first, run.choices, probe.differences(first.model))

    def solve(zeros: Mapping[str, int], choices: Choices = leader.choices) -> _Contestant:
        run.listener.stage("trying another allocation")
        run.choices = choices
        layers = run.prune_layers(samples.flagged_batches, zeros, again=True)
        result = PassResult(run.pruned, layers)
        return _Contestant(zeros, result, run.choices, probe.differences(run.pruned))

    outcomes = [(leader.zeros, leader.moved)]  # without the networks, whose memory is wanted
    for zeros in allocations[1:]:
        rival = solve(zeros)
        outcomes.append((zeros, rival.moved))
        if excess(rival.moved, leader.moved) < -SURE:
            leader = rival
    doubtful = [zeros for zeros, moved in outcomes if excess(moved, leader.moved) < DOUBTFUL]
    mean = averaged(doubtful or [leader.zeros])  # of none, where no output is finite
    if mean != leader.zeros:
        rival = solve(mean)
        if excess(rival.moved, leader.moved) < DOUBTFUL:
            leader = rival
    run.choices, run.pruned = leader.choices, leader.result.model
    return leader.result, leader.zeros


class _Contestant(NamedTuple):
    """A network of some allocation; ``moved`` is what it moves each judging batch by."""

    zeros: Mapping[str, int]
    result: PassResult
    choices: Choices
    moved: NDArray[np.float64]


def excess(moved: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Student's paired statistic of how much more one network's outputs move than another's.

    Parameters
    ----------
    moved, other
        (batches,) squared errors of both on the same samples.
    """
    if not np.isfinite(moved).all():
        return math.inf
    if not np.isfinite(other).all():
        return -math.inf
    change = moved - other
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
    run: Run,
    batches: Batches,
    zeros: Mapping[str, int],
    found: PassResult,
    reference: ReferenceOutputs,
    accepted: Callable[[PassResult], PassResult | None] = lambda other: other,
) -> PassResult:
    """Make the passes that the settings ask for after the first, and keep the best network.

    Parameters
    ----------
    zeros
        Of each layer, as in the first pass.
    found
        What came out of that.
    reference
        The dense network on the held-out samples, which decide.
    accepted
        Whether another network may be kept, and as what.
    """
    sweeps, least = run.settings.sweeps, math.inf
    if sweeps > 1:
        least = reference.compare(found.model).error
    before = found.model
    for number in range(2, sweeps + 1):
        run.listener.stage(f"sweep {number} of {sweeps}")
        run.weigh(before)
        layers = run.prune_layers(batches, zeros, again=True)
        before = run.pruned
        error = reference.compare(before).error
        other = accepted(PassResult(before, layers)) if error < least else None
        words = "kept" if other is not None else "not kept"
        run.listener.message(
            f"sweep {number}: held-out output error {error:.2%}, {least:.2%} before: {words}"
        )
        if other is not None:
            found, least = other, error
    return found
