"""Flags of the command line: made from classes of options, for reports, and for limits."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import Field, fields
from functools import reduce
from pathlib import Path
from typing import Any, TypeVar

import click

from nettrim_cli.errors import BadInput
from nettrim_cli.options.declare import bounds, inside
from nettrim_cli.options.help import flag
from nettrim_cli.options.usage import FileName
from nettrim_cli.process import channel
from nettrim_cli.process.deadline import limit_process
from nettrim_cli.quantities import parse_bytes, parse_seconds
from nettrim_cli.report.progress import KINDS

Command = TypeVar("Command", bound=Callable[..., Any])
PATH = FileName()
FREE_MEMORY = "80% of what is free"


class ParsedText(click.ParamType):  # type: ignore[type-arg]
    """Type of a value that a function reads from text, within the bounds of its rule."""

    name = "text"

    def __init__(self, rule: Mapping[str, Any]) -> None:
        self.rule = rule

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read the value from text, or say what is wrong with it."""
        if not isinstance(value, str):
            return value  # a default
        try:
            parsed = self.rule["parse"](value)
        except ValueError as error:
            self.fail(f"{error}.", param, ctx)
        if not inside(parsed, self.rule):
            self.fail(f"{value} is not {bounds(self.rule)}.", param, ctx)
        return parsed


def flag_of(name: str) -> str:
    """The flag of an option: ``max_error`` -> ``--max-error``."""
    return f"--{name.replace('_', '-')}"


def options_of(
    settings: type[Any], names: Collection[str] | None = None
) -> Callable[[Command], Command]:
    """Add a flag for every field of a class of options, or for those of some names."""
    flags = [
        field
        for field in reversed(fields(settings))
        if field.metadata["flag"] and (names is None or field.name in names)
    ]
    return lambda command: reduce(_with_option, flags, command)


def _with_option(command: Command, option_field: Field[Any]) -> Command:
    rule, kind = option_field.metadata, str(option_field.type)
    repeatable = kind.startswith("tuple")
    texts = {name: rule[name] for name in ("help", "group", "detail", "example", "absent")}
    if kind == "bool":
        return flag(flag_of(option_field.name), is_flag=True, **texts)(command)
    if rule["choices"]:
        type_: Any = click.Choice(rule["choices"])
    elif rule["parse"]:
        type_ = ParsedText(rule)
    elif "int" in kind and rule["low"] is rule["high"] is None:
        type_ = click.INT
    elif "int" in kind:
        type_ = click.IntRange(rule["low"], rule["high"])
    elif "float" in kind:
        low, above, high, below = (rule[name] for name in ("low", "above", "high", "below"))
        type_ = click.FloatRange(
            low if above is None else above,
            high if below is None else below,
            min_open=above is not None,
            max_open=below is not None,
        )
    else:
        type_ = str
    return flag(
        flag_of(option_field.name),
        type=type_,
        default=None if repeatable else option_field.default,
        multiple=repeatable,
        metavar=rule["metavar"] or None,
        **texts,
    )(command)


@contextmanager
def options_checked() -> Iterator[None]:
    """Check options together in the with-block; click has checked each of them.

    Raises
    ------
    click.UsageError
        They do not go together.
    """
    try:
        yield
    except BadInput as error:
        raise click.UsageError(str(error)) from error


def listed(suffixes: Iterable[str]) -> str:
    """Words for a sentence: ".json, .md or .csv"."""
    *others, last = suffixes
    return f"{', '.join(others)} or {last}" if others else last


def output_option(default: str, what: str = "File to write.") -> Callable[[Command], Command]:
    """Add -o, --output; the default is told, and made by the command."""
    return flag(
        *("-o", "--output"),
        type=PATH,
        group="Output",
        help=what,
        example="small.onnx" if default else "calib.h5",
        absent=default,
    )


def force_option(command: Command) -> Command:
    """Add --force."""
    text = "Replace existing outputs (never an input)."
    return flag("--force", is_flag=True, group="Output", help=text)(command)


def json_option(command: Command) -> Command:
    """Add --json."""
    text = "Print JSON instead of tables."
    return flag("--json", "as_json", is_flag=True, group="Output", help=text)(command)


def data_option(
    help: str, *, required: bool = False, absent: str = ""
) -> Callable[[Command], Command]:
    """Add --data."""
    return flag(
        "--data",
        type=PATH,
        required=required,
        group="Samples",
        help=help,
        example="calib.h5",
        absent=absent,
    )


def progress_options(command: Command) -> Command:
    """Add --progress and --log-file."""
    command = flag(
        "--log-file",
        type=PATH,
        group="Run",
        help="Add lines about the run to a file (.jsonl: as JSON).",
        example="run.log",
    )(command)
    return flag(
        "--progress",
        type=click.Choice(KINDS),
        default=KINDS[0],
        metavar="HOW",
        group="Run",
        help=f"What stderr tells meanwhile: {listed(KINDS)}.",
        detail="auto: a bar on a terminal, elsewhere a line every ten seconds. plain: a line "
        "for each stage and layer. json: the same as JSON, an object a line.",
    )(command)


def reports_option(suffixes: Iterable[str]) -> Callable[[Command], Command]:
    """Add --report, for files of these suffixes, and --force, which the reports obey, too."""

    def add_options(command: Command) -> Command:
        """Add both options to a command."""
        suffix = next(iter(suffixes))
        command = flag(
            "--report",
            "reports",
            type=PATH,
            multiple=True,
            group="Output",
            help=f"Write the report as {listed(suffixes)} (repeatable).",
            example=f"report{suffix}",
            absent="none",
        )(command)
        return force_option(command)

    return add_options


def conversion_options(word: str) -> Callable[[Command], Command]:
    """Add what commands have that write a model in another form, to ``MODEL.word.onnx``."""

    def add_options(command: Command) -> Command:
        """Add the argument and all options to a command."""
        output = output_option(f"MODEL.{word}.onnx")
        argument = click.argument("model", type=PATH)
        for option in (json_option, limit_options, force_option, output, argument):
            command = option(command)
        return command

    return add_options


@contextmanager
def reporting(
    reports: Sequence[Path],
    formats: Iterable[str],
    inputs: Sequence[Path],
    outputs: Sequence[Path] = (),
    *,
    force: bool,
) -> Iterator[Callable[[Callable[[str], str]], None]]:
    """Reserve report files during the with-block, once it is sure that they can be written.

    Parameters
    ----------
    reports
        Files of the option ``--report``.
    formats
        Suffixes that are allowed.
    inputs, outputs
        Other files of the run, which no report may replace.
    force
        Whether a report may replace an existing file.

    Yields
    ------
    Callable
        Writes all reports, each as its argument renders it for a suffix.

    Raises
    ------
    click.UsageError
        A suffix is not allowed, or two outputs have the same file.
    """
    from nettrim_cli.files.atomic import check_output, reserved, write_atomically

    for path in reports:
        if path.suffix.lower() not in formats:
            suffixes = ", ".join(formats)
            raise click.UsageError(f"--report {path}: the suffix must be one of {suffixes}.")
        if [output.resolve() for output in (*outputs, *reports)].count(path.resolve()) > 1:
            raise click.UsageError(f"--report {path}: each output needs a file of its own.")
        check_output(path, inputs, force)

    def write(rendered: Callable[[str], str]) -> None:
        """Write all reports."""
        for path in reports:
            check_output(path, inputs, force)  # it may have come meanwhile
            write_atomically(path, rendered(path.suffix).encode("utf-8"))

    with ExitStack() as stack:
        for path in reports:
            stack.enter_context(reserved(path))
        yield write


def limit_options(command: Command) -> Command:
    """Add the limits that the supervisor keeps.

    Raises
    ------
    click.UsageError
        Later, when an option is used where the system cannot fork.
    """

    def tell(_: click.Context, option: click.Parameter, value: float | None) -> None:
        """Tell the supervisor a limit.

        Raises
        ------
        click.UsageError
            The system cannot fork, so that there is no supervisor.
        """
        if value is None:
            return
        if not channel.is_supervised() and not hasattr(os, "fork"):
            raise click.UsageError(f"{option.opts[0]} needs a system on which processes can fork.")
        if option.name == "time_limit":
            limit_process(value)
        channel.tell("limit", "seconds" if option.name == "time_limit" else "bytes", value)

    for name, parse, metavar, text, example, absent in (
        ("--max-memory", parse_bytes, "B", "Exit 71 over so much memory.", "2G", FREE_MEMORY),
        ("--time-limit", parse_seconds, "T", "Exit 124 after so long.", "15m", "none"),
    ):
        command = flag(
            name,
            type=ParsedText({"parse": parse}),
            metavar=metavar,
            group="Run",
            help=text,
            example=example,
            absent=absent,
            callback=tell,
            expose_value=False,
        )(command)
    return command
