"""What a search asks of a way to make a network smaller."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from nettrim_cli.data.sample_set import SampleSet
from nettrim_cli.data.stream import StreamCache
from nettrim_cli.graph.model import Model
from nettrim_cli.pruning.allocation import Forecast
from nettrim_cli.pruning.layerwise import PassResult


@dataclass(frozen=True)
class Attempt:
    """A network at some sparsity.

    Attributes
    ----------
    density
        Share of the weights that remained when all choices were made.
    """

    result: PassResult
    density: float


class Compression(Protocol):
    """Networks of any sparsity: the share of the layers' weights that are zero, or gone.

    Attributes
    ----------
    samples
        Those that layers are fitted to, made ones among them.
    forecast
        What more samples would give, where that was asked for.
    noun
        What a sparsity is a share of, for messages.
    cache
        What the dense network delivered to the layers.
    """

    samples: SampleSet
    cache: StreamCache
    forecast: Forecast | None
    noun: str

    def limits(self) -> tuple[float, float]:
        """The least and the largest sparsity that there may be.

        Raises
        ------
        NothingToDo
            There is none.
        """

    def error(self, sparsity: float) -> float:
        """The network's relative error as it is expected."""

    def preview(self, sparsity: float) -> Model:
        """A network of the size that it would have, its weights not refitted."""

    def compress(self, sparsity: float, last: Attempt | None) -> Attempt:
        """The network, from where the last attempt ended if that is near."""
