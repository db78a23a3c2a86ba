"""What ``inspect`` tells of a model, as plain numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nettrim_cli.report.plain import Facts

if TYPE_CHECKING:
    from nettrim_cli.graph.layer import Layer

SHARES = (0.5, 0.7, 0.9)  # of zeros at which it is told what a layer costs
Axes = tuple[int | str | None, ...]


@dataclass(frozen=True)
class TensorFacts(Facts):
    """An input or output of a model.

    Attributes
    ----------
    shape
        Sizes; names or None stand for free axes, None alone for any shape.
    dataset
        Shape of the dataset that feeds an input, as ``nettrim prune`` reads it: ``samples`` stands
        for their number; None for an output.
    """

    name: str
    dtype: str
    shape: Axes | None
    dataset: Axes | None = None


@dataclass(frozen=True)
class ModelSummary:
    """What ``inspect`` tells of a model.

    Attributes
    ----------
    layers
        All that were found, prunable or not.
    nonzeros
        Of each prunable layer, by name.
    parameters
        Of the whole model.
    inputs, outputs
        Its tensors.
    costs
        Relative error of the network's outputs as it is predicted with zeros in one layer alone, by
        its name, at each of SHARES; empty where there were no samples.
    notes
        What there is to doubt of the samples.
    """

    path: str
    layers: Sequence[Layer]
    nonzeros: Mapping[str, int]
    parameters: int
    inputs: Sequence[TensorFacts] = ()
    outputs: Sequence[TensorFacts] = ()
    costs: Mapping[str, Sequence[float]] = field(default_factory=dict)
    notes: Sequence[str] = ()
