"""What held a result back: too few samples, for which layers, and what more would give."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from nettrim_cli.data.layer_samples import useful_columns
from nettrim_cli.pruning.allocation import Forecast
from nettrim_cli.pruning.passes import Outcome
from nettrim_cli.report.diagnostic import Diagnostic
from nettrim_cli.report.result import LayerReport
from nettrim_cli.settings import Settings

FEW = 2  # columns to an input below which a layer's fit is poor
ENOUGH = 5  # columns to an input from which on more samples help little (docs/method.md)


def run_advice(outcome: Outcome, used: int, left_out: Sequence[str] = ()) -> Iterator[Diagnostic]:
    """What to know of a run.

    Parameters
    ----------
    outcome
        What came out.
    used
        Samples of the file, held-out ones among them.
    left_out
        Steps for which there was no time.
    """
    columns = {
        layer.name: (layer.columns, layer.shape[0])
        for layer in outcome.result.layers
        if layer.columns
    }
    yield from sampling_advice(used, columns, outcome.samples.rounds, outcome.forecast)
    if outcome.final_samples:
        yield final_fit_advice(outcome.final_samples)
    if left_out:
        yield Diagnostic(
            "time-limit",
            f"--time-limit left no time for all of a run: {', '.join(left_out)} were left out; "
            "this is the best so far, and more time would make it better.",
        )


def sampling_advice(
    used: int, columns: Mapping[str, tuple[int, int]], rounds: int, forecast: Forecast | None
) -> Iterator[Diagnostic]:
    """Diagnostics of a run's samples.

    Parameters
    ----------
    used
        Samples of the file, held-out ones among them.
    columns
        Calibration columns and inputs of each layer, by name.
    rounds
        Samples that were made of each fitted one; their columns are no new ones.
    forecast
        What half of the samples gave; None where that was not asked for.
    """
    recorded = {name: (count // (1 + rounds), inputs) for name, (count, inputs) in columns.items()}
    thin = {
        name: (count, inputs)
        for name, (count, inputs) in recorded.items()
        if count < useful_columns(inputs, FEW * inputs)
    }
    if thin:
        yield _few_samples(used, thin)
    if rounds:
        yield Diagnostic(
            "augmented",
            f"samples are few: {rounds} more were made of each fitted one by mixing and moving "
            "them, which lowered the error on held-out samples (see --augment).",
        )
    if forecast is not None:
        yield Diagnostic(
            "forecast",
            "twice as many samples would lower the output error by about "
            f"{1 - min(forecast.ratio, 1):.0%}: it fell by that from half of them to all; most in "
            f"layer {forecast.layer}, by {1 - min(forecast.layer_ratio, 1):.0%}.",
        )


def final_fit_advice(samples: int) -> Diagnostic:
    """What errors are of where all of so many samples were fitted to in the end."""
    return Diagnostic(
        "final-fit",
        f"samples are few: in the end the layers were fitted to all {samples:,}, held-out ones "
        "included; errors are those of before, when these had not been seen (see --final-fit).",
    )


def _few_samples(used: int, thin: Mapping[str, tuple[int, int]]) -> Diagnostic:
    """The layer with fewest columns to an input, and how many samples would be enough for it."""
    name = min(thin, key=lambda layer: thin[layer][0] / thin[layer][1])
    columns, inputs = max(1, thin[name][0]), thin[name][1]
    enough = useful_columns(inputs, ENOUGH * inputs)
    useful = math.ceil(used * enough / columns / 100) * 100
    remainder = f" (and {len(thin) - 1} more)" if len(thin) > 1 else ""
    return Diagnostic(
        "few-samples",
        f"few samples: layer {name} has {inputs} inputs but only {columns} calibration "
        f"columns{remainder}; some {useful:,} samples would be useful, {used:,} were used.",
        f"few samples for layer {name}{remainder}: some {useful:,} would be useful",
    )


def nothing_to_do(model: object, settings: Settings, layers: Sequence[LayerReport]) -> str:
    """Why no layer was made sparser, and what to do, in a sentence or two."""
    reason = next((f" ({layer.name}: {layer.note})" for layer in layers if layer.reason), "")
    word = "sparser" if settings.structure == "zeros" else "smaller"
    text = f"{model}: no layer can be made {word} within the target{reason}; nothing was written."
    if settings.target_epsilon is not None:
        return f"{text} Allow a larger --epsilon, or give a --sparsity."
    return text
