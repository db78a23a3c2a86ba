"""The page `docs/cli.md`: every command with its options, as the command line declares them.

`make docs` writes the page.  Only names, help texts and values of options
are taken from click, so the page does not depend on click's version or on a terminal.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path

import click

from nettrim_cli import cli

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"
HEAD = """# Commands

`make docs` writes this page from the texts that `--help` shows.
[usage.md](usage.md) explains the options by example.
"""


def page() -> str:
    """The whole page as Markdown."""
    commands = cli.nettrim.commands.values()
    return "\n".join([HEAD, *(line for command in commands for line in section(command))])


def section(command: click.Command) -> Iterator[str]:
    """Lines about one command: how it is called, what it does, and its options."""
    arguments = [param for param in command.params if isinstance(param, click.Argument)]
    options = [param for param in command.params if isinstance(param, click.Option)]
    names = " ".join((param.name or "").upper() for param in arguments)
    yield from (f"## nettrim {command.name}\n", f"    nettrim {command.name} [OPTIONS] {names}\n")
    told, *_ = (command.help or "").partition("\f")
    yield inspect.cleandoc(told).replace(".  ", ". ") + "\n"
    yield from ("| option | meaning |", "|---|---|")
    for option in options:
        yield f"| {spelling(option)} | {meaning(option)} |"
    yield ""


def spelling(option: click.Option) -> str:
    """The option's names with the word for its value."""
    names = [f"`{name}`" for name in sorted((*option.opts, *option.secondary_opts), key=len)]
    if option.is_flag:
        return ", ".join(names)
    if isinstance(option.type, click.Choice):
        value = "|".join(option.type.choices)
    else:
        value = option.metavar or "FILE"
    names[-1] = f"{names[-1][:-1]} {value}`"
    return ", ".join(names).replace("|", "\\|")


def meaning(option: click.Option) -> str:
    """The option's help text, with its default where there is one."""
    text = (option.help or "").replace("|", "\\|")
    if option.required:
        return f"{text} Required."
    if option.show_default and not option.is_flag:
        default = f"{option.default:.4g}" if isinstance(option.default, float) else option.default
        return f"{text} Default: `{default}`."
    return text


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
