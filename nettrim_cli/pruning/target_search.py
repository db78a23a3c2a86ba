"""Searches for the sparsity that meets a goal of the whole network.

One pass over the dense network measures every layer's curve, from which the goal's figure is
predicted for any sparsity.  Then the layers are solved at the best guess, the figure is measured
and the guess corrected.  Later rounds take the choices of the first one, so that they cost less
than half of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from nettrim_cli.data.sample_set import SampleSet
from nettrim_cli.data.stream import StreamCache
from nettrim_cli.errors import GateFailed, NothingToDo
from nettrim_cli.evaluation.accuracy import samples_for
from nettrim_cli.evaluation.comparison import ReferenceOutputs
from nettrim_cli.pruning.allocation import ErrorModel
from nettrim_cli.pruning.context import Context
from nettrim_cli.pruning.goals import GOALS, Goal, SearchContext
from nettrim_cli.pruning.layerwise import PassResult, prune_pass
from nettrim_cli.pruning.measurement import Measurement, allocate, measure
from nettrim_cli.pruning.passes import Outcome, sweep
from nettrim_cli.pruning.root_search import MonotoneSearch
from nettrim_cli.pruning.selection import nonzeros
from nettrim_cli.report import formatting
from nettrim_cli.report.formatting import size
from nettrim_cli.report.result import Round, Target

NEAR = 3  # by which weights may differ between rounds for the choices to hold


class Missed(GateFailed):
    """No sparsity was found that meets the target; ``nearest`` is what came nearest."""

    def __init__(self, text: str, nearest: PassResult | None) -> None:
        super().__init__(text)
        self.nearest = nearest


def search_sparsity(context: Context, samples: SampleSet, reference: ReferenceOutputs) -> Outcome:
    """Search for the sparsity that meets the run's target.

    Parameters
    ----------
    samples
        Those to fit and to judge by.
    reference
        The dense network on the held-out samples.

    Raises
    ------
    Missed
        No sparsity was found that meets it.
    BadInput
        What it is about cannot be measured.
    NothingToDo
        The dense network meets it already, or no layer can be made sparser.
    """
    name, limit = context.settings.target
    # A goal may tell at once that there is nothing to search for.
    goal = GOALS[name](SearchContext(context, limit, samples.fit_batches, reference))
    measured, cache = measure(context, samples), StreamCache()
    low, high = _range(context, measured.error_model)
    search = _monotone_search(goal, measured.error_model, limit, low, high)
    rounds: list[Round] = []
    best: _Candidate | None = None
    last: _Candidate | None = None
    while (x := search.propose()) is not None:
        sparsity = min(max(1 - x if goal.falls else x, low), high)
        context.listener.stage(f"round {len(rounds) + 1}: {sparsity:.1%} zeros")
        last = _prune(context, measured, sparsity, goal, last, cache)
        rounds.append(last.round)
        figure = rounds[-1].figure
        context.listener.message(f"round {len(rounds)}: {sparsity:.2%} zeros, {name} {figure:.4g}")
        search.observe(x, _steering(rounds[-1], limit))
        last = replace(last, rank=(True, x) if figure <= limit else (False, -figure))
        if best is None or last.rank > best.rank or math.isnan(best.rank[1]):
            best = last
    if best is None or not best.rank[0]:
        nearest = None if best is None else _with_target(best.result, best.round, context, rounds)
        raise Missed(_missed(context, rounds, reference.samples), nearest)
    return _swept(context, measured, best, rounds, goal, reference, cache)


@dataclass(frozen=True)
class _Candidate:
    """A round of the search: what came out, how it was made, and how good it is.

    Attributes
    ----------
    density
        Share of the weights that remained when all choices were made.
    """

    result: PassResult
    density: float
    round: Round
    rank: tuple[bool, float] = (False, -math.inf)


def _prune(
    context: Context,
    measured: Measurement,
    sparsity: float,
    goal: Goal,
    last: _Candidate | None,
    cache: StreamCache,
) -> _Candidate:
    """Prune the network to a sparsity, from where the last round ended if that is near.

    Parameters
    ----------
    goal
        Measures the network that comes of it.
    last
        The last round; None in the first.
    cache
        What the dense network delivered in the rounds before.
    """
    density, warm, importance = 1 - sparsity, measured.warm, context.importance(context.dense)
    if last is not None and 1 / NEAR < density / last.density < NEAR:
        density, importance = last.density, context.importance(last.result.model)
        warm = replace(last.result.warm, weights=last.result.model)
    zeros = allocate(context, measured.error_model, sparsity)
    result = prune_pass(context, measured.samples, zeros, importance, warm, cache=cache)
    return _Candidate(result, density, Round(sparsity, *goal.measured(result.model)))


def _swept(
    context: Context,
    measured: Measurement,
    best: _Candidate,
    rounds: Sequence[Round],
    goal: Goal,
    reference: ReferenceOutputs,
    cache: StreamCache,
) -> Outcome:
    """The best round's network after the sweeps that the settings ask for."""
    sparsity = best.round.sparsity

    def accept(result: PassResult) -> PassResult | None:
        """The network with its figure; None where that is over the limit."""
        last = Round(sparsity, *goal.measured(result.model))
        within = last.figure <= context.settings.target[1]
        return _with_target(result, last, context, rounds) if within else None

    result = _with_target(best.result, best.round, context, rounds)
    result = sweep(context, measured.samples, result, reference, accept, cache=cache)
    return Outcome(result, measured.samples, measured.forecast)


def _with_target(
    result: PassResult, last: Round, context: Context, rounds: Sequence[Round]
) -> PassResult:
    """A network with how near it came to the target."""
    name, limit = context.settings.target
    target = Target(name, limit, last.reached, last.bound, last.sparsity, tuple(rounds))
    return replace(result, target=target)


def _steering(measured: Round, limit: float) -> float:
    """What the search is told: the bound, as what was measured on few samples goes up and down.

    It is over the limit wherever either is.
    """
    if measured.bound is None or measured.reached <= limit or measured.bound > measured.reached:
        return measured.figure
    return max(math.sqrt(measured.bound * measured.reached), limit * (1 + 1e-9))


def _monotone_search(
    goal: Goal, error_model: ErrorModel, limit: float, low: float, high: float
) -> MonotoneSearch:
    """The search within the sparsities that there may be."""
    sparsities, figures = goal.expected(error_model)
    inner = sparsities[(sparsities > low) & (sparsities < high)]
    x = np.unique(np.concatenate([[low], inner, [high]]))
    expected = np.interp(x, sparsities, figures)
    if goal.falls:
        x, expected = 1 - x[::-1], expected[::-1]
    return MonotoneSearch(x, expected, limit, goal.margin, goal.tolerance, goal.memory, goal.unsure)


def _range(context: Context, error_model: ErrorModel) -> tuple[float, float]:
    """The least and the largest sparsity that limits and curves allow, over all layers.

    Raises
    ------
    NothingToDo
        There is none.
    """
    if not error_model.curves:
        raise NothingToDo(f"{context.dense.path}: no layer can be measured on these samples.")
    low = high = total = zeros = 0.0
    for layer in (curve.layer for curve in error_model.curves):
        fewest, most = context.bounds[layer.name]
        total += layer.parameters
        zeros += layer.parameters - nonzeros(context.dense.weight(layer)[0])
        low += fewest
        high += max(fewest, min(most, error_model.levels[-1] * layer.parameters))
    low, high = max(low, zeros + 1) / total, high / total
    if low > high:
        raise NothingToDo(
            f"{context.dense.path}: --limit allows no more zeros than there are already; nothing "
            "was written. Allow more, or leave these layers out (--exclude)."
        )
    return low, high


def _missed(context: Context, rounds: Sequence[Round], samples: int) -> str:
    """Why nothing was written, in a sentence or two; so many samples were held out."""
    name, limit = context.settings.target
    best = min(rounds, key=lambda attempt: attempt.figure)
    option = f"--{name.replace('_', '-')}"
    spell = (lambda figure: size(round(figure))) if name == "max_bytes" else "{:,.4g}".format
    allowed = spell(limit)
    text = (
        f"{context.dense.path}: no sparsity was found that meets {option} {allowed}; the nearest "
        f"was {spell(best.figure)} at {best.sparsity:.1%} zeros. Nothing was written. "
        f"Allow a larger {option}"
    )
    if name == "max_drop" and best.reached <= limit:
        slack = limit - best.reached
        more = ""
        if best.bound is not None and slack > 0:
            needed = formatting.about(samples_for(best.bound - best.reached, slack, samples))
            more = f" ({samples:,} held out; about {needed} would do)"
        return (
            f"{text}: what was measured is within it, but not by enough for so few samples{more}."
        )
    return f"{text}." if name == "max_bytes" else f"{text}, or give more samples."
