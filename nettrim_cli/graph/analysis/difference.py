"""A model that measures two versions of a network on the same samples.

It runs the dense network, the changed one, and each changed layer alone on the dense network's
signals.  Only sums of squares and shapes leave the engine, so that nothing large is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import count

import onnx
from onnx import TensorProto

from nettrim_cli.errors import BadInput
from nettrim_cli.graph.ir.flat_graph import Node, depends_on
from nettrim_cli.graph.ir.index import Index
from nettrim_cli.graph.ir.node_writer import NodeWriter
from nettrim_cli.graph.ir.toposort import topological_order
from nettrim_cli.graph.ir.writer import Writer
from nettrim_cli.graph.layer import Layer, Runnable, Site
from nettrim_cli.graph.layers.paths import response_path
from nettrim_cli.graph.model import Model
from nettrim_cli.graph.ops import Unsupported
from nettrim_cli.graph.storage.elements import FLOATS

ALONE, WHOLE, SIZE, SHAPE = "alone", "whole", "size", "shape"


@dataclass(frozen=True)
class Changed:
    """A place at which a layer's nodes or constants differ between two versions of a model.

    Attributes
    ----------
    name
        The layer's; of its further places with their number.
    path
        Its nodes, up to its response (``layers.paths.response_path``).
    response
        Name of the tensor that carries its response.
    """

    name: str
    layer: Layer
    site: Site
    path: tuple[int, ...]
    response: str


@dataclass(frozen=True)
class Difference:
    """What differs between two versions of a model.

    Attributes
    ----------
    layers
        The changed layers of the main graph and of functions, by the last node of their path.
    strange
        Nodes outside these that differ or read a changed constant.
    carriers
        Tensors that may carry an error.
    """

    layers: Mapping[int, Changed]
    strange: frozenset[int]
    carriers: frozenset[str]


def difference(dense: Model, changed: Model) -> Difference:
    """Find the layers in which two versions of a model differ.

    Raises
    ------
    Unsupported
        They do not have the same nodes in the same order, or layers of different shapes.
    """
    dense_index, changed_index = dense.index, changed.index
    if [_kind(node) for node in dense_index.nodes] != [_kind(node) for node in changed_index.nodes]:
        raise Unsupported("the two models have different nodes")
    shapes = {layer.name: layer.weight_shape for layer in dense.layers}
    if any(shapes.get(layer.name) != layer.weight_shape for layer in changed.layers):
        raise Unsupported("the two models have layers of different shapes")
    top = changed_index.flat.main_nodes
    differing = differing_nodes(dense_index, changed_index)
    layers = {}
    for layer in changed.layers:
        for place, site in enumerate(layer.sites if layer.prunable else ()):
            if changed_index.nodes[site.node].parent is None:
                path, response = response_path(changed_index, layer, site)
                if differing.intersection(path):
                    name = layer.name if place == 0 else f"{layer.name} ({place + 1})"
                    layers[path[-1]] = Changed(name, layer, site, path, response)
    strange = differing.difference(*(layer.path for layer in layers.values()))
    sources = {layer.response for layer in layers.values()}
    sources |= {name for number in strange for name in changed_index.nodes[number].output}
    return Difference(layers, frozenset(strange), frozenset(depends_on(top, sources)))


def differing_nodes(dense: Index, changed: Index) -> set[int]:
    """Nodes of the dense main graph that the changed one lacks, or has with other constants.

    Nodes correspond where their outputs have the same names.  Those that compute constants do not
    count: who reads these does.
    """
    nodes, dense_nodes = changed.flat.main_nodes, dense.flat.main_nodes
    counterparts = {node.output: node for node in nodes}
    differing = {
        node.number
        for node in dense_nodes
        if (match := counterparts.get(node.output)) is None
        or _kind(match) != _kind(node)
        or match.input != node.input
        or list(match.attribute) != list(node.attribute)  # subgraphs are among them
    }
    same = {node.output for node in dense_nodes if node.number not in differing}
    made = {name for node in nodes if node.output not in same for name in node.output}
    altered = depends_on(nodes, _altered(dense, changed) | made & changed.constants)
    altered &= changed.constants
    return {
        node.number
        for node in dense_nodes
        if not dense.constants.issuperset(node.output)
        and (node.number in differing or altered & counterparts[node.output].reads)
    }


def measuring_model(
    dense: Model, changed: Model, measured: Difference
) -> tuple[Runnable, dict[str, tuple[str, str]]]:
    """The model to run on samples, and what each of its outputs means.

    Outputs are, with the layer's name, the squared error of its response alone on dense signals
    (ALONE) and in the changed network (WHOLE); with a tensor's name, the squared norm of a dense
    response or output (SIZE), all in float64, or its shape (SHAPE).

    Raises
    ------
    Unsupported
        It is larger than an engine can load, or the two keep their data in different folders.
    """
    if dense.external.files != changed.external.files:
        raise Unsupported("the two models have external data in different files")
    build = _Builder(dense.index, changed.index)
    for layer in measured.layers.values():
        name, response = layer.name, layer.response
        build.squares(ALONE, name, response, build.alone(layer))
        build.squares(WHOLE, name, response, build.prefix + response)
        build.squares(SIZE, response, response)
    for output in dense.proto.graph.output:
        if output.type.tensor_type.elem_type in FLOATS:
            build.squares(SIZE, output.name, output.name)
    for node in changed.index.flat.main_nodes:
        rule = changed.index.spec(node).error
        if rule is not None and measured.carriers.intersection(node.input):
            for name in (*node.input, node.output[0]):
                build.shape(name)
    try:
        return changed.external.runnable(build.whole()), build.meanings
    except BadInput as error:
        raise Unsupported(f"the two models together are {error}") from error


def layers_alone(dense: Model, changed: Model) -> tuple[Index, dict[str, tuple[Changed, str]]]:
    """A network that runs each changed layer on the dense network's signals, too.

    Returns
    -------
    Index
        The network.
    dict
        By response of a layer: the layer, and the same response with changed weights.

    Raises
    ------
    Unsupported
        The two do not have the same nodes, or keep their data in different folders.
    """
    if dense.external.files != changed.external.files:
        raise Unsupported("the two models have external data in different files")
    build = _Builder(dense.index, changed.index)
    layers = difference(dense, changed).layers.values()
    copies = {layer.response: (layer, build.alone(layer)) for layer in layers}
    return Index(build.whole(), changed.external), copies


class _Builder:
    """The dense graph, the changed one under a prefix, and measuring nodes."""

    def __init__(self, dense: Index, changed: Index) -> None:
        names = dense.all_names() | changed.all_names()
        self.prefix, self.mark = _free("changed:", names), _free("judge:", names)
        self.meanings: dict[str, tuple[str, str]] = {}
        self.known: set[tuple[str, str]] = set()
        self.changed = changed
        writer = Writer(dense)
        self.model = writer.model("judge")
        graph = self.model.graph
        stored = {*dense.initializers, *dense.sparse}
        graph.input.extend(value for value in dense.graph.input if value.name not in stored)
        graph.initializer.extend(dense.graph.initializer)
        graph.sparse_initializer.extend(dense.graph.sparse_initializer)
        self.measures: list[onnx.NodeProto] = []
        self.nodes = NodeWriter(self.measures)
        self.networks = [[writer.node(node) for node in dense.flat.main_nodes]]
        self.same = stored - _altered(dense, changed)
        for value in graph.input:
            self.nodes.Identity(value.name, output=self.prefix + value.name)
        for value in changed.graph.initializer:
            if value.name not in self.same:
                graph.initializer.add().CopyFrom(value)
                graph.initializer[-1].name = self.prefix + value.name
        for sparse in changed.graph.sparse_initializer:
            if sparse.values.name not in self.same:
                graph.sparse_initializer.add().CopyFrom(sparse)
                graph.sparse_initializer[-1].values.name = self.prefix + sparse.values.name
        writer = Writer(changed, rename=self.rename)
        self.networks.append([writer.node(node) for node in changed.flat.main_nodes])

    def whole(self) -> onnx.ModelProto:
        """The model, to be run node by node: it measures as soon as it can, and lets go."""
        steps = [node for pair in zip(*self.networks, strict=True) for node in pair]
        self.model.graph.node.extend(topological_order([*self.measures, *steps]))
        return self.model

    def rename(self, name: str) -> str:
        """Name of a changed tensor in the joint graph."""
        return name if not name or name in self.same else self.prefix + name

    def alone(self, layer: Changed) -> str:
        """A changed layer on the dense network's signals; the name of its response."""
        nodes = [self.changed.nodes[number] for number in layer.path]
        results = {name for node in nodes for name in node.output}

        def rename(name: str) -> str:
            """Name of a tensor of the layer: its own results, or what the networks have."""
            if not name or name in results:
                return name and f"{self.mark}alone:{layer.name}:{name}"
            return self.rename(name) if name in self.changed.constants else name

        writer = Writer(self.changed, rename=rename)
        self.measures.extend(writer.node(node) for node in nodes)
        return rename(layer.response)

    def squares(self, kind: str, subject: str, minuend: str, subtrahend: str = "") -> None:
        """Measure ||minuend - subtrahend||^2, or ||minuend||^2, once.

        Parameters
        ----------
        kind, subject
            What the output means (see ``measuring_model``).
        minuend, subtrahend
            Names of tensors; no subtrahend by default.
        """
        output = self.new(kind, subject)
        if not output:
            return
        nodes, names = self.nodes, (f"{output}:{step}" for step in count())
        error = nodes.Cast(minuend, output=next(names), to=TensorProto.DOUBLE)
        if subtrahend:
            second = nodes.Cast(subtrahend, output=next(names), to=TensorProto.DOUBLE)
            error = nodes.Sub(error, second, output=next(names))
        nodes.ReduceSumSquare(error, output=output, keepdims=0)

    def shape(self, name: str) -> None:
        """Tell the shape of a dense tensor, once."""
        output = self.new(SHAPE, name) if name else ""
        if output:
            self.nodes.Shape(name, output=output)

    def new(self, kind: str, subject: str) -> str:
        """Name of a new output, empty where this is measured already."""
        if (kind, subject) in self.known:
            return ""
        self.known.add((kind, subject))
        output = f"{self.mark}{len(self.meanings)}"
        self.meanings[output] = (kind, subject)
        self.model.graph.output.append(onnx.ValueInfoProto(name=output))
        return output


def _free(stem: str, names: Iterable[str]) -> str:
    """A prefix that no name has."""
    while any(name.startswith(stem) for name in names):
        stem = f"{stem}:"
    return stem


def _kind(node: Node) -> tuple[str, str, tuple[str, ...], bool]:
    return node.domain, node.op_type, node.output, node.parent is None


def _altered(dense: Index, changed: Index) -> set[str]:
    """Stored tensors of the second that the first has not, or has with other values."""
    dense_values = {**dense.initializers, **dense.sparse}
    changed_values = {**changed.initializers, **changed.sparse}
    return {name for name, value in changed_values.items() if dense_values.get(name) != value}
