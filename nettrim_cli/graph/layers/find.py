"""Find the layers of a model: those that can be pruned, and why the others cannot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nettrim_cli.graph import ops
from nettrim_cli.graph.ir.index import Index, Use
from nettrim_cli.graph.ir.shape_inference import constant_type
from nettrim_cli.graph.layer import Geometry, Layer, Response, Site
from nettrim_cli.graph.layers.biases import common_bias, find_bias, find_mean, summand
from nettrim_cli.graph.layers.binding import Binding
from nettrim_cli.graph.layers.epilogue import applied, response, words
from nettrim_cli.graph.layers.paths import Outputs
from nettrim_cli.graph.layers.weights import RefusedWeight, Weight, find_weights
from nettrim_cli.graph.ops import Unsupported
from nettrim_cli.reasons import Reason

NODE_OPTIONS = (
    *("strides", "pads", "dilations", "auto_pad", "output_padding", "output_shape"),
    *("beta", "applied"),
)
"""Attributes that do not tell which matrices a node sees in its weight."""


def detect(index: Index) -> tuple[tuple[Layer, ...], dict[str, Binding]]:
    """All layers in dataflow order, and the bindings of the prunable ones by layer name."""
    weights = find_weights(index)
    by_use = {weight.use: weight for weight in weights}
    layers: list[Layer] = []
    bindings: dict[str, Binding] = {}
    done: set[Use] = set()
    for weight in weights:
        if weight.use in done:
            continue
        if isinstance(weight, RefusedWeight):
            layers.append(_left_alone(index, weight, weight.reason))
            continue
        try:
            layer, binding = _prunable(index, _sharing(index, weight, by_use))
        except Unsupported as refusal:
            layers.append(_left_alone(index, weight, refusal.reason))
        else:
            done.update(binding.weights)
            layers.append(layer)
            bindings[layer.name] = binding
    return tuple(layers), bindings


def _left_alone(index: Index, weight: Weight | RefusedWeight, reason: Reason) -> Layer:
    """A layer that is not pruned, with its facts as far as they can be told."""
    node, slot = index.nodes[weight.use.node], weight.use.slot
    shape, dtype = _known_type(index, node.input[slot])
    geometry = Geometry(node.op_type, slot)
    blocks: tuple[tuple[int, int], ...] = ()
    if isinstance(weight, Weight):
        geometry, blocks = weight.geometry, ops.blocks(weight.geometry, shape)
    inputs = [name for position, name in enumerate(node.input) if position != slot and name]
    site = Site(weight.use.node, geometry, {"x": inputs[0]} if inputs else {}, node.title)
    return Layer(weight.name, node.op_type, shape, (site,), blocks, False, dtype, refusal=reason)


def _known_type(index: Index, name: str) -> tuple[tuple[int, ...], str]:
    """Shape and element type of a weight in the file, as far as they can be told."""
    if name not in index.constants:
        return (), ""
    try:
        view = index.view(name)
    except Unsupported:
        return constant_type(index, name)
    return view.shape, view.stored_type


def _sharing(
    index: Index, weight: Weight, by_use: Mapping[Use, Weight | RefusedWeight]
) -> list[Weight]:
    """All nodes' weights that are this one; raises Unsupported where they do not go together."""
    weights: list[Weight] = []
    for use in index.readers_of(weight.view):
        reader = by_use.get(use)
        if isinstance(reader, Weight) and _equal(weight, reader):
            weights.append(reader)
        else:
            raise Unsupported(f"weight {_obstacle(index, weight, use, reader)}", "shared-weight")
    return weights


def _obstacle(index: Index, weight: Weight, use: Use, reader: Weight | RefusedWeight | None) -> str:
    """How the weight is used besides, so that it cannot be replaced."""
    if use.node < 0:
        return "is also an output of the model"
    if isinstance(reader, RefusedWeight):
        return f"is shared with layer '{reader.name}': {reader.reason}"
    if reader is not None:
        return f"is shared with layer '{reader.name}' in another form"
    if use.node == weight.use.node and use.slot >= 0:
        return "is read twice by the same node"
    node = index.nodes[use.node]
    return f"is also read by {node.op_type} '{node.title}'"


def _equal(a: Weight, b: Weight) -> bool:
    """Whether two nodes see the same matrices in the same values."""
    return a.view.equals(b.view) and _alike(a.geometry, b.geometry)


def _alike(a: Geometry, b: Geometry) -> bool:
    """Whether two nodes see the same matrices in a weight, whatever they read besides."""
    return (a.op, a.slot, _weight_attributes(a)) == (b.op, b.slot, _weight_attributes(b))


def _weight_attributes(geometry: Geometry) -> dict[str, object]:
    items = geometry.attributes.items()
    return {name: value for name, value in items if name not in NODE_OPTIONS}


def _prunable(index: Index, weights: Sequence[Weight]) -> tuple[Layer, Binding]:
    """The layer with a site for each of the weights, which are equal."""
    weight = weights[0]
    biases = [find_bias(index, weight) for weight in weights]
    bias = common_bias(index, biases)
    pairs = zip(weights, biases, strict=True)
    sites = tuple(_site(index, site_weight, own, fixed=not bias) for site_weight, own in pairs)
    mean = None if any(biases) else find_mean(index, sites, weight.blocks)
    layer = Layer(
        name=weight.name,
        op=index.nodes[weight.use.node].op_type,
        weight_shape=weight.view.shape,
        sites=sites,
        blocks=weight.blocks,
        has_bias=bool(bias) or mean is not None,
        dtype=weight.view.stored_type,
        response=_response(index, sites, weight.blocks, fixed_bias=not bias and any(biases)),
        depthwise=ops.depthwise(weight.geometry, weight.view.shape),
    )
    return layer, Binding(tuple(weight.use for weight in weights), bias, mean)


def _site(index: Index, weight: Weight, bias: Use | None, *, fixed: bool) -> Site:
    """The site of a node; `fixed`: its bias is none that can be changed."""
    geometry, node = weight.geometry, index.nodes[weight.use.node]
    reads = {}
    for role, (kind, slot) in ops.reads(geometry).items():
        names = node.input if kind == "input" else node.output
        name = names[slot] if slot < len(names) else ""
        if kind == "output":
            name = name or f"{node.title}#{slot}"
        if name:
            reads[role] = name
    last = node if bias is None or fixed else index.nodes[bias.node]
    output = next(filter(None, last.output), node.title)
    linear = ops.output_axis(geometry) is not None and ops.grid(geometry) is None
    linear &= not (ops.applies(geometry) or summand(geometry, node))
    linear &= not (fixed and bias is not None and bias.node == weight.use.node)
    return Site(
        node=weight.use.node,
        geometry=geometry,
        reads=reads,
        output=output,
        result=output if linear and node.parent is None else "",
        scope=() if node.parent is None else node.parent.key,
    )


def _response(
    index: Index, sites: Sequence[Site], blocks: Sequence[tuple[int, int]], *, fixed_bias: bool
) -> Response:
    """Ops behind a layer; linear where several sites or blocks, or a fixed bias, come between."""
    site = sites[0]
    if len(sites) > 1:
        return Response(follows=f"{len(sites)} places")
    node, axis = index.nodes[site.node], ops.output_axis(site.geometry)
    functions, added = ops.applies(site.geometry), summand(site.geometry, node)
    if functions:
        result = applied(functions, added)
    elif axis is None:
        result = Response(follows=", ".join(words(index, site.output)))
    else:
        size = sum(outputs for _, outputs in blocks)
        result = response(index, site.output, Outputs(axis, size), added)
    if axis is None or len(blocks) > 1 or fixed_bias or added in index.constants:
        return Response(follows=result.follows)
    return result
