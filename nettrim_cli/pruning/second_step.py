"""A step on a network that is pruned already: few bits of what stays, or zeros in smaller layers.

The pruned network takes the place of the dense one.  Its layers, thin factors among them, are
solved as any network's: in a cascade, each for the samples that it reads.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from nettrim_cli.data.sample_set import SampleSet
from nettrim_cli.evaluation.comparison import ReferenceOutputs
from nettrim_cli.evaluation.provenance import KEY, describe
from nettrim_cli.graph.model import Model
from nettrim_cli.pruning.blocks import nonzeros
from nettrim_cli.pruning.context import Context
from nettrim_cli.pruning.layerwise import PassResult, WarmStart, prune_pass
from nettrim_cli.pruning.refit.network import fits_network, refit_network
from nettrim_cli.report.result import LayerReport
from nettrim_cli.settings import LAYER_OPTIONS, Settings

SHARED = ("scheme", "samples", "holdout", "augment", "seed", "threads")  # settings of all steps


def few_bits(
    context: Context, samples: SampleSet, result: PassResult, warm: WarmStart | None = None
) -> PassResult:
    """A pruned network with weights of the settings' bits; itself where all bits stay.

    Parameters
    ----------
    context, samples
        Those of the run.
    result
        The pruned network.
    warm
        What held-out samples have chosen; None for nothing.
    """
    bits = context.settings.weight_bits
    if bits is None:
        return result
    step = step_context(context, result, bits=bits, sparsity=0.5)
    zeros = {
        layer.name: layer.parameters - nonzeros(result.model.weight(layer)[0])
        for layer in step.layers
    }
    context.listener.stage(f"rounding weights to {bits} bits")
    rounded = prune_pass(step, samples, zeros, step.dense_importance, warm or WarmStart())
    return replace(after(context, result, rounded), unrounded=result)


def in_full(context: Context) -> Context:
    """The context of passes whose network is rounded in a step of its own, as it is fitted before.

    Weights that rounding makes zero would stay zero in that fit.
    """
    if context.settings.bits is None or not fits_network(context.settings):
        return context
    others = [name for name in LAYER_OPTIONS if name != "bits"]
    layers = [options.only(*others) for options in context.settings.layers]
    given = tuple(options for options in layers if options.as_dict().keys() != {"name"})
    return context.with_settings(bits=None, layers=given)


def fit_together(
    context: Context, samples: SampleSet, result: PassResult, reference: ReferenceOutputs
) -> tuple[PassResult, float]:
    """All layers fitted together (see ``refit_network``), then rounded; both only if that helps.

    Parameters
    ----------
    context, samples
        Those of the run.
    result
        The pruned network.
    reference
        The dense answers.
    """
    start = result.unrounded or result
    fitted, share = refit_network(context, samples, start, reference)
    if context.settings.weight_bits is None or not share:
        return fitted, share
    rounded = few_bits(context, samples, fitted)
    earlier, now = (reference.compare(network.model).error for network in (result, rounded))
    context.listener.message(f"rounded: held-out output error {now:.2%}, {earlier:.2%} before")
    return (rounded, share) if now <= earlier else (result, 0.0)


def step_context(context: Context, result: PassResult, **targets: Any) -> Context:
    """The context in which a pruned network is the dense one, and its pruned layers are solved.

    Parameters
    ----------
    context
        That of the run.
    result
        The pruned network.
    targets
        Settings of the step.
    """
    pruned = {report.name for report in result.layers if report.pruned}
    left = {layer.name for layer in context.dense.layers} - pruned
    layers = tuple(
        layer for layer in result.model.layers if layer.prunable and layer.name not in left
    )
    shared = {name: getattr(context.settings, name) for name in SHARED}
    if "bits" in targets:
        overrides = context.settings.layers
        shared["layers"] = tuple(
            table.only("bits") for table in overrides if table.bits is not None
        )
    return replace(
        context, dense=result.model, layers=layers, settings=Settings(**shared, **targets)
    )


def after(context: Context, before: PassResult, step: PassResult) -> PassResult:
    """What a step made of a pruned network, told layer by layer of the dense one."""
    step.model.set_metadata(KEY, describe(context.settings, context.dense))
    parts: dict[str, list[LayerReport]] = {}
    owners = _owners(step.model, [report.name for report in before.layers])
    for report in step.layers:
        parts.setdefault(owners[report.name], []).append(report)
    layers = [_joined(report, parts.get(report.name, ())) for report in before.layers]
    return replace(before, model=step.model, masked=None, layers=layers)


def _owners(model: Model, names: Sequence[str]) -> Mapping[str, str]:
    """The dense network's layer that each layer belongs to: a first factor to its reader's."""
    readers = {name: layer.name for layer in model.layers for name in layer.sites[0].reads.values()}
    return {
        layer.name: layer.name
        if layer.name in names
        else readers.get(layer.sites[0].output, layer.name)
        for layer in model.layers
    }


def _joined(report: LayerReport, parts: Sequence[LayerReport]) -> LayerReport:
    """A layer's report after a step on its parts, errors of both added as squares."""
    if not parts:
        return report
    last = parts[-1]  # its inputs have the errors of the first factor already
    unsolved = next((layer for layer in parts if not layer.pruned), None)
    return replace(
        report,
        nonzeros_after=sum(layer.nonzeros_after for layer in parts),
        error_calibration=_added(report.error_calibration, last.error_calibration),
        error_holdout=_added(report.error_holdout, last.error_holdout),
        seconds=report.seconds + sum(layer.seconds for layer in parts),
        note=report.note if unsolved is None else f"{report.note}; {unsolved.note}".lstrip("; "),
    )


def _added(first: float | None, second: float | None) -> float | None:
    return first if first is None or second is None else math.hypot(first, second)
