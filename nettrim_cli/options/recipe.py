"""Options from a file: ``--config``, and what it means for a command line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from nettrim_cli.errors import WrongUsage
from nettrim_cli.options.help import flag
from nettrim_cli.options.usage import Command, FileName, Group, WrongRecipe
from nettrim_cli.settings.layers import n_of_m
from nettrim_cli.settings.recipe import LAYERS, LIKE_PRUNE, Recipe
from nettrim_cli.settings.targets import TARGETS

Decorated = TypeVar("Decorated", bound=Callable[..., Any])
RECIPE = "nettrim.recipe"  # under which a context keeps it
NOT_IN_FILES = {"config", "no_config", "save_config"}


class ConfiguredCommand(Command):
    """A command whose options may stand in a file."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the words and the file.

        Raises
        ------
        click.UsageError
            The words are no valid line, or the file holds what is no option.
        """
        try:
            remaining = super().parse_args(ctx, args)
            _settle(ctx)
        except click.UsageError as error:
            raise _blamed(ctx, error) from error
        if ctx.meta.get(RECIPE) and not (ctx.params.get("quiet") or ctx.resilient_parsing):
            click.echo(f"options of {ctx.meta[RECIPE].path}", err=True)
        return remaining


def config_options(command: Decorated) -> Decorated:
    """Add ``--config`` and ``--no-config``; options of the file take the place of defaults."""
    command = flag(
        "--no-config",
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=lambda ctx, _, value: ctx.meta.update({RECIPE: None}) if value else None,
        group="Run",
        help="Read no file of options.",
    )(command)
    return flag(
        "--config",
        type=FileName(),
        is_eager=True,
        expose_value=False,
        callback=_read,
        group="Run",
        help="Read options from a TOML file; those given here go before.",
        example="nettrim.toml",
        absent="nettrim.toml or pyproject.toml here",
        detail="Of pyproject.toml it is the table [tool.nettrim].",
    )(command)


def _read(ctx: click.Context, _: click.Parameter, path: Path | None) -> None:
    """Have the options of a file be the defaults of the command.

    Raises
    ------
    click.UsageError
        The file cannot be read, or holds what is no option.
    """
    if path is None and RECIPE in ctx.meta:
        return
    try:
        recipe = Recipe.of_folder(Path()) if path is None else Recipe.read(path)
        if recipe is not None:
            values = recipe.of_command(str(ctx.command.name), _known(ctx))
            ctx.meta[RECIPE] = recipe
            ctx.default_map = {
                param.name: _as_words(param, values[_key(param)], recipe.path.parent)
                for param in ctx.command.params
                if param.name and _key(param) in values
            }
    except WrongUsage as error:
        raise WrongRecipe(str(error), ctx) from error


def _known(ctx: click.Context) -> Mapping[str, set[str]]:
    """Names of the options that a file may hold, of each command."""
    group = ctx.parent.command if ctx.parent else None
    assert isinstance(group, Group)
    return {
        name: {_key(param) for param in command.params} - NOT_IN_FILES
        for name, command in group.all_commands().items()
        if isinstance(command, ConfiguredCommand)
    }


def _key(param: click.Parameter) -> str:
    """The name of an option in a file: that of its flag."""
    longest = max(param.opts, key=len)
    return longest.lstrip("-").replace("-", "_")


def _as_words(param: click.Parameter, value: Any, folder: Path) -> Any:
    """A value of a file as the command line would give it; paths are those beside the file."""

    def word(item: Any) -> Any:
        """A single value."""
        if isinstance(param.type, FileName):
            return str(folder / str(item))
        return item if isinstance(item, bool) else str(item)

    if not param.multiple:
        return word(value)
    return [word(item) for item in (value if isinstance(value, list) else [value])]


def _settle(ctx: click.Context) -> None:
    """Have a target of the command line take the place of the file's, and add the layers' options.

    Raises
    ------
    WrongRecipe
        A table of a layer holds what no layer can have.
    """
    recipe: Recipe | None = ctx.meta.get(RECIPE)
    targets = [*TARGETS, *(["pattern"] if n_of_m(ctx.params.get("pattern")) else [])]
    if any(_source(ctx, name) is ParameterSource.COMMANDLINE for name in targets):
        for name in targets:
            if _source(ctx, name) is ParameterSource.DEFAULT_MAP:
                ctx.params[name] = None
    if ctx.command.name in LIKE_PRUNE:
        try:
            ctx.params[LAYERS] = recipe.layers() if recipe else ()
        except WrongUsage as error:
            raise WrongRecipe(str(error), ctx) from error


def _source(ctx: click.Context, name: str | None) -> ParameterSource | None:
    return ctx.get_parameter_source(name) if name else None


def _blamed(ctx: click.Context, error: click.UsageError) -> click.UsageError:
    """An error about a value that stands in a file as one that names the file."""
    recipe, param = ctx.meta.get(RECIPE), getattr(error, "param", None)
    if recipe is None or param is None:
        return error
    if _source(ctx, param.name) is not ParameterSource.DEFAULT_MAP:
        return error
    key = _key(param).replace("_", "-")
    return WrongRecipe(f"{recipe.path}: {key}: {error.message}", ctx)
