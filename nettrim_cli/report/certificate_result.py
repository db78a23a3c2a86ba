"""What is known of the errors of a pruned network, as plain numbers; errors are fractions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from nettrim_cli.report.plain import Facts


@dataclass(frozen=True)
class LayerBound(Facts):
    """A pruned layer's part in the bounds; errors are relative to its dense response.

    Attributes
    ----------
    name
        Of the layer.
    error_alone, error_network
        Measured on all samples of the comparison: with the dense network's signals as inputs,
        and within the pruned network.
    norm
        Upper bound on the factor by which an error of the layer's input grows in its response.
    bound
        Upper bound on ``error_network`` from errors alone and norms; None behind the proof's end.
    samples_median, samples_densest
        Samples from which, by the Gaussian width, the neuron with the median and with the largest
        number of weights can be learned from Gaussian inputs.
    samples_theorem
        Those of the latter by the paper's theorem, with a probability of 95 %.
    """

    name: str
    error_alone: float | None
    error_network: float | None
    norm: float | None
    bound: float | None
    samples_median: int
    samples_densest: int
    samples_theorem: int


@dataclass(frozen=True)
class OutputBound(Facts):
    """Proved bounds on one output's relative error on the samples of the comparison.

    Attributes
    ----------
    name
        Of the output.
    bound
        From each layer's error alone; None where nothing is proved.
    bound_measured
        From each layer's error as measured within the pruned network: what the nodes behind the
        last pruned layers can add to it.
    reason
        Where the proof of ``bound`` ends, and why.
    """

    name: str
    bound: float | None = None
    bound_measured: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class LayerCost(Facts):
    """What one layer, or several in a row, cost at the outputs.

    Attributes
    ----------
    layers
        Their names; of nodes before the first layer that differ, the node's.
    outputs
        Norm of the difference that they make, relative to the dense output, by name of the output;
        None where that is no number.
    """

    layers: tuple[str, ...]
    outputs: Mapping[str, float | None]

    @property
    def largest(self) -> float | None:
        """The largest cost over the outputs."""
        costs = [cost for cost in self.outputs.values() if cost is not None]
        return max(costs, default=None)


@dataclass(frozen=True)
class CostSum(Facts):
    """What all layers cost together at an output.

    Attributes
    ----------
    name
        Of the output.
    bound
        What the layers move together, entry by entry in one direction: at least the error, and at
        most the sum of all costs.  None where it is no number.
    error
        The error on the same samples.
    """

    name: str
    bound: float | None
    error: float | None


@dataclass(frozen=True)
class LayerCosts(Facts):
    """What the layers cost at the outputs.

    Attributes
    ----------
    parts
        Layers in dataflow order.
    sums
        All of them together, output by output.
    samples
        Number of samples on which that was measured.
    reason
        Why it was not.
    """

    parts: tuple[LayerCost, ...] = ()
    sums: tuple[CostSum, ...] = ()
    samples: int = 0
    reason: str = ""

    def layer(self, name: str) -> LayerCost | None:
        """The first part with a layer; None for a dense one."""
        return next((part for part in self.parts if name in part.layers), None)

    def output(self, name: str) -> CostSum | None:
        """The sum of an output."""
        return next((cost_sum for cost_sum in self.sums if cost_sum.name == name), None)


@dataclass(frozen=True)
class Consistency(Facts):
    """What a consistency theorem of the paper proves on the samples that were fitted to.

    Attributes
    ----------
    theorem
        1 for the parallel scheme, 2 for the cascade; 0 where neither is about the run.
    response
        The last layer's, which the errors are of.
    bound
        By the theorem, with ``||W||_1`` of each layer as the factor that errors grow by.
    sharper
        By the same proof with spectral norms in its place.
    error
        As measured.
    why_unproved
        Why there is no bound.
    """

    theorem: int = 0
    response: str = ""
    bound: float | None = None
    sharper: float | None = None
    error: float | None = None
    why_unproved: str = ""


@dataclass(frozen=True)
class Certificate(Facts):
    """Proved bounds on the errors of a pruned network on the samples of the comparison.

    Attributes
    ----------
    outputs, layers
        Bounds on the errors of each output, and of each pruned layer.
    costs
        What the layers cost at the outputs.
    consistency
        What the paper's theorem proves.
    """

    outputs: tuple[OutputBound, ...] = ()
    layers: tuple[LayerBound, ...] = ()
    costs: LayerCosts = field(default_factory=LayerCosts)
    consistency: Consistency = Consistency()

    def output(self, name: str) -> OutputBound | None:
        """The bound of an output."""
        return next((bound for bound in self.outputs if bound.name == name), None)

    def layer(self, name: str) -> LayerBound | None:
        """The bound of a layer; None for a dense one."""
        return next((bound for bound in self.layers if bound.name == name), None)
