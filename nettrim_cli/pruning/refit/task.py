"""What a fit of all layers together works on, and the steps that it takes."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.data.sample_set import SampleSet
from nettrim_cli.data.stream import MEMORY_BYTES, MemoryBudget, TensorStore
from nettrim_cli.errors import BadInput
from nettrim_cli.graph.gradient.parameters import Parameter
from nettrim_cli.graph.model import Model
from nettrim_cli.process.deadline import Deadline
from nettrim_cli.pruning.branches import constant_branches
from nettrim_cli.pruning.context import Context
from nettrim_cli.pruning.refit.batches import FitBatch, FitBatches
from nettrim_cli.pruning.refit.descent import Descent, metric, rate_at
from nettrim_cli.pruning.refit.effort import MOST_EXCESS, PRODUCTS, Effort
from nettrim_cli.pruning.refit.entries import Arrays, Entries, Vector
from nettrim_cli.pruning.refit.objective import Objective, Scores, paired_scores

if TYPE_CHECKING:
    from nettrim_cli.report.progress import Listener

RATE = 0.125  # for each sample to a step, in the units of ``Descent``
METRIC_BATCHES = 3
TIMED_STEPS = 5  # by which the time of the others is told
FIRST_STEPS, GROWN = 8, 1.5  # steps over which losses are averaged; how far they may grow


@dataclass(frozen=True)
class Task:
    """What a fit needs.

    Attributes
    ----------
    objective, entries
        The distance to the dense network, and what changes.
    judges
        Samples held out.
    batches, effort
        Samples that are fitted to, and how many of them a step takes.
    """

    objective: Objective
    entries: Entries
    judges: Judges
    batches: FitBatches
    effort: Effort
    listener: Listener
    deadline: Deadline

    @classmethod
    def of(
        cls, context: Context, student: Model, found: Sequence[Parameter], samples: SampleSet
    ) -> Task:
        """For parameters of a network.

        Parameters
        ----------
        context, samples
            Those of the run.
        student
            The network.
        found
            Its parameters.

        Raises
        ------
        BadInput
            No gradient can be had.
        """
        threads, listener = context.threads, context.listener
        teacher, outputs = paired_scores(context.dense, student, threads)
        judges = Judges(samples, teacher)
        feeds = (
            batch.feeds for batch, _ in replace(samples, rounds=0, weigh=None).flagged_batches()
        )
        branches = constant_branches(student, feeds, threads)
        objective = Objective(student, found, outputs, judges.sizes, threads, branches)
        for each in objective.boundaries:
            listener.message(f"no gradient through {each.op} '{each.node}': {each.reason}")
        if not objective.parameters:
            raise BadInput("no gradient reaches a weight")
        effort = Effort.of(student, samples, threads, PRODUCTS[context.settings.refit])
        if context.settings.refit == "auto" and effort.excess > MOST_EXCESS:
            raise BadInput("a sample costs much, so that has to be asked for by --refit network")
        batches = FitBatches(samples, effort.batch, teacher, mixed=effort.mixed)
        entries = Entries(objective.parameters)
        return cls(objective, entries, judges, batches, effort, listener, context.deadline)

    def errors(self, vector: Vector) -> NDArray[np.float64]:
        """(B,) squared distances of held-out batches with these entries (E,)."""
        return self.judges.errors(self.objective, self.entries.arrays(vector))

    def relative(self, errors: NDArray[np.float64]) -> float:
        """The relative error of (B,) squared distances."""
        return math.sqrt(float(errors.sum()) / self.judges.count)

    def descend(self) -> Vector:
        """How far entries (E,) move in all steps; not at all where they run away."""
        entries, effort = self.entries, self.effort
        source, steps = iter(self.batches), effort.steps
        first = list(itertools.islice(source, METRIC_BATCHES * effort.parts))
        lengths = metric(self.objective, entries, first, effort.parts)
        descent = Descent(entries, lengths)
        brake = Brake(RATE * effort.batch * effort.parts)
        begun = time.monotonic()
        for step in itertools.count():
            if step == TIMED_STEPS:
                steps = self._affordable(steps, (time.monotonic() - begun) / step)
            if step >= steps:
                break
            gradient, values = np.zeros_like(entries.start), entries.arrays(descent.vector)
            total = 0.0
            for feeds, targets in itertools.islice(source, effort.parts):
                loss, gradients = self.objective.gradients(values, feeds, targets)
                if not math.isfinite(loss):
                    return np.zeros_like(entries.start)
                total += loss
                gradient += entries.vector(gradients) / effort.parts
            if brake.acts(total):
                descent = Descent(entries, lengths)
                continue
            descent.step(gradient, rate_at(step, steps, brake.rate))
            self.listener.iteration(step + 1, steps)
        return descent.vector - entries.start

    def _affordable(self, steps: int, seconds: float) -> int:
        """So many of the steps as there is time for, where each takes about so long."""
        if self.deadline.allows("steps of the joint fit", steps * seconds):
            return steps
        return max(0, int(self.deadline.seconds_left / seconds))


class Brake:
    """The highest rate of a descent, which falls where losses grow.

    The curvature that is measured is that of some samples where the descent starts.

    Attributes
    ----------
    rate
        The rate as it is now.
    """

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._first: list[float] = []
        self._mean = 0.0

    def acts(self, loss: float) -> bool:
        """Take the loss of a step; whether the rate falls, so that the descent has to begin anew.

        What ran away would not come back along directions that few samples determine.
        """
        if len(self._first) < FIRST_STEPS:
            self._first.append(loss)
            self._mean = float(np.mean(self._first))
            return False
        calm = float(np.mean(self._first))
        self._mean += (loss - self._mean) / FIRST_STEPS
        if self._mean <= GROWN * calm:
            return False
        self.rate, self._mean = self.rate / 2, calm
        return True


class Judges:
    """The samples held out, and others made of them where they are few.

    Attributes
    ----------
    sizes
        Sum of squares of a sample's answers on average.
    count
        Number of samples.
    """

    def __init__(self, samples: SampleSet, teacher: Scores) -> None:
        size = max(1, min(samples.size, len(samples.holdout) // 16))
        few = samples.few and samples.rounds > 0
        store = TensorStore(MemoryBudget(MEMORY_BYTES // 4))
        totals = np.zeros(len(teacher.names))
        self.count, self._batches = 0, []
        for batch in samples.judging_batches() if few else samples.holdout_batches(size):
            targets = teacher.of(batch.feeds)
            totals += [float(np.square(each, dtype=np.float64).sum()) for each in targets]
            self.count += batch.count
            self._batches.append(FitBatch(dict(batch.feeds), targets).stored(store))
        self.sizes = [total / max(1, self.count) or 1.0 for total in totals]

    def errors(self, objective: Objective, values: Arrays) -> NDArray[np.float64]:
        """(B,) squared distances, one a batch."""
        return np.array([objective.squares(values, *batch.loaded()) for batch in self._batches])
