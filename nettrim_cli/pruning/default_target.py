"""The target of a run that is given none, in the unit that its samples can be measured in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from nettrim_cli.data.sample_set import SampleSet
from nettrim_cli.evaluation.comparison import ReferenceOutputs
from nettrim_cli.report.diagnostic import Diagnostic
from nettrim_cli.report.formatting import count, plain_percent
from nettrim_cli.settings import (
    DEFAULT_DROP,
    DEFAULT_EPSILON,
    DEFAULT_ERROR,
    DEFAULT_TARGET,
    Settings,
)

FEWEST_HELD_OUT = 400  # samples from which on the bound on a drop costs few zeros (docs/method.md)
DOUBTED_LABELS = {"labels-at-chance", "constant-labels", "unused-labels"}  # codes of warnings


def with_target(
    settings: Settings,
    samples: SampleSet,
    doubts: Sequence[Diagnostic],
    reference: ReferenceOutputs,
) -> tuple[Settings, list[Diagnostic]]:
    """The settings with a target, and what a user should know of it; the same where one was given.

    Parameters
    ----------
    samples
        Those to fit and to judge by.
    doubts
        What there is to doubt of samples and labels.
    reference
        The dense network on the held-out samples.
    """
    if settings.target[0] != DEFAULT_TARGET:
        return settings, []
    held_out = len(samples.holdout)
    labelled = samples.calibration.labels and not {each.code for each in doubts} & DOUBTED_LABELS
    if labelled and held_out >= FEWEST_HELD_OUT:
        settings = replace(settings, max_drop=DEFAULT_DROP)
        why = "there are labels"
    elif not reference.unmeasured:
        settings = replace(settings, max_error=DEFAULT_ERROR)
        why = "there are no labels to go by"
        if labelled:
            why = f"{count(held_out)} held-out samples are too few to tell of lost accuracy"
    else:
        settings = replace(settings, epsilon=DEFAULT_EPSILON)
        why = "the error of an output cannot be measured"
    name, value = settings.target
    option = f"--{name.replace('_', '-')} {plain_percent(value)}%"
    text = f"no target was given: {option} was taken, as {why}."
    return settings, [Diagnostic("default-target", text)]
