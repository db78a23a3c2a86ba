"""The model and the samples of a run, opened as ``nettrim prune`` opens them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from nettrim_cli.data.sample_set import SampleSet
from nettrim_cli.evaluation.comparison import ReferenceOutputs
from nettrim_cli.evaluation.plausibility import dropped_samples, examine
from nettrim_cli.execution.executor import Executor
from nettrim_cli.execution.journal import Journal, JournaledExecutor
from nettrim_cli.execution.opening import opened_executor
from nettrim_cli.graph.model import Model
from nettrim_cli.loading import PathLike, load_models, naming, open_samples, split_samples
from nettrim_cli.process.channel import tell
from nettrim_cli.process.threads import thread_limits
from nettrim_cli.pruning.context import Context
from nettrim_cli.pruning.curve_job import measure_curve
from nettrim_cli.pruning.default_target import with_target
from nettrim_cli.pruning.layer_job import solve_layer
from nettrim_cli.pruning.selection import select
from nettrim_cli.report.diagnostic import Diagnostic, ordered
from nettrim_cli.report.result import LayerReport
from nettrim_cli.settings import TARGETS, Settings
from nettrim_cli.settings.curve import ANY_ERROR

if TYPE_CHECKING:
    from nettrim_cli.report.progress.listener import Listener

JOBS = (measure_curve, solve_layer)  # functions that are mapped


@dataclass(frozen=True)
class OpenedRun:
    """What a run has before anything is measured.

    Attributes
    ----------
    samples
        Those to fit and those held out.
    reference
        The dense network on the held-out samples; it runs when it is first asked.
    unpruned
        Reports of the layers that are left alone.
    doubts
        What there is to doubt of samples and labels, and which target was taken if none was given.
    """

    context: Context
    samples: SampleSet
    reference: ReferenceOutputs
    unpruned: Sequence[LayerReport]
    doubts: Sequence[Diagnostic]


def dense_model(model: PathLike, data: PathLike, settings: Settings) -> Model:
    """The model of a run, read from its file; its samples are looked for, too.

    Raises
    ------
    NettrimError
        One of its kinds: a file is missing or bad.
    """
    tell("about", model)
    (dense,) = load_models([model], data)
    dense.store(compact=settings.store == "compact")
    return dense


@contextmanager
def opened_run(
    dense: Model,
    data: PathLike,
    settings: Settings,
    listener: Listener,
    journal: Journal | None = None,
) -> Iterator[OpenedRun]:
    """Open the samples of a model, and look at them; for a with-block.

    Parameters
    ----------
    dense, data
        The model, and the file of its samples.
    settings
        Of the run.
    listener
        Hears of the progress.
    journal
        Keeps the results of jobs, and has those of a run before.

    Raises
    ------
    NettrimError
        One of its kinds: a file is bad, or no layer can be pruned.
    """
    chosen, unpruned = select(dense, settings)
    one = None if settings.cluster is None else 1  # a worker may do several tasks at once
    with (
        naming(dense.path),
        open_samples(data, dense, ignore_label=settings.ignore_label) as calibration,
        thread_limits(settings.threads or one, settings.workers) as threads,
        opened_executor(
            settings.workers, settings.cluster, threads, JOBS, listener.iteration
        ) as engine,
    ):
        samples = split_samples(dense, calibration, settings, threads)
        listener.stage("looking at samples and labels")
        doubts = _doubts(dense, samples, settings, threads)
        reference = ReferenceOutputs(dense, samples.holdout_batches, threads=threads)
        settings, notes = with_target(settings, samples, doubts, reference)
        executor: Executor = engine
        if journal is not None:
            executor = JournaledExecutor(engine, journal)
        context = Context(dense, tuple(chosen), settings, samples, threads, listener, executor)
        yield OpenedRun(context, samples, reference, unpruned, ordered([*doubts, *notes]))


def for_any_target(settings: Settings) -> Settings:
    """The settings of a measurement that serves every target of the whole network."""
    targets: dict[str, Any] = dict.fromkeys(TARGETS) | {"max_error": ANY_ERROR}
    return replace(settings, **targets)


def _doubts(dense: Model, samples: SampleSet, settings: Settings, threads: int) -> list[Diagnostic]:
    """What there is to doubt of samples and labels before anything is solved."""
    calibration, parts = samples.calibration, (samples.fitted, samples.holdout)
    strict = settings.target[0] == "max_drop"
    doubts = examine(dense, calibration, parts, samples.size, threads=threads, strict=strict)
    count = min(settings.samples, calibration.samples)
    return [*doubts, *dropped_samples(len(samples), count, calibration.batch_size(1))]
