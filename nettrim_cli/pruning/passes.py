"""More passes over the layers, with what the passes before them tell.

The first pass weighs the outputs of each layer by what matters to the dense network and to a rough
sparse one.  Once there is a pruned network, it says itself what it still reads: every further
pass chooses all supports anew by that, with as many zeros in each layer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from nettrim_cli.data.sample_set import SampleSet
from nettrim_cli.evaluation.comparison import ReferenceOutputs
from nettrim_cli.pruning.layerwise import Batches, PassResult, Run
from nettrim_cli.pruning.sensitivity import SensitivityProbe

MARGIN = 0.02  # of squared error: what a rival must be better by


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

    A final Softmax or Sigmoid is looked behind, as few samples are in doubt there.

    Parameters
    ----------
    allocations
        Zeros of each layer; of these the first has been solved.
    first
        What came out of it.
    """
    probe = SensitivityProbe(
        run.dense, run.plan[:1], samples.holdout_batches(), threads=run.threads
    )
    best, zeros = first, allocations[0]
    least = probe.difference(first.model).unflattened
    choices = kept = run.choices
    for rival in allocations[1:]:
        run.listener.stage("trying another allocation")
        run.choices = choices
        layers = run.prune_layers(samples.flagged_batches, rival, again=True)
        moved = probe.difference(run.pruned).unflattened
        if moved < (1 - MARGIN) * least:
            best, zeros, least, kept = PassResult(run.pruned, layers), rival, moved, run.choices
    run.choices = kept
    run.pruned = best.model  # the others' memory is wanted
    return best, zeros


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
