"""``nettrim curve``: how much a model can be pruned."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click

from nettrim_cli.errors import BadInput
from nettrim_cli.files.formats import READABLE
from nettrim_cli.options.endings import printing
from nettrim_cli.options.flags import (
    PATH,
    data_option,
    json_option,
    limit_options,
    listed,
    options_of,
    reporting,
    reports_option,
)
from nettrim_cli.options.recipe import ConfiguredCommand, config_options
from nettrim_cli.report.curve.files import CURVE_FORMATS, as_json_text, render_curve
from nettrim_cli.settings import Settings
from nettrim_cli.settings.curve import NO_TARGET, RUN_OPTIONS, CurveSettings

SHORT = "Tell how much a model can be pruned."
EXAMPLES = (
    ("what zeros cost", "nettrim curve model.onnx --data calib.h5"),
    ("as a picture", "nettrim curve model.onnx --data calib.h5 --report curve.svg"),
    ("smaller layers", "nettrim curve model.onnx --data calib.h5 --structure shrink --at 50%,70%"),
)


@click.command(cls=ConfiguredCommand, examples=EXAMPLES, short_help=SHORT)
@click.argument("model", type=PATH)
@data_option(f"Calibration samples: {listed(READABLE)}.", required=True)
@options_of(CurveSettings)
@options_of(Settings, RUN_OPTIONS)
@reports_option(CURVE_FORMATS)
@json_option
@config_options
@limit_options
def curve(
    model: Path,
    data: Path,
    at: tuple[str, ...],
    measured: int,
    force: bool,
    reports: tuple[Path, ...],
    as_json: bool,
    **options: Any,
) -> None:
    """Tell what MODEL would lose and weigh at some sparsities; no model is written.

    What zeros cost is measured in each layer.  The network is pruned to one of the sparsities,
    and measured there; the others are predicted from both.  That takes about as long as one prune.
    \f

    Parameters
    ----------
    model, data
        Paths of the model, and of the samples.
    at, measured
        Fields of ``CurveSettings``.
    force, reports
        Files of reports, and whether existing ones may be replaced.
    as_json
        Whether JSON is printed.
    options
        Fields of ``Settings``.

    Raises
    ------
    click.UsageError
        Options do not go together.
    """  # noqa: D301 (click leaves out what follows the form feed)
    from nettrim_cli.preview.curve import curve as predict
    from nettrim_cli.report.curve.screen import show_curve
    from nettrim_cli.report.progress import TerminalProgress
    from nettrim_cli.report.terminal import console_for_stdout

    try:
        wanted = CurveSettings(at, measured)
        settings = Settings(**options, **NO_TARGET)
    except BadInput as error:  # click itself has checked single options
        raise click.UsageError(str(error)) from error
    with reporting(reports, CURVE_FORMATS, [model, data], force=force) as write:
        with TerminalProgress() as listener:
            told = predict(
                model,
                data,
                settings,
                sparsities=wanted.sparsities,
                measured=wanted.measured,
                listener=listener,
            )
        write(partial(render_curve, told))
    with printing():
        if as_json:
            click.echo(as_json_text(told), nl=False)
        else:
            show_curve(told, console_for_stdout())
