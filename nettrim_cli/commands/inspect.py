"""``nettrim inspect``: the layers of a model, and what its samples look like."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from nettrim_cli.options.endings import print_result
from nettrim_cli.options.flags import (
    PATH,
    data_option,
    json_option,
    limit_options,
    options_of,
    reporting,
    reports_option,
)
from nettrim_cli.options.usage import Command
from nettrim_cli.report.saving import FORMATS
from nettrim_cli.settings import Settings
from nettrim_cli.settings.curve import MEASUREMENT

EXAMPLES = (
    ("what can be pruned", "nettrim inspect model.onnx"),
    ("what zeros would cost in each layer", "nettrim inspect model.onnx --data calib.h5"),
)


@click.command(cls=Command, examples=EXAMPLES)
@click.argument("model", type=PATH)
@data_option("Samples, on which it is measured what zeros would cost in each layer.", absent="none")
@options_of(Settings, MEASUREMENT)
@reports_option(FORMATS)
@json_option
@limit_options
def inspect(
    model: Path,
    data: Path | None,
    force: bool,
    reports: tuple[Path, ...],
    as_json: bool,
    **options: Any,
) -> None:
    """List the layers of MODEL: what can be pruned, and why not where it cannot.

    Inputs and outputs follow, with what a calibration file has to hold.  With --data each layer
    is told what the output would lose if it had 50, 70 or 90 % zeros, and all others were dense.
    \f

    Parameters
    ----------
    model, data
        Paths of the model, and of the samples; None for no measurement.
    force, reports
        Files of reports, and whether existing ones may be replaced.
    as_json
        Whether JSON is printed.
    options
        Fields of ``Settings``.
    """  # noqa: D301 (click leaves out what follows the form feed)
    from nettrim_cli.preview.inspection import inspect as inspected
    from nettrim_cli.report.layer_listing import show_summary
    from nettrim_cli.report.progress.session import Session, session

    inputs = [model, *filter(None, (data,))]
    with reporting(reports, FORMATS, inputs, force=force) as write:
        with session(Session("none" if data is None else "auto")) as listener:
            summary = inspected(model, data, Settings(**options), listener=listener)
        write(summary.render)
    print_result(summary, show_summary, as_json=as_json)
