"""``nettrim data``: files of samples, made and looked into."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click

from nettrim_cli.options.endings import print_result
from nettrim_cli.options.flags import (
    PATH,
    force_option,
    json_option,
    limit_options,
    options_checked,
    options_of,
    output_option,
    progress_options,
)
from nettrim_cli.options.help import flag
from nettrim_cli.options.usage import Command, given_line
from nettrim_cli.settings import DataSettings

EXAMPLES = (
    (
        "photographs, as ImageNet models take them",
        "nettrim data photographs --model model.onnx --preset imagenet -o calib.h5",
    ),
    (
        "text",
        "nettrim data lines.txt --model model.onnx --tokenizer tokenizer.json -o calib.h5",
    ),
    ("what is in a file, and whether it fits", "nettrim data calib.h5 --model model.onnx"),
)


@click.command(cls=Command, examples=EXAMPLES)
@click.argument("source", type=PATH, required=False)
@flag(
    "--model",
    type=PATH,
    group="Samples",
    help="The model that the samples are for.",
    example="model.onnx",
)
@output_option("", "File of samples to write (.h5); without it SOURCE is looked into.")
@force_option
@json_option
@options_of(DataSettings)
@progress_options
@limit_options
def data(
    source: Path | None,
    model: Path | None,
    output: Path | None,
    force: bool,
    as_json: bool,
    progress: str,
    log_file: Path | None,
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
    progress, log_file
        What is told while it lasts.
    options
        Fields of ``DataSettings``.

    Raises
    ------
    click.UsageError
        Options do not go together.
    """  # noqa: D301 (click leaves out what follows the form feed)
    from nettrim_cli.preparation.making import make
    from nettrim_cli.preparation.summary import look
    from nettrim_cli.report.data_listing import show_data
    from nettrim_cli.report.progress.session import Session, session

    with options_checked():
        settings = DataSettings(**options)
    if output is None:
        if source is None:
            raise click.UsageError("name a SOURCE, or --random N with -o calib.h5.")
        if settings != DataSettings():
            raise click.UsageError("say where samples are to be written: -o calib.h5.")
        summary = look(source, model)
    elif model is None:
        raise click.UsageError("say which model the samples are for: --model model.onnx.")
    else:
        with session(Session(progress, log_file), given_line()) as listener:
            summary = make(source, model, output, settings, force=force, stage=listener.stage)
            listener.conclude("done", [f"written to {output}"])
    print_result(summary, partial(show_data, written=output is not None), as_json=as_json)
