"""What to know after solving: layers not solved, outputs that died, branches not seen."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.answers import samples_for
from nettrim_cli.data.calibration import Batch
from nettrim_cli.data.engine import Engine, is_array
from nettrim_cli.graph.model import Model
from nettrim_cli.report import words
from nettrim_cli.report.diagnostic import Diagnostic
from nettrim_cli.report.result import LayerReport, Target
from nettrim_cli.solve.task import UNREACHED

UNSOLVED = ("max-iterations", "inaccurate", "time-limit")
STILL = 1e-6  # relative spread below which an output is constant
FEWEST = 2  # samples that can differ
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


def dead_outputs(
    dense: Model, written: Model, batches: Iterable[Batch], *, threads: int
) -> Iterator[Diagnostic]:
    """Outputs that are the same for all samples now, and were not."""
    engines = [Engine(each.runnable(), threads=threads, optimise=True) for each in (dense, written)]
    before: dict[str, list[NDArray[Any]]] = {}
    after: dict[str, list[NDArray[Any]]] = {}
    for batch in batches:
        for engine, into in zip(engines, (before, after), strict=True):
            for name, value in zip(engine.outputs, engine.run(batch.feeds), strict=True):
                if is_array(value) and value.dtype.kind == "f" and len(value) == batch.count:
                    into.setdefault(name, []).append(value.reshape(batch.count, -1))
    for name in before:
        if name in after and _still(after[name]) and not _still(before[name]):
            level = float(np.abs(after[name][0]).max(initial=0))
            what = "zero" if level == 0 else "the same"
            yield Diagnostic(
                "dead-output",
                f"output '{name}' of the pruned network is {what} on all samples that were looked "
                "at, where the dense one tells them apart: ask for fewer zeros.",
                f"output '{name}' no longer depends on the samples",
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
        brief = f"{samples:,} held-out samples; about {words.about(needed)} would allow more zeros"
        yield Diagnostic(
            "few-held-out",
            f"--max-drop is limited by {brief}: {width:.2%} of the {target.wanted:.2%} allowed is "
            f"what so few leave open; half of it with about {words.about(needed / share)} in all.",
            brief,
        )


def _still(parts: Sequence[NDArray[Any]]) -> bool:
    """Whether samples (rows) are all alike."""
    if len({each.shape[1] for each in parts}) > 1 or sum(map(len, parts)) < FEWEST:
        return False
    rows = np.concatenate(parts).astype(np.float64)
    if not rows.size or not np.isfinite(rows).all():
        return False
    return bool(np.ptp(rows, axis=0).max() <= STILL * np.abs(rows).max())


def _names(layers: Sequence[LayerReport]) -> str:
    """A few layers by name."""
    names = ", ".join(each.name for each in layers[:LISTED])
    more = f" and {len(layers) - LISTED} more" if len(layers) > LISTED else ""
    return f"layer{'s' * (len(layers) > 1)} {names}{more}"
