"""Help that is read in half a minute: options under headings, and examples at the end."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

Decorated = TypeVar("Decorated", bound=Callable[..., Any])
GROUPS = (
    "Target",
    "Samples",
    "Images",
    "Text and sound",
    "What may change",
    "Method",
    "Limits",
    "Output",
    "Run",
)
"""Headings, in their order; of targets there is one at most."""
Example = tuple[str, str]  # what it does, and the line
NOTHING = "none"  # a default that help does not tell, and docs/cli.md does
WIDEST_NAME = 26  # of options with their values; longer ones have their text on the next line


class Flag(click.Option):
    """An option with what help and docs/cli.md say of it.

    Parameters
    ----------
    group
        Heading under which it is listed, one of ``GROUPS``.
    detail
        What docs/cli.md says besides the help text.
    example
        A value as the command line takes it; options without values have none.
    absent
        What happens where it is not given, in words.
    """

    def __init__(
        self,
        *args: Any,
        group: str = "Run",
        detail: str = "",
        example: str = "",
        absent: str = "",
        **attributes: Any,
    ) -> None:
        super().__init__(*args, **attributes)
        self.group, self.detail, self.example, self.absent = group, detail, example, absent

    @property
    def default_text(self) -> str:
        """What holds where it is not given; empty for a switch that is off and for what must be."""
        if self.absent or self.is_flag or not isinstance(self.default, (str, int, float)):
            return self.absent
        return f"{self.default:.4g}" if isinstance(self.default, float) else str(self.default)

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Its names, and its help with the default."""
        if self.hidden:
            return None
        names = sorted((*self.opts, *self.secondary_opts), key=len)
        value = "" if self.is_flag else f" {self.make_metavar(ctx)}"
        default = self.default_text.removeprefix(NOTHING)
        extra = "required" if self.required else default and f"default: {default}"
        return f"{', '.join(names)}{value}", f"{self.help}{f' [{extra}]' if extra else ''}"


def flag(*names: str, group: str, help: str, **attributes: Any) -> Callable[[Decorated], Decorated]:
    """Add an option to a command: a ``Flag``, see there."""
    return click.option(*names, cls=Flag, group=group, help=help, **attributes)


class Formatter(click.HelpFormatter):
    """Headings in bold, where colours are wanted."""

    def write_heading(self, heading: str) -> None:
        """Write a heading."""
        shown = f"{heading}:"
        if not os.environ.get("NO_COLOR"):
            shown = click.style(shown, bold=True)  # click takes it out where there is no terminal
        self.write(f"{'':>{self.current_indent}}{shown}\n")


class Context(click.Context):
    """A context whose help has headings."""

    formatter_class = Formatter


def write_options(
    command: click.Command, ctx: click.Context, formatter: click.HelpFormatter
) -> None:
    """Write the options of a command, under their headings."""
    rows: dict[str, list[tuple[str, str]]] = {group: [] for group in GROUPS}
    for param in command.get_params(ctx):
        record = param.get_help_record(ctx)
        if record is not None and isinstance(param, click.Option):
            rows[getattr(param, "group", GROUPS[-1])].append(record)
    for group, records in rows.items():
        if records:
            title = f"{group} (give one)" if group == "Target" else group
            with formatter.section(title):
                formatter.write_dl(records, col_max=WIDEST_NAME)


def write_more(command: click.Command, formatter: click.HelpFormatter) -> None:
    """Say where the long texts are, if there are any."""
    if any(getattr(param, "detail", "") for param in command.params):
        formatter.write("\n'man nettrim' and docs/cli.md say more of each option.\n")


def write_examples(examples: Sequence[Example], formatter: click.HelpFormatter) -> None:
    """Write what a command can do, each with its line."""
    if not examples:
        return
    with formatter.section("Examples"):
        for purpose, line in examples:
            formatter.write(f"{'':>{formatter.current_indent}}# {purpose}\n")
            formatter.write(f"{'':>{formatter.current_indent}}{line}\n")
