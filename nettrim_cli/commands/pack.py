"""``nettrim pack`` and ``unpack``: a model with its weights in another form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from nettrim_cli.options.endings import print_result
from nettrim_cli.options.flags import conversion_options
from nettrim_cli.options.usage import Command


@click.command(
    cls=Command,
    examples=(("small as it lies", "nettrim pack model.pruned.onnx -o small.onnx"),),
)
@conversion_options("packed")
def pack(model: Path, output: Path | None, **options: Any) -> None:
    """Write the sparse MODEL with its weights as gaps and values, where that is smaller.

    Any runtime rebuilds them when it loads the file, and every constant is the same bit by bit.
    The exit code is 4 if the file would not be smaller.
    """
    convert(model, output, compact=True, **options)


@click.command(
    cls=Command,
    examples=(("plain again", "nettrim unpack small.onnx -o plain.onnx"),),
)
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
    from nettrim_cli.report.terminal import show_conversion

    conversion = pipeline.convert(model, output, compact=compact, force=force)
    print_result(conversion, show_conversion, as_json=as_json)
