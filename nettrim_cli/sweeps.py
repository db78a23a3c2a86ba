"""More passes over the layers, with what the passes before them tell.

The first pass weighs the outputs of each layer by what matters to the dense network and to a rough
sparse one.  Once there is a pruned network, it says itself what it still reads: every further
pass chooses all supports anew by that, with as many zeros in each layer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from nettrim_cli.comparison import Reference
from nettrim_cli.run import Batches, Reached, Run


def solved(run: Run, batches: Batches, reference: Reference) -> Reached:
    """All passes at a target that says how many zeros, or which error, each layer gets."""
    zeros = run.zeros(batches)
    layers = run.prune_layers(batches, zeros)
    found = Reached(run.pruned, layers)
    return found if zeros is None else sweep(run, batches, zeros, found, reference)


def sweep(
    run: Run,
    batches: Batches,
    zeros: Mapping[str, int],
    found: Reached,
    reference: Reference,
    accepted: Callable[[Reached], Reached | None] = lambda other: other,
) -> Reached:
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
        least = reference.against(found.model).error
    before = found.model
    for number in range(2, sweeps + 1):
        run.listener.stage(f"sweep {number} of {sweeps}")
        run.weigh(before)
        layers = run.prune_layers(batches, zeros, again=True)
        before = run.pruned
        error = reference.against(before).error
        other = accepted(Reached(before, layers)) if error < least else None
        words = "kept" if other is not None else "not kept"
        run.listener.message(
            f"sweep {number}: held-out output error {error:.2%}, {least:.2%} before: {words}"
        )
        if other is not None:
            found, least = other, error
    return found
