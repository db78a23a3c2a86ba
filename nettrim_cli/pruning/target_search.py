"""Searches for the sparsity that meets a goal of the whole network.

One pass over the dense network measures every layer's curve, from which the goal's figure is
predicted for any sparsity.  Then the layers are solved at the best guess, the figure is measured
and the guess corrected.  Later rounds take the choices of the first one, so that they cost less
than half of it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from nettrim_cli.data.sample_set import SampleSet
from nettrim_cli.errors import GateFailed
from nettrim_cli.evaluation.accuracy import samples_for
from nettrim_cli.evaluation.comparison import ReferenceOutputs
from nettrim_cli.graph.model import Model
from nettrim_cli.pruning.compression import Attempt, Compression
from nettrim_cli.pruning.context import Context
from nettrim_cli.pruning.goals import GOALS, Goal, SearchContext
from nettrim_cli.pruning.layerwise import PassResult
from nettrim_cli.pruning.mixing import best_mix
from nettrim_cli.pruning.passes import Outcome, compression_of, sweep
from nettrim_cli.pruning.refit.network import fits_network
from nettrim_cli.pruning.root_search import MonotoneSearch
from nettrim_cli.pruning.second_step import fit_together
from nettrim_cli.report import formatting
from nettrim_cli.report.formatting import size
from nettrim_cli.report.result import ErrorCurve, Round, Target
from nettrim_cli.settings import SEARCHED

SPELLED: dict[str, Callable[[float], str]] = {
    "max_bytes": lambda figure: size(round(figure)),
    "speedup": lambda figure: f"{1 / figure:.3g}",
}


class Missed(GateFailed):
    """No sparsity was found that meets the target.

    ``nearest`` is what came nearest, ``curves`` are those of the layers.
    """

    def __init__(
        self, text: str, nearest: PassResult | None, curves: tuple[ErrorCurve, ...]
    ) -> None:
        super().__init__(text)
        self.nearest, self.curves = nearest, curves


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
    name, limit = context.settings.target[0], figure_limit(context.settings.target)
    # A goal may tell at once that there is nothing to search for.
    goal = GOALS[name](SearchContext(context, limit, samples, reference))
    compression = compression_of(context, samples)
    compression = _mixed(context, compression, goal, limit, reference)
    context, noun = compression.context, compression.noun
    search = _monotone_search(goal, compression, limit)
    rounds: list[Round] = []
    best: _Candidate | None = None
    last: _Candidate | None = None
    begun, longest = time.monotonic(), 0.0
    while (x := search.propose()) is not None:
        begun, longest = time.monotonic(), max(longest, time.monotonic() - begun)
        if best is not None and best.rank[0] and not context.deadline.allows("rounds", longest):
            break
        sparsity = _within(1 - x if goal.falls else x, compression)
        context.listener.stage(f"round {len(rounds) + 1}: {sparsity:.1%} {noun}")
        attempt = compression.compress(sparsity, None if last is None else last.attempt)
        result, share = attempt.result, _share(attempt.result, sparsity)
        if not goal.falls:
            result = _fitted(context, compression, result, reference)
        last = _Candidate(attempt, result, Round(share, *goal.measured(result.model)))
        rounds.append(last.round)
        figure = rounds[-1].figure
        context.listener.message(f"round {len(rounds)}: {sparsity:.2%} {noun}, {name} {figure:.4g}")
        search.observe(x, _steering(rounds[-1], limit))
        last = replace(last, rank=(True, x) if figure <= limit else (False, -figure))
        if best is None or last.rank > best.rank or math.isnan(best.rank[1]):
            best = last
    if best is None or not best.rank[0]:
        nearest = None if best is None else _with_target(best.result, best.round, context, rounds)
        text = _missed(context, rounds, reference.samples, noun)
        raise Missed(text, nearest, compression.curves)
    return _swept(context, compression, best, rounds, goal, reference)


def first_guess(
    context: Context, samples: SampleSet, reference: ReferenceOutputs, compression: Compression
) -> float:
    """The sparsity at which a search would begin.

    Parameters
    ----------
    context
        That of the run.
    samples, reference
        Those to fit and to judge by, and the dense network on the held-out ones.
    compression
        The way in which the network gets smaller.

    Raises
    ------
    BadInput
        What the target is about cannot be measured.
    NothingToDo
        The dense network meets it already, or no layer can be made sparser.
    """
    limit = figure_limit(context.settings.target)
    goal = GOALS[context.settings.target[0]](SearchContext(context, limit, samples, reference))
    return _first_guess(goal, compression, limit)


def keeps_target(
    context: Context, model: Model, samples: SampleSet, reference: ReferenceOutputs
) -> bool:
    """Whether a network is within the limit that the run has; always, if it has none.

    Parameters
    ----------
    context
        That of the run.
    model
        The network.
    samples, reference
        What it is measured on, and the dense answers.
    """
    name, value = context.settings.target
    if name not in SEARCHED:
        return True
    limit = figure_limit((name, value))
    goal = GOALS[name](SearchContext(context, limit, samples, reference))
    return Round(0, *goal.measured(model)).figure <= limit


def _mixed(
    context: Context,
    compression: Compression,
    goal: Goal,
    limit: float,
    reference: ReferenceOutputs,
) -> Compression:
    """The compression with its best mix, compared about where the search would begin."""
    if len(compression.bits) * len(compression.zeros) == 1:
        return compression
    sparsity = _first_guess(goal, compression, limit)
    return best_mix(compression, sparsity, reference, context.listener, by_bytes=True)


def _first_guess(goal: Goal, compression: Compression, limit: float) -> float:
    x = _monotone_search(goal, compression, limit).propose()
    assert x is not None
    return _within(1 - x if goal.falls else x, compression)


def _within(sparsity: float, compression: Compression) -> float:
    """The nearest sparsity that there may be."""
    low, high = compression.limits()
    return min(max(sparsity, low), high)


@dataclass(frozen=True)
class _Candidate:
    """A round of the search: what came out, fitted together or not, and how good it is."""

    attempt: Attempt
    result: PassResult
    round: Round
    rank: tuple[bool, float] = (False, -math.inf)


def _fitted(
    context: Context, compression: Compression, result: PassResult, reference: ReferenceOutputs
) -> PassResult:
    """A network whose layers are fitted together, where the settings say so and it helps."""
    if not fits_network(context.settings):
        return result
    return fit_together(context, compression.samples, result, reference)[0]


def _swept(
    context: Context,
    compression: Compression,
    best: _Candidate,
    rounds: Sequence[Round],
    goal: Goal,
    reference: ReferenceOutputs,
) -> Outcome:
    """The best round's network, or another from the sweeps that the settings ask for."""
    sparsity, first = best.round.sparsity, best.attempt.result

    def accept(result: PassResult) -> PassResult | None:
        """The fitted network with its figure; None where that is over the limit."""
        fitted = _fitted(context, compression, result, reference)
        last = Round(sparsity, *goal.measured(fitted.model))
        within = last.figure <= figure_limit(context.settings.target)
        return _with_target(fitted, last, context, rounds) if within else None

    result = _with_target(best.result, best.round, context, rounds)
    if goal.falls and fits_network(context.settings):  # no fit moves its figure much
        result = accept(first) or result
    swept = sweep(context, compression.samples, first, reference, accept, cache=compression.cache)
    result = result if swept is first else swept
    told = compression.forecast, compression.mix, compression.curves
    return Outcome(result, compression.samples, *told)


def _share(result: PassResult, wanted: float) -> float:
    """The share of zeros, or of the weights that are gone: units and ranks are whole numbers."""
    if not any(layer.remaining for layer in result.layers):
        return wanted
    left = sum(layer.nonzeros_after for layer in result.layers)
    return 1 - left / sum(layer.weights for layer in result.layers)


def figure_limit(target: tuple[str, float]) -> float:
    """The limit of a goal's figure: a speed-up's is the part of the time."""
    name, value = target
    return 1 / value if name == "speedup" else value


def _with_target(
    result: PassResult, last: Round, context: Context, rounds: Sequence[Round]
) -> PassResult:
    """A network with how near it came to the target."""
    name, limit = context.settings.target[0], figure_limit(context.settings.target)
    target = Target(name, limit, last.reached, last.bound, last.sparsity, tuple(rounds))
    return replace(result, target=target)


def _steering(measured: Round, limit: float) -> float:
    """What the search is told: the bound, as what was measured on few samples goes up and down.

    It is over the limit wherever either is.
    """
    if measured.bound is None or measured.reached <= limit or measured.bound > measured.reached:
        return measured.figure
    return max(math.sqrt(measured.bound * measured.reached), limit * (1 + 1e-9))


def _monotone_search(goal: Goal, compression: Compression, limit: float) -> MonotoneSearch:
    """The search within the sparsities that there may be."""
    low, high = compression.limits()
    sparsities, figures = goal.expected(compression)
    inner = sparsities[(sparsities > low) & (sparsities < high)]
    x = np.unique(np.concatenate([[low], inner, [high]]))
    expected = np.interp(x, sparsities, figures)
    if goal.falls:
        x, expected = 1 - x[::-1], expected[::-1]
    return MonotoneSearch(x, expected, limit, goal.margin, goal.tolerance, goal.memory, goal.unsure)


def _missed(context: Context, rounds: Sequence[Round], samples: int, noun: str) -> str:
    """Why no model was written, in a sentence or two; so many samples were held out."""
    name, limit = context.settings.target[0], figure_limit(context.settings.target)
    best = min(rounds, key=lambda attempt: attempt.figure)
    option = f"--{name.replace('_', '-')}"
    spell = SPELLED.get(name, "{:,.4g}".format)
    allowed = spell(limit)
    text = (
        f"{context.dense.path}: no sparsity was found that meets {option} {allowed}; the nearest "
        f"was {spell(best.figure)} at {best.sparsity:.1%} {noun}. No model was written. "
        f"Allow a {'smaller' if name == 'speedup' else 'larger'} {option}"
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
    measured = name in ("max_bytes", "speedup")
    if measured:
        return f"{text}."
    if (bits := context.settings.bits) is not None:
        return f"{text}, give more samples, or round less: weights have {bits} bits."
    return f"{text}, or give more samples."
