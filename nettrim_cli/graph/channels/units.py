"""Groups of hidden units, as plain data: who makes them, who reads them.

A unit is what can be deleted as a whole: a neuron, a channel of a convolution, a head of an
attention, an entry of a width that many layers share.  Where all rows that a unit feeds are zero,
the network without it gives the same outputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

NOWHERE = -1
"""Fills up arrays where one unit has fewer rows or columns than another."""


@dataclass(frozen=True)
class UnitRows:
    """Rows of one block of a layer that units feed.

    Attributes
    ----------
    layer, block
        Name of the layer, and which of its matrices U (N, M).
    rows
        (units, entries): the rows that each unit feeds; ``NOWHERE`` where it feeds fewer.
    """

    layer: str
    block: int
    rows: NDArray[np.int64]

    def of(self, units: NDArray[np.integer[Any] | np.bool_]) -> NDArray[np.int64]:
        """Rows (N,) that some units (by number, or as a mask) feed, ascending."""
        return _entries(self.rows[units])


@dataclass(frozen=True)
class UnitColumns:
    """Columns of one block of a layer that make units.

    Attributes
    ----------
    layer, block
        Name of the layer, and which of its matrices U (N, M).
    columns
        (units, entries): the columns that make each unit; ``NOWHERE`` where fewer do.
    """

    layer: str
    block: int
    columns: NDArray[np.int64]

    def of(self, units: NDArray[np.integer[Any] | np.bool_]) -> NDArray[np.int64]:
        """Columns (M,) that make some units (by number, or as a mask), ascending."""
        return _entries(self.columns[units])


@dataclass(frozen=True)
class UnitGroup:
    """Units that are alike: the same layers make them, and the same ones read them.

    Attributes
    ----------
    name
        Name of the first layer that makes them, or of another node if no layer does; with a number
        behind it where a layer makes units of several groups.
    units
        How many there are.  At least one has to stay.
    producers
        The layers that make them.  A unit is made by all of them together: their results are
        added, multiplied, or are a head's queries, keys and values.
    readers
        The layers that read them.  A unit is deleted exactly if its rows in all of them are zero.
        A layer may be among producers and readers (a recurrent one, or one inside a residual).
    inside
        Names of layers that pass each unit on by itself, as depthwise convolutions do; their
        weights go with the units, and nothing has to be zero in them.
    """

    name: str
    units: int
    producers: tuple[UnitColumns, ...]
    readers: tuple[UnitRows, ...]
    inside: tuple[str, ...] = ()


def _entries(places: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.unique(places[places != NOWHERE])
