"""Files of options: ``nettrim.toml``, or the table ``[tool.nettrim]`` of ``pyproject.toml``.

Keys are the options of ``nettrim prune``, and of ``nettrim curve`` as far as it has them; tables
named as other commands hold theirs, and tables ``[layers."PATTERN"]`` what holds for some layers
only.
"""

from __future__ import annotations

import difflib
import json
import re
import sys
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from nettrim_cli.errors import BadInput, WrongUsage
from nettrim_cli.settings.layers import LayerOptions
from nettrim_cli.settings.run import Settings

NAME, PROJECT = "nettrim.toml", "pyproject.toml"
LAYERS = "layers"
LIKE_PRUNE = ("prune", "curve")
"""Commands about a run of ``prune``, whose options hold for them, too, if they have them."""
OUTPUTS = {"report", "output", "force"}
"""Options of ``prune`` that hold for no other command."""


@dataclass(frozen=True)
class Recipe:
    """The options of a file.

    Attributes
    ----------
    path
        The file.
    values
        What it holds; keys as fields of ``Settings`` have them, with underscores.
    """

    path: Path
    values: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path) -> Recipe:
        """Read a file.

        Raises
        ------
        WrongUsage
            It cannot be read, is no TOML, or holds nothing for nettrim.
        """
        try:
            values = _parsed(path)
        except OSError as error:
            raise WrongUsage(f"{path}: {error.strerror}: name a file of options.") from error
        except ValueError as error:
            raise WrongUsage(f"{path} is no TOML: {error}.") from error
        table = _of_project(values) if path.name == PROJECT else values
        if table is None:
            raise WrongUsage(f"{path} has no table [tool.nettrim].")
        return cls(path, _with_underscores(table))

    @classmethod
    def of_folder(cls, folder: Path) -> Recipe | None:
        """The options of a folder: ``nettrim.toml``, else ``pyproject.toml``; None if neither has.

        A ``pyproject.toml`` that cannot be read has none: it is not nettrim's to judge.

        Raises
        ------
        WrongUsage
            ``nettrim.toml`` is no TOML.
        """
        if (folder / NAME).is_file():
            return cls.read(folder / NAME)
        try:
            values = _of_project(_parsed(folder / PROJECT))
        except (OSError, ValueError):
            return None
        return None if values is None else cls(folder / PROJECT, _with_underscores(values))

    def of_command(self, name: str, options: Mapping[str, Collection[str]]) -> dict[str, Any]:
        """The options of a command.

        Parameters
        ----------
        name
            The command.
        options
            Names of the options of each command.

        Raises
        ------
        WrongUsage
            The file holds a key that is none of them; the message tells the nearest.
        """
        commands = options.keys() - {"prune"}
        self._check(self.values, {*options["prune"], *commands, LAYERS}, "")
        for command in commands & self.values.keys():
            self._check(self._table(command), options[command], f"{command}.")
        table = dict(self._table(name)) if name in self.values else {}
        if name not in LIKE_PRUNE:
            return table
        read = self.values.keys() & set(options[name]) - commands - {LAYERS}
        read -= set() if name == "prune" else OUTPUTS
        return {key: self.values[key] for key in read} | table

    def layers(self) -> tuple[LayerOptions, ...]:
        """What holds for some layers only, in the order of the file.

        Raises
        ------
        WrongUsage
            A table holds what no layer can have.
        """
        if LAYERS not in self.values:
            return ()
        return tuple(self._layer(pattern, table) for pattern, table in self._table(LAYERS).items())

    def _layer(self, pattern: str, table: Any) -> LayerOptions:
        where = f'{LAYERS}."{pattern}"'
        rules = {field.name: field for field in fields(LayerOptions)[1:]}
        if not isinstance(table, Mapping):
            raise WrongUsage(
                f"{self.path}: [{LAYERS}] holds tables: write [{where}] above options."
            )
        self._check(table, rules, f"{where}.")
        values = {}
        for key, value in table.items():
            try:
                values[key] = _value(value, str(rules[key].type), rules[key].metadata["parse"])
            except ValueError as error:
                raise WrongUsage(f"{self.path}: {where}.{key}: {error}.") from error
        try:
            return LayerOptions(pattern, **values)
        except BadInput as error:
            raise WrongUsage(f"{self.path}: {where}: {error}") from error

    def _table(self, name: str) -> Mapping[str, Any]:
        table = self.values[name]
        if not isinstance(table, Mapping):
            raise WrongUsage(f"{self.path}: {name} is a table: write [{name}] above its options.")
        return table

    def _check(self, keys: Iterable[str], names: Iterable[str], prefix: str) -> None:
        for key in keys:
            if key not in names:
                near = difflib.get_close_matches(key, list(names), n=1, cutoff=0.5)
                meant = f"; did you mean {prefix}{near[0].replace('_', '-')}?" if near else "."
                name = f"{prefix}{key.replace('_', '-')}"
                raise WrongUsage(f"{self.path}: there is no option {name}{meant}")


def _parsed(path: Path) -> dict[str, Any]:
    """The content of a TOML file.

    Raises
    ------
    OSError
        It cannot be read.
    ValueError
        It is no TOML.
    """
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    return tomllib.loads(path.read_text("utf-8"))


def _of_project(values: Mapping[str, Any]) -> dict[str, Any] | None:
    """The table of nettrim in the content of a ``pyproject.toml``; None if there is none."""
    tools = values.get("tool")
    table = tools.get("nettrim") if isinstance(tools, dict) else None
    return table if isinstance(table, dict) else None


def _with_underscores(values: Mapping[str, Any]) -> dict[str, Any]:
    """Keys as Python's names; patterns of layers stay as they are."""
    tables = {
        key: {
            inner if key == LAYERS else inner.replace("-", "_"): (
                _with_underscores(value) if isinstance(value, dict) else value
            )
            for inner, value in table.items()
        }
        for key, table in values.items()
        if isinstance(table, dict)
    }
    return {key.replace("-", "_"): tables.get(key, value) for key, value in values.items()}


def _value(value: Any, kind: str, parse: Any) -> Any:
    """A value of a table as its option has it.

    Raises
    ------
    ValueError
        It is of another type, or cannot be read.
    """
    if "bool" in kind:
        if not isinstance(value, bool):
            raise ValueError("write true or false")
        return value
    if isinstance(value, (bool, list, dict)):
        raise ValueError(f"{value!r} is no single value")
    if parse and isinstance(value, str):
        return parse(value)
    if "float" in kind and not isinstance(value, (int, float)):
        raise ValueError(f"{value!r} is no number")
    return str(value) if kind.startswith("str") else value


def as_toml(values: Mapping[str, Any], layers: Iterable[LayerOptions] = ()) -> str:
    """Options as a file holds them; those that are None are left out.

    Parameters
    ----------
    values
        Options of ``nettrim prune`` by name.
    layers
        What holds for some layers only.
    """
    lines = [_line(key, value) for key, value in values.items() if value is not None]
    for options in layers:
        table = {key: value for key, value in options.as_dict().items() if key != "name"}
        lines += [
            "",
            f"[{LAYERS}.{_text(options.name)}]",
            *(_line(*pair) for pair in table.items()),
        ]
    return "\n".join(lines) + "\n"


def _line(key: str, value: Any) -> str:
    name = key.replace("_", "-")
    if isinstance(value, (list, tuple)):
        return f"{name} = [{', '.join(map(_text, value))}]"
    return f"{name} = {_text(value)}"


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return repr(value)
    text = json.dumps(str(value), ensure_ascii=False)
    return re.sub("\x7f", r"\\u007f", text)


def changed(settings: Settings) -> dict[str, Any]:
    """Options of a run that are not the defaults, by name; those of single layers left out."""
    return {
        field.name: getattr(settings, field.name)
        for field in fields(settings)
        if field.name != LAYERS and getattr(settings, field.name) != field.default
    }
