"""The pruned network in its file: what goes before that, and what is measured of it there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nettrim_cli.data.sample_set import SampleSet
from nettrim_cli.evaluation.comparison import OutputComparison, ReferenceOutputs
from nettrim_cli.evaluation.forms import forms
from nettrim_cli.evaluation.new_samples import on_unused_samples
from nettrim_cli.evaluation.output_statistics import output_statistics
from nettrim_cli.evaluation.written_model_check import (
    dead_outputs,
    emptied,
    few_held_out,
    lost_numbers,
    not_finite,
    unseen,
    unsolved,
)
from nettrim_cli.files.atomic import standing
from nettrim_cli.graph.model import Model
from nettrim_cli.pruning.context import Context
from nettrim_cli.pruning.deletion import without_idle_units
from nettrim_cli.pruning.integer_kernels import IntegerModel, with_integers
from nettrim_cli.pruning.layer_reports import counted
from nettrim_cli.pruning.passes import Outcome
from nettrim_cli.report.comparison_result import Comparison
from nettrim_cli.report.diagnostic import Diagnostic
from nettrim_cli.report.result import FileForm, LayerReport


@dataclass(frozen=True)
class Written:
    """What is known of the file that was written, and what there is to doubt of it."""

    comparison: Comparison
    layers: Sequence[LayerReport]
    bound: float | None
    doubts: Sequence[Diagnostic]
    forms: tuple[FileForm, ...]
    deleted_units: int
    proved: Model
    files: tuple[Path, ...]


def write(
    context: Context,
    outcome: Outcome,
    target: Path,
    reference: ReferenceOutputs,
    samples: SampleSet,
    *,
    force: bool,
) -> Written:
    """Write the network, and measure the file before it takes its place.

    Parameters
    ----------
    target
        The file.
    reference
        The dense network on the held-out samples.
    samples
        The file's samples, which are not to have changed since.
    force
        Whether an existing file may be replaced.
    """
    dense, result = context.dense, outcome.result
    measured: list[tuple[Model, OutputComparison]] = []
    doubts: list[Diagnostic] = []

    def check(written: Model) -> None:
        """Run the file as it was written, on samples that have not changed."""
        samples.calibration.check_unchanged()
        answers = reference.compare(written)  # it has to run, whichever is told of
        if (judged := result.judged) is not None:
            if integers is not None:
                judged = IntegerModel.of(judged, samples, integers.make).model
            answers = reference.compare(judged)
        batches = samples.seen_batches()
        outputs = output_statistics(dense, written, batches, threads=context.threads)
        doubts.extend([*lost_numbers(dense.path, outputs), *dead_outputs(outputs)])
        measured.append((written, answers))

    model, deleted = without_idle_units(result.model, samples, context.settings, context.threads)
    integers = None
    if context.settings.runtime_int8:
        integers, told = with_integers(context, model, samples, reference)
        doubts.append(told)
    (integers.model if integers else model).save(target, force=force, check=check)
    with standing(target):
        ((written, answers),) = measured
        comparison = replace(
            answers.compared(dense, written),
            new_samples=on_unused_samples(dense, written, samples, threads=context.threads),
        )
        layers = [counted(layer, model) for layer in result.layers]
        bound = answers.bound
        if result.target is not None and result.target.bound is not None:
            bound = result.target.bound
        doubts += few_held_out(result.target, comparison.samples, context.settings.holdout)
        doubts += [*unsolved(layers), *emptied(layers), *not_finite(layers)]
        doubts += unseen(layers, result.unread)
        proved = written if integers else result.in_dense_graph
        sizes = forms(written)
        return Written(comparison, layers, bound, doubts, sizes, deleted, proved, written.files)
