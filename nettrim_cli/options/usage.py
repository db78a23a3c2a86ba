"""Corrected command lines for words that are in the wrong place."""

from __future__ import annotations

import difflib
import os
import shlex
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from nettrim_cli import __version__
from nettrim_cli.options.help import Context, Example, write_examples, write_more, write_options

OUTPUTS = {"--output": "model.pruned.onnx", "--report": "report.json"}
LINE = "nettrim.line"  # under which a context keeps it
PLACEHOLDER = "calib.h5"  # stands for samples that were not named


class FileName(click.Path):
    """Type of a file's path: not empty, no stream, and no name that only a folder can have."""

    def __init__(self) -> None:
        super().__init__(path_type=Path, readable=False)  # who reads it tells why it cannot
        self.name = "file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read the path, or say what is wrong with it.

        Raises
        ------
        click.UsageError
            The path is empty, ``-`` or that of a folder.
        """
        text = os.fspath(value)
        opts = param.opts if param else ["the name"]
        is_option = isinstance(param, click.Option)
        name = max(opts, key=len) if is_option else opts[0].upper()
        if not text:
            raise click.UsageError(f"{name} is empty: name a file.", ctx)
        if text == "-":
            raise click.UsageError(
                f"{name} is '-', but nothing is read from stdin or written to stdout: "
                "name a file (./- is one of that name).",
                ctx,
            )
        if name in OUTPUTS and text.endswith(("/", os.sep)):
            such = f"{text}{OUTPUTS[name]}"
            raise click.UsageError(f"{name} {text} names a folder: name a file, as {such}.", ctx)
        return super().convert(value, param, ctx)


def given_line() -> str:
    """The command line as it was given, with the version, for logs."""
    return f"nettrim {__version__} {click.get_current_context().meta[LINE]}"


class WrongRecipe(click.UsageError):
    """Something is wrong with a file of options, not with the words."""


class Command(click.Command):
    """A command that suggests the correct line where ``--data`` was forgotten.

    Parameters
    ----------
    examples
        What it can do, each with its line, for the end of its help.
    """

    context_class = Context

    def __init__(self, *args: Any, examples: Sequence[Example] = (), **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.examples = examples

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options under their headings, and examples."""
        write_options(self, ctx, formatter)
        write_more(self, formatter)
        write_examples(self.examples, formatter)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the words, or say what is wrong with them.

        Raises
        ------
        click.UsageError
            The words are no valid line; the message suggests one if it can.
        """
        words = list(args)
        ctx.meta[LINE] = shlex.join([self.name or "", *words])
        try:
            return super().parse_args(ctx, args)
        except WrongRecipe:
            raise
        except click.UsageError as error:
            line = self._meant(ctx, words) or self._example(error)
            if line:
                raise click.UsageError(f"{error.format_message()} Try: {line}", ctx) from error
            raise

    def _example(self, error: click.UsageError) -> str:
        """A line that has what is missing, or options as they are spelled."""
        if isinstance(error, click.NoSuchOption) and not error.option_name.startswith("--"):
            return f"nettrim {self.name} --help, as options have long names"
        missing = isinstance(error, click.MissingParameter)
        return self.examples[0][1] if missing and self.examples else ""

    def _meant(self, ctx: click.Context, words: Sequence[str]) -> str:
        """The line with the samples behind ``--data``; empty where more is wrong than that."""
        argument_names = [param.name for param in self.params if isinstance(param, click.Argument)]
        if not any("--data" in param.opts and param.required for param in self.params):
            return ""
        try:
            options, extra, _ = self.make_parser(ctx).parse_args(list(words))
        except click.UsageError:
            return ""
        arguments = [
            str(options[name]) for name in argument_names if isinstance(options.get(name), str)
        ]
        models = [word for word in extra if Path(word).suffix == ".onnx"]
        if (
            options.get("data") is not None
            or len(arguments) < len(argument_names)
            or len(extra) > 1
            or models
        ):
            return ""
        if any(" --" in word for word in arguments):
            return shlex.join(["nettrim", self.name or ""]) + f" {' '.join(words)}, without quotes"
        remaining = list(words)
        for word in (*arguments, *extra):
            if word not in remaining:
                return ""
            remaining.remove(word)
        samples = extra[0] if extra else PLACEHOLDER
        return shlex.join(["nettrim", self.name or "", *arguments, "--data", samples, *remaining])


class Group(click.Group):
    """A group that loads a command when it is needed, and suggests the nearest for an unknown name.

    Parameters
    ----------
    modules
        The module of each command, by name, as a story goes; the command has that name in it.
    short_helps
        What each command does, in a line.
    examples
        What can be done, each with its line, for the end of its help.
    """

    context_class = Context

    def __init__(
        self,
        *args: Any,
        modules: Mapping[str, str],
        short_helps: Mapping[str, str],
        examples: Sequence[Example] = (),
        **attributes: Any,
    ) -> None:
        super().__init__(*args, **attributes)
        self.modules, self.short_helps, self.examples = modules, short_helps, examples

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the words in front of the command.

        Raises
        ------
        click.UsageError
            An option of a command stands there.
        """
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            line = f"nettrim prune model.onnx --data {PLACEHOLDER}"
            raise click.UsageError(
                f"{error.format_message()} Options stand behind a command, as in: {line}", ctx
            ) from error

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the commands."""
        return list(self.modules)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load a command; None where there is none of that name."""
        if cmd_name not in self.modules:
            return None
        if cmd_name not in self.commands:
            module = import_module(self.modules[cmd_name])
            self.commands[cmd_name] = getattr(module, cmd_name)
        return self.commands[cmd_name]

    def all_commands(self) -> dict[str, click.Command]:
        """Load all commands, by name."""
        context = click.Context(self)
        found = {name: self.get_command(context, name) for name in self.modules}
        return {name: command for name, command in found.items() if command is not None}

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write what each command does."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, self.short_helps[name]) for name in self.modules])

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands, the options, and examples."""
        self.format_commands(ctx, formatter)
        write_options(self, ctx, formatter)
        write_examples(self.examples, formatter)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Look a command up, or suggest one.

        Raises
        ------
        click.UsageError
            There is no command of that name.
        """
        if args and self.get_command(ctx, args[0]) is None:
            word = args[0]
            near = difflib.get_close_matches(word, self.list_commands(ctx), n=1, cutoff=0.5)
            if not word:
                raise click.UsageError("The command is empty.", ctx)
            if Path(word).suffix or os.path.exists(word):
                samples = [word for word in args[1:] if not word.startswith("-")][:1]
                line = shlex.join(["nettrim", "prune", word, "--data", *(samples or [PLACEHOLDER])])
                inspect_line = shlex.join(["nettrim", "inspect", word])
                raise click.UsageError(
                    f"The command is missing. Try: {line}, or {inspect_line}", ctx
                )
            if word == "help":
                raise click.UsageError("Try: nettrim --help, or nettrim prune --help", ctx)
            if near and not word.startswith("-"):
                raise click.UsageError(f"No such command '{word}'. Did you mean '{near[0]}'?", ctx)
        return super().resolve_command(ctx, args)
