"""``nettrim compare``: two models on the same samples, and a gate for CI."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from nettrim_cli.errors import GateFailed
from nettrim_cli.options.endings import print_result
from nettrim_cli.options.flags import (
    PATH,
    data_option,
    json_option,
    limit_options,
    options_checked,
    options_of,
    progress_options,
    reporting,
    reports_option,
)
from nettrim_cli.options.recipe import ConfiguredCommand, config_options
from nettrim_cli.options.usage import given_line
from nettrim_cli.report.saving import FORMATS
from nettrim_cli.settings import COMPARE_OPTIONS, Gate, Settings

EXAMPLES = (
    ("how far apart they are", "nettrim compare model.onnx model.pruned.onnx --data test.h5"),
    (
        "a gate for CI, surely kept",
        "nettrim compare model.onnx model.pruned.onnx --data test.h5 --max-drop 1% "
        "--confidence 95%",
    ),
)


@click.command(cls=ConfiguredCommand, examples=EXAMPLES)
@click.argument("reference", type=PATH)
@click.argument("candidate", type=PATH)
@data_option("Samples, with labels for accuracy.", required=True)
@options_of(Gate)
@reports_option(FORMATS)
@json_option
@options_of(Settings, COMPARE_OPTIONS)
@progress_options
@config_options
@limit_options
def compare(
    reference: Path,
    candidate: Path,
    data: Path,
    force: bool,
    reports: tuple[Path, ...],
    certificate: str,
    ignore_label: int | None,
    threads: int | None,
    as_json: bool,
    progress: str,
    log_file: Path | None,
    **gates: Any,
) -> None:
    """Run REFERENCE and CANDIDATE on the same samples and compare answers and sizes.

    REFERENCE is the dense model, CANDIDATE the pruned one.  With --max-drop or --max-error it is
    a gate for CI: exit code 3 if a limit is exceeded, 65 if that cannot be measured.
    \f

    Parameters
    ----------
    reference, candidate, data
        Paths of the models, and of the samples.
    force, reports
        Files of reports, and whether existing ones may be replaced.
    certificate
        How much is told of layers' costs: quick, full or none.
    ignore_label
        The label that marks samples without a class.
    threads
        Processor threads; None for all.
    as_json
        Whether JSON is printed.
    progress, log_file
        What is told while it lasts.
    gates
        Fields of ``Gate``.

    Raises
    ------
    click.UsageError
        Limits make no sense.
    """  # noqa: D301 (click leaves out what follows the form feed)
    from nettrim_cli import pipeline
    from nettrim_cli.report.gate import complaint, outcome
    from nettrim_cli.report.progress.session import Session, session
    from nettrim_cli.report.terminal import show_comparison

    with options_checked():
        gate = Gate(**gates)
    inputs = [reference, candidate, data]
    with reporting(reports, FORMATS, inputs, force=force) as write:
        with session(Session(progress, log_file), given_line()) as listener:
            comparison = pipeline.compare(
                reference,
                candidate,
                data,
                gate=gate if gate.is_set else None,
                threads=threads,
                certificate=certificate,
                ignore_label=ignore_label,
                listener=listener,
            )
            listener.conclude("done", [" ".join(outcome(check)) for check in comparison.checks])
        write(comparison.render)
    failed = GateFailed(complaint(comparison)) if comparison.passed is False else None
    print_result(comparison, show_comparison, as_json=as_json, outcome=failed)
