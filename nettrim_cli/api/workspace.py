"""A folder for what one call has to have in files, and names for them in what the call tells."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from nettrim_cli.api.options import with_keywords
from nettrim_cli.api.samples import Draw, opened
from nettrim_cli.data.formats.memory import MemoryContainer
from nettrim_cli.errors import BadInput, NettrimError
from nettrim_cli.graph.storage.in_memory import as_proto, inputs_of, write_model

PathLike = str | os.PathLike[str]
Result = TypeVar("Result")


class Workspace:
    """Files in place of models and samples in memory; a folder is made when the first is."""

    def __init__(self) -> None:
        self._temporary: tempfile.TemporaryDirectory[str] | None = None

    @cached_property
    def folder(self) -> Path:
        """The folder."""
        self._temporary = tempfile.TemporaryDirectory(prefix="nettrim-")
        return Path(self._temporary.name)

    def model(self, model: Any, name: str) -> PathLike:
        """The path of a model, which is written if it is in memory.

        Raises
        ------
        BadInput
            It is neither a path nor a model.
        """
        if isinstance(model, (str, os.PathLike)):
            return model
        proto = as_proto(model)
        if proto is None:
            raise BadInput(
                f"<{name}> is a {type(model).__name__}: give the path of an ONNX file, or an "
                "onnx.ModelProto."
            )
        path = self.folder / name
        write_model(proto, path)
        return path

    def samples(self, data: Any, model: PathLike, draw: Draw) -> PathLike | MemoryContainer:
        """Samples for a model, as a file or as arrays; see ``samples.opened``."""
        if isinstance(data, (str, os.PathLike)):
            return data
        return opened(data, inputs_of(Path(model)), self.folder / "samples", draw)

    def told(self, result: Result) -> Result:
        """A result with names in place of the paths of the folder."""
        renamed: Result = result if self._temporary is None else self._renamed(result)
        return renamed

    def _renamed(self, value: Any) -> Any:
        """A value with names in all of its texts; itself where there is nothing to change."""
        if isinstance(value, str):
            return re.sub(re.escape(f"{self.folder}{os.sep}") + r"([\w-]+)", r"<\1>", value)
        if isinstance(value, (tuple, list)):
            inner = [self._renamed(item) for item in value]
            same = all(new is old for new, old in zip(inner, value, strict=True))
            return value if same else type(value)(inner)
        if is_dataclass(value) and not isinstance(value, type):
            old = {field.name: getattr(value, field.name) for field in fields(value)}
            new = {name: self._renamed(inner) for name, inner in old.items()}
            changed = {name: inner for name, inner in new.items() if inner is not old[name]}
            return replace(value, **changed) if changed else value
        return value

    def close(self) -> None:
        """Remove the folder."""
        if self._temporary is not None:
            self._temporary.cleanup()


@contextmanager
def workspace() -> Iterator[Workspace]:
    """Open a workspace for a with-block; errors raised in it speak of memory and of keywords.

    Raises
    ------
    NettrimError
        What was raised inside.
    """
    files = Workspace()
    try:
        yield files
    except NettrimError as error:
        error.args = (with_keywords(files.told(str(error))),)
        error.__dict__.update({name: files.told(value) for name, value in vars(error).items()})
        raise
    finally:
        files.close()
