"""Layers of low rank as two smaller layers, one behind the other."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray

from nettrim_cli.graph import ops
from nettrim_cli.graph.channels.unused import drop_unused
from nettrim_cli.graph.layer import Floats, Layer
from nettrim_cli.graph.model import Model
from nettrim_cli.graph.ops.base import FactorNode
from nettrim_cli.graph.storage.tensors import new_tensor

Factors = tuple[FactorNode, FactorNode]


def can_factorize(model: Model, layer: Layer) -> bool:
    """Whether a layer can be written as two: one matrix, read by one node."""
    if not layer.prunable or len(layer.sites) != 1 or len(layer.blocks) != 1:
        return False
    node = model.index.nodes[layer.sites[0].node]
    if node.source is None or node.function:
        return False
    inputs, outputs = layer.blocks[0]
    zeros = np.zeros((inputs, 1), np.float32), np.zeros((1, outputs), np.float32)
    return ops.weight_op(layer.geometry).factor_nodes(layer.geometry, *zeros) is not None


def fold_of(layer: Layer) -> int:
    """Rows that a layer's rank may be taken beside each other of: a window's last axis of two."""
    kernel = layer.geometry.attributes.get("kernel_shape", ())
    return int(kernel[1]) if len(kernel) == 2 and min(kernel) > 1 else 1


def factorize(
    model: Model, ranks: Mapping[str, int], folds: Mapping[str, int] | None = None
) -> Model:
    """A model with some layers as two, each exact where the layer's weights have the rank.

    Parameters
    ----------
    ranks
        Rank of each of these layers, by name; each ``can_factorize``.
    folds
        Rows that were put beside each other before the rank was taken, see ``halves``.
    """
    result = model.clone()
    names = result.index.all_names()
    for name, rank in ranks.items():
        layer = next(layer for layer in result.layers if layer.name == name)
        (U,), _ = result.weight(layer)
        fold = (folds or {}).get(name, 1)
        factors = halves(U, rank, fold)
        nodes = ops.weight_op(layer.geometry).factor_nodes(layer.geometry, *factors, fold)
        assert nodes is not None
        _replace(result, layer, nodes, names)
    drop_unused(result.proto)
    return result.edited()


def halves(U: Floats, rank: int, fold: int = 1) -> tuple[Floats, Floats]:
    """(N, r) and (r, M) whose product is the best of the rank.

    With a fold f, f consecutive rows are put beside each other first: (N / f, r) and (r, f M).

    The rows of the second are of length 1.  So an output of either has weights of one size, and a
    scale of its own serves few bits well: the columns of the first carry the singular values.
    """
    U = U.astype(np.float64).reshape(len(U) // fold, -1)
    P, powers, Q = np.linalg.svd(U, full_matrices=False)
    return P[:, :rank] * powers[:rank], Q[:rank]


def _replace(model: Model, layer: Layer, nodes: Factors, names: set[str]) -> None:
    """Two nodes in the place of one; the second gives out what the one did."""
    site = layer.sites[0]
    node = model.index.nodes[site.node]
    source, elem_type = (
        node.source,
        model.index.weight_view(node.input[site.geometry.slot]).elem_type,
    )
    assert source is not None
    hidden = _fresh(f"{layer.name}.hidden", names)
    tensors = [
        new_tensor(_fresh(f"{layer.name}.factor{number}", names), _stored(factor.weight), elem_type)
        for number, factor in enumerate(nodes, 1)
    ]
    signal = source.input[1 - site.geometry.slot]
    made = [
        made_node(factor, x, tensor.name, y)
        for factor, x, tensor, y in zip(
            nodes, (signal, hidden), tensors, (hidden, source.output[0]), strict=True
        )
    ]
    made[0].name = _fresh(f"{source.name or layer.name}.first", names)
    made[1].name = source.name
    made[1].input.extend(source.input[2:])
    graph = model.proto.graph if node.parent is None else node.parent.graph
    position = next(i for i, other in enumerate(graph.node) if other is source or other == source)
    del graph.node[position]
    for offset, new in enumerate(made):
        graph.node.insert(position + offset, new)
    model.proto.graph.initializer.extend(tensors)
    if model.proto.ir_version < 4:  # every initializer is an input of the graph, too
        for tensor in tensors:
            model.proto.graph.input.append(
                onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            )


def made_node(factor: FactorNode, signal: str, weight: str, output: str) -> onnx.NodeProto:
    """The node of a factor.

    Parameters
    ----------
    factor
        The factor.
    signal, weight, output
        Names of the tensors that it reads and makes.
    """
    inputs = [weight, signal] if factor.slot == 0 else [signal, weight]
    return onnx.helper.make_node(factor.op_type, inputs, [output], **factor.attributes)


def _stored(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.ascontiguousarray(values)


def _fresh(stem: str, names: set[str]) -> str:
    """A name that the model does not have yet."""
    name, suffix = stem, 2
    while name in names:
        name, suffix = f"{stem}_{suffix}", suffix + 1
    names.add(name)
    return name
