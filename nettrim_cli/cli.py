"""The command line: parses, calls the pipeline, prints, exits.  No logic of its own.

Everything heavy is imported inside the commands, so that ``--help`` answers at once.
"""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import click

from nettrim_cli import __version__
from nettrim_cli.errors import BadInput, DiskFailed, NettrimError, OutOfMemory
from nettrim_cli.process import channel, supervisor
from nettrim_cli.settings import TARGETS, Settings, parse_bytes, parse_seconds

Command = TypeVar("Command", bound=Callable[..., Any])
PATH = click.Path(path_type=Path)
INTERRUPTED = 130
CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(context_settings=CONTEXT)
@click.version_option(__version__, "-V", "--version", prog_name="nettrim")
def nettrim() -> None:
    """Prune trained ONNX networks: the same answers from a fraction of the weights.

    \b
    nettrim prune model.onnx --data calib.h5
    nettrim inspect model.onnx
    nettrim compare model.onnx model.pruned.onnx --data test.h5
    """  # noqa: D301 (click wants the backspace itself)


class Words(click.ParamType):  # type: ignore[type-arg]
    """A value that a function reads from a person's words."""

    name = "text"

    def __init__(self, parse: Callable[[str], Any]) -> None:
        self.parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read the value, or say what is wrong with it."""
        try:
            return self.parse(value)
        except ValueError as error:
            self.fail(f"{error}.", param, ctx)


def settings_options(command: Command) -> Command:
    """Add a flag for every field of the settings."""
    for each in reversed(fields(Settings)):
        rule, kind = each.metadata, str(each.type)
        repeatable = kind.startswith("tuple")
        if rule["choices"]:
            type_: Any = click.Choice(rule["choices"])
        elif rule["parse"]:
            type_ = Words(rule["parse"])
        elif "int" in kind:
            type_ = click.IntRange(rule["low"], rule["high"])
        elif "float" in kind:
            type_ = click.FloatRange(
                rule["low"], rule["high"], min_open=rule["open"], max_open=rule["open"]
            )
        else:
            type_ = str
        command = click.option(
            f"--{each.name.replace('_', '-')}",
            type=type_,
            default=None if repeatable else each.default,
            multiple=repeatable,
            help=rule["help"],
            metavar=rule["metavar"] or None,
            show_default=not repeatable and each.default is not None,
        )(command)
    return command


def limits(command: Command) -> Command:
    """Add the limits that the supervisor keeps."""

    def tell(context: click.Context, option: click.Parameter, value: float | None) -> None:
        if value is None:
            return
        if not channel.supervised() and not hasattr(os, "fork"):
            raise click.UsageError(f"{option.opts[0]} needs a system on which processes can fork.")
        channel.tell("limit", "seconds" if option.name == "time_limit" else "bytes", value)

    for name, parse, metavar, text in (
        ("--max-memory", parse_bytes, "B", "Exit 71 where more memory is taken, such as 2G."),
        ("--time-limit", parse_seconds, "T", "Exit 124 after so long, such as 90, 15m or 2h."),
    ):
        command = click.option(
            *(name,),
            type=Words(parse),
            metavar=metavar,
            help=text,
            callback=tell,
            expose_value=False,
        )(command)
    return command


@nettrim.command()
@click.argument("model", type=PATH)
@click.option("--data", type=PATH, required=True, help="Calibration samples: .h5, .npz or .npy.")
@click.option("-o", "--output", type=PATH, help="File to write [default: MODEL.pruned.onnx].")
@click.option("--force", is_flag=True, help="Replace an existing output (never an input).")
@click.option(
    "--report",
    "reports",
    type=PATH,
    multiple=True,
    help="Write the report as .json, .md or .csv (repeatable).",
)
@settings_options
@limits
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors and warnings.")
@click.option("-v", "--verbose", is_flag=True, help="Tell each layer on stderr as it is done.")
def prune(
    model: Path,
    data: Path,
    output: Path | None,
    force: bool,
    reports: tuple[Path, ...],
    quiet: bool,
    verbose: bool,
    **options: Any,
) -> None:
    """Write a sparse MODEL that answers like the dense one.

    The target is an error allowed to each layer (--epsilon), a share of zeros (--sparsity), or
    what the whole network may lose: an error (--max-error), right answers (--max-drop), or its
    size (--max-bytes).
    A layer that cannot be pruned stays as it is and is listed with the reason.
    """
    from nettrim_cli import pipeline
    from nettrim_cli.files import check_output, reserved, write_atomically
    from nettrim_cli.report.progress import Screen, Silent
    from nettrim_cli.report.render import FORMATS, console_for_stdout, render, show_report

    given = [f"--{each.replace('_', '-')}" for each in TARGETS if options[each] is not None]
    if len(given) > 1:
        raise click.UsageError(f"Give one target: {' and '.join(given)} are {len(given)}.")
    try:
        settings = Settings(**options)
    except BadInput as error:  # what single options may not be, click has told already
        raise click.UsageError(str(error)) from error
    target = output or pipeline.default_output(model)
    for path in reports:
        if path.suffix.lower() not in FORMATS:
            known = ", ".join(FORMATS)
            raise click.UsageError(f"--report {path}: the suffix must be one of {known}.")
        if [each.resolve() for each in (target, *reports)].count(path.resolve()) > 1:
            raise click.UsageError(f"--report {path}: each output needs a file of its own.")
        check_output(path, [model, data], force)
    with ExitStack() as stack:
        for path in reports:
            stack.enter_context(reserved(path))
        listener: Silent | Screen = Silent() if quiet else Screen(verbose=verbose)
        stack.enter_context(listener)
        report = pipeline.prune(model, data, target, settings, force=force, listener=listener)
        with pipeline.standing(target):
            for path in reports:
                write_atomically(path, render(report, path.suffix).encode("utf-8"))
    if quiet:
        for each in report.warnings:
            click.echo(f"warning: {each.text}", err=True)
    else:
        show_report(report, console_for_stdout(), output=str(target))


@nettrim.command()
@click.argument("model", type=PATH)
@limits
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def inspect(model: Path, as_json: bool) -> None:
    """List the layers of MODEL: what can be pruned, and why not where it cannot."""
    from nettrim_cli import pipeline
    from nettrim_cli.report import render

    found = pipeline.inspect(model)
    if as_json:
        sys.stdout.write(render.as_json(render.layers_as_dict(*found[:3], parameters=found[3])))
    else:
        render.show_layers(*found[:3], console=render.console_for_stdout(), parameters=found[3])


@nettrim.command()
@click.argument("reference", type=PATH)
@click.argument("candidate", type=PATH)
@click.option("--data", type=PATH, required=True, help="Samples, with labels for accuracy.")
@click.option(
    "--max-drop",
    type=click.FloatRange(0, 1),
    metavar="D",
    help="Exit 3 if accuracy (without labels: agreement) falls by more, such as 0.005.",
)
@click.option(
    "--max-error",
    type=click.FloatRange(0),
    metavar="E",
    help="Exit 3 if the relative error of an output is larger.",
)
@click.option(
    "--proof/--no-proof",
    default=True,
    show_default=True,
    help="Bound output errors by those of the layers, which takes most of the time.",
)
@click.option("--threads", type=click.IntRange(1, 1024), metavar="N", help="Processor threads.")
@limits
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def compare(
    reference: Path,
    candidate: Path,
    data: Path,
    max_drop: float | None,
    max_error: float | None,
    proof: bool,
    threads: int | None,
    as_json: bool,
) -> None:
    """Run REFERENCE and CANDIDATE on the same samples and compare answers and sizes.

    With --max-drop or --max-error it is a gate for CI: exit code 3 if the limit is exceeded.
    """
    from nettrim_cli import pipeline
    from nettrim_cli.report import render

    found = pipeline.compare(reference, candidate, data, threads=threads, proof=proof)
    if as_json:
        sys.stdout.write(render.as_json(found.as_dict()))
    else:
        render.show_comparison(found, render.console_for_stdout())
    pipeline.gate(found, max_drop=max_drop, max_error=max_error)


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
    try:
        code = nettrim.main(arguments, prog_name="nettrim", standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()  # a full disk under it is an error
        return code if isinstance(code, int) else 0
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort) as error:
        text = f"interrupted; {standing(error) or 'nothing was written'}"
        return complain(text, INTERRUPTED)
    except NettrimError as error:
        return complain("; ".join(filter(None, (str(error), standing(error)))), error.exit_code)
    except MemoryError as error:
        advice = "out of memory: use fewer --samples, or leave the largest layers out (--exclude)"
        text = "; ".join(filter(None, (advice, standing(error))))
        return complain(text, OutOfMemory.exit_code)
    except (BrokenPipeError, SystemExit):  # click turns a closed pipe into an exit
        return leave_quietly()
    except OSError as error:
        what = f"{error.filename}: " if error.filename else ""
        return complain(f"{what}{error.strerror or error}", DiskFailed.exit_code)
    except Exception:
        return confess()


def standing(error: BaseException) -> str:
    """That the output was written before the run ended, where it was."""
    from nettrim_cli.pipeline import WRITTEN

    path = getattr(error, WRITTEN, None) or getattr(error.__cause__, WRITTEN, None)
    return f"{path} was written, its report was not" if path else ""


def leave_quietly() -> int:
    """Send what stdout still holds nowhere, so that the interpreter's end does not stumble."""
    with suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.__stdout__.fileno())  # type: ignore[union-attr]
        os.close(nowhere)
    return 0


def complain(text: str, code: int) -> int:
    """One line on stderr, control characters spelled out."""
    supervisor.complain(text)
    return code


def confess() -> int:
    """Our own defect: one line, and where the traceback is."""
    with tempfile.NamedTemporaryFile(
        "w", prefix="nettrim-", suffix=".txt", delete=False, encoding="utf-8"
    ) as file:
        file.write(traceback.format_exc())
    kind = sys.exc_info()[0]
    named = kind.__name__ if kind else "error"
    return complain(
        f"internal error ({named}); please report it with the traceback in {file.name}",
        NettrimError.exit_code,
    )
