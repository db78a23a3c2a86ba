"""Which layers a run prunes, within which bounds, and why the others are left alone."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Sequence

import numpy as np

from nettrim_cli.errors import BadInput, NothingToDo, WrongUsage
from nettrim_cli.graph.layer import Layer
from nettrim_cli.graph.model import Model
from nettrim_cli.pruning.blocks import nonzeros
from nettrim_cli.reasons import NO_REASON, Reason
from nettrim_cli.report.result import LayerReport
from nettrim_cli.settings import ALL_BITS, LayerOptions, Limit, Settings, matching_names

NEAREST = 3  # names of layers that a message tells
OTHER_WORK = 1000  # for each weight, in multiplications


def select(model: Model, settings: Settings) -> tuple[list[Layer], list[LayerReport]]:
    """The layers to prune, and a report of each that is left alone with the reason.

    Raises
    ------
    NothingToDo
        No layer is left to prune, or the sparsity asked for is already there.
    WrongUsage
        A pattern of the settings names no layer, or ``bits`` are for integers alone.
    """
    _check_patterns(model, settings)
    names = [layer.name for layer in model.layers]
    chosen: list[Layer] = []
    unpruned: list[LayerReport] = []
    for layer in model.layers:
        reason = layer.refusal or _unwanted(layer, settings, names) or _not_finite(model, layer)
        if reason:
            unpruned.append(dense_report(model, layer, reason))
        else:
            chosen.append(layer)
    if not chosen:
        reasons = "; ".join(f"{layer.name}: {layer.note}" for layer in unpruned[:3])
        raise NothingToDo(
            f"{model.path}: no layer can be pruned ({reasons or 'it has no layers with weights'}). "
            "'nettrim inspect' lists the layers."
        )
    if settings.bits is not None and all("int" in layer.dtype for layer in chosen):
        raise WrongUsage(
            f"{model.path}: --bits {settings.bits} has no meaning here, as all weights to prune "
            "are integers, which keep their own bits and scales: leave it out."
        )
    _check_limits(model, chosen, settings)
    total = sum(layer.parameters for layer in chosen)
    zeros = total - sum(nonzeros(model.weight(layer)[0]) for layer in chosen)
    scattered = settings.structure == "zeros"
    if scattered and settings.sparsity is not None and zeros >= settings.sparsity * total:
        raise NothingToDo(
            f"{model.path}: {zeros / total:.1%} of its prunable weights are zero already; "
            f"--sparsity {settings.sparsity} asks for no more."
        )
    return chosen, unpruned


def bounds_of(
    layer: Layer, settings: Settings, zeros: int = 0, *, names: Sequence[str]
) -> tuple[int, int]:
    """Fewest and most zeros that the settings' limits, and the zeros there are, leave a layer.

    Parameters
    ----------
    names
        Those of all layers of the model, among which the limits look for theirs.
    """
    low, high = settings.bounds_of(layer.name, names)
    slack = 1e-9 * layer.parameters  # 0.3 of 10 is 3, whatever floating point makes of it
    fewest = max(zeros, math.ceil(low * layer.parameters - slack))
    most = math.floor(high * layer.parameters + slack)
    return min(fewest, most), most


def bits_of(layer: Layer, options: LayerOptions) -> int | None:
    """Bits of a layer's weights by its options; integers keep their own, and their scales."""
    if "int" in layer.dtype or options.bits == ALL_BITS:
        return None
    assert not isinstance(options.bits, str), "bits have been chosen before"
    return options.bits


def work(layer: Layer) -> int:
    """The work that solving a layer is, relative to others'.

    Steps of the solver are products of its weights with matrices of its inputs and of its outputs;
    columns and what is done once for each weight are a constant beside them.
    """
    return layer.parameters * (OTHER_WORK + sum(layer.shape))


def dense_report(model: Model, layer: Layer, reason: Reason) -> LayerReport:
    """The report of a layer that is left alone."""
    count = nonzeros(model.weight(layer)[0]) if layer.prunable else layer.parameters
    return LayerReport(
        *(layer.name, layer.op, layer.shape, layer.parameters, count, count),
        note=reason.text,
        reason=reason.code,
    )


def _check_patterns(model: Model, settings: Settings) -> None:
    """Raise WrongUsage for a pattern that names no layer, with the nearest names."""
    names = [layer.name for layer in model.layers]
    patterns = [("include", pattern) for pattern in settings.include]
    patterns += [("exclude", pattern) for pattern in settings.exclude]
    patterns += [("limit", Limit.parse(text).pattern) for text in settings.limit]
    patterns += [("layers", options.name) for options in settings.layers]
    for option, pattern in patterns:
        if names and not matching_names(pattern, names):
            core = pattern.strip("*?")
            near = [name for name in names if core.lower() in name.lower()]
            near = near or difflib.get_close_matches(core, names, cutoff=0.4) or names
            shown = ", ".join(f"'{name}'" for name in near[:NEAREST])
            raise WrongUsage(
                f"{_spelled(option, pattern)} matches no layer of {model.path}; the nearest "
                f"{'is' if len(near) == 1 else 'are'} {shown}. 'nettrim inspect' lists the layers."
            )


def _spelled(option: str, pattern: str) -> str:
    """A pattern as the user gave it."""
    return f'layers."{pattern}"' if option == "layers" else f"--{option} '{pattern}'"


def _check_limits(model: Model, chosen: Sequence[Layer], settings: Settings) -> None:
    names = [layer.name for layer in model.layers]
    for text in settings.limit:
        if matching_names(Limit.parse(text).pattern, names).isdisjoint(
            layer.name for layer in chosen
        ):
            raise WrongUsage(
                f"{model.path}: --limit {text} matches no layer that is pruned; "
                "'nettrim inspect' lists the layers."
            )
    if settings.sparsity is None:
        return
    total = sum(layer.parameters for layer in chosen)
    ends = [bounds_of(layer, settings, names=names) for layer in chosen]
    low, high = (sum(end) / total for end in zip(*ends, strict=True))
    if not low <= settings.sparsity <= high:
        raise BadInput(
            f"{model.path}: limits of layers leave between {low:.1%} and {high:.1%} zeros; "
            f"--sparsity {settings.sparsity} is not among them."
        )


def _unwanted(layer: Layer, settings: Settings, names: Sequence[str]) -> Reason:
    def among(patterns: Iterable[str]) -> bool:
        """Whether one of the patterns names the layer."""
        return any(layer.name in matching_names(pattern, names) for pattern in patterns)

    if settings.include and not among(settings.include):
        return Reason("not-included", "not matched by --include")
    if among(settings.exclude):
        return Reason("excluded", "matched by --exclude")
    if settings.of_layer(layer.name, names).exclude:
        return Reason("excluded", "left out by its options")
    if layer.depthwise and not settings.include:
        text = "depthwise convolution: left dense unless --include names it"
        return Reason("depthwise", text)
    return NO_REASON


def _not_finite(model: Model, layer: Layer) -> Reason:
    weights, biases = model.weight(layer)
    if all(np.isfinite(array).all() for array in (*weights, *(biases or ()))):
        return NO_REASON
    return Reason("weights-not-finite", "holds weights that are not finite")
