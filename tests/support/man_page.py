"""The manual page `docs/nettrim.1`: what `docs/cli.md` says, as `man nettrim` shows it.

`make docs` writes the page.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import click

from nettrim_cli import __version__, cli
from nettrim_cli.options.help import GROUPS, Flag
from tests.support.command_page import CONTEXT, default_of

PAGE = Path(__file__).parents[2] / "docs" / "nettrim.1"
ENDINGS = """0: done. 2: wrong usage. 3: a limit was missed. 4: nothing to gain. 65: bad data. 66: a
file is missing. 69: the engine failed. 70: a defect. 71: out of memory. 73: the output cannot be
created. 74: the disk failed. 75: another run writes the output. 77: refused for security. 124: out
of time."""


def page() -> str:
    """The whole page as roff."""
    return "\n".join(
        [
            f'.TH NETTRIM 1 "" "nettrim {__version__}" "User Commands"',
            ".SH NAME",
            f"nettrim \\- {text('prunes trained ONNX networks')}",
            ".SH SYNOPSIS",
            *(synopsis(command) for command in cli.nettrim.all_commands().values()),
            ".SH DESCRIPTION",
            *paragraphs(cli.nettrim.help or ""),
            *(line for command in cli.nettrim.all_commands().values() for line in section(command)),
            ".SH EXIT STATUS",
            *paragraphs(ENDINGS),
            "",
        ]
    )


def synopsis(command: click.Command) -> str:
    """How a command is called."""
    arguments = [param for param in command.params if isinstance(param, click.Argument)]
    words = " ".join(param.make_metavar(CONTEXT) for param in arguments)
    return f".B nettrim {command.name}\n[options] {text(words)}\n.br"


def section(command: click.Command) -> Iterator[str]:
    """What a command does, its options, and examples."""
    yield f".SH NETTRIM {(command.name or '').upper()}"
    told, *_ = (command.help or "").partition("\f")
    yield from paragraphs(told)
    options = [param for param in command.params if isinstance(param, Flag)]
    for group in GROUPS:
        members = [option for option in options if option.group == group]
        if members:
            yield f".SS {group}"
        for option in members:
            yield from entry(option)
    yield ".SS Examples"
    for told, line in command.examples:
        yield from (".PP", text(f"{told}:"), ".PP", ".RS", ".nf", text(line), ".fi", ".RE")


def entry(option: Flag) -> Iterator[str]:
    """An option with what it means and what holds without it."""
    names = ", ".join(sorted((*option.opts, *option.secondary_opts), key=len))
    value = "" if option.is_flag else f" \\fI{text(option.make_metavar(CONTEXT))}\\fR"
    yield from (".TP", f"\\fB{text(names)}\\fR{value}")
    yield text(f"{option.help} {option.detail}".strip())
    if default_of(option) not in ("none", "off"):
        yield text(f"Default: {default_of(option)}.")


def paragraphs(told: str) -> Iterator[str]:
    """Paragraphs of a text."""
    for paragraph in inspect.cleandoc(told).split("\n\n"):
        yield from (".PP", text(" ".join(paragraph.split())))


def text(plain: str) -> str:
    """A line as it is, for roff; links of Markdown are their words."""
    plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", plain)
    plain = plain.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{plain}" if plain.startswith((".", "'")) else plain


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
