"""What each pruned layer costs at the outputs: a sum of differences that telescopes.

Let h_l be the network that is dense before layer l and pruned from there on.  Then

    y_pruned - y_dense = (h_1 - h_2) + (h_2 - h_3) + ... + (h_L - h_(L+1))

exactly, as h_1 is the pruned network and h_(L+1) the dense one.  The norm of a summand is what
layer l costs.  By the triangle inequality, entry by entry, the error is at most the norm of the sum
of their absolute values, and this at most the sum of all costs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.data.dataset import Batch
from nettrim_cli.data.engine import Engine
from nettrim_cli.data.values import parts
from nettrim_cli.errors import EngineFailed
from nettrim_cli.evaluation.accuracy import is_answers
from nettrim_cli.evaluation.output_error import squared_size
from nettrim_cli.evaluation.unit_matching import Selection, matching_units
from nettrim_cli.graph.capture.segments import Segment
from nettrim_cli.graph.capture.splice import Cut, Splices, find_cuts, grouped, merged
from nettrim_cli.graph.model import Model
from nettrim_cli.graph.ops import Unsupported
from nettrim_cli.report.certificate_result import CostSum, LayerCost, LayerCosts

Array = NDArray[Any]
Values = Mapping[str, Any]
MOST_PARTS = 16
"""Parts that a network is cut into at most, unless all layers are asked for: each runs once for
itself and once for all before it."""


def layer_costs(
    dense: Model,
    written: Model,
    batches: Callable[[float], Iterable[Batch]],
    *,
    threads: int,
    most_parts: int = MOST_PARTS,
) -> LayerCosts:
    """What the layers cost at the outputs, on some samples.

    Parameters
    ----------
    dense, written
        The network before, and as written.
    batches
        Gives the samples, for the number of times that the network will run on them.
    threads
        Threads of the engine.
    most_parts
        More layers than that share their costs with neighbours.
    """
    totals = _Totals()
    try:
        networks = SplicedNetworks(dense, written, threads=threads, most_parts=most_parts)
        for batch in batches(networks.runs):
            totals.add(batch, networks.outputs(batch))
    except (Unsupported, EngineFailed) as error:
        return LayerCosts(reason=f"what the layers cost is not known: {error}")
    return LayerCosts(
        tuple(
            LayerCost(cut.titles, totals.relative(totals.steps[number]))
            for number, cut in enumerate(networks.cuts)
        ),
        tuple(
            CostSum(path, *(totals.relative(sums)[path] for sums in (totals.bounds, totals.errors)))
            for path in totals.sizes
        ),
        totals.samples,
    )


class SplicedNetworks:
    """Networks that are dense before a cut and pruned from there on, for every cut.

    Parameters
    ----------
    dense, written, threads, most_parts
        See ``layer_costs``.

    Attributes
    ----------
    cuts
        Known with the first batch: where the networks have no equal tensors, there is no cut.
    """

    def __init__(self, dense: Model, written: Model, *, threads: int, most_parts: int) -> None:
        self._models, self._threads, self._most = (dense, written), threads, most_parts
        self._all_cuts = find_cuts(dense, written)
        self._pieces: _Pieces | None = None

    @property
    def runs(self) -> float:
        """How often the whole network runs on a sample, about."""
        return min(len(self._all_cuts), self._most) / 2 + 1.5

    @property
    def cuts(self) -> Sequence[Cut]:
        """Where the networks are cut."""
        return self._pieces.splices.cuts if self._pieces is not None else ()

    def outputs(self, batch: Batch) -> list[Values]:
        """Outputs of all networks on a batch: of the pruned one first, of the dense one last."""
        if self._pieces is None:
            self._pieces = self._cut(batch)
        return self._pieces.run(batch)

    def _cut(self, batch: Batch) -> _Pieces:
        """The pieces between cuts at which both networks have tensors of equal shapes."""
        pieces = self._between(grouped(self._all_cuts, self._most))
        if not pieces.splices.same_shapes and pieces.match(batch):
            pieces = self._between(self._all_cuts)
            numbers = {*range(len(pieces.splices.cuts))} - pieces.match(batch)
            pieces = self._between(grouped(merged(pieces.splices.cuts, numbers), self._most))
            pieces.match(batch)
        return pieces

    def _between(self, cuts: Sequence[Cut]) -> _Pieces:
        return _Pieces(Splices(*self._models, cuts), self._threads)


class _Pieces:
    """The pieces of both networks, loaded when they first run."""

    def __init__(self, splices: Splices, threads: int) -> None:
        self.splices, self.threads = splices, threads
        self._engines: dict[tuple[int, bool], Engine] = {}
        self._types: dict[str, str] = {}
        self._selections: dict[tuple[int, str], Selection] = {}

    def run(self, batch: Batch) -> list[Values]:
        """Outputs of all networks on a batch."""
        dense = self._advance(0, batch.feeds, changed=False)
        networks: list[Values] = []
        for number in range(1, len(self.splices.cuts) + 1):
            networks.append(self._forked(number - 1, dense))
            networks = [self._advance(number, values, changed=True) for values in networks]
            dense = self._advance(number, dense, changed=False)
        return [
            {name: values[name] for name in self.splices.outputs} for values in (*networks, dense)
        ]

    def match(self, batch: Batch) -> set[int]:
        """Find the units that are left where the pruned network's tensors are smaller.

        Gives the numbers of the cuts at which they differ in other ways.
        """
        misfits = set()
        dense: Values = batch.feeds
        pruned = dense
        for number, cut in enumerate(self.splices.cuts):
            dense = self._advance(number, dense, changed=False)
            pruned = self._advance(number, pruned, changed=True)
            if not cut.position:
                continue
            for name in self.splices.piece(number, changed=True).needed:
                if np.shape(dense[name]) == np.shape(pruned[name]):
                    continue
                selection = matching_units(dense[name], pruned[name])
                if selection is None:
                    misfits.add(number)
                else:
                    self._selections[number, name] = selection
        return misfits

    def _forked(self, number: int, dense: Values) -> Values:
        """What is alive at a cut, as the pruned network goes on from it."""
        return {
            name: self._selections[number, name].of(value)
            if (number, name) in self._selections
            else value
            for name, value in dense.items()
        }

    def _advance(self, number: int, values: Values, *, changed: bool) -> Values:
        """What is alive after a piece."""
        piece = self.splices.piece(number, changed=changed)
        alive = {name: value for name, value in values.items() if self._lives(name, piece)}
        if piece.outputs:
            engine = self._engine(number, piece, values, changed=changed)
            results = engine.run(values, piece.outputs)
            alive.update(zip(piece.outputs, results, strict=True))
        return alive

    def _lives(self, name: str, piece: Segment) -> bool:
        return name in piece.needed or name in self.splices.inputs

    def _engine(self, number: int, piece: Segment, values: Values, *, changed: bool) -> Engine:
        if (number, changed) not in self._engines:
            kinds = {name: self._kind(name, values[name]) for name in piece.inputs}
            model = self.splices.runnable(number, kinds, changed=changed)
            engine = Engine(model, threads=self.threads, arena=False)
            self._types.update(engine.types)
            self._engines[number, changed] = engine
        return self._engines[number, changed]

    def _kind(self, name: str, value: Any) -> tuple[Any, int | None]:
        if isinstance(value, np.ndarray):
            return value.dtype, value.ndim
        return self._types[name], None


@dataclass
class _Totals:
    """Sums over all batches.

    Attributes
    ----------
    samples
        Their number.
    sizes
        Squared norm of the dense network's outputs, by path; of answers their number.
    steps, errors
        Squared distances between each network and the next, and between the first and the last; of
        answers how many differ.
    bounds
        Squared sums of what all steps move at the same entries, which ``errors`` are at most.
    answers
        Paths of the outputs that hold answers.
    """

    samples: int = 0
    sizes: dict[str, float] = field(default_factory=dict)
    steps: list[dict[str, float]] = field(default_factory=list)
    errors: dict[str, float] = field(default_factory=dict)
    bounds: dict[str, float] = field(default_factory=dict)
    answers: set[str] = field(default_factory=set)

    def add(self, batch: Batch, outputs: Sequence[Values]) -> None:
        """Take in the outputs of all networks on a batch."""
        networks = [dict(_arrays(values, batch.count)) for values in outputs]
        self.samples += batch.count
        self.steps = self.steps or [{} for _ in networks[1:]]
        for path, array in networks[-1].items():
            answers = is_answers(array)
            if answers:
                self.answers.add(path)
            _count(self.sizes, path, squared_size(array))
            moved = np.zeros(array.shape)
            for sums, first, second in zip(self.steps, networks, networks[1:], strict=False):
                distances = entry_distances(path, first.get(path), second.get(path))
                _count(sums, path, float(np.square(distances).sum()))
                moved = np.maximum(moved, distances) if answers else moved + distances
            distances = entry_distances(path, networks[0].get(path), array)
            _count(self.errors, path, float(np.square(distances).sum()))
            _count(self.bounds, path, float(np.square(moved).sum()))

    def relative(self, squares: Mapping[str, float]) -> dict[str, float | None]:
        """Distances relative to the outputs' sizes; None where that is no number."""
        return {path: self._share(path, squared) for path, squared in squares.items()}

    def _share(self, path: str, squared: float) -> float | None:
        if squared == 0:
            return 0.0
        size = self.sizes[path]
        share = squared / size if size else math.inf
        if not math.isfinite(share):
            return None
        return share if path in self.answers else math.sqrt(share)


def _arrays(values: Values, count: int) -> Iterator[tuple[str, Array]]:
    """Arrays of all outputs on a batch of so many samples, by path."""
    for name, value in values.items():
        for path, part in parts(name, value, count).items():
            if part.array is not None:
                yield path, part.array


def _count(sums: dict[str, float], path: str, value: float) -> None:
    sums[path] = sums.get(path, 0.0) + value


@np.errstate(invalid="ignore", over="ignore")  # what comes out is looked at
def entry_distances(path: str, first: Array | None, second: Array | None) -> Array:
    """Distances of two arrays (N, ...) of an output, entry by entry; of answers 1 for others.

    Equal infinities do not differ, nor do two entries that are no numbers.

    Raises
    ------
    Unsupported
        Their shapes differ: there is no distance.
    """
    if first is None or second is None or first.shape != second.shape:
        raise Unsupported(f"the shape of '{path}' depends on the weights")
    if is_answers(first):
        return np.asarray(first != second, np.float64)
    same = (first == second) | (np.isnan(first) & np.isnan(second))
    return np.where(same, 0.0, np.abs(first.astype(np.float64) - second))
