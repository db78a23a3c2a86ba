"""How many units remain, and of which rank each layer is."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.graph.channels.inner import InnerGroup
from nettrim_cli.graph.channels.units import UnitGroup
from nettrim_cli.graph.layer import Layer

Block = tuple[str, int]
"""A layer's name, and the number of one of its blocks."""
Numbers = NDArray[np.int64]
Sizes = Numbers | int
STEPS = 40  # widths that a group or a rank may have, at most
SMALL = 8  # up to which widths are finer


@dataclass(frozen=True)
class Widths:
    """Numbers of units and ranks.

    Attributes
    ----------
    units
        Units that stay of each group, and entries of each inner group, by name.
    ranks
        Rank of each block's weights; blocks that are not in it have any.
    """

    units: Mapping[str, int]
    ranks: Mapping[Block, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """The units that stay, and the ranks.

    Attributes
    ----------
    units
        Numbers of the units that stay of each group, ascending, by name.
    ranks
        As in ``Widths``.
    inner
        Entries that stay in each head, by the name of the inner group.
    folds
        Rows that are put beside each other before the rank is taken, where these are several.
    """

    units: Mapping[str, Numbers]
    ranks: Mapping[Block, int]
    inner: Mapping[str, int] = field(default_factory=dict)
    folds: Mapping[Block, int] = field(default_factory=dict)


@dataclass(frozen=True)
class BlockShape:
    """A block's matrix, and which groups its rows and columns belong to.

    Attributes
    ----------
    rows, columns
        N and M of the dense weights.
    read, made
        Entries of a unit among the rows, and among the columns, by group.
    inside
        Groups whose units the layer passes on one by one: a share of its blocks goes with them.
    inner, inner_read
        Inner groups of which the columns are, and the rows: a share goes with their entries.
    fold
        Rows that are put beside each other before a rank is taken (``solve.gram.folded``).
    """

    rows: int
    columns: int
    read: Mapping[str, int]
    made: Mapping[str, int]
    inside: tuple[str, ...] = ()
    inner: tuple[str, ...] = ()
    inner_read: tuple[str, ...] = ()
    fold: int = 1

    def remaining(
        self, units: Mapping[str, Numbers | int], totals: Mapping[str, int]
    ) -> tuple[Numbers | int, Numbers | int]:
        """(n, m) of the block with so many units of each group; elementwise for arrays."""
        rows = self.rows - sum(
            (size * (totals[name] - units[name]) for name, size in self.read.items()), 0
        )
        columns = self.columns - sum(
            (size * (totals[name] - units[name]) for name, size in self.made.items()), 0
        )
        return self.shortened(rows, columns, units, totals)

    def shortened(
        self,
        rows: Numbers | int,
        columns: Numbers | int,
        units: Mapping[str, Numbers | int],
        totals: Mapping[str, int],
    ) -> tuple[Numbers | int, Numbers | int]:
        """Rows and columns without entries of inner groups that go.

        Parameters
        ----------
        rows, columns
            Numbers, (K,) or one.
        units, totals
            Entries of each inner group that stay, and all of them.

        Returns
        -------
        pair
            The numbers (K,), or one each.
        """
        for name in self.inner:
            columns = columns * units[name] // totals[name]
        for name in self.inner_read:
            rows = rows * units[name] // totals[name]
        return rows, columns

    @cached_property
    def groups(self) -> frozenset[str]:
        """Names of all groups that change its size."""
        return frozenset((*self.read, *self.made, *self.inside, *self.inner, *self.inner_read))

    @property
    def rank(self) -> int:
        """The largest rank."""
        return min(self.rows // self.fold, self.columns * self.fold)

    def share(
        self, units: Mapping[str, Numbers | int], totals: Mapping[str, int]
    ) -> NDArray[np.float64] | float:
        """Share of the block that stays with so many units of each group."""
        return math.prod((units[name] / totals[name] for name in self.inside), start=1.0)


def block_shapes(
    layers: Iterable[Layer], groups: Sequence[UnitGroup], inner: Sequence[InnerGroup] = ()
) -> dict[Block, BlockShape]:
    """Shape of every block of some layers, with the groups that touch it."""
    read: dict[Block, dict[str, int]] = {}
    made: dict[Block, dict[str, int]] = {}
    for group in groups:
        for reader in group.readers:
            entries = read.setdefault((reader.layer, reader.block), {})
            entries[group.name] = entries.get(group.name, 0) + reader.rows.shape[1]
        for producer in group.producers:
            entries = made.setdefault((producer.layer, producer.block), {})
            entries[group.name] = entries.get(group.name, 0) + producer.columns.shape[1]
    inside = {
        layer.name: tuple(group.name for group in groups if layer.name in group.inside)
        for layer in layers
    }
    return {
        (layer.name, block): BlockShape(
            rows,
            columns,
            read.get((layer.name, block), {}),
            made.get((layer.name, block), {}),
            inside[layer.name],
            tuple(group.name for group in inner if layer.name in _made_by(group)),
            tuple(group.name for group in inner if group.reads and layer.name == group.layers[1]),
        )
        for layer in layers
        for block, (rows, columns) in enumerate(layer.blocks)
    }


def _made_by(group: InnerGroup) -> tuple[str, ...]:
    """Layers of which an inner group's entries are columns."""
    return group.layers[:1] if group.reads else group.layers


def stored_weights(rows: Sizes, columns: Sizes, rank: Sizes, fold: int = 1) -> Numbers:
    """Weights of a block, as one matrix or, where that is less, as two factors.

    Parameters
    ----------
    rows, columns, rank
        Sizes, (K,) or one.
    fold
        Places of a window that the second factor has, too.
    """
    return np.minimum(np.multiply(rows, columns), _factors(rows, columns, rank, fold))


def pays(rows: Sizes, columns: Sizes, rank: Sizes, fold: int = 1) -> NDArray[np.bool_]:
    """Whether two factors of a rank hold fewer weights than the matrix, elementwise.

    Parameters
    ----------
    rows, columns, rank
        Sizes, (K,) or one.
    fold
        Places of a window that the second factor has, too.
    """
    return _factors(rows, columns, rank, fold) < np.multiply(rows, columns)


def _factors(rows: Sizes, columns: Sizes, rank: Sizes, fold: int) -> Numbers:
    return np.asarray(
        np.multiply(rank, np.add(np.floor_divide(rows, fold), np.multiply(columns, fold)))
    )


def candidate_widths(most: int, multiple: int) -> Numbers:
    """Widths up to the largest, ascending.

    Powers of 2, quarters of the multiple up to SMALL, then ever fewer of its multiples.
    """
    powers = [2**power for power in range(multiple.bit_length())]
    quarter = max(1, multiple // 4)
    small = range(quarter, SMALL + 1, quarter)
    spaced = multiple * np.round(np.geomspace(multiple, max(most, multiple), STEPS) / multiple)
    widths = np.unique(np.array([*powers, *small, *spaced], np.int64))
    return np.append(widths[widths < most], most)
