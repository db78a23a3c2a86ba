"""What a user wants of the whole network: an error, a share of right answers, a size.

The share of zeros that meets it is searched for.  One pass over the dense network measures every
layer's curve, from which the figure is foretold for any share; then the layers are solved at the
best guess, the figure is measured, the guess corrected.  Later rounds take the choices of the
first one, so that they cost less than half of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.data.dataset import Batch
from nettrim_cli.data.sample_set import SampleSet
from nettrim_cli.errors import BadInput, GateFailed, NothingToDo
from nettrim_cli.evaluation.accuracy import NORMAL, TIE, Margins, drop_bound, samples_for
from nettrim_cli.evaluation.comparison import ReferenceOutputs, own_answers, packed
from nettrim_cli.graph.model import Model
from nettrim_cli.pruning.allocation import ErrorModel
from nettrim_cli.pruning.layerwise import PassResult, Run
from nettrim_cli.pruning.passes import sweep
from nettrim_cli.pruning.root_search import MonotoneSearch
from nettrim_cli.pruning.selection import nonzeros
from nettrim_cli.report import formatting
from nettrim_cli.report.formatting import size
from nettrim_cli.report.result import Round, Target

GRID = np.array([1 / (1 + math.exp(-each)) for each in np.linspace(-6.0, 5.0, 56)])
NEAR = 3  # by which weights may differ between rounds for the choices to hold
REPAIRED, SLOPE = 0.64, 0.1  # what is left of independent errors in a cascade, at odds of 1
ALIKE, STEEPER = 0.005, 0.45  # drop from noise that is as measured; how much faster those grow
LEAST = 0.002  # zeros that hardly change a file's size
STEADIER = 0.6  # of the raw share's deviation: that of the bound on a drop


class Missed(GateFailed):
    """No share of zeros was found that meets the target; ``nearest`` is what came nearest."""

    def __init__(self, text: str, nearest: PassResult | None) -> None:
        super().__init__(text)
        self.nearest = nearest


class Goal(Protocol):
    """A figure of the pruned network that has a limit.

    Attributes
    ----------
    falls
        Whether it falls as zeros grow in number.
    margin, tolerance, memory, unsure
        Of the search, see ``solve.seek.MonotoneSearch``.
    """

    falls: bool
    margin: float
    tolerance: float
    memory: float
    unsure: float

    def expected(self, costs: ErrorModel) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Some shares of zeros, ascending, and what the figure is to be at them."""

    def measured(self, pruned: Model) -> tuple[float, float | None]:
        """The figure, and an upper bound on it for new samples where there is one."""


@dataclass
class SearchContext:
    """What the goals know of a run."""

    run: Run
    limit: float
    fitted: Callable[[], Iterable[Batch]]
    reference: ReferenceOutputs

    def zeros(self, costs: ErrorModel, sparsity: float) -> dict[str, int]:
        """Zeros of each layer at a share of zeros over all."""
        return costs.shared(sparsity, self.run.bounds, kind=self.run.kind)

    def errors(self, costs: ErrorModel) -> NDArray[np.float64]:
        """The network's error expected at each of GRID, from the layers' own.

        In a cascade later layers repair a part of it.
        """
        found = np.array([costs.error(self.zeros(costs, each)) for each in GRID])
        if self.run.settings.scheme == "cascade":
            found *= REPAIRED * (GRID / (1 - GRID)) ** SLOPE
        return found


class ErrorGoal:
    """The largest relative error of an output."""

    falls, margin, tolerance, memory, unsure = False, 0.02, 0.06, math.inf, 0.25

    def __init__(self, scene: SearchContext) -> None:
        self.scene = scene
        for name, why in scene.reference.unmeasured.items():
            raise BadInput(
                f"--max-error cannot be kept: the error of output '{name}' cannot be measured, as "
                f"{why}."
            )

    def expected(self, costs: ErrorModel) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """By the layers' own errors."""
        return GRID, self.scene.errors(costs)

    def measured(self, pruned: Model) -> tuple[float, float | None]:
        """On the held-out samples."""
        return self.scene.reference.compare(pruned).error, None


class DropGoal:
    """Accuracy lost, or without labels the share of changed answers."""

    falls, margin, tolerance, memory, unsure = False, 0.15, 0.3, 2.0, 0.25

    def __init__(self, scene: SearchContext) -> None:
        self.scene = scene
        self.others = own_answers(scene.run.dense, scene.fitted, threads=scene.run.threads)
        if not self.others.answer_margins:
            raise BadInput("--max-drop needs an output with a score for each class.")

    def expected(self, costs: ErrorModel) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """As if scores moved like noise of the error that the layers' own foretell."""
        errors = self.scene.errors(costs)
        held = self.others.samples * self.scene.run.settings.holdout
        typical = self.others.score_size
        drops = [
            max(_expected_drop(each, error, typical, held) for each in self.others.answer_margins)
            for error in errors
        ]
        return GRID, ALIKE * (np.array(drops) / ALIKE) ** (1 + STEEPER)

    def measured(self, pruned: Model) -> tuple[float, float | None]:
        """On the held-out samples; the bound takes the margins of the others, too."""
        found = self.scene.reference.compare(pruned)
        bounds = [
            drop_bound(a, b)[1]
            for a, b in zip(found.answer_margins, self.others.answer_margins, strict=True)
        ]
        return found.drop, max(bounds)


class BytesGoal:
    """Bytes of the gzipped file."""

    falls, margin, tolerance, memory, unsure = True, 0.005, 0.02, math.inf, 0.02

    def __init__(self, scene: SearchContext) -> None:
        self.scene = scene
        if packed(scene.run.dense) <= scene.limit:
            raise NothingToDo(
                f"{scene.run.dense.path}: the gzipped file has at most {size(int(scene.limit))} "
                "already."
            )

    def expected(self, costs: ErrorModel) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Sizes with the smallest of the dense weights zero, at four shares, and the dense one."""
        found = {each: self._size(costs, each) for each in (0.5, 0.95)}
        for _ in range(2):
            (one, more), (two, less) = sorted(found.items())[0], sorted(found.items())[-1]
            slope = (more - less) / (two - one)
            at = one + (more - self.scene.limit) / slope if slope > 0 else 0.99
            at = min(max(at, LEAST), 0.995)
            found.setdefault(at, self._size(costs, at))
        found.setdefault(LEAST, self._size(costs, LEAST))
        ordered = sorted(found)
        return np.array(ordered), np.array([found[each] for each in ordered])

    def measured(self, pruned: Model) -> tuple[float, float | None]:
        """Of the file as it will be written."""
        return packed(pruned), None

    def _size(self, costs: ErrorModel, sparsity: float) -> float:
        run = self.scene.run
        model, zeros = run.dense.clone(), self.scene.zeros(costs, sparsity)
        for layer in run.chosen:
            if count := zeros.get(layer.name):
                weights = [each.copy() for each in run.dense.weight(layer)[0]]
                sizes = np.abs(np.concatenate([each.ravel() for each in weights]))
                least = np.partition(sizes, count - 1)[count - 1]
                for each in weights:
                    each[np.abs(each) <= least] = 0
                model.set_weight(layer, weights, None)
        return packed(model)


GOALS: dict[str, Callable[[SearchContext], Goal]] = {
    "max_error": ErrorGoal,
    "max_drop": DropGoal,
    "max_bytes": BytesGoal,
}


def reach(
    run: Run,
    samples: SampleSet,
    reference: ReferenceOutputs,
) -> PassResult:
    """Search for the share of zeros that meets the run's target.

    Parameters
    ----------
    samples
        Those to fit and to judge by.
    reference
        The dense network on the held-out samples.

    Raises
    ------
    Missed
        No share of zeros was found that meets it.
    BadInput
        What it is about cannot be measured.
    NothingToDo
        The dense network meets it already, or no layer can be made sparser.
    """
    name, limit = run.settings.target
    scene = SearchContext(run, limit, samples.fit_batches, reference)
    goal = GOALS[name](scene)  # which may tell at once that there is nothing to search for
    costs, samples = run.measure(samples)
    batches = samples.flagged_batches
    if not costs.curves:
        raise NothingToDo(f"{run.dense.path}: no layer can be measured on these samples.")
    low, high = _ends(run, costs)
    if low > high:
        raise NothingToDo(
            f"{run.dense.path}: --limit allows no more zeros than there are already; nothing was "
            "written. Allow more, or leave these layers out (--exclude)."
        )
    seeker = _seeker(goal, costs, limit, low, high)
    best: tuple[tuple[bool, float], PassResult, Target] | None = None
    rounds: list[Round] = []
    settled: float | None = None  # density at which all choices were made
    while (knob := seeker.guess()) is not None:
        sparsity = min(max(1 - knob if goal.falls else knob, low), high)
        density = 1 - sparsity
        again = settled is not None and 1 / NEAR < density / settled < NEAR
        settled = settled if again else density
        run.weigh(run.pruned if again else run.dense)
        run.listener.stage(f"round {len(rounds) + 1}: {sparsity:.1%} zeros")
        layers = run.prune_layers(batches, scene.zeros(costs, sparsity), again=again, onwards=again)
        reached, bound = goal.measured(run.pruned)
        rounds.append(Round(sparsity, reached, bound))
        figure = rounds[-1].figure
        run.listener.message(f"round {len(rounds)}: {sparsity:.2%} zeros, {name} {figure:.4g}")
        seeker.tell(knob, _steering(rounds[-1], limit))
        target = Target(name, limit, reached, bound, sparsity)
        rank = (True, knob) if figure <= limit else (False, -figure)
        if best is None or rank > best[0] or math.isnan(best[0][1]):
            best = rank, PassResult(run.pruned, layers), target
    if best is None or not best[0][0]:
        nearest = best and replace(best[1], target=replace(best[2], rounds=tuple(rounds)))
        raise Missed(_missed(run, name, rounds, reference.samples), nearest)
    _, found, target = best

    def accepted(other: PassResult) -> PassResult | None:
        last = Round(target.sparsity, *goal.measured(other.model))
        if last.figure > limit:
            return None
        told = replace(target, reached=last.reached, bound=last.bound, rounds=tuple(rounds))
        return replace(other, target=told)

    found = replace(found, target=replace(target, rounds=tuple(rounds)))
    zeros = scene.zeros(costs, target.sparsity)
    return sweep(run, batches, zeros, found, reference, accepted)


def _steering(found: Round, limit: float) -> float:
    """What the search is told: the bound, as what was measured on few samples goes up and down.

    It is over the limit wherever either is.
    """
    if found.bound is None or found.reached <= limit or found.bound > found.reached:
        return found.figure
    return max(math.sqrt(found.bound * found.reached), limit * (1 + 1e-9))


def _seeker(goal: Goal, costs: ErrorModel, limit: float, low: float, high: float) -> MonotoneSearch:
    """The search within the shares of zeros that there may be."""
    at, expected = goal.expected(costs)
    knobs = np.unique(np.concatenate([[low], at[(at > low) & (at < high)], [high]]))
    foretold = np.interp(knobs, at, expected)
    if goal.falls:
        knobs, foretold = 1 - knobs[::-1], foretold[::-1]
    return MonotoneSearch(
        knobs, foretold, limit, goal.margin, goal.tolerance, goal.memory, goal.unsure
    )


def _ends(run: Run, costs: ErrorModel) -> tuple[float, float]:
    """The least and the largest share of zeros that limits and curves allow, over all layers."""
    low = high = total = zeros = 0.0
    for layer in (each.layer for each in costs.curves):
        fewest, most = run.bounds[layer.name]
        total += layer.parameters
        zeros += layer.parameters - nonzeros(run.dense.weight(layer)[0])
        low += fewest
        high += max(fewest, min(most, costs.levels[-1] * layer.parameters))
    return max(low, zeros + 1) / total, high / total


def _missed(run: Run, name: str, rounds: Sequence[Round], samples: int) -> str:
    """Why nothing was written, in a sentence or two; so many samples were held out."""
    best = min(rounds, key=lambda each: each.figure)
    option = f"--{name.replace('_', '-')}"
    told = (lambda figure: size(round(figure))) if name == "max_bytes" else "{:,.4g}".format
    wanted = told(run.settings.target[1])
    text = (
        f"{run.dense.path}: no sparsity was found that meets {option} {wanted}; the nearest "
        f"was {told(best.figure)} at {best.sparsity:.1%} zeros. Nothing was written. "
        f"Allow a larger {option}"
    )
    if name == "max_drop" and best.reached <= run.settings.target[1]:
        held = run.settings.target[1] - best.reached
        more = ""
        if best.bound is not None and held > 0:
            needed = formatting.about(samples_for(best.bound - best.reached, held, samples))
            more = f" ({samples:,} held out; about {needed} would do)"
        return (
            f"{text}: what was measured is within it, but not by enough for so few samples{more}."
        )
    return f"{text}." if name == "max_bytes" else f"{text}, or give more samples."


def _expected_drop(margins: Margins, error: float, typical: float, held: float) -> float:
    """The bound on a drop, on so many held-out samples, where scores have noise of that error.

    Without scores the share of changed answers is guessed to be the error.
    """
    from scipy.special import ndtr  # the normal distribution

    before = margins.arrays[0]
    before = before[np.isfinite(before) & (before != TIE)]  # of a constant output all are ties
    noise = max(math.sqrt(2) * error * typical, 1e-30)
    right = (before > 0).astype(np.float64)
    now = ndtr(before / noise) if margins.scores else np.abs(right - min(error, 1))
    crossing = float(np.mean(np.abs(right - now))) if len(before) else 0.0
    deviation = STEADIER * math.sqrt(crossing / max(held, 1))
    drop = max(float(np.mean(right - now)), 0.0) if len(before) else 0.0
    return drop + NORMAL * deviation
