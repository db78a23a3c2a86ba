"""Widths by what they cost: units and ranks of all layers together.

The outputs' squared error is taken as the sum of what each group of units and each rank costs
alone.  At a price for a weight, every width in turn takes the value at which error and price
together are least, with the other widths as they are, until none changes.  A search over the
price meets the target.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.pruning.shrinking.measurement import ShrinkingCosts
from nettrim_cli.pruning.shrinking.widths import (
    Block,
    BlockShape,
    Plan,
    Widths,
    pays,
    stored_weights,
)

STEPS = 40  # widths that a group or a rank may have, at most
SMALL = 8  # up to which widths are finer
ROUNDS = 30  # over all widths at one price, at most
SEARCH = 40  # prices that are tried

Numbers = NDArray[np.int64]
Floats = NDArray[np.float64]


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


@dataclass(frozen=True)
class Choice:
    """A width that is to be chosen.

    Attributes
    ----------
    values
        Widths, ascending; the last is the dense one.
    costs
        The outputs' squared error of each; a rank's depends on the columns that stay.
    blocks
        Those whose size it changes.
    """

    values: Numbers
    costs: Floats | None
    blocks: tuple[Block, ...]


def worths(shapes: Mapping[Block, BlockShape], columns: Mapping[Block, int]) -> dict[Block, float]:
    """What a weight of each block counts: as one of the weights, and by the products it makes.

    All weights together count 1 in the dense network, and all products together 1.
    """
    sizes = {block: shape.rows * shape.columns for block, shape in shapes.items()}
    products = {block: size * max(1, columns.get(block, 1)) for block, size in sizes.items()}
    weights, work = sum(sizes.values()), sum(products.values())
    return {block: 1 / weights + products[block] / (size * work) for block, size in sizes.items()}


class WidthProblem:
    """Which widths cost least in error for so many weights.

    Parameters
    ----------
    costs
        Curves of groups and blocks.
    shapes
        Of all blocks of the layers that are shrunk.
    multiples
        Of what the larger widths of each layer are multiples, by its name.
    """

    def __init__(
        self,
        costs: ShrinkingCosts,
        shapes: Mapping[Block, BlockShape],
        multiples: Mapping[str, int],
    ) -> None:
        self.costs, self.shapes = costs, shapes
        self.worth = worths(shapes, costs.columns)
        self.totals = {name: len(curve.order) for name, curve in costs.units.items()}
        self.choices: dict[str | Block, Choice] = {}
        touching: dict[str, list[Block]] = {}
        for block, shape in shapes.items():
            for name in {*shape.read, *shape.made}:
                touching.setdefault(name, []).append(block)
        for name, curve in costs.units.items():
            # An embedding's units are made by no layer.
            members = [producer.layer for producer in curve.group.producers]
            members += [reader.layer for reader in curve.group.readers]
            multiple = max(multiples[layer] for layer in members)
            values = candidate_widths(self.totals[name], multiple)
            self.choices[name] = Choice(values, curve.costs[values], tuple(touching[name]))
        for block in costs.ranks:
            shape = shapes[block]
            most = min(shape.rows, shape.columns)
            values = candidate_widths(most, multiples[block[0]])
            self.choices[block] = Choice(values, None, (block,))
        self._rank_costs: dict[tuple[Block, tuple[int, ...]], Floats] = {}

    def solve(self, weights: int) -> Widths:
        """Widths of least error with at most so many weights in all blocks."""
        dense = {name: int(choice.values[-1]) for name, choice in self.choices.items()}
        if self.size(dense) <= weights:
            return self._widths(dense)
        low, high = 0.0, 1e-8  # prices with too many weights, and with few enough
        state = dict(dense)
        while self.size(best := self.at_price(high, state)) > weights and high < 1e12:
            low, high, state = high, high * 8, best
        for _ in range(SEARCH):
            price = math.sqrt(low * high) if low else high / 8
            state = min(
                (self.at_price(price, start) for start in (dense, best)),
                key=lambda widths: self.objective(price, widths),
            )
            if self.size(state) <= weights:
                high, best = price, state
            else:
                low = price
            if low and high / low < 1.001:
                break
        return self._widths(self._filled(best, weights))

    def at_price(self, price: float, start: Mapping[str | Block, int]) -> dict[str | Block, int]:
        """Widths that no change of a single one improves, from a start."""
        state = dict(start)
        for _ in range(ROUNDS):
            changed = False
            for name, choice in self.choices.items():
                totals = self._costs(name, choice, state) + price * self._works(choice, name, state)
                value = int(choice.values[np.argmin(totals)])
                changed |= value != state[name]
                state[name] = value
            if not changed:
                break
        return state

    def objective(self, price: float, state: Mapping[str | Block, int]) -> float:
        """Error and price of some widths."""
        return self.error(state) + price * self.work(state)

    def error(self, state: Mapping[str | Block, int]) -> float:
        """The outputs' squared error, as the sum of all single ones."""
        total = 0.0
        for name, choice in self.choices.items():
            at = int(np.searchsorted(choice.values, state[name]))
            total += float(self._costs(name, choice, state)[at])
        return total

    def error_of(self, widths: Widths) -> float:
        """The outputs' squared error of some widths, as the sum of all single ones."""
        return self.error(self._state(widths))

    def size_of(self, widths: Widths) -> int:
        """Weights of all blocks at some widths."""
        return self.size(self._state(widths))

    def products_of(self, widths: Widths) -> float:
        """Products of all blocks at some widths, relative to the dense network's."""
        state = self._state(widths)
        return self.work(state) - self.size(state) / self.size({})

    def _state(self, widths: Widths) -> dict[str | Block, int]:
        return {
            name: widths.units[name]
            if isinstance(name, str)
            else widths.ranks.get(name, int(choice.values[-1]))
            for name, choice in self.choices.items()
        }

    def within(self, epsilon: float) -> Widths:
        """The smallest widths at which no layer's response errs by more, relatively.

        A layer may read fewer inputs and be of a lower rank: each takes half of the square.
        """
        allowed, state = epsilon**2 / 2, {}
        for name, choice in self.choices.items():
            if isinstance(name, str):
                relative = self.costs.units[name].relative
            else:
                relative = self.costs.ranks[name].relative
            enough = relative[np.minimum(choice.values, len(relative) - 1)] <= allowed
            state[name] = (
                int(choice.values[np.argmax(enough)]) if enough.any() else int(choice.values[-1])
            )
        return self._widths(state)

    def size(self, state: Mapping[str | Block, int]) -> int:
        """Weights of all blocks."""
        return sum(int(self._size(block, state)) for block in self.shapes)

    def work(self, state: Mapping[str | Block, int]) -> float:
        """Weights and products of all blocks, both relative to the dense network's."""
        return sum(float(self.worth[b] * self._size(b, state)) for b in self.shapes)

    def _filled(self, state: Mapping[str | Block, int], weights: int) -> dict[str | Block, int]:
        """Wider as long as the weights allow, where an error falls most for each weight."""
        state = dict(state)
        while True:
            work, best, chosen = self.work(state), 0.0, None
            for name, choice in self.choices.items():
                at = int(np.searchsorted(choice.values, state[name]))
                if at + 1 == len(choice.values):
                    continue
                wider = {**state, name: int(choice.values[at + 1])}
                more = max(self.work(wider) - work, 1e-12)
                costs = self._costs(name, choice, state)
                gain = float(costs[at] - costs[at + 1])
                if gain > best * more and self.size(wider) <= weights:
                    best, chosen = gain / more, (name, wider[name])
            if chosen is None:
                return state
            state[chosen[0]] = chosen[1]

    def _costs(self, name: str | Block, choice: Choice, state: Mapping[str | Block, int]) -> Floats:
        if choice.costs is not None:
            return choice.costs
        assert not isinstance(name, str)
        shape = self.shapes[name]
        widths = tuple(int(state.get(group, self.totals[group])) for group in shape.made)
        key = name, widths
        if key not in self._rank_costs:
            curve = self.costs.ranks[name].costs(self._columns(shape, widths, name))
            self._rank_costs[key] = curve[np.minimum(choice.values, len(curve) - 1)]
        return self._rank_costs[key]

    def _columns(self, shape: BlockShape, widths: Sequence[int], block: Block) -> Numbers:
        """Numbers of the columns that stay."""
        stays = np.ones(shape.columns, bool)
        for name, width in zip(shape.made, widths, strict=True):
            curve = self.costs.units[name]
            for producer in curve.group.producers:
                if (producer.layer, producer.block) == block:
                    removed = curve.order[: len(curve.order) - width]
                    stays[producer.columns[removed]] = False
        return np.flatnonzero(stays)

    def _works(self, choice: Choice, name: str | Block, state: Mapping[str | Block, int]) -> Floats:
        """Work of the blocks that a width changes, for each of its values."""
        varied: Mapping[str | Block, int | Numbers] = {**state, name: choice.values}
        total = np.zeros(len(choice.values))
        for block in choice.blocks:
            total = total + self.worth[block] * self._size(block, varied)
        return total

    def _size(self, block: Block, state: Mapping[str | Block, int | Numbers]) -> Numbers:
        shape = self.shapes[block]
        units = {name: state.get(name, self.totals[name]) for name in (*shape.read, *shape.made)}
        rows, columns = shape.remaining(units, self.totals)
        rank = state.get(block, min(shape.rows, shape.columns))
        return stored_weights(rows, columns, rank)

    def _widths(self, state: Mapping[str | Block, int]) -> Widths:
        """Numbers of units, and the ranks that save weights."""
        units = {name: int(state.get(name, total)) for name, total in self.totals.items()}
        ranks = {}
        for block, shape in self.shapes.items():
            rows, columns = shape.remaining(units, self.totals)
            if block in state and pays(int(rows), int(columns), state[block]):
                ranks[block] = state[block]
        return Widths(units, ranks)

    def plan(self, widths: Widths) -> Plan:
        """The units that stay, by the order of their removal."""
        kept = {name: self.costs.units[name].kept(count) for name, count in widths.units.items()}
        return Plan(kept, widths.ranks)
