"""What in the samples makes the engine fail: values beyond a table, axes that do not agree."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from nettrim_cli.data.formats.base import spell
from nettrim_cli.data.input_matching import Feed

ROWS = 1024  # searched at once
INDEX = re.compile(r"idx=(-?\d+) must be within the inclusive range \[-?\d+,(-?\d+)\]")
CHANNELS = re.compile(r"Input channels C is not equal .*kernel channels: (\d+) group: (\d+)", re.S)


def blamed(path: Path, feeds: Sequence[Feed], message: str) -> str:
    """The dataset that makes the engine fail, and what to do; empty where none is to blame.

    Parameters
    ----------
    message
        The engine's message.
    """
    if match := INDEX.search(message):
        return _beyond(path, feeds, int(match[1]), int(match[2]))
    if match := CHANNELS.search(message):
        return _channels(path, feeds, int(match[1]) * int(match[2]))
    return _disagreeing(path, feeds)


def _beyond(path: Path, feeds: Sequence[Feed], index: int, high: int) -> str:
    """The first sample that holds an index which a table of the model does not have."""
    table = f"the table that the model looks it up in has {high + 1} rows, 0 to {high}"
    for feed in feeds:
        source = feed.source
        if source.dtype.kind not in "iu" or not source.shape:
            continue
        for start in range(0, source.shape[0], ROWS):
            values = source.read(np.arange(start, min(start + ROWS, source.shape[0])))
            places = np.argwhere(values == index)
            if len(places):
                return (
                    f"{path}: dataset '{source.name}', sample {start + places[0][0]}: the value "
                    f"{index} is too {'large' if index > high else 'small'}; {table}: use the "
                    "vocabulary that the model was trained with."
                )
    return ""


def _channels(path: Path, feeds: Sequence[Feed], channels: int) -> str:
    """The dataset whose channels are its last axis, where the model takes them first."""
    for feed in feeds:
        shape = feed.source.shape
        if len(shape) == 4 and shape[1] != channels and shape[-1] == channels:
            return (
                f"{path}: dataset '{feed.source.name}' is {spell(shape, feed.source.dtype)}, but "
                f"the model takes {channels} channels behind the samples: "
                "data.transpose(0, 3, 1, 2) puts its axes in the model's order."
            )
    return ""


def _disagreeing(path: Path, feeds: Sequence[Feed]) -> str:
    """Two datasets that differ along an axis that the model names alike, or leaves free alike."""
    for first, second in itertools.combinations(feeds, 2):
        for (axis, name, size), (other_axis, alias, length) in itertools.product(
            _axes(first), _axes(second)
        ):
            if size != length and (name == alias if name else axis == other_axis and not alias):
                called = f"axis '{name}'" if name else f"axis {axis}"
                names = " with dataset ".join(
                    f"'{source.name}' {spell(source.shape, source.dtype)}"
                    for source in (first.source, second.source)
                )
                return (
                    f"{path}: the model does not run on dataset {names}: {called} "
                    f"is {size} in one and {length} in the other: store both with one size."
                )
    return ""


def _axes(feed: Feed) -> Iterator[tuple[int, str, int]]:
    """Number, name and size in the dataset of each free axis that does not count samples."""
    shape = feed.source.shape[1:] if feed.row_is_input else feed.source.shape
    declared = feed.tensor.shape or ()
    if feed.axis == 0 and not feed.single and len(shape) == len(declared):
        for number, (axis, size) in enumerate(zip(declared, shape, strict=True)):
            if not isinstance(axis, int) and (number or feed.row_is_input):
                yield number, axis or "", size
