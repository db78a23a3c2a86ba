"""What to know after solving: layers not solved, outputs that died, branches not seen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from nettrim_cli.errors import BadInput
from nettrim_cli.evaluation.accuracy import samples_for
from nettrim_cli.evaluation.output_statistics import OutputStatistics
from nettrim_cli.report import formatting
from nettrim_cli.report.diagnostic import Diagnostic
from nettrim_cli.report.result import LayerReport, Target
from nettrim_cli.solve.problem import UNREACHED

UNSOLVED = ("max-iterations", "inaccurate", "time-limit")
LISTED = 3


def unsolved(layers: Sequence[LayerReport]) -> Iterator[Diagnostic]:
    """Layers whose program was not solved to its tolerance."""
    found = [each for each in layers if each.status in UNSOLVED]
    if found:
        worst = max(found, key=lambda each: each.violation or 0)
        outside = (
            f"; {worst.name} is {worst.violation:.1%} outside of epsilon" if worst.violation else ""
        )
        yield Diagnostic(
            "not-solved",
            f"{_names(found)} ended before the tolerance was reached "
            f"({', '.join(sorted({each.status for each in found}))}){outside}: their weights are "
            "no optimum, and are written as they are. A larger --epsilon or more samples may help.",
            f"{len(found)} layers that were not solved to tolerance",
        )


def emptied(layers: Sequence[LayerReport]) -> Iterator[Diagnostic]:
    """Layers that lost all of their weights."""
    found = [each for each in layers if each.nonzeros_before and not each.nonzeros_after]
    if found:
        yield Diagnostic(
            "empty-layer",
            f"{_names(found)} lost all weights: what they deliver is constant. Ask for fewer "
            "zeros, or give them a ceiling (--limit 'NAME=:0.99').",
        )


def unseen(
    layers: Sequence[LayerReport], places: Mapping[str, Sequence[str]]
) -> Iterator[Diagnostic]:
    """Branches that no sample takes: of weights of their own, and of weights that others share.

    Parameters
    ----------
    places
        By layer, the nodes that read its weights without any sample reaching them.
    """
    for name, nodes in places.items():
        yield Diagnostic(
            "unseen-branch",
            f"layer {name} is used at {', '.join(nodes)}, too, where no sample comes: what its new "
            "weights do there was not looked at. Add samples that take that branch, or leave the "
            "layer dense (--exclude).",
            "branches that no sample takes",
        )
    left = [each for each in layers if each.note == UNREACHED]
    if left:
        yield Diagnostic(
            "unseen-layer",
            f"{_names(left)}: no sample reaches {'them' if len(left) > 1 else 'it'}; left dense. "
            "Add samples that take that branch.",
        )


def not_finite(layers: Sequence[LayerReport]) -> Iterator[Diagnostic]:
    """Layers whose signals leave the range of numbers."""
    found = [each for each in layers if not each.pruned and "finite" in each.note]
    if found:
        yield Diagnostic(
            "not-finite",
            f"{_names(found)}: left dense, as {found[0].note}. Layers behind may read what is no "
            "number, too: find the node that makes it, and prepare the samples as in training.",
        )


def dead_outputs(outputs: Mapping[str, OutputStatistics]) -> Iterator[Diagnostic]:
    """Outputs that are the same for all samples now, and were not."""
    for name, seen in outputs.items():
        if seen.pruned.constant and not seen.dense.constant:
            what = "zero" if seen.pruned.largest == 0 else "the same"
            yield Diagnostic(
                "dead-output",
                f"output '{name}' of the pruned network is {what} on all samples that were looked "
                "at, where the dense one tells them apart: ask for fewer zeros.",
                f"output '{name}' no longer depends on the samples",
            )


def lost_numbers(model: object, outputs: Mapping[str, OutputStatistics]) -> Iterator[Diagnostic]:
    """Outputs with values that are finite in the dense network alone.

    Raises
    ------
    BadInput
        The dense network makes nothing but numbers of these samples: its pruned form is broken.
    """
    for name, seen in outputs.items():
        if seen.lost and seen.dense.finite:
            raise BadInput(
                f"{model}: output '{name}' of the pruned network is not finite where that of the "
                "dense one is; nothing was written. Ask for fewer zeros, or leave the last layers "
                "out (--exclude)."
            )
        if seen.lost:
            yield Diagnostic(
                "not-finite-output",
                f"output '{name}': {seen.lost:,} of {seen.values:,} values that were looked at are "
                "finite in the dense network alone, which gives no number elsewhere. Find the node "
                "that makes them, and prepare the samples as in training.",
                f"output '{name}' is no number where the dense one is",
            )


def few_held_out(target: Target | None, samples: int, share: float) -> Iterator[Diagnostic]:
    """A drop that is bounded by how few samples are held out more than by what was lost.

    Parameters
    ----------
    samples
        Those held out.
    share
        Of all samples.
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
    """A few layers by name."""
    names = ", ".join(each.name for each in layers[:LISTED])
    more = f" and {len(layers) - LISTED} more" if len(layers) > LISTED else ""
    return f"layer{'s' * (len(layers) > 1)} {names}{more}"
