"""The refit of a whole network: all kept weights, biases, scales and shifts together.

After the passes over the layers, each of them is as good as it can be alone.  What they do together
is fitted here: ``|f(U) - f_dense|^2`` over the outputs, before a Softmax, falls by steps against
its gradient, on the calibration samples and mixtures of two of them (Zhang et al., arXiv
1710.09412), for which the dense network gives the answers.  No labels are read.  Zeros stay.

Samples that were held out choose how far to go from where the passes ended, and whether at all.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.data.sample_set import SampleSet
from nettrim_cli.errors import BadInput, EngineFailed, OutOfMemory
from nettrim_cli.evaluation.comparison import ReferenceOutputs
from nettrim_cli.graph.gradient.parameters import Parameter, parameters, with_values
from nettrim_cli.graph.model import Model
from nettrim_cli.pruning.context import Context
from nettrim_cli.pruning.layerwise import PassResult
from nettrim_cli.pruning.refit.batches import FitBatches
from nettrim_cli.pruning.refit.descent import Descent, metric, rate_at
from nettrim_cli.pruning.refit.effort import PRODUCTS, Effort
from nettrim_cli.pruning.refit.entries import Arrays, Entries, Vector
from nettrim_cli.pruning.refit.objective import (
    Array,
    Objective,
    Scores,
    constant_branches,
    paired_scores,
)
from nettrim_cli.settings import Settings

if TYPE_CHECKING:
    from nettrim_cli.report.progress import Listener

RATE = 0.125  # for each sample to a step, in the units of ``Descent``
METRIC_BATCHES = 3
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
    return replace(result, model=refit.model, masked=None), refit.share


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
    return result if refit is None else replace(result, model=refit.model)


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
    threads, listener = context.threads, context.listener
    teacher, outputs = paired_scores(context.dense, student, threads)
    judges = _Judges(samples, teacher)
    feeds = (batch.feeds for batch, _ in replace(samples, rounds=0).flagged_batches())
    branches = constant_branches(student, feeds, threads)
    objective = Objective(student, found, outputs, judges.sizes, threads, branches)
    for boundary in objective.boundaries:
        listener.message(f"no gradient through {boundary.op} '{boundary.node}': {boundary.reason}")
    if not objective.parameters:
        raise BadInput("no gradient reaches a weight")
    entries = Entries(objective.parameters)
    effort = Effort.of(student, samples, threads, PRODUCTS[context.settings.refit])
    batches = FitBatches(samples, effort.batch, teacher, mixed=effort.mixed)
    move = _descend(objective, entries, batches, effort, listener)
    first, chosen = judges.errors(objective, entries.arrays(entries.start)), 0.0
    least = first
    for candidate in SHARES if share is None else (share,):
        errors = judges.errors(objective, entries.arrays(entries.start + candidate * move))
        better = _surely_less(errors, first) and errors.sum() < least.sum()
        if better or (share is not None and np.isfinite(errors).all()):
            least, chosen = errors, candidate
    best = entries.arrays(entries.start + chosen * move)
    model = with_values(student, best) if chosen else student
    figures = (math.sqrt(float(errors.sum()) / judges.count) for errors in (first, least))
    return Refit(model, chosen, *figures)


def _descend(
    objective: Objective, entries: Entries, batches: FitBatches, effort: Effort, listener: Listener
) -> Vector:
    """How far entries (E,) move in all steps; not at all where they run away."""
    source, steps = iter(batches), effort.steps
    first = list(itertools.islice(source, METRIC_BATCHES * effort.parts))
    descent = Descent(entries, metric(objective, entries, first, effort.parts))
    highest = RATE * effort.batch * effort.parts
    for step in range(steps):
        gradient, values = np.zeros_like(entries.start), entries.arrays(descent.vector)
        for feeds, targets in itertools.islice(source, effort.parts):
            loss, gradients = objective.gradients(values, feeds, targets)
            if not math.isfinite(loss):
                return np.zeros_like(entries.start)
            gradient += entries.vector(gradients) / effort.parts
        descent.step(gradient, rate_at(step, steps, highest))
        listener.iteration(step + 1, steps)
    return descent.vector - entries.start


class _Judges:
    """The samples held out, and others made of them where they are few.

    Attributes
    ----------
    sizes
        Sum of squares of a sample's answers on average.
    count
        Number of samples.
    """

    def __init__(self, samples: SampleSet, teacher: Scores) -> None:
        self._samples, self._teacher = samples, teacher
        totals = np.zeros(len(teacher.names))
        self.count = 0
        for _, targets, count in self._batches():
            self.count += count
            totals += [float(np.square(each, dtype=np.float64).sum()) for each in targets]
        self.sizes = [total / max(1, self.count) or 1.0 for total in totals]

    def errors(self, objective: Objective, values: Arrays) -> NDArray[np.float64]:
        """(B,) squared distances, one a batch."""
        return np.array(
            [objective.squares(values, feeds, targets) for feeds, targets, _ in self._batches()]
        )

    def _batches(self) -> Iterator[tuple[dict[str, Array], list[Array], int]]:
        samples = self._samples
        size = max(1, min(samples.size, len(samples.holdout) // 16))
        few = samples.few and samples.rounds > 0
        for batch in samples.judging_batches() if few else samples.holdout_batches(size):
            yield batch.feeds, self._teacher.of(batch.feeds), batch.count


def _surely_less(errors: NDArray[np.float64], least: NDArray[np.float64]) -> bool:
    """Whether errors have fallen by more than chance explains."""
    if not np.isfinite(errors).all():
        return False
    change = errors - least
    if len(change) < 2:
        return bool(change.sum() < 0)
    noise = float(change.std(ddof=1)) * math.sqrt(len(change))
    return float(change.sum()) < -LEAST_GAIN * noise
