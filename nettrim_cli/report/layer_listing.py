"""The layers of a model as a table and as plain values, for ``nettrim inspect``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nettrim_cli.report import formatting, text_table
from nettrim_cli.report.terminal import GOOD, WARN
from nettrim_cli.report.text_table import Column

if TYPE_CHECKING:
    from rich.console import Console

    from nettrim_cli.graph.layer import Layer


def show_layers(
    path: str,
    layers: Sequence[Layer],
    nonzeros: Mapping[str, int],
    console: Console,
    *,
    parameters: int | None = None,
) -> None:
    """Print a model's layers as nettrim sees them, and totals.

    Parameters
    ----------
    path, layers
        Path of the model, and its layers.
    nonzeros
        Non-zero weights by layer name, as far as they are known.
    console
        Where to print.
    parameters
        Size of the whole model, with which the prunable weights are compared; by default the
        listed layers' weights.
    """
    text_table.line(formatting.clean(path), console, "bold")
    text_table.blank(console)
    if layers:
        refusals = [
            formatting.clean(f"no: {layer.refusal}") if layer.refusal else "" for layer in layers
        ]
        columns = text_table.fit(_columns(layers, nonzeros), console.width)
        text_table.show(columns, console, refusals)
        text_table.blank(console)
    text_table.pairs(_total_rows(layers, parameters), console)


def layers_as_dict(
    path: str,
    layers: Sequence[Layer],
    nonzeros: Mapping[str, int],
    *,
    parameters: int | None = None,
) -> dict[str, Any]:
    """Give what ``show_layers`` prints as plain values for JSON; sparsities are fractions.

    Parameters
    ----------
    path, layers, nonzeros, parameters
        As for ``show_layers``.
    """
    rows = [
        {
            "name": layer.name,
            "op": layer.op,
            "shape": list(layer.shape),
            "weight_shape": list(layer.weight_shape),
            "weights": layer.parameters,
            "nonzeros": nonzeros.get(layer.name),
            "sparsity": _sparsity(layer, nonzeros),
            "has_bias": layer.has_bias,
            "dtype": layer.dtype,
            "follows": layer.response.follows,
            "prunable": layer.prunable,
            "depthwise": layer.depthwise,
            "refusal": layer.refusal.text,
            "reason": layer.refusal.code,
        }
        for layer in layers
    ]
    return {"path": path, "layers": rows, "totals": _layer_totals(layers, parameters)}


def _columns(layers: Sequence[Layer], nonzeros: Mapping[str, int]) -> list[Column]:
    prunable = ["if named by --include" if layer.depthwise else "yes" for layer in layers]
    styles = [WARN if layer.depthwise else GOOD for layer in layers]
    names = [formatting.clean(layer.name) for layer in layers]
    ops = [formatting.clean(layer.op) for layer in layers]
    shapes = [_shape(layer) for layer in layers]
    weights = [formatting.count(layer.parameters) for layer in layers]
    sparsities = [formatting.percent(_sparsity(layer, nonzeros)) for layer in layers]
    follows = [formatting.clean(layer.response.follows) for layer in layers]
    return [
        Column("layer", names, right=False, lead=True),
        Column("op", ops, priority=45, right=False, lead=True),
        Column("shape", shapes, priority=60, lead=True),
        Column("weights", weights, priority=40, lead=True),
        Column("sparsity %", sparsities, priority=49),
        Column("prunable", prunable, priority=5, right=False, styles=styles),
        Column("follows", follows, priority=10, right=False),
    ]


def _total_rows(layers: Sequence[Layer], parameters: int | None) -> list[tuple[str, str, str, str]]:
    totals = _layer_totals(layers, parameters)
    share = f"{formatting.percent(totals['prunable_share'])} %"
    basis = "all layers' weights" if parameters is None else "all parameters"
    depthwise = sum(layer.prunable and layer.depthwise for layer in layers)
    remark = (
        f"{formatting.count(depthwise)} of them only if --include names them" if depthwise else ""
    )
    return [
        ("layers", "", formatting.count(totals["layers"]), ""),
        ("prunable", "", formatting.count(totals["prunable_layers"]), remark),
        (
            "weights",
            "",
            formatting.count(totals["prunable_weights"]),
            f"prunable, {share} of {basis}",
        ),
    ]


def _shape(layer: Layer) -> str:
    return formatting.shape(layer.shape if any(layer.shape) else layer.weight_shape)


def _sparsity(layer: Layer, nonzeros: Mapping[str, int]) -> float | None:
    count = nonzeros.get(layer.name)
    if count is None:
        return None
    return 1 - count / layer.parameters if layer.parameters else 0.0


def _layer_totals(layers: Sequence[Layer], parameters: int | None) -> dict[str, Any]:
    weights = sum(layer.parameters for layer in layers if layer.prunable)
    total = sum(layer.parameters for layer in layers) if parameters is None else parameters
    return {
        "layers": len(layers),
        "prunable_layers": sum(layer.prunable for layer in layers),
        "prunable_weights": weights,
        "parameters": total,
        "prunable_share": weights / total if total else 0.0,
    }
