"""All that the program knows of an op, as one entry of a table.

Rules are plain functions of a `NodeContext`.  They know no index and no protobuf, so that an entry
stands in one file with its family, and each walker over a graph asks all ops in one way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from nettrim_cli.graph.layer import Floats
from nettrim_cli.graph.ops.base import Grid, Op
from nettrim_cli.graph.ops.channel_rules import ChannelRule, boundary
from nettrim_cli.graph.ops.context import (
    AffineContext,
    ErrorContext,
    ErrorGain,
    LayoutContext,
    NodeContext,
)
from nettrim_cli.graph.ops.gradients.context import GradientRule
from nettrim_cli.graph.ops.layout_steps import Step

Attributes = Mapping[str, Any]
Function = Callable[..., Any]
CountRule = Callable[[NodeContext], int | None]
ErrorRule = Callable[[ErrorContext], ErrorGain]
AffineRule = Callable[[AffineContext], tuple[Floats, Floats] | None]
ClipRule = Callable[[AffineContext], "Clipping | None"]
Layout = tuple[Step, ...] | int | Grid
LayoutRule = Callable[[LayoutContext], Layout]


@dataclass(frozen=True)
class Clipping:
    """A cut to the range from `low` to `high`, and its name in words."""

    low: float
    high: float
    words: str


def unknown(context: NodeContext) -> int | None:
    """Nothing is known."""
    return None


@dataclass(frozen=True)
class OpSpec:
    """One op: what each walker over a graph asks of it.

    Every field has the answer for an op of which nothing is known as its default.

    Attributes
    ----------
    stores
        Whether its only output is a stored constant.
    random
        Whether its output changes from run to run.
    weight
        How its weight is read and written; None for an op without.
    rank
        Number of axes of its first output, of all outputs where `every_output`.
    length
        Entries of its first output, where that has one axis.
    error
        How errors of its inputs come out, at most; None ends a proof.
    gradient
        Gradients of its inputs for those of its outputs; None where nothing is known.
    fitted
        Inputs that may be fitted where they are stored vectors: biases, scales and shifts.
    gate
        Largest slope of ``x * op(x)``, from its attributes; None where that is not bounded.
    function
        Its values, of attributes and inputs, where it acts entry by entry.
    title
        Name of the function, whatever its spelling.
    linear
        Whether an affine function stays affine with constants as its other inputs.
    adds, subtracts
        Whether it is the sum of its inputs, or their difference.
    idle
        Whether a node gives out its first input as it is.
    trains
        Whether a node behaves as in training: by its batch, or at random.  None for not known.
    affine
        Factor and summand (M,) of each output of a layer that it follows.
    clip
        The range that it cuts to; with `affine`, after that.
    mean_slot
        Input that is taken off each channel, of a normalisation by constants; the variance is next.
    layout
        What it does to a constant on its way to a weight: steps that move values, the element
        type of a cast, or the grid of integers.
    join_axis
        Axis along which it joins its inputs; None for an op that joins none.
    indices
        Input whose numbers tell which entries of the first along an axis come out.
    same_values
        Whether it gives out all values of its first input unchanged.
    retypes
        Whether it changes the type of numbers: by a "cast", or by a "grid" of steps.
    probabilities
        Whether it flattens all changes but those of samples in doubt.
    scores
        What it makes probabilities of, as the last node of a spelling; empty for nothing.
    spreads
        Whether it leads from a sum or a maximum of scores to where that meets them again.
    channels
        How it passes on units that can be deleted, and what changes in a node where they are.
    steady
        Whether entries of a unit that are all the same number come out as that number.
    """

    stores: bool = False
    random: bool = False
    weight: Op | None = None
    rank: CountRule = unknown
    every_output: bool = False
    length: CountRule = unknown
    error: ErrorRule | None = None
    gradient: GradientRule | None = None
    fitted: tuple[int, ...] = ()
    gate: Callable[[Attributes], float | None] | None = None
    function: Function | None = None
    title: str = ""
    linear: bool = False
    adds: bool = False
    subtracts: bool = False
    idle: Callable[[NodeContext], bool] | None = None
    trains: Callable[[NodeContext], bool | None] | None = None
    affine: AffineRule | None = None
    clip: ClipRule | None = None
    mean_slot: int | None = None
    layout: LayoutRule | None = None
    join_axis: Callable[[NodeContext], int] | None = None
    indices: int | None = None
    same_values: bool = False
    retypes: str = ""
    probabilities: bool = False
    scores: Callable[[NodeContext], str] | None = None
    spreads: bool = False
    channels: ChannelRule = boundary
    steady: Callable[[NodeContext], bool] | None = None

    @property
    def same_numbers(self) -> bool:
        """Whether it changes no values, but perhaps their order or their type."""
        return self.same_values or self.retypes == "cast"


UNKNOWN = OpSpec()
"""An op that is not in the table."""
