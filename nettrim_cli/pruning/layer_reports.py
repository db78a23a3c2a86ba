"""What is told of a layer, from what came out of its blocks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from nettrim_cli.graph.model import Model
from nettrim_cli.pruning.blocks import nonzeros
from nettrim_cli.report.result import Histogram, LayerReport
from nettrim_cli.solve.matrices import Matrix
from nettrim_cli.solve.problem import Solution, Status

BINS, SPREAD = 40, 4.0  # of histograms, and how many standard deviations they reach
WORST_FIRST = (
    *(Status.NOT_FINITE, Status.INFEASIBLE, Status.DENSE, Status.TIME_LIMIT),
    *(Status.MAX_ITERATIONS, Status.INACCURATE, Status.SOLVED),
)


def joined(solutions: Sequence[Solution]) -> Solution:
    """What a report says of all blocks: the worst of those that were treated, their iterations."""
    if len(solutions) == 1:
        return solutions[0]
    treated = [solution for solution in solutions if not solution.status.leaves_dense]
    worst = min(treated or solutions, key=lambda solution: WORST_FIRST.index(solution.status))
    gaps = [solution.gap for solution in treated if solution.gap is not None]
    violations = [solution.violation for solution in treated if solution.violation is not None]
    left_dense = (solution for solution in solutions if solution.status.leaves_dense)
    unsolved = next(left_dense, None) if treated else None
    note = worst.note
    if unsolved is not None:
        count = len(solutions) - len(treated)
        note = f"{count} of {len(solutions)} blocks stay dense: {unsolved.note}"
    return replace(
        worst,
        iterations=sum(solution.iterations for solution in solutions),
        gap=max(gaps, default=None),
        violation=max(violations, default=None),
        note=note,
        reason=(unsolved or worst).reason,
    )


def in_order(model: Model, reports: Iterable[LayerReport]) -> tuple[LayerReport, ...]:
    """Reports in the model's order of layers."""
    place = {layer.name: position for position, layer in enumerate(model.layers)}
    return tuple(sorted(reports, key=lambda report: place[report.name]))


def counted(report: LayerReport, written: Model) -> LayerReport:
    """The report with its non-zeros counted in the written file, if the layer is whole there."""
    layer = next((layer for layer in written.layers if layer.name == report.name), None)
    if layer is None or report.rank is not None:
        return report
    return replace(report, nonzeros_after=nonzeros(written.weight(layer)[0]))


def histograms(
    dense: Model, pruned: Model, reports: Iterable[LayerReport]
) -> tuple[Histogram, ...]:
    """Sizes of weights before and after, of each pruned layer that is one matrix in both models."""
    before = {layer.name: layer for layer in dense.layers}
    after = {layer.name: layer for layer in pruned.layers}
    return tuple(
        histogram(
            report.name,
            dense.weight(before[report.name])[0],
            pruned.weight(after[report.name])[0],
        )
        for report in reports
        if report.pruned and report.rank is None and report.name in after
    )


def histogram(name: str, before: Sequence[Matrix], after: Sequence[Matrix]) -> Histogram:
    """Sizes of weights that are not zero, of a layer's blocks (N, M) before and after."""
    finite = [block[np.isfinite(block)] for block in before]
    weights = np.concatenate(finite) if len(finite) > 1 else finite[0]
    centre, reach = 0.0, 0.5
    if len(weights):
        with np.errstate(over="ignore"):
            centre, spread = float(weights.mean()), SPREAD * float(weights.std())
        reach = spread if 0 < spread < math.inf else abs(centre) or reach
    low, high = centre - reach, centre + reach

    def counts(blocks: Sequence[Matrix]) -> tuple[int, ...]:
        """Number of weights of blocks (N, M) in each bin."""
        total = np.zeros(BINS, np.int64)
        for block in blocks:
            total += np.histogram(block[block != 0], BINS, (low, high))[0]
        return tuple(total.tolist())

    return Histogram(name, low, high, counts(before), counts(after))
