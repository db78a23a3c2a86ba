"""The command line: parses, calls the pipeline, prints, exits.  No logic of its own.

Everything heavy is imported inside the commands, so that ``--help`` answers at once.
"""

from __future__ import annotations

import sys
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import click

from nettrim_cli import __version__
from nettrim_cli.errors import BadInput, GateFailed, NettrimError
from nettrim_cli.files.formats import READABLE
from nettrim_cli.options.endings import exit_code, leave_quietly, printing
from nettrim_cli.options.flags import (
    PATH,
    conversion_options,
    flag_of,
    limit_options,
    listed,
    options_of,
    reporting,
    reports_option,
)
from nettrim_cli.options.usage import Group
from nettrim_cli.report.render import BENCH_FORMATS, COMPARISON_FORMATS, FORMATS
from nettrim_cli.settings import (
    CERTIFICATE_HELP,
    CERTIFICATES,
    BenchSettings,
    Gate,
    Settings,
    check_one_target,
)

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(cls=Group, context_settings=CONTEXT)
@click.version_option(__version__, "-V", "--version", prog_name="nettrim")
def nettrim() -> None:
    """Prune trained ONNX networks: the same answers from a fraction of the weights.

    \b
    nettrim prune model.onnx --data calib.h5
    nettrim inspect model.onnx
    nettrim compare model.onnx model.pruned.onnx --data test.h5
    nettrim pack model.pruned.onnx
    nettrim bench model.onnx model.pruned.onnx
    """  # noqa: D301 (click wants the backspace itself)


@nettrim.command()
@click.argument("model", type=PATH)
@click.option("--data", type=PATH, required=True, help=f"Calibration samples: {listed(READABLE)}.")
@click.option("-o", "--output", type=PATH, help="File to write [default: MODEL.pruned.onnx].")
@reports_option(FORMATS)
@options_of(Settings)
@click.option(
    "--bench",
    is_flag=True,
    help="Time the dense and the written model on held-out samples, one by one and 64 at once.",
)
@limit_options
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors and warnings.")
@click.option("-v", "--verbose", is_flag=True, help="Print each layer on stderr when it is done.")
def prune(
    model: Path,
    data: Path,
    output: Path | None,
    force: bool,
    reports: tuple[Path, ...],
    bench: bool,
    quiet: bool,
    verbose: bool,
    **options: Any,
) -> None:
    """Write a sparse MODEL that answers like the dense one.

    The target is an error allowed to each layer (--epsilon), a sparsity (--sparsity), or what
    the whole network may lose: an error (--max-error) or right answers (--max-drop); or a size
    (--max-bytes).
    A layer that cannot be pruned stays as it is and is listed with the reason.
    \f

    Parameters
    ----------
    model, data, output
        Paths of the model, of the samples, and of the file to write.
    force
        Whether existing files may be replaced.
    reports
        Files of reports.
    bench
        Whether both models are timed.
    quiet, verbose
        How much is printed.
    options
        Fields of ``Settings``.

    Raises
    ------
    click.UsageError
        Options do not go together.
    """  # noqa: D301 (click leaves out what follows the form feed)
    from nettrim_cli import pipeline
    from nettrim_cli.files.atomic import standing
    from nettrim_cli.loading import default_output
    from nettrim_cli.report.diagnostic import Severity
    from nettrim_cli.report.progress import Silent, TerminalProgress
    from nettrim_cli.report.render import render
    from nettrim_cli.report.terminal import console_for_stdout, show_report

    if quiet and verbose:
        raise click.UsageError("-q and -v ask for opposite things: give one of them.")
    try:
        check_one_target(options, flag_of)
        settings = Settings(**options)
    except BadInput as error:  # click itself has checked single options
        raise click.UsageError(str(error)) from error
    target = output or default_output(model)
    with reporting(reports, FORMATS, [model, data], [target], force=force) as write:
        with Silent() if quiet else TerminalProgress(verbose=verbose) as listener:
            try:
                report = pipeline.prune(
                    model, data, target, settings, force=force, bench=bench, listener=listener
                )
            except GateFailed as missed:
                if missed.report is not None:
                    write(partial(render, missed.report))
                raise
        with standing(target):
            write(partial(render, report))
    if quiet:
        for warning in report.warnings:
            if warning.severity < Severity.INFORMATION:
                click.echo(f"warning: {warning.text}", err=True)
    else:
        with printing():
            show_report(report, console_for_stdout(), output=str(target))


@nettrim.command()
@click.argument("model", type=PATH)
@limit_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def inspect(model: Path, as_json: bool) -> None:
    """List the layers of MODEL: what can be pruned, and why not where it cannot."""
    from nettrim_cli import pipeline
    from nettrim_cli.report import render
    from nettrim_cli.report.layer_listing import layers_as_dict, show_layers
    from nettrim_cli.report.terminal import console_for_stdout

    summary = pipeline.inspect(model)
    listing = summary.path, summary.layers, summary.nonzeros
    with printing():
        if as_json:
            layers = layers_as_dict(*listing, parameters=summary.parameters)
            click.echo(render.as_json(layers), nl=False)
        else:
            show_layers(*listing, console_for_stdout(), parameters=summary.parameters)


@nettrim.command()
@click.argument("reference", type=PATH)
@click.argument("candidate", type=PATH)
@click.option("--data", type=PATH, required=True, help="Samples, with labels for accuracy.")
@options_of(Gate)
@reports_option(COMPARISON_FORMATS)
@click.option(
    "--certificate",
    type=click.Choice(CERTIFICATES),
    default="quick",
    show_default=True,
    help=CERTIFICATE_HELP,
)
@click.option(
    "--ignore-label",
    type=int,
    metavar="N",
    help="The label that marks samples without a class, such as -1: accuracy leaves them out.",
)
@click.option("--threads", type=click.IntRange(1, 1024), metavar="N", help="Processor threads.")
@limit_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
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
        Whether errors are bounded: auto, full or none.
    ignore_label
        The label that marks samples without a class.
    threads
        Processor threads; None for all.
    as_json
        Whether JSON is printed.
    gates
        Fields of ``Gate``.

    Raises
    ------
    click.UsageError
        Limits make no sense.
    """  # noqa: D301 (click leaves out what follows the form feed)
    from nettrim_cli import pipeline
    from nettrim_cli.report import render, terminal
    from nettrim_cli.report.gate import complaint

    try:
        gate = Gate(**gates)
    except BadInput as error:
        raise click.UsageError(str(error)) from error
    inputs = [reference, candidate, data]
    with reporting(reports, COMPARISON_FORMATS, inputs, force=force) as write:
        comparison = pipeline.compare(
            reference,
            candidate,
            data,
            gate=gate if gate.is_set else None,
            threads=threads,
            certificate=certificate,
            ignore_label=ignore_label,
        )
        write(partial(render.render_comparison, comparison))
    with printing(GateFailed(complaint(comparison)) if comparison.passed is False else None):
        if as_json:
            click.echo(render.as_json(comparison.as_dict()), nl=False)
        else:
            terminal.show_comparison(comparison, terminal.console_for_stdout())


@nettrim.command()
@conversion_options("packed")
def pack(model: Path, output: Path | None, **options: Any) -> None:
    """Write the sparse MODEL with its weights as gaps and values, where that is smaller.

    Any runtime rebuilds them when it loads the file, and every constant is the same bit by bit.
    The exit code is 4 if the file would not be smaller.
    """
    convert(model, output, compact=True, **options)


@nettrim.command()
@conversion_options("unpacked")
def unpack(model: Path, output: Path | None, **options: Any) -> None:
    """Write a packed MODEL with all weights plain again, the same bit by bit."""
    convert(model, output, compact=False, **options)


def convert(model: Path, output: Path | None, *, compact: bool, force: bool, as_json: bool) -> None:
    """Write a model with its weights in another form, and print what that saves.

    Parameters
    ----------
    model, output
        Paths of the model, and of the file to write.
    compact
        Whether sparse weights are packed, or all are plain again.
    force
        Whether an existing file may be replaced.
    as_json
        Whether JSON is printed.
    """
    from nettrim_cli import pipeline
    from nettrim_cli.report import render, terminal

    conversion = pipeline.convert(model, output, compact=compact, force=force)
    with printing():
        if as_json:
            click.echo(render.as_json(conversion.as_dict()), nl=False)
        else:
            terminal.show_conversion(conversion, terminal.console_for_stdout())


@nettrim.command()
@click.argument("models", type=PATH, nargs=-1, required=True)
@click.option("--data", type=PATH, help="Samples to run on [default: made ones].")
@options_of(BenchSettings)
@reports_option(BENCH_FORMATS)
@limit_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def bench(
    models: tuple[Path, ...],
    data: Path | None,
    force: bool,
    reports: tuple[Path, ...],
    as_json: bool,
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
    options
        Fields of ``BenchSettings``.

    Raises
    ------
    click.UsageError
        Options do not go together.
    """  # noqa: D301 (click leaves out what follows the form feed)
    from nettrim_cli.latency.bench import bench as time_models
    from nettrim_cli.report import bench as view
    from nettrim_cli.report import bench_verdict, render, terminal
    from nettrim_cli.report.progress import StatusLine

    settings = BenchSettings(**options)
    if data is not None and settings.shape:
        raise click.UsageError("--shape is for inputs that are made: leave it out, or --data.")
    if settings.max_latency_ratio is not None and len(models) < 2:
        raise click.UsageError("--max-latency-ratio compares models: name two or more.")
    inputs = [*models, *filter(None, (data,))]
    with reporting(reports, BENCH_FORMATS, inputs, force=force) as write:
        with StatusLine() as status:
            timings = time_models(models, data, settings, stage=status.show)
        write(partial(render.render_bench, timings))
    outcome: NettrimError | None = None
    if complaint := bench_verdict.complaint(timings):
        kind = GateFailed if timings.passed is False else BadInput
        outcome = kind(complaint)
    with printing(outcome):
        if as_json:
            click.echo(render.as_json(timings.as_dict()), nl=False)
        else:
            view.show_bench(timings, terminal.console_for_stdout())


def main() -> None:
    """The command ``nettrim``, as ``nettrim_cli.__main__`` starts it."""
    from nettrim_cli.__main__ import main as supervised

    supervised()


def command(arguments: list[str]) -> int:
    """Run a command in a process that does nothing else, and give its exit code."""
    if not sys.warnoptions:  # Python's own warnings are for developers: python -W shows them
        warnings.simplefilter("ignore")
    code = run(arguments)
    try:
        sys.stdout.flush()
    except (OSError, ValueError, AttributeError):  # closed early, or never open
        leave_quietly()
    return code


def run(arguments: list[str]) -> int:
    """Run a command and turn whatever happens into an exit code and one sentence."""
    return exit_code(lambda: nettrim.main(arguments, prog_name="nettrim", standalone_mode=False))
