"""Hidden units that pruning left without weights are deleted from the network."""

from __future__ import annotations

from nettrim_cli.data.sample_set import SampleSet
from nettrim_cli.evaluation.comparison import ReferenceOutputs
from nettrim_cli.graph.channels.dead import without_dead_units
from nettrim_cli.graph.model import Model
from nettrim_cli.settings import ANYWHERE, Settings

TOLERANCE = 1e-4
"""Relative difference of outputs that rounding may make."""


def without_idle_units(
    model: Model, samples: SampleSet, settings: Settings, threads: int
) -> tuple[Model, int]:
    """The network without units that do nothing, and how many of them were deleted.

    It stays as it is where that is not wanted, where a pattern asks for zeros at certain places,
    or where its outputs on held-out samples would not be the same.

    Parameters
    ----------
    model
        The pruned network.
    samples
        Those held out are run.
    threads
        Threads of the engine.
    """
    patterns = {settings.pattern, *(options.pattern for options in settings.layers)}
    if settings.no_delete or patterns - {None, ANYWHERE}:
        return model, 0
    smaller, count = without_dead_units(model)
    if not count:
        return model, 0
    outputs = ReferenceOutputs(model, samples.holdout_batches, threads=threads)
    return (smaller, count) if outputs.compare(smaller).error <= TOLERANCE else (model, 0)
