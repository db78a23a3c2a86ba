"""``nettrim verify``: a pruned model held against the report of its run."""

from __future__ import annotations

from pathlib import Path

import click

from nettrim_cli.errors import GateFailed
from nettrim_cli.options.endings import print_result
from nettrim_cli.options.flags import PATH, data_option, json_option, limit_options, options_of
from nettrim_cli.options.help import flag
from nettrim_cli.options.usage import Command
from nettrim_cli.settings import Settings

EXAMPLES = (
    ("hashes and zeros", "nettrim verify model.pruned.onnx --report report.json"),
    (
        "errors measured again",
        "nettrim verify model.pruned.onnx --report report.json --model model.onnx --data calib.h5",
    ),
)


@click.command(cls=Command, examples=EXAMPLES)
@click.argument("pruned", type=PATH)
@flag(
    "--report",
    type=PATH,
    required=True,
    group="Samples",
    help="The JSON that nettrim prune --report wrote.",
    example="report.json",
)
@flag(
    "--model",
    type=PATH,
    group="Samples",
    help="The dense model; with --data errors are measured again.",
    example="model.onnx",
    absent="none",
)
@data_option("The samples of the run.", absent="none")
@options_of(Settings, ("threads",))
@json_option
@limit_options
def verify(
    pruned: Path,
    report: Path,
    model: Path | None,
    data: Path | None,
    threads: int | None,
    as_json: bool,
) -> None:
    """Check that the file PRUNED is the one that a report is about, and what the report says.

    Hashes and the zeros of every layer are compared; with --model and --data both hashes, and
    errors and accuracy measured again on the held-out samples.  The exit code is 3 if anything
    is otherwise than the report says.
    \f

    Parameters
    ----------
    pruned, report
        Paths of the pruned model, and of the report.
    model, data
        Paths of the dense model, and of the samples.
    threads
        Processor threads; None for all.
    as_json
        Whether JSON is printed.
    """  # noqa: D301 (click leaves out what follows the form feed)
    from nettrim_cli.report.progress.session import Session, session
    from nettrim_cli.report.verification_listing import complaint, show_verification
    from nettrim_cli.verification.verify import verify as check

    with session(Session("none" if data is None else "auto")) as listener:
        result = check(pruned, report, dense=model, data=data, threads=threads, listener=listener)
    outcome = None if result.passed else GateFailed(complaint(result))
    print_result(result, show_verification, as_json=as_json, outcome=outcome)
