"""What a search asks of a way to make a network smaller."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from nettrim_cli.data.sample_set import SampleSet
from nettrim_cli.data.stream import StreamCache
from nettrim_cli.graph.model import Model
from nettrim_cli.pruning.allocation import Forecast
from nettrim_cli.pruning.context import Context
from nettrim_cli.pruning.layerwise import PassResult
from nettrim_cli.report.result import ErrorCurve, Mix


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
    curves
        Of the layers, for zeros anywhere.
    noun
        What a sparsity is a share of, for messages.
    cache
        What the dense network delivered to the layers.
    context
        That of the run, with settings of the mix's bits.
    mix, bits, zeros
        What weights are stored as, and the values that each of its parts may have, in order.
    """

    context: Context
    mix: Mix
    bits: Sequence[int | None]
    zeros: Sequence[float]
    samples: SampleSet
    cache: StreamCache
    forecast: Forecast | None
    curves: tuple[ErrorCurve, ...]
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

    def stored_bytes(self, sparsity: float) -> float:
        """About the bytes of the layers' weights in a compact file."""

    def mixed(self, mix: Mix) -> Compression:
        """The same with another mix."""

    def preview(self, sparsity: float) -> Model:
        """A network of the size that it would have, its weights not refitted."""

    def compress(self, sparsity: float, last: Attempt | None) -> Attempt:
        """The network, from where the last attempt ended if that is near."""


C = TypeVar("C", bound=Compression)


def remixed(compression: C, mix: Mix) -> C:
    """A copy of a compression with another mix, which shares what was measured."""
    other = copy.copy(compression)
    other.context, other.mix = compression.context.with_settings(bits=mix.bits), mix
    return other
