"""A pruned model held against the report of its run: hashes, zeros, and errors measured again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nettrim_cli import __version__
from nettrim_cli.errors import BadInput
from nettrim_cli.evaluation.comparison import OutputComparison, ReferenceOutputs
from nettrim_cli.files.atomic import sha256
from nettrim_cli.graph.model import Model
from nettrim_cli.loading import (
    PathLike,
    check_same_inputs,
    load_models,
    naming,
    open_samples,
    split_samples,
)
from nettrim_cli.process.channel import tell
from nettrim_cli.process.threads import thread_limits
from nettrim_cli.pruning.blocks import nonzeros
from nettrim_cli.report.formatting import count, error, percent
from nettrim_cli.report.progress.listener import Silent
from nettrim_cli.report.verification_result import Finding, Verification
from nettrim_cli.verification.report_file import ReportFile

if TYPE_CHECKING:
    from nettrim_cli.report.progress import Listener

RELATIVE, ABSOLUTE = 0.01, 1e-6  # by which errors may differ: engines add in another order
ANSWERS = 2  # that may be others for the same reason
SHOWN = 12  # digits of a hash
FAILING_LAYERS = 10  # that are told one by one


def verify(
    model: PathLike,
    report: PathLike,
    *,
    dense: PathLike | None = None,
    data: PathLike | None = None,
    threads: int | None = None,
    listener: Listener | None = None,
) -> Verification:
    """Hold a pruned model against the report of its run.

    Parameters
    ----------
    model, report
        The pruned model, and the report as JSON.
    dense, data
        The model that it was made of, and the samples; with both, errors are measured again.
    threads
        Processor threads; None for all.
    listener
        Is told what is done.

    Raises
    ------
    NettrimError
        One of its kinds: a file is missing or bad.
    """
    tell("about", model)
    listener = listener or Silent()
    listener.stage("reading the report and the model")
    reported = ReportFile.read(Path(report))
    (pruned,) = load_models([model])
    findings = [_same_files("output", pruned.files, pruned.path, reported)]
    findings += _layers(pruned, reported)
    original = None
    if dense is not None:
        (original,) = load_models([dense])
        findings.append(_same_files("model", original.files, original.path, reported))
    if data is not None:
        findings.append(_same_files("data", [Path(data)], Path(data), reported))
    if original is not None and data is not None:
        findings += _errors(original, pruned, data, reported, threads, listener)
    return Verification(str(model), str(report), tuple(findings), __version__)


def _same_files(role: str, files: Sequence[Path], main: Path, reported: ReportFile) -> Finding:
    """Whether files of a role are those of the run: the main one, and its external data."""
    digests = reported.hashes[role]
    if not digests:
        return Finding(role, None, f"{main}: the report has no hash of the {role}.")
    for path in files if reported.all_files else [main]:
        digest = sha256(path)
        if digest not in digests:
            hashes = ", ".join(sorted(full[:SHOWN] for full in digests))
            return Finding(
                role,
                False,
                f"{path} is not the file of the report: its SHA-256 begins with "
                f"{digest[:SHOWN]}, the report has {hashes}.",
            )
    return Finding(role, True, f"{main} is the file of the report, by its SHA-256.")


def _layers(pruned: Model, reported: ReportFile) -> Iterator[Finding]:
    """Whether layers have the zeros that the report tells."""
    if reported.integers:
        text = "layers compute with integers, which keep their zeros elsewhere: not counted."
        yield Finding("layers", None, text)
        return
    by_name = {layer.name: layer for layer in pruned.layers}
    complete = [layer for layer in reported.layers if layer.whole]
    failures = []
    for layer in complete:
        if layer.name not in by_name:
            failures.append(f"layer {layer.name} is not in {pruned.path}.")
            continue
        number = nonzeros(pruned.weight(by_name[layer.name])[0])
        if number != layer.nonzeros:
            failures.append(
                f"layer {layer.name} has {count(number)} weights that are not zero; the report "
                f"says {count(layer.nonzeros)}."
            )
    for text in failures[:FAILING_LAYERS]:
        yield Finding("layers", False, text)
    if len(failures) > FAILING_LAYERS:
        text = f"{len(failures) - FAILING_LAYERS} more layers differ from the report."
        yield Finding("layers", False, text)
    if not failures:
        yield Finding("layers", True, f"zeros of {count(len(complete))} layers are as reported.")


def _errors(
    dense: Model,
    pruned: Model,
    data: PathLike,
    reported: ReportFile,
    threads: int | None,
    listener: Listener,
) -> Iterator[Finding]:
    """Whether errors on the held-out samples are what the report tells.

    Parameters
    ----------
    dense, pruned
        The models.
    data
        The samples.
    reported
        The report, which says which of them were held out.
    threads
        Processor threads; None for all.
    listener
        Is told what is done.
    """
    if reported.final_samples:
        text = (
            "errors of the report are those of the network before its final fit, which is in no "
            "file: they are not measured again."
        )
        yield Finding("error", None, text)
        return
    listener.stage("measuring errors again")
    settings = reported.settings
    try:
        check_same_inputs(dense, pruned)
        with (
            naming(f"{dense.path} or {pruned.path}"),
            open_samples(data, dense, ignore_label=settings.ignore_label) as calibration,
            thread_limits(threads) as number,
        ):
            samples = split_samples(dense, calibration, settings, number)
            reference = ReferenceOutputs(dense, samples.holdout_batches, threads=number)
            answers = reference.compare(pruned)
    except BadInput as problem:
        yield Finding("error", False, f"errors cannot be measured again: {problem}")
        return
    yield from _compared(answers, reported)


def _compared(answers: OutputComparison, reported: ReportFile) -> Iterator[Finding]:
    """Errors and accuracies measured now beside those of the report."""
    measured = {name: each.facts(name).error for name, each in answers.errors.items()}
    samples = f"on {count(answers.samples)} held-out samples"
    if answers.samples != reported.samples:
        text = f"{count(answers.samples)} samples are held out; the report has "
        yield Finding("data", False, f"{text}{count(reported.samples)}.")
    for name, stated in reported.errors.items():
        now = measured.get(name)
        if now is None or stated is None:
            same = name in measured and now is stated
            text = f"output '{name}': its error cannot be measured{', as before' * same}."
            yield Finding("error", same, text)
            continue
        same = abs(now - stated) <= RELATIVE * stated + ABSOLUTE
        text = f"output '{name}': error {error(now)} % measured now, {error(stated)} % reported"
        yield Finding("error", same, f"{text}, {samples}.")
    first, second = answers.label_margins.arrays
    shares = [float((margins > 0).mean()) if len(margins) else None for margins in (first, second)]
    for word, now, stated in zip(("dense", "pruned"), shares, reported.accuracies, strict=True):
        if now is None and stated is None:
            continue
        same = None not in (now, stated) and abs((now or 0) - (stated or 0)) * len(first) <= ANSWERS
        text = f"accuracy of the {word} model: {percent(now, 2)} % measured now, "
        yield Finding("accuracy", same, f"{text}{percent(stated, 2)} % reported.")
