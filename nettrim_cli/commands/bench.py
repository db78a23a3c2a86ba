"""``nettrim bench``: models timed side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from nettrim_cli.errors import BadInput, GateFailed, NettrimError
from nettrim_cli.options.endings import print_result
from nettrim_cli.options.flags import (
    PATH,
    data_option,
    json_option,
    limit_options,
    options_of,
    progress_options,
    reporting,
    reports_option,
)
from nettrim_cli.options.recipe import ConfiguredCommand, config_options
from nettrim_cli.options.usage import given_line
from nettrim_cli.report.saving import FORMATS
from nettrim_cli.settings import BenchSettings

EXAMPLES = (
    ("one by one and 64 at once", "nettrim bench model.onnx small.onnx --batch 1 --batch 64"),
    ("a gate for CI", "nettrim bench model.onnx small.onnx --max-latency-ratio 0.8"),
)


@click.command(cls=ConfiguredCommand, examples=EXAMPLES)
@click.argument("models", type=PATH, nargs=-1, required=True)
@data_option("Samples to run on.", absent="made ones")
@options_of(BenchSettings)
@reports_option(FORMATS)
@json_option
@progress_options
@config_options
@limit_options
def bench(
    models: tuple[Path, ...],
    data: Path | None,
    force: bool,
    reports: tuple[Path, ...],
    as_json: bool,
    progress: str,
    log_file: Path | None,
    **options: Any,
) -> None:
    """Time MODELS side by side in onnxruntime; the first is the reference.

    They run in turns, until their ratios are known to 1 % or the time is up.  Load time, memory
    and op types are measured, too.  With --max-latency-ratio it is a gate for CI: exit code 3 if
    a model takes too long, 65 if that cannot be told.
    \f

    Parameters
    ----------
    models, data
        Paths of the models, and of the samples; None for made ones.
    force, reports
        Files of reports, and whether existing ones may be replaced.
    as_json
        Whether JSON is printed.
    progress, log_file
        What is told while it lasts.
    options
        Fields of ``BenchSettings``.

    Raises
    ------
    click.UsageError
        Options do not go together.
    """  # noqa: D301 (click leaves out what follows the form feed)
    from nettrim_cli.latency.bench import bench as time_models
    from nettrim_cli.report import bench_verdict
    from nettrim_cli.report.bench import show_bench
    from nettrim_cli.report.progress.session import Session, session

    settings = BenchSettings(**options)
    if data is not None and settings.shape:
        raise click.UsageError("--shape is for inputs that are made: leave it out, or --data.")
    if settings.max_latency_ratio is not None and len(models) < 2:
        raise click.UsageError("--max-latency-ratio compares models: name two or more.")
    inputs = [*models, *filter(None, (data,))]
    with reporting(reports, FORMATS, inputs, force=force) as write:
        asked = Session(progress, log_file, still=True)
        with session(asked, given_line()) as listener:
            timings = time_models(models, data, settings, stage=listener.stage)
            listener.conclude("done", [text for text, _ in bench_verdict.verdicts(timings)])
        write(timings.render)
    outcome: NettrimError | None = None
    if complaint := bench_verdict.complaint(timings):
        kind = GateFailed if timings.passed is False else BadInput
        outcome = kind(complaint)
    print_result(timings, show_bench, as_json=as_json, outcome=outcome)
