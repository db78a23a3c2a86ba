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
from nettrim_cli.options.help import GROUPS, Flag

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"
HEAD = """# Commands

`make docs` writes this page from what `--help` shows, with what there is to say besides.
[usage.md](usage.md) explains the options by example.
"""
PIPE = "\\|"
CONTEXT = click.Context(cli.nettrim)


def page() -> str:
    """The whole page as Markdown."""
    commands = cli.nettrim.all_commands().values()
    return "\n".join([HEAD, *(line for command in commands for line in section(command))])


def section(command: click.Command) -> Iterator[str]:
    """Lines about one command: how it is called, what it does, its options, and examples."""
    arguments = [param for param in command.params if isinstance(param, click.Argument)]
    names = " ".join((param.name or "").upper() for param in arguments)
    yield from (f"## nettrim {command.name}\n", f"    nettrim {command.name} [OPTIONS] {names}\n")
    told, *_ = (command.help or "").partition("\f")
    yield inspect.cleandoc(told).replace(".  ", ". ") + "\n"
    for told, line in command.examples:
        yield f"    {line}  # {told}"
    yield ""
    options = [param for param in command.params if isinstance(param, click.Option)]
    for group in GROUPS:
        members = [option for option in options if option.group == group]
        if members:
            yield from (f"| {group} | | default | example |", "|---|---|---|---|")
            yield from (row(option) for option in members)
            yield ""


def row(option: Flag) -> str:
    """A line of a table: the option's names, what it means, what holds without it, an example."""
    meaning = f"{option.help} {option.detail}".strip()
    cells = (meaning, default_of(option), f"`{example(option)}`")
    return f"| {spelling(option)} | {' | '.join(cell.replace('|', PIPE) for cell in cells)} |"


def default_of(option: Flag) -> str:
    """What holds where the option is not given."""
    if option.required:
        return "required"
    return "off" if option.is_flag else option.default_text or "none"


def spelling(option: Flag) -> str:
    """The option's names with the word for its value."""
    names = [f"`{name}`" for name in sorted((*option.opts, *option.secondary_opts), key=len)]
    if not option.is_flag:
        names[-1] = f"{names[-1][:-1]} {option.make_metavar(CONTEXT)}`"
    return ", ".join(names).replace("|", PIPE)


def example(option: Flag) -> str:
    """The option as one would give it."""
    name = max(option.opts, key=len)
    if option.is_flag:
        return name
    value = option.example
    if not value and isinstance(option.type, click.Choice):
        value = next(each for each in option.type.choices if each != option.default)
    assert value, f"{name}: say how it is given, by example="
    return f"{name} {value}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
