"""Warnings about the written model: unsolved layers, dead outputs, branches without samples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from nettrim_cli.errors import BadInput
from nettrim_cli.evaluation.accuracy import samples_for
from nettrim_cli.evaluation.output_statistics import OutputStatistics
from nettrim_cli.report import formatting
from nettrim_cli.report.diagnostic import Diagnostic
from nettrim_cli.report.result import LayerReport, Target
from nettrim_cli.solve.problem import Status
from nettrim_cli.solve.samples import UNREACHED

NOT_FINITE = ("weights-not-finite", "signals-not-finite")
UNSOLVED = (Status.MAX_ITERATIONS, Status.INACCURATE, Status.TIME_LIMIT)
LISTED = 3


def unsolved(layers: Sequence[LayerReport]) -> Iterator[Diagnostic]:
    """Warn of layers whose program was not solved to its tolerance."""
    unsolved_layers = [layer for layer in layers if layer.status in UNSOLVED]
    if unsolved_layers:
        worst = max(unsolved_layers, key=lambda layer: layer.gap or 0)
        gap = f"; {worst.name} may be {worst.gap:.1%} above its optimum" if worst.gap else ""
        count = len(unsolved_layers)
        plural = "s that were" if count > 1 else " that was"
        yield Diagnostic(
            "not-solved",
            f"{_names(unsolved_layers)} ended before the tolerance was reached "
            f"({', '.join(sorted({layer.status for layer in unsolved_layers}))}){gap}: their "
            "weights keep what was asked of them, with more of them than necessary. A larger "
            "--epsilon or more samples may help.",
            f"{count} layer{plural} not solved to tolerance",
        )


def emptied(layers: Sequence[LayerReport]) -> Iterator[Diagnostic]:
    """Warn of layers that lost all of their weights."""
    empty_layers = [layer for layer in layers if layer.nonzeros_before and not layer.nonzeros_after]
    if empty_layers:
        yield Diagnostic(
            "empty-layer",
            f"{_names(empty_layers)} lost all weights: what they deliver is constant. Ask for "
            "fewer zeros, or give them a ceiling (--limit 'NAME=:0.99').",
        )


def unseen(
    layers: Sequence[LayerReport], nodes_by_layer: Mapping[str, Sequence[str]]
) -> Iterator[Diagnostic]:
    """Warn of branches that no sample takes, with weights of their own or shared weights.

    Parameters
    ----------
    layers
        Reports of all layers.
    nodes_by_layer
        By layer, the nodes that read its weights although no sample reaches them.
    """
    for name, nodes in nodes_by_layer.items():
        yield Diagnostic(
            "unseen-branch",
            f"layer {name} is used at {', '.join(nodes)}, too, where no sample comes: what its new "
            "weights do there was not looked at. Add samples that take that branch, or leave the "
            "layer dense (--exclude).",
            "branches that no sample takes",
        )
    unreached = [layer for layer in layers if layer.reason == UNREACHED.code]
    if unreached:
        yield Diagnostic(
            "unseen-layer",
            f"{_names(unreached)}: no sample reaches {'them' if len(unreached) > 1 else 'it'}; "
            "left dense. Add samples that take that branch.",
        )


def not_finite(layers: Sequence[LayerReport]) -> Iterator[Diagnostic]:
    """Warn of layers whose signals leave the range of numbers."""
    broken_layers = [layer for layer in layers if not layer.pruned and layer.reason in NOT_FINITE]
    if broken_layers:
        yield Diagnostic(
            "not-finite",
            f"{_names(broken_layers)}: left dense, as {broken_layers[0].note}. Layers behind may "
            "read what is no number, too: find the node that makes it, and prepare the samples as "
            "in training.",
        )


def dead_outputs(outputs: Mapping[str, OutputStatistics]) -> Iterator[Diagnostic]:
    """Warn of outputs that depend on the samples in the dense network alone."""
    for name, statistics in outputs.items():
        if statistics.pruned.constant and not statistics.dense.constant:
            value = "zero" if statistics.pruned.largest == 0 else "the same"
            yield Diagnostic(
                "dead-output",
                f"output '{name}' of the pruned network is {value} on all samples that were looked "
                "at, where the dense one tells them apart: ask for fewer zeros.",
                f"output '{name}' no longer depends on the samples",
            )


def lost_numbers(model: object, outputs: Mapping[str, OutputStatistics]) -> Iterator[Diagnostic]:
    """Warn of outputs with values that are finite in the dense network alone.

    Raises
    ------
    BadInput
        The dense network makes nothing but numbers of these samples: its pruned form is broken.
    """
    for name, statistics in outputs.items():
        if statistics.lost_values and statistics.dense.finite:
            raise BadInput(
                f"{model}: output '{name}' of the pruned network is not finite where that of the "
                "dense one is; nothing was written. Ask for fewer zeros, or leave the last layers "
                "out (--exclude)."
            )
        if statistics.lost_values:
            yield Diagnostic(
                "not-finite-output",
                f"output '{name}': {statistics.lost_values:,} of {statistics.values:,} values that "
                "were looked at are finite in the dense network alone, which gives no number "
                "elsewhere. Find the node that makes them, and prepare the samples as in training.",
                f"output '{name}' is no number where the dense one is",
            )


def few_held_out(target: Target | None, samples: int, share: float) -> Iterator[Diagnostic]:
    """Warn where the bound on a drop rests on few held-out samples more than on the drop itself.

    Parameters
    ----------
    target
        The target as reached.
    samples
        Number of held-out samples.
    share
        Their share of all samples.
    """
    if target is None or target.bound is None:
        return
    width = target.bound - max(target.reached, 0)
    if width > target.wanted / 2:
        needed = samples_for(width, width / 2, samples)
        brief = (
            f"{samples:,} held-out samples; about {formatting.about(needed)} would allow more zeros"
        )
        yield Diagnostic(
            "few-held-out",
            f"--max-drop is limited by {brief}: {width:.2%} of the {target.wanted:.2%} allowed is "
            "what so few leave open; half of it with about "
            f"{formatting.about(needed / share)} in all.",
            brief,
        )


def _names(layers: Sequence[LayerReport]) -> str:
    """Names of a few layers, for a sentence."""
    names = ", ".join(layer.name for layer in layers[:LISTED])
    suffix = f" and {len(layers) - LISTED} more" if len(layers) > LISTED else ""
    return f"layer{'s' * (len(layers) > 1)} {names}{suffix}"
