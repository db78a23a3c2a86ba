"""What is told of a layer, from what came out of its blocks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from nettrim_cli.graph.model import Model
from nettrim_cli.pruning.allocation import response_size
from nettrim_cli.pruning.selection import nonzeros
from nettrim_cli.report.result import LayerReport
from nettrim_cli.solve.matrices import Matrix
from nettrim_cli.solve.problem import LayerProblem, Solution, Status

WORST_FIRST = (
    *(Status.NOT_FINITE, Status.INFEASIBLE, Status.DENSE, Status.TIME_LIMIT),
    *(Status.MAX_ITERATIONS, Status.INACCURATE, Status.SOLVED),
)


def joined(solutions: Sequence[Solution]) -> Solution:
    """What a report says of all blocks: the worst of those that were treated, their iterations."""
    if len(solutions) == 1:
        return solutions[0]
    treated = [each for each in solutions if not each.status.leaves_dense]
    worst = min(treated or solutions, key=lambda each: WORST_FIRST.index(each.status))
    gaps = [each.gap for each in treated if each.gap is not None]
    violations = [each.violation for each in treated if each.violation is not None]
    left = next((each for each in solutions if each.status.leaves_dense), None)
    note = (
        "" if left is None else f"{len(solutions) - len(treated)} of {len(solutions)} blocks stay"
    )
    return replace(
        worst,
        iterations=sum(each.iterations for each in solutions),
        gap=max(gaps, default=None),
        violation=max(violations, default=None),
        note=worst.note if left is None or not treated else f"{note} dense: {left.note}",
    )


def joint_error(tasks: Sequence[LayerProblem], matrices: Sequence[Matrix], *, held: bool) -> float:
    """Relative response error of all blocks together, nan where there are no columns."""
    if len(tasks) == 1:
        return tasks[0].error(matrices[0], holdout=held)
    sizes = [response_size(task, held=held) for task in tasks]
    errors = [
        task.error(matrix, holdout=held) for task, matrix in zip(tasks, matrices, strict=True)
    ]
    whole = math.hypot(*sizes)
    moved = math.hypot(
        *(error * size for error, size in zip(errors, sizes, strict=True) if size != 0)
    )
    return moved / whole if whole != 0 else max(errors)


def weights_of(task: LayerProblem, matrix: Matrix) -> Matrix:
    """The weights without the bias."""
    return matrix[:-1] if task.has_bias else matrix


def in_order(model: Model, reports: Iterable[LayerReport]) -> tuple[LayerReport, ...]:
    """Reports in the model's order of layers."""
    place = {layer.name: at for at, layer in enumerate(model.layers)}
    return tuple(sorted(reports, key=lambda each: place[each.name]))


def counted(report: LayerReport, dense: Model, written: Model) -> LayerReport:
    """The report with its non-zeros counted in the written file."""
    layer = next(each for each in written.layers if each.name == report.name)
    return replace(report, nonzeros_after=nonzeros(written.weight(layer)[0]))
