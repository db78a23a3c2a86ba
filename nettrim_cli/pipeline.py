"""The whole story: record, solve, write, check, report."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nettrim_cli.data.batching import batch_size
from nettrim_cli.data.sample_set import SampleSet
from nettrim_cli.errors import NothingToDo
from nettrim_cli.evaluation.certificate import certificate_of
from nettrim_cli.evaluation.comparison import (
    ReferenceOutputs,
    facts,
    stored_bytes,
)
from nettrim_cli.evaluation.consistency import consistency
from nettrim_cli.evaluation.gates import checks
from nettrim_cli.evaluation.new_samples import new_sample_errors
from nettrim_cli.evaluation.plausibility import COMPARISON_CHECKS, examine
from nettrim_cli.evaluation.provenance import check_operands, provenance_of
from nettrim_cli.execution.journal import journal_of
from nettrim_cli.files.atomic import reserved, standing
from nettrim_cli.graph.storage.scratch import Scratch
from nettrim_cli.latency.bench import held_out_latency
from nettrim_cli.loading import (
    check_loads,
    check_same_inputs,
    default_output,
    load_models,
    naming,
    open_samples,
)
from nettrim_cli.preview.opened_run import dense_model, opened_run
from nettrim_cli.process.channel import tell
from nettrim_cli.process.threads import thread_limits
from nettrim_cli.pruning.advice import nothing_to_do, run_advice
from nettrim_cli.pruning.context import Context
from nettrim_cli.pruning.integer_kernels import integer_context
from nettrim_cli.pruning.passes import Outcome, prune_network
from nettrim_cli.pruning.run_reports import missed_report, run_report
from nettrim_cli.pruning.target_search import Missed, search_sparsity
from nettrim_cli.pruning.writing import write
from nettrim_cli.report.comparison_result import Comparison, Conversion
from nettrim_cli.report.data_result import made_in_words
from nettrim_cli.report.diagnostic import ordered
from nettrim_cli.report.progress.counting import CountedBatches
from nettrim_cli.report.result import LayerReport, Report
from nettrim_cli.settings import SEARCHED, Gate, Settings

if TYPE_CHECKING:
    from nettrim_cli.report.progress import Listener

PathLike = str | os.PathLike[str]
FEWEST_BATCHES = 64  # of a comparison that has a limit, where samples suffice
PRUNE_RUNS, COMPARE_RUNS = 0.5, 4.0  # of the network on all samples, for a quick certificate


def prune(  # noqa: PLR0913 (the options of the command)
    model: PathLike,
    data: PathLike,
    output: PathLike | None = None,
    settings: Settings | None = None,
    *,
    force: bool = False,
    bench: bool = False,
    fresh: bool = False,
    listener: Listener | None = None,
) -> Report:
    """Prune a model on calibration data and write the result.

    Parameters
    ----------
    model, data
        ONNX file; HDF5, .npz or .npy file.
    output
        File to write; ``model.pruned.onnx`` beside the model by default.
    force
        Whether an existing output may be replaced (never an input).
    bench
        Whether to time the dense and the written model.
    fresh
        Whether to start over where a run to the same output has ended early.

    Returns
    -------
    Report
        Measured on the file as written.

    Raises
    ------
    NettrimError
        One of its kinds, with nothing written: see ``nettrim_cli.errors``.
    """
    start = time.monotonic()
    settings, listener = settings or Settings(), listener or _silent()
    target = Path(output) if output is not None else default_output(model)
    dense = dense_model(model, data, settings)
    dense.check_output(target, [Path(data)], force=force)
    dense.external.scratch = Scratch(target.parent)
    with (
        reserved(target),
        journal_of(target, listener.message, fresh=fresh) as journal,
        opened_run(dense, data, settings, listener, journal) as run,
    ):
        samples, reference, settings = run.samples, run.reference, run.context.settings
        listener.stage(f"recording {len(samples.fitted):,} samples")
        context, on_kernels = integer_context(run.context, samples)
        search = partial(_search, unpruned=run.unpruned, data=Path(data), start=start)
        solve = search if settings.target[0] in SEARCHED else prune_network
        outcome = solve(context, samples, reference)
        if not any(layer.pruned and layer.lost for layer in outcome.result.layers):
            raise NothingToDo(nothing_to_do(model, settings, outcome.result.layers))
        listener.stage("writing and checking")
        written = write(context, outcome, target, reference, samples, force=force)
        with standing(target):
            notes = [
                *on_kernels,
                *written.doubts,
                *run_advice(outcome, len(samples), context.deadline.left_out),
            ]
            level, threads = (settings.certificate, PRUNE_RUNS), context.threads
            certificate = certificate_of(dense, written.proved, samples, *level, threads=threads)
            if settings.certificate != "none":
                fitted = samples.fit_batches(), settings
                theorem = consistency(dense, written.proved, *fitted, threads=threads)
                certificate = replace(certificate, consistency=theorem)
            timed = [dense.path, target]
            latency = held_out_latency(timed, samples, listener.stage) if bench else ()
            files = {"model": dense.files, "data": [Path(data)], "output": written.files}
            return replace(
                run_report(run.context, outcome, written, run.unpruned),
                warnings=ordered([*run.doubts, *notes]),
                certificate=certificate,
                latency=latency,
                samples_made=made_in_words(samples.calibration.provenance),
                provenance=provenance_of(files),
                seconds=time.monotonic() - start,
            )


def compare(  # noqa: PLR0913 (the options of the command)
    reference: PathLike,
    candidate: PathLike,
    data: PathLike,
    *,
    gate: Gate | None = None,
    threads: int | None = None,
    certificate: str = "none",
    ignore_label: int | None = None,
    listener: Listener | None = None,
) -> Comparison:
    """Compare two models on all samples of a file.

    Parameters
    ----------
    gate
        Limits that it is held against.
    ignore_label
        The label that marks samples without a class: accuracy leaves them out.
    listener
        Is told what is done.
    certificate
        ``quick``, ``full`` or ``none`` (see ``evaluation.certificate``).

    Raises
    ------
    NettrimError
        One of its kinds: a file is missing or bad, or the models do not fit each other.
    """
    tell("about", f"{reference} or {candidate}")
    listener = listener or _silent()
    listener.stage("reading the models")
    first, second = load_models([reference, candidate], data)
    notes = tuple(check_operands(first, second, Path(data)))
    check_same_inputs(first, second)
    with (
        naming(f"{reference} or {candidate}"),
        open_samples(data, first, ignore_label=ignore_label) as samples,
        thread_limits(threads) as count,
    ):
        everything = np.arange(samples.samples)
        size = batch_size(samples, first, count)
        listener.stage("looking at samples and labels")
        doubts = examine(
            first,
            samples,
            (everything, everything[:0]),
            size,
            threads=count,
            strict=gate is not None and gate.max_drop is not None,
            checks=COMPARISON_CHECKS,
        )
        notes += tuple(doubt.text for doubt in ordered(doubts))
        if gate is not None:  # some outputs tell batches apart, but not samples
            size = min(size, max(1, samples.samples // FEWEST_BATCHES))
        batches = partial(samples.batches, everything, size)
        listener.stage("running both models on the samples")
        counted = CountedBatches(batches, 2 * len(everything), listener)
        answers = ReferenceOutputs(first, counted, threads=count).compare(second)
        limits = () if gate is None else tuple(checks(answers, gate))  # before what takes longer
        certified = None
        if certificate != "none":
            judged = SampleSet(samples, everything[:0], everything, size)
            level = certificate, COMPARE_RUNS
            listener.stage("measuring what layers cost")
            certified = certificate_of(first, second, judged, *level, threads=count)
        facts = {"certificate": certificate, "threads": count, "ignore_label": ignore_label}
        facts |= vars(gate or Gate())
        files = {"model": first.files, "candidate": second.files, "data": [Path(data)]}
        return replace(
            answers.compared(first, second),
            certificate=certified,
            new_samples=new_sample_errors(answers.errors),
            checks=limits,
            notes=notes,
            settings=facts,
            provenance=provenance_of(files),
        )


def convert(
    model: PathLike, output: PathLike | None = None, *, compact: bool, force: bool = False
) -> Conversion:
    """Write a model with its sparse weights in compact form, or with all of them plain.

    Parameters
    ----------
    model
        ONNX file, of any maker.
    output
        File to write; beside the model by default, see ``loading.default_output``.
    compact
        Whether weights are to be compact or plain.
    force
        Whether an existing output may be replaced (never an input).

    Returns
    -------
    Conversion
        Sizes; the written file has been read again, every constant is what it was bit by bit.

    Raises
    ------
    NettrimError
        One of its kinds, with nothing written; ``NothingToDo`` where compact files would not be
        smaller, or no weight is compact.
    """
    target = Path(output or default_output(model, "packed" if compact else "unpacked"))
    tell("about", model)
    (loaded,) = load_models([model])
    if not compact and not loaded.compact:
        raise NothingToDo(f"{model}: no weight is in compact form; nothing was written.")
    loaded.store(compact=compact)
    loaded.check_output(target, force=force)
    before = facts(loaded)
    if compact and stored_bytes(loaded) >= before.bytes_raw:
        raise NothingToDo(
            f"{model}: the compact form would not be smaller, with {before.sparsity:.1%} of all "
            "parameters zero; nothing was written. Models are made sparse by 'nettrim prune'."
        )
    with naming(model), reserved(target):
        written = loaded.save(target, force=force, check=check_loads, whole=True)
        with standing(target):
            return Conversion(before, facts(written))


def _search(
    context: Context,
    samples: SampleSet,
    reference: ReferenceOutputs,
    *,
    unpruned: Sequence[LayerReport],
    data: Path,
    start: float,
) -> Outcome:
    """A network that meets its target; where none does there is a report of the nearest one."""
    try:
        return search_sparsity(context, samples, reference)
    except Missed as missed:
        if missed.nearest is not None:
            report = missed_report(context, missed.nearest, reference, unpruned)
            files = {"model": context.dense.files, "data": [data]}
            missed.report = replace(
                report,
                seconds=time.monotonic() - start,
                missed=str(missed),
                curves=missed.curves,
                provenance=provenance_of(files),
            )
        raise


def _silent() -> Listener:
    from nettrim_cli.report.progress import Silent

    return Silent()
