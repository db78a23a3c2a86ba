"""``nettrim prune``: the dense model and samples in, the sparse model and its report out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nettrim_cli import __version__
from nettrim_cli.errors import GateFailed
from nettrim_cli.files.formats import READABLE
from nettrim_cli.options.endings import printing
from nettrim_cli.options.flags import (
    PATH,
    data_option,
    flag_of,
    limit_options,
    listed,
    options_checked,
    options_of,
    output_option,
    progress_options,
    reporting,
    reports_option,
)
from nettrim_cli.options.help import flag
from nettrim_cli.options.recipe import ConfiguredCommand, config_options
from nettrim_cli.options.usage import given_line
from nettrim_cli.report.progress import KINDS
from nettrim_cli.report.saving import FORMATS
from nettrim_cli.settings import Settings, check_one_target
from nettrim_cli.settings.recipe import as_toml, changed

if TYPE_CHECKING:
    from nettrim_cli.report.next_steps import Files
    from nettrim_cli.report.progress.session import Session
    from nettrim_cli.report.result import Report

EXAMPLES = (
    ("as many zeros as cost next to nothing", "nettrim prune model.onnx --data calib.h5"),
    (
        "at most half a point of accuracy",
        "nettrim prune model.onnx --data calib.h5 --max-drop 0.5%",
    ),
    (
        "what a run would do",
        "nettrim prune model.onnx --data calib.h5 --sparsity 90% --dry-run",
    ),
    (
        "a small file, as it lies",
        "nettrim prune model.onnx --data calib.h5 --sparsity 90% --bits 8 --store compact",
    ),
    (
        "twice as fast, by smaller layers",
        "nettrim prune model.onnx --data calib.h5 --structure shrink --speedup 2",
    ),
)


@click.command(cls=ConfiguredCommand, examples=EXAMPLES)
@click.argument("model", type=PATH)
@data_option(f"Calibration samples: {listed(READABLE)}.", required=True)
@output_option("MODEL.pruned.onnx")
@reports_option(FORMATS)
@options_of(Settings)
@flag(
    "--bench",
    is_flag=True,
    group="Output",
    help="Time both models on held-out samples.",
    detail="They run one by one and 64 at once.",
)
@flag(
    "--dry-run",
    is_flag=True,
    group="Output",
    help="Tell what would be pruned, at what cost; write nothing.",
    detail="Layers are measured as in a run, which takes a part of its time. Told are the layers "
    "that would be pruned, why the others would not, time, memory and about what would come out. "
    "No report is written, either.",
)
@flag(
    "--fresh",
    is_flag=True,
    group="Output",
    help="Start over where a run to the same output has ended early.",
    detail="By default it carries on: layers that took longer than a moment are in a hidden folder "
    "beside the output, and are not solved again where model, samples and options are the same.",
)
@flag(
    "--save-config",
    type=PATH,
    group="Output",
    help="Write the options of this run to a TOML file.",
    example="nettrim.toml",
)
@flag("-q", "--quiet", is_flag=True, group="Output", help="Print nothing but errors and warnings.")
@flag(
    *("-v", "--verbose"),
    is_flag=True,
    group="Output",
    help="Print all figures, and each layer on stderr when it is done.",
)
@progress_options
@config_options
@limit_options
def prune(
    model: Path,
    data: Path,
    output: Path | None,
    force: bool,
    reports: tuple[Path, ...],
    bench: bool,
    dry_run: bool,
    fresh: bool,
    quiet: bool,
    save_config: Path | None,
    verbose: bool,
    progress: str,
    log_file: Path | None,
    **options: Any,
) -> None:
    """Write a sparse MODEL that answers like the dense one.

    Give one target, or none.  A layer that cannot be pruned stays as it is, and is listed with
    the reason.
    \f

    Parameters
    ----------
    model, data, output
        Paths of the model, of the samples, and of the file to write.
    force, fresh
        Whether existing files may be replaced; whether a run that ended early starts over.
    reports
        Files of reports.
    bench, dry_run
        Whether both models are timed; whether it is only told what a run would do.
    quiet, verbose
        How much is printed.
    save_config
        File for the options of this run.
    progress, log_file
        What is told while it lasts.
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
    from nettrim_cli.report.next_steps import Files
    from nettrim_cli.report.progress.session import Session, session

    if quiet and verbose:
        raise click.UsageError("-q and -v ask for opposite things: give one of them.")
    with options_checked():
        check_one_target(options, flag_of)
        settings = Settings(**options)
    target = output or default_output(model)
    shown = Session("none" if quiet and progress == KINDS[0] else progress, log_file, verbose)
    if dry_run:
        tell_plan(model, data, target, settings, force=force, shown=shown)
        return
    if save_config is not None:
        if save_config.resolve() in [path.resolve() for path in (target, *reports)]:
            raise click.UsageError(f"--save-config {save_config}: it needs a file of its own.")
        files = {"model": model, "data": data, "output": output, "report": reports}
        write_recipe(save_config, files, settings, bench=bench, force=force)
    with reporting(reports, FORMATS, [model, data], [target], force=force) as write:
        with session(shown, given_line()) as listener:
            try:
                flags = {"force": force, "bench": bench, "fresh": fresh}
                report = pipeline.prune(model, data, target, settings, **flags, listener=listener)
            except GateFailed as missed:
                if missed.report is not None:
                    write(missed.report.render)
                raise
            listener.conclude("done", report.verdict.lines)
        with standing(target):
            write(report.render)
    if quiet:
        for warning in report.warnings:
            if warning.severity < Severity.INFORMATION:
                click.echo(f"warning: {warning.text}", err=True)
    else:
        tell_report(report, Files(str(model), str(data), str(target)), verbose=verbose)


def tell_report(report: Report, files: Files, *, verbose: bool) -> None:
    """Print what came out, with all figures if that is wanted."""
    from nettrim_cli.report.summary import show_summary
    from nettrim_cli.report.terminal import console_for_stdout, show_report

    console = console_for_stdout()
    with printing():
        if verbose:
            show_report(report, console, output=files.output)
        else:
            show_summary(report, console, files)


def tell_plan(
    model: Path, data: Path, target: Path, settings: Settings, *, force: bool, shown: Session
) -> None:
    """Print what a run would do.

    Parameters
    ----------
    model, data, target, settings, force
        Those of the run.
    shown
        What is told while it lasts.
    """
    from nettrim_cli.preview.dry_run import dry_run
    from nettrim_cli.report.plan_listing import show_plan
    from nettrim_cli.report.progress.session import session
    from nettrim_cli.report.terminal import console_for_stdout

    with session(shown, given_line()) as listener:
        plan = dry_run(model, data, target, settings, force=force, listener=listener)
    with printing():
        show_plan(plan, console_for_stdout())


def write_recipe(
    path: Path,
    files: Mapping[str, Path | Sequence[Path] | None],
    settings: Settings,
    *,
    bench: bool,
    force: bool,
) -> None:
    """Write the options of a run to a file.

    Parameters
    ----------
    path
        The file.
    files
        Paths by the names of their options; in the file they are those from its folder.
    settings
        The options, of which those are written that are not the defaults.
    bench
        Whether models are timed.
    force
        Whether an existing file may be replaced.
    """
    from nettrim_cli.files.atomic import check_output, write_atomically

    def beside(file: Path | Sequence[Path] | None) -> Any:
        """A path, or several, as seen from the folder of the file; None where there is none."""
        if isinstance(file, Path):
            return Path(os.path.relpath(file, path.parent)).as_posix()
        return [beside(inner) for inner in file] or None if file else None

    inputs = [file for file in files.values() if isinstance(file, Path)]
    check_output(path, inputs, force)
    values = {name: beside(file) for name, file in files.items()} | changed(settings)
    values["bench"] = bench or None
    head = f"# Options of nettrim {__version__}, for: nettrim prune --config {path.name}\n\n"
    write_atomically(path, (head + as_toml(values, settings.layers)).encode("utf-8"))
