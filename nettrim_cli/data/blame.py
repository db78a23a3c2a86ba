"""What in the samples makes the engine fail: values beyond a table, axes that do not agree."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from nettrim_cli.data.formats.base import spell
from nettrim_cli.data.input_matching import Feed

ROWS = 1024  # that are searched at once
INDEX = re.compile(r"idx=(-?\d+) must be within the inclusive range \[(-?\d+),(-?\d+)\]")
CHANNELS = re.compile(r"Input channels C is not equal .*kernel channels: (\d+) group: (\d+)", re.S)


def blamed(path: Path, feeds: Sequence[Feed], said: str) -> str:
    """The dataset that makes the engine fail, and what to do; empty where none is to blame.

    Parameters
    ----------
    said
        The engine's message.
    """
    if found := INDEX.search(said):
        index, low, high = (int(each) for each in found.groups())
        return _beyond(path, feeds, index, low, high)
    if found := CHANNELS.search(said):
        return _channels(path, feeds, int(found[1]) * int(found[2]))
    return _disagreeing(path, feeds)


def _beyond(path: Path, feeds: Sequence[Feed], index: int, low: int, high: int) -> str:
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


def _channels(path: Path, feeds: Sequence[Feed], wanted: int) -> str:
    """The dataset whose channels are its last axis, where the model takes them first."""
    for feed in feeds:
        shape = feed.source.shape
        if len(shape) == 4 and shape[1] != wanted and shape[-1] == wanted:
            return (
                f"{path}: dataset '{feed.source.name}' is {spell(shape, feed.source.dtype)}, but "
                f"the model takes {wanted} channels behind the samples: "
                "data.transpose(0, 3, 1, 2) puts its axes in the model's order."
            )
    return ""


def _disagreeing(path: Path, feeds: Sequence[Feed]) -> str:
    """Two datasets that differ along an axis that the model names alike, or leaves free alike."""
    for one, two in itertools.combinations(feeds, 2):
        for (at, name, size), (other, alias, length) in itertools.product(_axes(one), _axes(two)):
            if size != length and (name == alias if name else at == other and not alias):
                called = f"axis '{name}'" if name else f"axis {at}"
                return (
                    f"{path}: the model does not run on dataset '{one.source.name}' "
                    f"{spell(one.source.shape, one.source.dtype)} with dataset "
                    f"'{two.source.name}' {spell(two.source.shape, two.source.dtype)}: {called} "
                    f"is {size} in one and {length} in the other: store both with one size."
                )
    return ""


def _axes(feed: Feed) -> Iterator[tuple[int, str, int]]:
    """Number, name and size in the dataset of each free axis that does not count samples."""
    shape = feed.source.shape[1:] if feed.whole else feed.source.shape
    declared = feed.tensor.shape or ()
    if feed.axis == 0 and not feed.single and len(shape) == len(declared):
        for at, (axis, size) in enumerate(zip(declared, shape, strict=True)):
            if not isinstance(axis, int) and (at or feed.whole):
                yield at, axis or "", size
