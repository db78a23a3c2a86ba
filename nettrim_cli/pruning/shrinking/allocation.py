"""Widths by what they cost: units and ranks of all layers together.

The outputs' squared error is taken as the sum of what each group of units and each rank costs
alone.  At a price for a weight, every width in turn takes the value at which error and price
together are least, with the other widths as they are, until none changes.  A search over the
price meets the target.  The price is one for weights and for time; a width that would take longer
than a larger one is never chosen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.pruning.shrinking.measurement import InnerCurve, ShrinkingCosts, UnitCurve
from nettrim_cli.pruning.shrinking.widths import (
    Block,
    BlockShape,
    Plan,
    Widths,
    candidate_widths,
    pays,
    stored_weights,
)
from nettrim_cli.pruning.shrinking.work import Work

ROUNDS = 30  # over all widths at one price, at most
SEARCH = 40  # prices that are tried
SLOWER = 0.03  # by which a width takes longer than a larger one, beyond what is noise

Numbers = NDArray[np.int64]
Floats = NDArray[np.float64]
State = Mapping[str | Block, int]
States = Mapping[str | Block, int | Numbers]


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
    beside
        Names of the other choices that change these blocks.
    """

    values: Numbers
    costs: Floats | None
    blocks: tuple[Block, ...]
    beside: tuple[str | Block, ...] = ()


class WidthProblem:
    """Which widths cost least in error for so many weights, or so much time.

    Parameters
    ----------
    costs
        Curves of groups and blocks.
    shapes
        Of all blocks of the layers that are shrunk.
    multiples
        Of what the larger widths of each layer are multiples, by its name.
    work
        What blocks take of the time.
    worth
        What the share of the weights counts beside that of the time.
    """

    def __init__(
        self,
        costs: ShrinkingCosts,
        shapes: Mapping[Block, BlockShape],
        multiples: Mapping[str, int],
        work: Work,
        worth: float = 1.0,
    ) -> None:
        self.costs, self.shapes, self.shares = costs, shapes, work
        self.worth = worth / sum(shape.rows * shape.columns for shape in shapes.values())
        self.totals = {name: len(curve.order) for name, curve in costs.units.items()}
        self.totals |= {name: curve.bases.group.size for name, curve in costs.inner.items()}
        self.curves: dict[str, UnitCurve | InnerCurve] = {**costs.units, **costs.inner}
        self.choices: dict[str | Block, Choice] = {}
        touching: dict[str, list[Block]] = {}
        for block, shape in shapes.items():
            for name in shape.groups:
                touching.setdefault(name, []).append(block)
        for name, curve in costs.units.items():
            # An embedding's units are made by no layer.
            members = [producer.layer for producer in curve.group.producers]
            members += [reader.layer for reader in curve.group.readers]
            multiple = max(multiples[layer] for layer in members)
            values = candidate_widths(self.totals[name], multiple)
            self.choices[name] = Choice(values, curve.costs[values], tuple(touching[name]))
        for name, inner in costs.inner.items():
            multiple = max(multiples[layer] for layer in inner.bases.group.layers)
            values = candidate_widths(self.totals[name], multiple)
            self.choices[name] = Choice(values, inner.costs[values], tuple(touching[name]))
        for block in costs.ranks:
            shape = shapes[block]
            values = candidate_widths(shape.rank, multiples[block[0]])
            self.choices[block] = Choice(values, None, (block,))
        self.changing = {
            block: tuple(name for name in (*sorted(shape.groups), block) if name in self.choices)
            for block, shape in shapes.items()
        }
        self.choices = {key: self._beside(key, choice) for key, choice in self.choices.items()}
        self._rank_costs: dict[tuple[Block, tuple[int, ...]], Floats] = {}
        self._known_works: dict[tuple[str | Block, tuple[int, ...]], Floats] = {}
        self._known_blocks: dict[tuple[Block, tuple[int | None, ...]], tuple[float, float]] = {}

    def _beside(self, key: str | Block, choice: Choice) -> Choice:
        """A choice that names those beside it."""
        changing = dict.fromkeys(name for block in choice.blocks for name in self.changing[block])
        return replace(choice, beside=tuple(name for name in changing if name != key))

    def solve(self, weights: int) -> Widths:
        """Widths of least error with at most so many weights in all blocks."""
        return self._within(self.size, weights)

    def in_time(self, share: float) -> Widths:
        """Widths of least error that take at most a share of the dense network's time."""
        return self._within(self.time, share)

    def _within(self, measure: Callable[[State], float], most: float) -> Widths:
        """Widths of least error at which a measure of them is no more."""
        dense = {name: int(choice.values[-1]) for name, choice in self.choices.items()}
        if measure(dense) <= most:
            return self._widths(dense)
        low, high = 0.0, 1e-8  # prices at which the measure is more, and at which it is not
        state = dict(dense)
        while measure(best := self.at_price(high, state)) > most and high < 1e12:
            low, high, state = high, high * 8, best
        for _ in range(SEARCH):
            price = math.sqrt(low * high) if low else high / 8
            state = min(
                (self.at_price(price, start) for start in (dense, best)),
                key=lambda widths: self.objective(price, widths),
            )
            if measure(state) <= most:
                high, best = price, state
            else:
                low = price
            if low and high / low < 1.001:
                break
        return self._widths(self._filled(best, measure, most))

    def at_price(self, price: float, start: State) -> dict[str | Block, int]:
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

    def objective(self, price: float, state: State) -> float:
        """Error and price of some widths."""
        return self.error(state) + price * self.work(state)

    def error(self, state: State) -> float:
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

    def time_of(self, widths: Widths) -> float:
        """Time of all blocks at some widths, as a share of the dense network's."""
        return self.time(self._state(widths))

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
                relative = self.curves[name].relative
            else:
                relative = self.costs.ranks[name].relative
            enough = relative[np.minimum(choice.values, len(relative) - 1)] <= allowed
            state[name] = (
                int(choice.values[np.argmax(enough)]) if enough.any() else int(choice.values[-1])
            )
        return self._widths(state)

    def size(self, state: State) -> int:
        """Weights of all blocks."""
        return round(sum(self._of_block(block, state)[0] for block in self.shapes))

    def time(self, state: State) -> float:
        """Time of all blocks, as a share of the dense network's."""
        return sum(self._of_block(block, state)[1] for block in self.shapes)

    def work(self, state: State) -> float:
        """Weights and time of all blocks, both as shares of the dense network's."""
        return self.worth * self.size(state) + self.time(state)

    def _of_block(self, block: Block, state: State) -> tuple[float, float]:
        """Weights and time of a block."""
        key = block, tuple(state.get(name) for name in self.changing[block])
        if key not in self._known_blocks:
            numbers = float(self._size(block, state)), float(self._time(block, state))
            self._known_blocks[key] = numbers
        return self._known_blocks[key]

    def _filled(
        self, state: State, measure: Callable[[State], float], most: float
    ) -> dict[str | Block, int]:
        """Wider as long as the measure allows, where an error falls most for what it takes."""
        state = dict(state)
        while True:
            work, best, chosen = self.work(state), 0.0, None
            for name, choice in self.choices.items():
                at = int(np.searchsorted(choice.values, state[name]))
                allowed = np.isfinite(self._works(choice, name, state)[at + 1 :])
                if not allowed.any():
                    continue
                after = at + 1 + int(np.argmax(allowed))
                wider = {**state, name: int(choice.values[after])}
                more = max(self.work(wider) - work, 1e-12)
                costs = self._costs(name, choice, state)
                gain = float(costs[at] - costs[after])
                if gain > best * more and measure(wider) <= most:
                    best, chosen = gain / more, (name, wider[name])
            if chosen is None:
                return state
            state[chosen[0]] = chosen[1]

    def _costs(self, name: str | Block, choice: Choice, state: State) -> Floats:
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

    def _works(self, choice: Choice, name: str | Block, state: State) -> Floats:
        """Work of the blocks that a width changes, for each of its values.

        It is infinite for values that take longer than a larger one.
        """
        key = name, tuple(state[other] for other in choice.beside)
        if key not in self._known_works:
            self._known_works[key] = self._works_of(choice, name, state)
        return self._known_works[key]

    def _works_of(self, choice: Choice, name: str | Block, state: State) -> Floats:
        varied: States = {**state, name: choice.values}
        weights = sum(self._size(block, varied) for block in choice.blocks)
        times = sum((self._time(block, varied) for block in choice.blocks), np.zeros(1))
        times = np.broadcast_to(times, choice.values.shape)
        fastest = np.minimum.accumulate(times[::-1])[::-1]
        slower = times > (1 + SLOWER) * fastest
        return np.where(slower, np.inf, self.worth * weights + times)

    def _size(self, block: Block, state: States) -> Floats:
        shape, share = self._shape(block, state)
        return np.asarray(share * stored_weights(*shape, self.shapes[block].fold))

    def _time(self, block: Block, state: States) -> Floats:
        shape, share = self._shape(block, state)
        return np.asarray(share * self.shares.of(block, *shape))

    def _shape(
        self, block: Block, state: States
    ) -> tuple[tuple[Numbers | int, Numbers | int, Numbers | int], Floats | float]:
        """Rows, columns and rank of a block, and the share of it that stays."""
        shape = self.shapes[block]
        units = {name: state.get(name, self.totals[name]) for name in shape.groups}
        rank = state.get(block, shape.rank)
        return (*shape.remaining(units, self.totals), rank), shape.share(units, self.totals)

    def _widths(self, state: State) -> Widths:
        """Numbers of units, and the ranks that save weights."""
        units = {name: int(state.get(name, total)) for name, total in self.totals.items()}
        ranks = {}
        for block, shape in self.shapes.items():
            rows, columns = shape.remaining(units, self.totals)
            if block in state and pays(rows, columns, state[block], shape.fold):
                ranks[block] = state[block]
        return Widths(units, ranks)

    def plan(self, widths: Widths) -> Plan:
        """The units that stay, by the order of their removal."""
        counts = widths.units.items()
        inner = {name: count for name, count in counts if name in self.costs.inner}
        kept = {name: self.costs.units[name].kept(n) for name, n in counts if name not in inner}
        folds = {block: self.shapes[block].fold for block in widths.ranks}
        return Plan(kept, widths.ranks, inner, folds)
