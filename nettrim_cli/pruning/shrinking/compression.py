"""Fewer units and lower ranks, as a way to make a network smaller."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from nettrim_cli.data.sample_set import SampleSet
from nettrim_cli.data.stream import StreamCache
from nettrim_cli.errors import NothingToDo
from nettrim_cli.graph.channels.delete import delete_units
from nettrim_cli.graph.channels.factors import can_factorize, factorize, halves
from nettrim_cli.graph.channels.find import refusals, unit_groups
from nettrim_cli.graph.channels.inner import InnerGroup, delete_inner, inner_groups
from nettrim_cli.graph.channels.units import NOWHERE, UnitGroup
from nettrim_cli.graph.layer import Layer
from nettrim_cli.graph.model import Model
from nettrim_cli.pruning.allocation import Forecast
from nettrim_cli.pruning.compression import Attempt, remixed
from nettrim_cli.pruning.context import Context
from nettrim_cli.pruning.layerwise import PassResult
from nettrim_cli.pruning.mixing import weight_bytes
from nettrim_cli.pruning.propagation import dense_matrices, set_matrices
from nettrim_cli.pruning.second_step import few_bits
from nettrim_cli.pruning.shrinking.allocation import WidthProblem
from nettrim_cli.pruning.shrinking.inner import shorten
from nettrim_cli.pruning.shrinking.layer_pass import Remaining, shrink_pass
from nettrim_cli.pruning.shrinking.measurement import measure_shrinking
from nettrim_cli.pruning.shrinking.widths import Plan, Widths, block_shapes
from nettrim_cli.pruning.shrinking.work import Products, Work, measured_work, measures_time
from nettrim_cli.report.result import ErrorCurve, LayerReport, Mix
from nettrim_cli.solve.gram.rounding import to_nearest

REPAIRED = 0.88  # what is left of the sum of single errors in a cascade
MISSING = {
    "units": "no hidden units were found that could go",
    "ranks": "no layer was found that could be two of a lower rank",
    "shrink": "no hidden units were found that could go, and no layer that could be two of a lower "
    "rank",
}
SMALLEST = 0.005  # share of the weights or the time that remains at least
LITTLE = 0.1  # what weights count beside time, where time alone is asked for


class Shrinking:
    """A measured network whose layers can be smaller.

    Parameters
    ----------
    samples
        Those to fit; where they are few, others are made of them.
    bits
        Those that weights may have.
    """

    noun = "of the weights gone"
    forecast: Forecast | None = None
    curves: tuple[ErrorCurve, ...] = ()
    zeros: Sequence[float] = (0.0,)

    def __init__(self, context: Context, samples: SampleSet, bits: Sequence[int | None]) -> None:
        self.bits, self.mix = bits, Mix(context.settings.weight_bits)
        self.measured_samples = samples
        self._errors: dict[float, float] = {}
        samples = samples.augmented() if context.may_augment else samples
        self.context, self.samples, self.cache = context, samples, StreamCache()
        structure = context.settings.structure
        units, ranks = "ranks" not in structure, "units" not in structure
        layers = {layer.name: layer for layer in context.layers}
        groups = usable_groups(context) if units else []
        inner = usable_inner(context) if ranks else []
        costs = measure_shrinking(context, samples, groups, inner)
        self.bases = [curve.bases for curve in costs.inner.values()]
        self.groups = [group for group in groups if group.name in costs.units]
        self.refusals = refusals(context.dense) if units else {}
        for block in list(costs.ranks):
            whole = context.options[block[0]].structure == "units"
            if not ranks or whole or not can_factorize(context.dense, layers[block[0]]):
                del costs.ranks[block]
        usable = [layer for layer in context.layers if layer.name not in costs.unusable]
        self.total = sum(layer.parameters for layer in usable)
        measured = [bases.group for bases in self.bases]
        shapes = block_shapes(usable, self.groups, measured)
        for block, curve in costs.ranks.items():
            shapes[block] = replace(shapes[block], fold=curve.fold)
        steps = multiples(context.layers)
        products = Products.of_blocks(shapes, costs.columns)
        work: Work = products
        if measures_time(context.settings):
            context.listener.stage("measuring how long layers of other widths take")
            batch = samples.call(context.settings.batch)
            work = measured_work(context.dense, usable, shapes, steps, products, batch)
        self.in_time = context.settings.speedup is not None
        worth = LITTLE if self.in_time else 1.0
        self.problem = WidthProblem(costs, shapes, steps, work, worth)
        self.untimed = WidthProblem(costs, shapes, steps, products, worth)
        if not self.problem.choices:
            missing = MISSING[structure.partition("+")[0]]
            if self.refusals:
                missing += f" ({next(iter(self.refusals.values()))})"
            raise NothingToDo(
                f"{context.dense.path}: no layer can be made smaller: {missing}. "
                "'nettrim inspect' lists the layers; --structure zeros needs no structure."
            )

    def limits(self) -> tuple[float, float]:
        """The least and the largest sparsity."""
        smallest = {name: int(choice.values[0]) for name, choice in self.problem.choices.items()}
        if self.in_time:
            return 1 / self.total, 1 - max(self.problem.time(smallest), SMALLEST)
        return 1 / self.total, 1 - max(self.problem.size(smallest) / self.total, SMALLEST)

    def error(self, sparsity: float) -> float:
        """The network's relative error by those of the single widths."""
        if sparsity not in self._errors:
            error = self.problem.error_of(self.widths(sparsity)) ** 0.5
            self._errors[sparsity] = float(REPAIRED * error)
        return self._errors[sparsity]

    def widths(self, sparsity: float) -> Widths:
        """Widths of least error at a sparsity, or with a share of the time gone.

        Where none that were measured as fast are as small, only products count.
        """
        if self.in_time:
            return self.problem.in_time(1 - sparsity)
        weights = math.floor((1 - sparsity) * self.total + 1e-6)
        widths = self.problem.solve(weights)
        return widths if self.problem.size_of(widths) <= weights else self.untimed.solve(weights)

    def stored_bytes(self, sparsity: float) -> float:
        """About the bytes of the layers' weights in a compact file."""
        return (1 - sparsity) * self.total * weight_bytes(1.0, self.mix.bits)

    def mixed(self, mix: Mix) -> Shrinking:
        """The same with another mix."""
        return remixed(self, mix)

    def preview(self, sparsity: float) -> Model:
        """A network of the size that it would have, its weights not refitted."""
        return rounded(self.small_preview(sparsity), self.mix.bits)

    def small_preview(self, sparsity: float) -> Model:
        """The dense weights with units gone and ranks cut."""
        plan = self.problem.plan(self.widths(sparsity))
        model = self.context.dense.clone()
        remaining = Remaining.of(self.context.layers, self.groups, plan)
        for layer in self.context.layers:
            matrices = dense_matrices(model, layer)
            for block, matrix in enumerate(matrices):
                key = layer.name, block
                gone = np.setdiff1d(np.arange(len(matrix) - 1), remaining.rows[key])
                matrix[gone] = 0
                if (rank := plan.ranks.get(key)) is not None:
                    first, second = halves(matrix[:-1], rank, plan.folds.get(key, 1))
                    matrix[:-1] = (first @ second).reshape(matrix[:-1].shape)
            stored = matrices if layer.has_bias else [matrix[:-1] for matrix in matrices]
            set_matrices(model, layer, stored)
        shorten(model, self.bases, plan.inner)
        return smaller(model, plan)

    def compress(self, sparsity: float, last: Attempt | None) -> Attempt:
        """The network at a sparsity."""
        small = self.shrunk(self.widths(sparsity))
        return Attempt(few_bits(self.context, self.samples, small), 1 - sparsity)

    def within(self, epsilon: float) -> PassResult:
        """The network whose layers' responses are kept within a relative error, one by one."""
        small = self.shrunk(self.problem.within(epsilon))
        return few_bits(self.context, self.samples, small)

    def shrunk(self, widths: Widths) -> PassResult:
        """The network of some widths, with all bits."""
        plan, context = self.problem.plan(widths), self.context
        result = shrink_pass(
            context,
            self.samples,
            self.groups,
            plan,
            self.bases,
            importance=context.dense_importance,
            cache=self.cache,
        )
        solved = {report.name for report in result.layers if report.pruned}
        ranks = {block: rank for block, rank in plan.ranks.items() if block[0] in solved}
        model = smaller(result.model, replace(plan, ranks=ranks))
        layers = [self._explained(report) for report in result.layers]
        return replace(result, model=model, masked=result.model, layers=layers)

    def _explained(self, report: LayerReport) -> LayerReport:
        """The report with why none of the layer's outputs could go."""
        refusal = self.refusals.get(report.name)
        if refusal is None:
            return report
        return replace(report, note=f"{report.note}; outputs stay: {refusal.text}".lstrip("; "))


def multiples(layers: Sequence[Layer]) -> dict[str, int]:
    """Of what the widths of each layer are multiples, by name: what engines run fast.

    onnxruntime's convolutions take channels in blocks of 8 or 16; others run at .5 to .8 of their
    speed (benchmarks/shrink.py).
    """
    return {layer.name: 16 if len(layer.weight_shape) > 2 else 4 for layer in layers}


def usable_groups(context: Context) -> list[UnitGroup]:
    """Groups whose producers and readers are all pruned, and which no other layer is part of."""
    names = {name for name, options in context.options.items() if options.structure != "ranks"}
    staying = {layer.name for layer in context.dense.layers} - names
    if not context.settings.include and not context.settings.exclude:
        staying -= {layer.name for layer in context.dense.layers if layer.depthwise}

    def usable(group: UnitGroup) -> bool:
        """Whether all of its layers are there, and its units are alike."""
        layers = {producer.layer for producer in group.producers}
        layers |= {reader.layer for reader in group.readers}
        places = [
            *(producer.columns for producer in group.producers),
            *(reader.rows for reader in group.readers),
        ]
        alike = all(NOWHERE not in place for place in places)
        alike = alike and staying.isdisjoint(group.inside)
        return group.units > 1 and bool(group.readers) and alike and layers <= names

    return [group for group in unit_groups(context.dense) if usable(group)]


def usable_inner(context: Context) -> list[InnerGroup]:
    """Inner groups whose layers are pruned."""
    names = {name for name, options in context.options.items() if options.structure != "units"}
    return [group for group in inner_groups(context.dense) if names.issuperset(group.layers)]


def rounded(model: Model, bits: int | None) -> Model:
    """A model with the weights of all layers rounded, each weight alone."""
    for layer in model.layers if bits is not None else ():
        if layer.prunable and "int" not in layer.dtype:
            weights, biases = model.weight(layer)
            model.set_weight(layer, [to_nearest(weight, bits) for weight in weights], biases)
    return model


def smaller(masked: Model, plan: Plan) -> Model:
    """The same function as a smaller network: without the units that nothing reads, in factors."""
    model = delete_inner(masked, plan.inner) if plan.inner else masked
    model = delete_units(model, plan.units) if plan.units else model
    ranks = {layer: rank for (layer, _), rank in plan.ranks.items()}
    return factorize(model, ranks, {layer: fold for (layer, _), fold in plan.folds.items()})
