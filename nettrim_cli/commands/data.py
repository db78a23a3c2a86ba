"""``nettrim data``: files of samples, made and looked into."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from nettrim_cli.errors import BadInput
from nettrim_cli.options.endings import printing
from nettrim_cli.options.flags import PATH, limit_options, options_of
from nettrim_cli.options.usage import Command
from nettrim_cli.settings import DataSettings


@click.command(cls=Command)
@click.argument("source", type=PATH, required=False)
@click.option("--model", type=PATH, help="The model that the samples are for.")
@click.option("-o", "--output", type=PATH, help="File of samples to write (.h5).")
@click.option("--force", is_flag=True, help="Replace an existing output (never an input).")
@options_of(DataSettings)
@limit_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def data(
    source: Path | None,
    model: Path | None,
    output: Path | None,
    force: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Make a file of samples from SOURCE for a model (-o), or look into one.

    SOURCE is a folder of images, or whatever else samples are made of: see docs/usage.md.
    Samples are checked against the model, which runs on them, before the file is there.
    \f

    Parameters
    ----------
    source
        Files of which samples are made, or the file to look into; None for random numbers.
    model, output
        The model, and the file to write; None where one is looked into.
    force
        Whether an existing output may be replaced.
    as_json
        Whether JSON is printed.
    options
        Fields of ``DataSettings``.

    Raises
    ------
    click.UsageError
        Options do not go together.
    """  # noqa: D301 (click leaves out what follows the form feed)
    from nettrim_cli.preparation.making import make
    from nettrim_cli.preparation.summary import look
    from nettrim_cli.report import render
    from nettrim_cli.report.data_listing import show_data
    from nettrim_cli.report.progress import StatusLine
    from nettrim_cli.report.terminal import console_for_stdout

    try:
        settings = DataSettings(**options)
    except BadInput as error:
        raise click.UsageError(str(error)) from error
    if output is None:
        if source is None:
            raise click.UsageError("name a SOURCE, or --random N with -o calib.h5.")
        if settings != DataSettings():
            raise click.UsageError("say where samples are to be written: -o calib.h5.")
        summary = look(source, model)
    elif model is None:
        raise click.UsageError("say which model the samples are for: --model model.onnx.")
    else:
        with StatusLine() as status:
            summary = make(source, model, output, settings, force=force, stage=status.show)
    with printing():
        if as_json:
            click.echo(render.as_json(summary.as_dict()), nl=False)
        else:
            show_data(summary, console_for_stdout(), written=output is not None)
