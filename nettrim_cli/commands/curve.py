"""``nettrim curve``: how much a model can be pruned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from nettrim_cli.files.formats import READABLE
from nettrim_cli.options.endings import print_result
from nettrim_cli.options.flags import (
    PATH,
    data_option,
    json_option,
    limit_options,
    listed,
    options_checked,
    options_of,
    progress_options,
    reporting,
    reports_option,
)
from nettrim_cli.options.recipe import ConfiguredCommand, config_options
from nettrim_cli.options.usage import given_line
from nettrim_cli.report.curve.result import CURVE_FORMATS
from nettrim_cli.settings import Settings
from nettrim_cli.settings.curve import ANY_ERROR, RUN_OPTIONS, CurveSettings

EXAMPLES = (
    ("what zeros cost", "nettrim curve model.onnx --data calib.h5"),
    ("as a picture", "nettrim curve model.onnx --data calib.h5 --report curve.svg"),
    ("smaller layers", "nettrim curve model.onnx --data calib.h5 --structure shrink --at 50%,70%"),
)


@click.command(cls=ConfiguredCommand, examples=EXAMPLES)
@click.argument("model", type=PATH)
@data_option(f"Calibration samples: {listed(READABLE)}.", required=True)
@options_of(CurveSettings)
@options_of(Settings, RUN_OPTIONS)
@reports_option(CURVE_FORMATS)
@json_option
@progress_options
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
    progress: str,
    log_file: Path | None,
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
    progress, log_file
        What is told while it lasts.
    options
        Fields of ``Settings``.

    Raises
    ------
    click.UsageError
        Options do not go together.
    """  # noqa: D301 (click leaves out what follows the form feed)
    from nettrim_cli.preview.curve import curve as predict
    from nettrim_cli.report.curve.screen import show_curve
    from nettrim_cli.report.progress.session import Session, session

    with options_checked():
        points = CurveSettings(at, measured)
        settings = Settings(**options, max_error=ANY_ERROR)
    with reporting(reports, CURVE_FORMATS, [model, data], force=force) as write:
        with session(Session(progress, log_file), given_line()) as listener:
            result = predict(
                model,
                data,
                settings,
                sparsities=points.sparsities,
                measured=points.measured,
                listener=listener,
            )
            listener.conclude("done", [result.verdict])
        write(result.render)
    print_result(result, show_curve, as_json=as_json)
