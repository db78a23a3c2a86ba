"""``nettrim inspect``: the layers of a model."""

from __future__ import annotations

from pathlib import Path

import click

from nettrim_cli.options.endings import printing
from nettrim_cli.options.flags import PATH, json_option, limit_options
from nettrim_cli.options.usage import Command

SHORT = "List the layers: what can be pruned, and why not."
EXAMPLES = (("what can be pruned", "nettrim inspect model.onnx"),)


@click.command(cls=Command, examples=EXAMPLES, short_help=SHORT)
@click.argument("model", type=PATH)
@json_option
@limit_options
def inspect(model: Path, as_json: bool) -> None:
    """List the layers of MODEL: what can be pruned, and why not where it cannot."""
    from nettrim_cli import pipeline
    from nettrim_cli.report.layer_listing import layers_as_dict, show_layers
    from nettrim_cli.report.plain import json_text
    from nettrim_cli.report.terminal import console_for_stdout

    summary = pipeline.inspect(model)
    listing = summary.path, summary.layers, summary.nonzeros
    with printing():
        if as_json:
            layers = layers_as_dict(*listing, parameters=summary.parameters)
            click.echo(json_text(layers), nl=False)
        else:
            show_layers(*listing, console_for_stdout(), parameters=summary.parameters)
