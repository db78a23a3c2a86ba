"""The refit of a whole network: all kept weights, biases, scales and shifts together.

After the passes over the layers, each of them is as good as it can be alone.  What they do together
is fitted here: ``|f(U) - f_dense|^2`` over the outputs, before a Softmax, falls by steps against
its gradient, on the calibration samples and mixtures of two of them (Zhang et al., arXiv
1710.09412), for which the dense network gives the answers.  No labels are read.  Zeros stay.

Samples that were held out choose how far to go from where the passes ended, and whether at all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.data.sample_set import SampleSet
from nettrim_cli.errors import BadInput, EngineFailed, OutOfMemory
from nettrim_cli.evaluation.comparison import ReferenceOutputs
from nettrim_cli.graph.gradient.parameters import Parameter, parameters, with_values
from nettrim_cli.graph.model import Model
from nettrim_cli.pruning.context import Context
from nettrim_cli.pruning.layerwise import PassResult
from nettrim_cli.pruning.refit.task import Task
from nettrim_cli.settings import Settings

SHARES = (1.0, 0.5, 0.25)  # of the way from the start to the end of the descent
LEAST_GAIN = 1.0  # standard errors by which the refit has to be better to be kept


@dataclass(frozen=True)
class Refit:
    """A network that was fitted, and how.

    Attributes
    ----------
    share
        Of the way from the start to the end of the descent; 0 where the start is better.
    before, after
        Relative errors of its answers on held-out samples.
    """

    model: Model
    share: float
    before: float
    after: float


def fits_network(settings: Settings) -> bool:
    """Whether all layers are fitted together: where asked for, and in usual runs."""
    if settings.refit != "auto":
        return settings.refit == "network"
    usual = settings.method == "l0" and settings.scheme == "cascade"
    return usual and settings.target_epsilon is None


def refit_network(
    context: Context, samples: SampleSet, result: PassResult, reference: ReferenceOutputs
) -> tuple[PassResult, float]:
    """Fit a pruned network to the dense one; as it was where that does not help.

    Parameters
    ----------
    context
        The dense network and its layers.
    samples
        Those to fit and those held out.
    result
        The pruned network.
    reference
        The dense network on the held-out samples.

    Returns
    -------
    result
        The network.
    share
        How far it was moved (see ``Refit``).
    """
    context.listener.stage("fitting all layers together")
    refit = _fit(context, samples, result)
    if refit is None:
        return result, 0.0
    listener, figures = context.listener, f"{refit.after:.2%}, {refit.before:.2%} before"
    if not refit.share:
        listener.message("fitted together: no better on held-out samples, not kept")
        return result, 0.0
    if not reference.compare(refit.model).error <= reference.compare(result.model).error:
        listener.message("fitted together: outputs are no better, not kept")
        return result, 0.0
    listener.message(f"fitted together: held-out error {figures}")
    return replace(result, model=refit.model, masked=None, joint_fit=True), refit.share


def refit_again(
    context: Context, samples: SampleSet, result: PassResult, share: float
) -> PassResult:
    """Fit a network that was made of all samples, as far as held-out ones have chosen before.

    Parameters
    ----------
    context
        The dense network and its layers.
    samples
        Those to fit, the held-out ones among them.
    result
        The pruned network.
    share
        How far it is moved.
    """
    context.listener.stage("fitting all layers together, to all samples")
    refit = _fit(context, samples, result, share)
    return result if refit is None else replace(result, model=refit.model, joint_fit=True)


def _fit(
    context: Context, samples: SampleSet, result: PassResult, share: float | None = None
) -> Refit | None:
    """The fit, with what there is to tell; None where it cannot be made."""
    try:
        return fit_outputs(context, result.model, _parameters(context, result), samples, share)
    except (BadInput, EngineFailed, OutOfMemory) as error:
        context.listener.message(f"the layers are not fitted together: {error}")
        return None


def _parameters(context: Context, result: PassResult) -> list[Parameter]:
    """What may change: all but the weights of layers that were left as they are."""
    pruned = {layer.name for layer in result.layers if layer.pruned}
    left = {layer.name for layer in context.dense.layers} - pruned
    layers = [layer for layer in result.model.layers if layer.prunable and layer.name not in left]
    return parameters(result.model, layers)


def fit_outputs(
    context: Context,
    student: Model,
    found: Sequence[Parameter],
    samples: SampleSet,
    share: float | None = None,
) -> Refit:
    """Fit parameters of a network to the answers of the dense one, whatever its nodes are.

    Parameters
    ----------
    context
        The dense network.
    student
        The network with the parameters; its outputs are those of the dense one.
    found
        What may change.
    samples
        Those to fit and those held out.
    share
        Of the way to the end of the descent; None for that which held-out samples choose.

    Raises
    ------
    BadInput
        No gradient can be had.
    EngineFailed
        The engine does not run the gradients.
    """
    task = Task.of(context, student, found, samples)
    entries = task.entries
    move = task.descend()
    first, chosen = task.errors(entries.start), 0.0
    least = first
    for candidate in SHARES if share is None else (share,):
        errors = task.errors(entries.start + candidate * move)
        better = _surely_less(errors, first) and errors.sum() < least.sum()
        if better or (share is not None and np.isfinite(errors).all()):
            least, chosen = errors, candidate
    best = entries.arrays(entries.start + chosen * move)
    model = with_values(student, best) if chosen else student
    return Refit(model, chosen, task.relative(first), task.relative(least))


def _surely_less(errors: NDArray[np.float64], least: NDArray[np.float64]) -> bool:
    """Whether errors have fallen by more than chance explains."""
    if not np.isfinite(errors).all():
        return False
    change = errors - least
    if len(change) < 2:
        return bool(change.sum() < 0)
    noise = float(change.std(ddof=1)) * math.sqrt(len(change))
    return float(change.sum()) < -LEAST_GAIN * noise
