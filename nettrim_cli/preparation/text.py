"""Samples of text, by a tokenizer of Hugging Face's library."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from nettrim_cli.data.formats.base import Array, Indices
from nettrim_cli.data.input_shapes import fixed, spell_input
from nettrim_cli.errors import BadInput, MissingInput, WrongUsage
from nettrim_cli.graph.model import Model
from nettrim_cli.preparation.source import Item
from nettrim_cli.settings import DataSettings

FILE = "tokenizer.json"
MOST_TOKENS = 512  # of a text, where neither model nor user says how many
PADS = ("[PAD]", "<pad>", "<|endoftext|>")
PARTS = {  # model inputs by the ends of their names -> part of an encoding
    "input_ids": "ids",
    "attention_mask": "attention_mask",
    "token_type_ids": "type_ids",
    "segment_ids": "type_ids",
    "input_mask": "attention_mask",
}


class TextSource:
    """Samples of lines of text, or of files if there are several.

    Raises
    ------
    BadInput
        The model takes no tokens, or the tokenizer is damaged.
    MissingInput
        There is no tokenizer.
    WrongUsage
        The library is not installed.
    """

    notes: Sequence[str] = ()

    def __init__(
        self, path: Path, files: Sequence[Path], model: Model, settings: DataSettings
    ) -> None:
        self._inputs = {
            tensor.name: part_of(tensor.name)
            for tensor in model.inputs
            if part_of(tensor.name) and tensor.name not in settings.values
        }
        self._dtypes = {tensor.name: tensor.dtype for tensor in model.inputs}
        if "ids" not in self._inputs.values():
            described = ", ".join(f"'{t.name}' {spell_input(t)}" for t in model.inputs)
            raise BadInput(
                f"{model.path}: its inputs are {described}; text is for models with 'input_ids'."
            )
        self._files, self._path = files, path
        self._whole = path.is_dir()
        tokenizer_path = find_tokenizer(settings.tokenizer, Path(model.path))
        self._tokenizer = load_tokenizer(tokenizer_path)
        self._count = sum(1 for _ in self._texts())
        self._length = self._tokens(model, settings)
        self.origin: Mapping[str, Any] = {
            "kind": "text",
            "tokenizer": str(tokenizer_path),
            "length": self._length,
        }

    def close(self) -> None:
        """Do nothing: files are opened anew for each pass."""

    def __len__(self) -> int:
        """Number of texts."""
        return self._count

    def items(self, indices: Indices) -> Iterator[Item]:
        """Texts at some indices, in the order of the files."""
        chosen = {int(index) for index in indices}
        for place, (name, text) in enumerate(self._texts()):
            if place in chosen:
                yield Item(name, partial(self._row, text))

    def _texts(self) -> Iterator[tuple[str, str]]:
        for path in self._files:
            try:
                if self._whole:
                    yield str(path), path.read_text("utf-8")
                    continue
                with path.open(encoding="utf-8") as file:
                    for number, line in enumerate(file, 1):
                        if line.strip():
                            yield f"{path}, line {number}", line.strip()
            except UnicodeDecodeError as error:
                raise BadInput(f"{path}: is not text in UTF-8.") from error
            except OSError as error:
                raise MissingInput(f"{path} cannot be read ({error.strerror}).") from error

    def _tokens(self, model: Model, settings: DataSettings) -> int:
        """Tokens of a sample: the model's number, the user's, or that of the longest text."""
        for tensor in model.inputs:
            length = fixed(tensor.shape[-1]) if tensor.shape else None
            if self._inputs.get(tensor.name) and len(tensor.shape or ()) == 2 and length:
                if settings.length not in (None, length):
                    raise WrongUsage(f"--length: the model takes {length} tokens: leave it out.")
                return length
        if settings.length:
            return settings.length
        lengths = (len(self._tokenizer.encode(text).ids) for _, text in self._texts())
        return min(max(lengths, default=1), MOST_TOKENS)

    def _row(self, text: str) -> Mapping[str, Array]:
        self._tokenizer.enable_truncation(self._length)
        encoding = self._tokenizer.encode(text)
        encoding.pad(self._length, pad_id=self._pad())
        return {
            name: np.array(getattr(encoding, attribute)).astype(self._dtypes[name])
            for name, attribute in self._inputs.items()
        }

    def _pad(self) -> int:
        padding = self._tokenizer.padding or {}
        identifiers = map(self._tokenizer.token_to_id, PADS)
        number = padding.get("pad_id", next((n for n in identifiers if n is not None), 0))
        return int(number)


def part_of(name: str) -> str:
    """The part of an encoding that a model input takes; empty where it takes none."""
    return next((attribute for end, attribute in PARTS.items() if name.lower().endswith(end)), "")


def find_tokenizer(option: str | None, model: Path) -> Path:
    """The tokenizer's file: that of the option, or one beside the model or a folder above.

    Raises
    ------
    MissingInput
        There is none.
    """
    folder = model.absolute().parent
    places = [Path(option)] if option else [folder / FILE, folder.parent / FILE]
    for place in places:
        if place.is_file():
            return place
    raise MissingInput(
        f"{places[0]} cannot be found: name the {FILE} of the model (--tokenizer FILE)."
    )


def load_tokenizer(path: Path) -> Any:
    """A tokenizer without padding of its own.

    Raises
    ------
    BadInput
        The file is damaged.
    WrongUsage
        The library is not installed.
    """
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise WrongUsage(
            "text needs the package tokenizers: pip install 'nettrim-cli[text]'"
        ) from error
    try:
        tokenizer = Tokenizer.from_str(path.read_text("utf-8"))
    except Exception as error:  # the library raises bare exceptions
        raise BadInput(f"{path}: is no tokenizer ({error}).") from error
    padding = tokenizer.padding
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return Unpadded(tokenizer, padding)


class Unpadded:
    """A tokenizer whose padding is told, but not done."""

    def __init__(self, tokenizer: Any, padding: Mapping[str, Any] | None) -> None:
        self.padding = padding
        self.encode = tokenizer.encode
        self.enable_truncation = tokenizer.enable_truncation
        self.token_to_id = tokenizer.token_to_id
