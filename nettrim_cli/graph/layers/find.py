"""Find the layers of a model: those that can be pruned, and why the others cannot."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import NDArray

from nettrim_cli.graph import ops
from nettrim_cli.graph.ir.flat_graph import ENTER, STANDARD, Node
from nettrim_cli.graph.ir.index import Index, Use, attributes
from nettrim_cli.graph.ir.shape_inference import constant_type
from nettrim_cli.graph.layer import Geometry, Layer, Response, Site
from nettrim_cli.graph.layers.epilogue import applied, response, words
from nettrim_cli.graph.layers.paths import Outputs, from_end, mean_use
from nettrim_cli.graph.ops import Unsupported
from nettrim_cli.graph.storage.constant_views import dequantized_view
from nettrim_cli.graph.storage.elements import FLOATS
from nettrim_cli.graph.storage.tensors import elem_type, shape
from nettrim_cli.graph.storage.weight_view import WeightView


@dataclass(frozen=True)
class Binding:
    """Where a layer's values are.

    Attributes
    ----------
    weights, biases
        Uses of its weight, and of its bias if it has one.
    mean
        Of a layer without: the use of the mean of a BatchNormalization behind it, which does what
        a bias of the other sign would; and its values in the model as it was loaded.
    """

    weights: tuple[Use, ...]
    biases: tuple[Use, ...] = ()
    mean: tuple[Use, NDArray[Any]] | None = None


@dataclass(frozen=True)
class _Candidate:
    """A node's input that carries a weight: what a layer's site is made of."""

    use: Use
    name: str
    view: WeightView | None = None
    geometry: Geometry | None = None
    refusal: str = ""


def detect(index: Index) -> tuple[tuple[Layer, ...], dict[str, Binding]]:
    """All layers in dataflow order, and the bindings of the prunable ones by layer name."""
    found = list(_candidates(index))
    names = _unique_names([each.name for each in found])
    found = [replace(each, name=name) for each, name in zip(found, names, strict=True)]
    by_use = {each.use: each for each in found}
    layers: list[Layer] = []
    bindings: dict[str, Binding] = {}
    done: set[Use] = set()
    for each in found:
        if each.use in done:
            continue
        try:
            sites = _sites(index, each, by_use)
            layer, binding = _whole(index, each, sites)
        except Unsupported as refusal:
            layers.append(_left(index, each, str(refusal)))
        else:
            done.update(binding.weights)
            layers.append(layer)
            bindings[layer.name] = binding
    return tuple(layers), bindings


def _candidates(index: Index) -> Iterator[_Candidate]:
    for number, node in enumerate(index.nodes):
        for slot in _weight_slots(index, node):
            name = node.title
            op = index.spec(node).weight
            if op is not None and slot in op.slot_names:
                name = f"{name}.{op.slot_names[slot]}"
            use = Use(number, slot)
            try:
                view, geometry = _weight(index, node, slot)
            except Unsupported as refusal:
                yield _Candidate(use, name, refusal=str(refusal))
            else:
                yield _Candidate(use, name, view, geometry)


def _weight_slots(index: Index, node: Node) -> tuple[int, ...]:
    """Inputs that carry the weights of a node; () for a node that is no layer."""
    if node.domain == ENTER:
        return ()
    slots = ops.slots(node.op_type, len(node.input), node.domain)
    if not slots and node.domain not in STANDARD:
        tensors = enumerate(node.input)
        return tuple([slot for slot, name in tensors if _is_float_matrix(index, name)][:1])
    if not ops.is_product(node.op_type, node.domain):
        return tuple(slot for slot in slots if node.input[slot])
    constant = [slot for slot in slots if node.input[slot] in index.constants]
    return tuple(constant if len(constant) < len(slots) else constant[-1:])


def _is_float_matrix(index: Index, name: str) -> bool:
    holder = index.holder(name)
    return holder is not None and len(shape(holder)) >= 2 and elem_type(holder) in FLOATS


def _weight(index: Index, node: Node, slot: int) -> tuple[WeightView, Geometry]:
    """Weight view and geometry of a weight, or the reason why there are none."""
    if node.refusal:
        raise Unsupported(node.refusal)
    if not ops.slots(node.op_type, len(node.input), node.domain):
        raise Unsupported(f"{node.op_type} of domain '{node.domain}' is not treated yet")
    if node.input[slot] not in index.constants:
        raise Unsupported("weight is not constant")
    view, geometry = weight_of(index, node, slot)
    kind, at = next(iter(ops.reads(geometry).values()))
    if kind == "input" and node.input[at] in index.constants:
        raise Unsupported("its input is constant")
    if len(_weight_slots(index, node)) > 1 and ops.is_product(node.op_type, node.domain):
        raise Unsupported("weight is multiplied with another constant by the same node")
    _require_finite(view, "weight")
    return view, geometry


def weight_of(index: Index, node: Node, slot: int) -> tuple[WeightView, Geometry]:
    """Weight view and geometry of the weight that a node reads as its input `slot`.

    Raises
    ------
    Unsupported
        It is stored, or read, in a way that is not treated.
    """
    try:
        view = index.view(node.input[slot])
    except Unsupported as refusal:
        raise Unsupported(f"weight {refusal}") from None
    if not view.reads_once:
        raise Unsupported("weight reads a stored value twice")
    geometry = ops.read_geometry(
        node.op_type, slot, attributes(node), view.shape, domain=node.domain
    )
    grid = ops.grid(geometry)
    try:
        if grid is not None:
            return dequantized_view(index, view, node, grid), geometry
        return index.weight_view(node.input[slot]), geometry
    except Unsupported as refusal:
        raise Unsupported(f"weight {refusal}") from None


def _left(index: Index, found: _Candidate, reason: str) -> Layer:
    """A layer that is left alone, with what is known of it."""
    node, slot = index.nodes[found.use.node], found.use.slot
    weight, dtype = _known_shape(index, node.input[slot])
    geometry = found.geometry or Geometry(node.op_type, slot)
    others = [name for at, name in enumerate(node.input) if at != slot and name]
    site = Site(found.use.node, geometry, {"x": others[0]} if others else {}, node.title)
    blocks: tuple[tuple[int, int], ...] = ()
    if found.geometry is not None:
        blocks = ops.blocks(found.geometry, weight)
    return Layer(found.name, node.op_type, weight, (site,), blocks, False, dtype, refusal=reason)


def _known_shape(index: Index, name: str) -> tuple[tuple[int, ...], str]:
    """Shape and element type of a weight in the file, as far as they can be told."""
    if name not in index.constants:
        return (), ""
    try:
        view = index.view(name)
    except Unsupported:
        return constant_type(index, name)
    return view.shape, view.stored_type


def _unique_names(names: Sequence[str]) -> list[str]:
    taken, seen, result = set(names), set(), []
    for wanted in names:
        name, suffix = wanted, 2
        while name in seen or (name != wanted and name in taken):
            name, suffix = f"{wanted}_{suffix}", suffix + 1
        seen.add(name)
        result.append(name)
    return result


def _sites(index: Index, found: _Candidate, by_use: dict[Use, _Candidate]) -> list[_Candidate]:
    """All places that read a layer's weight; raises Unsupported where they do not go together."""
    if found.view is None or found.geometry is None:
        raise Unsupported(found.refusal)
    sites = []
    for use in index.readers_of(found.view):
        if use.node < 0:
            raise Unsupported("weight is also an output of the model")
        node, other = index.nodes[use.node], by_use.get(use)
        if other is None and use.node == found.use.node and use.slot >= 0:
            raise Unsupported("weight is read twice by the same node")
        if other is None:
            raise Unsupported(f"weight is also read by {node.op_type} '{node.title}'")
        if other.view is None or other.geometry is None:
            raise Unsupported(f"weight is shared with layer '{other.name}': {other.refusal}")
        same = replace(found.geometry, key=other.geometry.key)
        if not found.view.equals(other.view) or not _alike(same, other.geometry):
            raise Unsupported(f"weight is shared with layer '{other.name}' in another form")
        sites.append(other)
    return sites


def _alike(one: Geometry, two: Geometry) -> bool:
    """Whether two nodes see the same matrices in a weight, whatever they read besides."""
    window = ("strides", "pads", "dilations", "auto_pad", "output_padding", "output_shape")
    moving = (*window, "beta", "applied")
    facts = [
        {name: value for name, value in each.attributes.items() if name not in moving}
        for each in (one, two)
    ]
    return (one.op, one.slot) == (two.op, two.slot) and facts[0] == facts[1]


def _whole(index: Index, found: _Candidate, candidates: list[_Candidate]) -> tuple[Layer, Binding]:
    """The whole layer with all its sites."""
    assert found.view is not None
    assert found.geometry is not None
    weight = found.view.shape
    blocks = ops.blocks(found.geometry, weight)
    biases = [_bias(index, each) for each in candidates]
    bias = _common_bias(index, biases)
    sites = tuple(
        _site(index, each, own, kept=not bias) for each, own in zip(candidates, biases, strict=True)
    )
    mean = None if any(biases) else _mean(index, sites, blocks)
    node = index.nodes[found.use.node]
    layer = Layer(
        name=candidates[0].name,
        op=node.op_type,
        weight_shape=weight,
        sites=sites,
        blocks=blocks,
        has_bias=bool(bias) or mean is not None,
        dtype=found.view.stored_type,
        response=_response(index, sites, blocks, own_bias=not bias and any(biases)),
        depthwise=ops.depthwise(found.geometry, weight),
    )
    return layer, Binding(tuple(each.use for each in candidates), bias, mean)


def _site(index: Index, found: _Candidate, bias: Use | None, *, kept: bool) -> Site:
    """The site of a node; `kept`: its bias is none of the layer's."""
    assert found.geometry is not None
    node = index.nodes[found.use.node]
    reads = {}
    for role, (kind, slot) in ops.reads(found.geometry).items():
        names = node.input if kind == "input" else node.output
        name = names[slot] if slot < len(names) else ""
        if kind == "output":
            name = name or f"{node.title}#{slot}"
        if name:
            reads[role] = name
    last = node if bias is None or kept else index.nodes[bias.node]
    output = next(filter(None, last.output), node.title)
    gives = ops.output_axis(found.geometry) is not None and ops.grid(found.geometry) is None
    gives &= not (ops.applies(found.geometry) or _summand(found.geometry, node))
    fixed = kept and bias is not None and bias.node == found.use.node
    return Site(
        node=found.use.node,
        geometry=found.geometry,
        reads=reads,
        output=output,
        result=output if gives and not fixed and node.parent is None else "",
        scope=() if node.parent is None else node.parent.key,
    )


def _response(
    index: Index, sites: Sequence[Site], blocks: Sequence[tuple[int, int]], *, own_bias: bool
) -> Response:
    """What follows a layer; linear where several sites or blocks, or a fixed bias, come between."""
    site = sites[0]
    if len(sites) > 1:
        return Response(follows=f"{len(sites)} places")
    node, axis = index.nodes[site.node], ops.output_axis(site.geometry)
    functions, summand = ops.applies(site.geometry), _summand(site.geometry, node)
    if functions:
        found = applied(functions, summand)
    elif axis is None:
        found = Response(follows=", ".join(words(index, site.output)))
    else:
        size = sum(m for _, m in blocks)
        found = response(index, site.output, Outputs(axis, size), summand)
    if axis is None or len(blocks) > 1 or own_bias or summand in index.constants:
        return Response(follows=found.follows)
    return found


def _summand(geometry: Geometry, node: Node) -> str:
    """What the node itself adds to its weight's results; empty for nothing."""
    slot = ops.summand_slot(geometry)
    return node.input[slot] if slot is not None and slot < len(node.input) else ""


def _bias_view(index: Index, name: str, what: str) -> WeightView:
    try:
        return index.weight_view(name)
    except Unsupported as refusal:
        raise Unsupported(f"{what} {refusal}") from None


def _require_finite(view: WeightView, what: str) -> None:
    if not view.is_finite:
        raise Unsupported(f"{what} has values that are not finite")


def _bias(index: Index, found: _Candidate) -> Use | None:
    """Use of the bias of one site, by its own node or by an Add behind it."""
    assert found.geometry is not None
    assert found.view is not None
    number, geometry = found.use.node, found.geometry
    node = index.nodes[number]
    slot = ops.bias_slot(geometry)
    if slot is not None and slot < len(node.input) and node.input[slot]:
        if node.input[slot] not in index.constants:
            raise Unsupported("bias is not constant")
        view = _bias_view(index, node.input[slot], "bias")
        ops.biases(view.values(), geometry, found.view.shape)
        _require_finite(view, "bias")
        return Use(number, slot)
    blocks = ops.blocks(geometry, found.view.shape)
    if not ops.weight_op(geometry).bias_follows or len(blocks) != 1:
        return None
    axis = from_end(index, node.output[0], ops.output_axis(geometry))
    return None if axis is None else _added_bias(index, node.output[0], blocks[0][1], axis)


def _added_bias(index: Index, tensor: str, size: int, axis: int) -> Use | None:
    """The constant that an Add behind a product brings, if it is a bias."""
    use = index.only_user(tensor)
    if use is None:
        return None
    node = index.nodes[use.node]
    spec = index.spec(node)
    if not spec.adds or spec.affine is None or len(node.input) != 2:
        return None
    slot = 1 - use.slot
    if node.input[slot] not in index.constants:
        return None
    try:
        view = index.weight_view(node.input[slot])
    except Unsupported:
        return None
    # More axes than the product has would change the rank of what follows.
    if not _fits(view.shape, size, axis) or len(view.shape) > (index.rank(tensor) or 2):
        return None
    _require_finite(view, "bias")
    return Use(use.node, slot)


def _fits(shape: tuple[int, ...], size: int, axis: int) -> bool:
    """Whether a constant of this shape adds the same vector of `size` to every sample."""
    if math.prod(shape) == 1:
        return True
    return math.prod(shape) == size and len(shape) >= -axis and shape[axis] == size


def _common_bias(index: Index, found: Sequence[Use | None]) -> tuple[Use, ...]:
    """Uses of the one bias of all sites, if they have one and it can be replaced."""
    uses = [use for use in found if use is not None]
    if not uses or len(uses) != len(found):
        return ()
    traces = [index.view(_name(index, use)) for use in uses]
    if not all(traces[0].equals(view) for view in traces):
        return ()
    inside = any(index.nodes[use.node].function for use in uses)
    sole = math.prod(traces[0].shape) > 1 and index.is_read_only_by(traces[0], uses)
    if inside and not sole:
        return ()  # a function's node cannot be given a tensor of its own
    return tuple(uses)


def _mean(
    index: Index, sites: Sequence[Site], blocks: Sequence[tuple[int, int]]
) -> tuple[Use, NDArray[Any]] | None:
    """The mean that is taken off a layer's results, where nothing else is; None if none is."""
    site = sites[0]
    axis = ops.output_axis(site.geometry)
    if len(sites) > 1 or len(blocks) > 1 or axis is None:
        return None
    if ops.applies(site.geometry) or _summand(site.geometry, index.nodes[site.node]):
        return None
    use = mean_use(index, site.output, Outputs(axis, blocks[0][1]))
    if use is None:
        return None
    try:
        view = index.weight_view(_name(index, use))
    except Unsupported:
        return None
    return (use, view.values()) if view.exact and index.is_read_only_by(view, (use,)) else None


def _name(index: Index, use: Use) -> str:
    return index.nodes[use.node].input[use.slot]
