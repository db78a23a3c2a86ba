"""The JSON Schema of all documents, ``nettrim_cli/report/schema.json``.

`make docs` writes the file.  Types are those of the results' fields and properties, descriptions
those of their docstrings, and of options their help.
"""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import Field, fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from nettrim_cli import report
from nettrim_cli.report.plain import Facts
from nettrim_cli.report.saving import SCHEMA_VERSION, Saved
from nettrim_cli.settings import COMPARE_OPTIONS, Gate, LayerOptions, Settings

FILE = Path(report.__file__).with_name("schema.json")
TITLE = "Documents that nettrim writes as JSON"
SHARED = tuple(field for field in fields(Settings) if field.name in COMPARE_OPTIONS)
OPTIONS = {"prune": fields(Settings), "compare": (*fields(Gate), *SHARED)}  # under "settings"
SIMPLE = {str: "string", int: "integer", float: "number", bool: "boolean"}
NULL = {"type": "null"}


def schema() -> dict[str, Any]:
    """The whole schema: a definition for each class, and one of them for each kind of document."""
    definitions: dict[str, Any] = {}
    kinds = sorted(kinds_of_documents(), key=lambda kind: kind.kind)
    for kind in kinds:
        _define(kind, definitions)
    choices = [
        {
            "if": {"properties": {"schema": {"const": f"nettrim-{kind.kind}"}}},
            "then": {"$ref": f"#/$defs/{kind.__name__}"},
        }
        for kind in kinds
    ]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": TITLE,
        "description": (
            "A document names its kind and the version of this schema. Errors, shares and "
            "sparsities are fractions from 0 to 1, times are seconds; a number that is not finite "
            "is null."
        ),
        "type": "object",
        "required": ["schema", "schema_version"],
        "properties": {
            "schema": {"enum": [f"nettrim-{kind.kind}" for kind in kinds]},
            "schema_version": {"const": SCHEMA_VERSION},
        },
        "allOf": choices,
        "$defs": dict(sorted(definitions.items())),
    }


def kinds_of_documents() -> Iterator[type[Saved]]:
    """All results that can be saved."""
    for module in pkgutil.walk_packages(report.__path__, f"{report.__name__}."):
        for kind in vars(importlib.import_module(module.name)).values():
            is_result = inspect.isclass(kind) and issubclass(kind, Saved) and kind is not Saved
            if is_result and kind.__module__ == module.name:
                yield kind


def text() -> str:
    """The schema as the text of its file."""
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"


def _define(cls: type[Any], definitions: dict[str, Any]) -> None:
    """Add a class, and those that it holds."""
    if cls.__name__ in definitions:
        return
    definitions[cls.__name__] = {}
    told, hints = described(cls), typing.get_type_hints(cls)
    properties: dict[str, Any] = {}
    if issubclass(cls, Saved):
        properties["schema"] = {
            "const": f"nettrim-{cls.kind}",
            "description": "Name of the kind of document.",
        }
        properties["schema_version"] = {
            "const": SCHEMA_VERSION,
            "description": "Version of the schema.",
        }
    for field in fields(cls):
        kind = _type(hints[field.name], definitions)
        if field.name == "settings":
            kind = options_schema(cls.kind)
        properties[field.name] = {**kind, "description": told[field.name]}
    for name in cls.derived if issubclass(cls, Facts) else ():
        getter = getattr(cls, name).fget
        kind = _type(typing.get_type_hints(getter)["return"], definitions)
        properties[name] = {**kind, "description": _sentence(inspect.getdoc(getter) or "")}
    definitions[cls.__name__] = _object(properties, _sentence(inspect.getdoc(cls) or ""))


def _object(properties: Mapping[str, Any], description: str) -> dict[str, Any]:
    """An object with these properties and no others."""
    return {
        "type": "object",
        "description": description,
        "additionalProperties": False,
        "required": list(properties),
        "properties": dict(properties),
    }


def options_schema(kind: str) -> dict[str, Any]:
    """The options of a command; those of a run within another document are empty."""
    properties = {field.name: _option(field) for field in OPTIONS[kind]}
    if kind == "compare":
        return {
            "anyOf": [_object(properties, "The options of a comparison."), {"maxProperties": 0}],
            "type": "object",
        }
    layers = {field.name: _option(field) for field in fields(LayerOptions)}
    some = {**_object(layers, "Options of some layers."), "required": ["name"]}
    properties["layers"] |= {"type": "array", "items": some}
    return _object(properties, "The options of a run.")


def _option(field: Field[Any]) -> dict[str, Any]:
    """The schema of an option."""
    return {**_option_type(str(field.type)), "description": field.metadata["help"]}


def _option_type(annotation: str) -> dict[str, Any]:
    """The type of an option, by its annotation."""
    if annotation.startswith("tuple"):
        return {"type": "array", "items": {"type": "string"}}
    names = {"str": "string", "int": "integer", "float": "number", "bool": "boolean"}
    found = [names.get(part.strip(), "null") for part in annotation.split("|")]
    return {"type": found if len(found) > 1 else found[0]}


def _type(hint: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    """The schema of a type."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        kinds = [NULL if each is type(None) else _type(each, definitions) for each in inner]
        flat = [each for kind in kinds for each in kind.get("anyOf", [kind])]
        return {"anyOf": [each for k, each in enumerate(flat) if each not in flat[:k]]}
    if origin is tuple and inner[-1] is not Ellipsis:
        items = [_type(each, definitions) for each in inner]
        return {"type": "array", "prefixItems": items, "items": False, "minItems": len(items)}
    if origin in (tuple, list, Sequence):
        return {"type": "array", "items": _type(inner[0], definitions)}
    if origin in (dict, Mapping):
        return {"type": "object", "additionalProperties": _type(inner[1], definitions)}
    if hint is float:
        return {"anyOf": [{"type": "number"}, NULL]}
    if hint in SIMPLE:
        return {"type": SIMPLE[hint]}
    if isinstance(hint, type) and issubclass(hint, Enum):
        return {"enum": [each.name.lower() for each in hint]}
    if is_dataclass(hint):
        _define(typing.cast(type[Any], hint), definitions)
        return {"$ref": f"#/$defs/{hint.__name__}"}
    assert hint is Any, f"{hint}: no type of JSON"
    return {}


def described(cls: type[Any]) -> dict[str, str]:
    """What a class's docstring says of its fields."""
    _, _, body = (inspect.getdoc(cls) or "").partition("Attributes\n----------\n")
    body = re.split(r"\n\w+\n-+\n", body)[0]
    found = {}
    for names, words in re.findall(r"^(\w+(?:, \w+)*)\n((?:(?:    .*)?(?:\n|$))+)", body, re.M):
        for name in names.split(", "):
            found[name] = _sentence(words)
    missing = [field.name for field in fields(cls) if field.name not in found]
    assert not missing, f"{cls.__name__}: the docstring does not tell {', '.join(missing)}"
    return found


def _sentence(words: str) -> str:
    """The first paragraph of a text on one line."""
    return " ".join(words.strip().split("\n\n")[0].replace("``", "").split())


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
