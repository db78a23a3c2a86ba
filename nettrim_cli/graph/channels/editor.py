"""Changes of a model's nodes: own constants in place of shared ones, attributes, lists of sizes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from nettrim_cli.graph import ops
from nettrim_cli.graph.channels.unused import drop_unused
from nettrim_cli.graph.ir.flat_graph import Node
from nettrim_cli.graph.ir.index import Index, attributes
from nettrim_cli.graph.ir.node_writer import NodeWriter
from nettrim_cli.graph.layer import Layer
from nettrim_cli.graph.model import Model
from nettrim_cli.graph.storage.elements import RAW_DTYPES, encode
from nettrim_cli.graph.storage.external import SMALL_BYTES, is_external
from nettrim_cli.graph.storage.tensors import elem_type, graphs, new_tensor
from nettrim_cli.graph.storage.weight_view import WeightView

Mask = NDArray[np.bool_]


class Editor:
    """Changes nodes of a model, and adds constants to its main graph.

    Parameters
    ----------
    model
        The model; it is not to be used any more afterwards but by `finished`.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self.index: Index = model.index
        self.graph = model.proto.graph
        self.names = self.index.all_names()
        self.order = [tensor.name for tensor in self.graph.initializer]
        self.successors: dict[str, str] = {}
        self.inserted: dict[int, list[onnx.NodeProto]] = {}
        self.appended: dict[int, list[onnx.NodeProto]] = {}
        self.cuts: list[tuple[WeightView, Mapping[int, Mask], str]] = []

    def cut(self, node: Node, slot: int, masks: Mapping[int, Mask]) -> None:
        """Give a node a constant of its own, of which the marked entries along axes are left."""
        name = node.input[slot]
        view = self.index.view(name)
        masks = {axis: mask for axis, mask in masks.items() if view.shape[axis] > 1}
        if masks:
            self._read(node, slot, self._cut_name(_source(node).input[slot], view, masks))

    def _cut_name(self, name: str, view: WeightView, masks: Mapping[int, Mask]) -> str:
        """Name of a constant of which parts are left: one for all that are equal."""
        for other, other_masks, short in self.cuts:
            same = other_masks.keys() == masks.keys() and other.equals(view)
            if same and all(np.array_equal(masks[axis], other_masks[axis]) for axis in masks):
                return short
        values = view.values()
        for axis, mask in masks.items():
            values = np.compress(mask, values, axis)
        short = self._add_constant(name, values, view)
        self.cuts.append((view, masks, short))
        return short

    def _add_constant(self, name: str, values: NDArray[np.generic], view: WeightView) -> str:
        """Store values in the type in which those of a view are stored."""
        holder = view.source.leaves[0].holder
        stored = elem_type(holder)
        tensor = TensorProto(name=self._new_name(name), data_type=stored, dims=values.shape)
        raw_bytes = values.size * RAW_DTYPES[stored].itemsize
        if is_external(holder) and raw_bytes >= SMALL_BYTES:
            tensor.data_location = TensorProto.EXTERNAL
            tensor.external_data.extend(holder.external_data)
            self.model.external.write(tensor, values)
        elif stored == TensorProto.BFLOAT16:
            tensor.raw_data = encode(values, stored).tobytes()
        else:
            tensor.raw_data = values.astype(RAW_DTYPES[stored]).tobytes()
        self._add(tensor)
        if stored == view.elem_type:
            return tensor.name
        nodes = NodeWriter(self.inserted.setdefault(-1, []))
        return nodes.Cast(tensor.name, output=self._new_name(name), to=view.elem_type)

    def _add(self, tensor: onnx.TensorProto) -> None:
        self.graph.initializer.append(tensor)
        if self.model.proto.ir_version < 4:
            # Before IR version 4, every initializer is an input of the graph, too.
            value = helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            self.graph.input.append(value)

    def _new_name(self, stem: str) -> str:
        number = 1
        while (name := f"{stem}.left{number}") in self.names:
            number += 1
        self.names.add(name)
        self.successors[name] = stem
        return name

    def _read(self, node: Node, slot: int, name: str) -> None:
        """Let a node read another tensor."""
        source = _source(node)
        while len(source.input) <= slot:
            source.input.append("")
        source.input[slot] = name

    def set_list(self, node: Node, slot: int, values: NDArray[np.integer]) -> None:
        """Give a node a list (N,) of whole numbers, of the type that it had."""
        name = node.input[slot] if slot < len(node.input) else ""
        dtype = self.index.view(name).values().dtype if name in self.index.constants else np.int64
        stem = _source(node).input[slot] if name else f"{node.title}.sizes"
        tensor = numpy_helper.from_array(np.asarray(values, dtype), self._new_name(stem))
        self._add(tensor)
        self._read(node, slot, tensor.name)

    def set_attribute(self, node: Node, name: str, value: int | Sequence[int]) -> None:
        """Set an attribute of a node."""
        self.drop_attribute(node, name)
        _source(node).attribute.append(helper.make_attribute(name, value))

    def drop_attribute(self, node: Node, name: str) -> None:
        """Take an attribute away."""
        source = _source(node)
        for attribute in [each for each in source.attribute if each.name == name]:
            source.attribute.remove(attribute)

    def set_parts(self, node: Node, sizes: Sequence[int]) -> None:
        """Set the sizes of a Split's parts."""
        if self.index.opset < 13:
            self.set_attribute(node, "split", sizes)
        else:
            self.drop_attribute(node, "num_outputs")
            self.set_list(node, 1, np.array(sizes, np.int64))

    def set_bounds(self, node: Node, axis: int, rank: int, start: int, end: int) -> None:
        """Set the bounds of a Slice along an axis of a tensor with `rank` axes.

        Parameters
        ----------
        node
            The Slice.
        axis, rank
            The axis, and how many there are.
        start, end
            The bounds.
        """
        listed = _source(node)
        for slot, name, value in ((1, "starts", start), (2, "ends", end)):
            if slot >= len(listed.input):
                bounds = list(attributes(listed)[name])
                axes = attributes(listed).get("axes", range(len(bounds)))
            else:
                bounds = self._listed(node, slot)
                axes = range(len(bounds))
                if len(node.input) > 3 and node.input[3]:
                    axes = self.index.integers(node.input[3]) or ()
            bounds[[place % rank for place in axes].index(axis)] = value
            if slot >= len(listed.input):
                self.set_attribute(node, name, bounds)
            else:
                self.set_list(node, slot, np.array(bounds))

    def _listed(self, node: Node, slot: int) -> list[int]:
        """A constant list that a node reads, perhaps one that was just added."""
        name = _source(node).input[slot]
        for tensor in reversed(self.graph.initializer) if name in self.successors else ():
            if tensor.name == name:
                return [int(value) for value in numpy_helper.to_array(tensor)]
        return list(self.index.integers(node.input[slot]) or ())

    def set_sizes(
        self, node: Node, slot: int, numbers: Mapping[int, int], length: int | None
    ) -> None:
        """Set sizes in a list, at places counted from its end; the others stay computed.

        Parameters
        ----------
        node, slot
            The node, and its input that is the list.
        numbers
            Sizes by their places.
        length
            Length of the list.
        """
        if slot >= len(node.input):
            sizes = list(attributes(node)["shape"])
            self.set_attribute(node, "shape", _with(sizes, numbers))
            return
        listed = self.index.integers(node.input[slot])
        if listed is not None:
            self.set_list(node, slot, np.array(_with(list(listed), numbers), np.int64))
            return
        size = -min(numbers) if length is None else length
        mask, values = np.zeros(size, bool), np.zeros(size, np.int64)
        for place, number in numbers.items():
            mask[place], values[place] = True, number
        listed_name = _source(node).input[slot]
        names = [self._new_name(listed_name) for _ in range(3)]
        self._add(numpy_helper.from_array(mask, names[0]))
        self._add(numpy_helper.from_array(values, names[1]))
        nodes = NodeWriter(self.inserted.setdefault(node.number, []))
        nodes.Where(names[0], names[1], listed_name, output=names[2])
        self._read(node, slot, names[2])

    def add_bias(self, layer: Layer, values: NDArray[np.float64]) -> None:
        """Add numbers (M,) to the results of a layer without a bias, at all its places."""
        slot, op = ops.bias_slot(layer.geometry), ops.weight_op(layer.geometry)
        stored = values / op.bias_factor(layer.geometry)
        for site in layer.sites:
            node = self.index.nodes[site.node]
            stem = f"{layer.name}.bias"
            view = self.index.view(node.input[site.geometry.slot])
            own = slot is not None and bool(op.bias_factor(layer.geometry))
            shape = op.bias_shape(layer.geometry, layer.weight_shape) if own else (len(values),)
            if not own and ops.output_axis(layer.geometry) == -2:
                shape = (len(values), 1)
            tensor = new_tensor(self._new_name(stem), stored.reshape(shape), view.elem_type)
            self._add(tensor)
            if own and slot is not None:
                self._read(node, slot, tensor.name)
                continue
            source = _source(node)
            plain, name = self._new_name(source.output[0]), source.output[0]
            source.output[0], source.name = plain, node.title  # which names the layer
            nodes = NodeWriter(self.appended.setdefault(node.number, []))
            nodes.Add(plain, tensor.name, output=name)

    def finished(self, changed: Iterable[str]) -> Model:
        """The model, without what nothing reads any more.

        Parameters
        ----------
        changed
            Tensors whose shapes as they were told are wrong.
        """
        for graph in reversed(list(graphs(self.graph))):  # copies of the outer ones hold the inner
            self._insert(graph)
        drop_unused(self.model.proto)
        wrong = {*changed, *self._take_names_over()}
        keep = [value for value in self.graph.value_info if value.name not in wrong]
        for graph in graphs(self.graph):  # names of tensors inside are those of the flat view
            del graph.value_info[:]
        self.graph.value_info.extend(keep)
        return self.model.edited()

    def _take_names_over(self) -> Iterable[str]:
        """Give new constants the names and the places of those that they replace; the names."""
        present = set()
        for graph in graphs(self.graph):
            present |= {name for node in graph.node for name in (*node.input, *node.output)}
            named = (*graph.input, *graph.output, *graph.initializer)
            present.update(value.name for value in named)
        renamed: dict[str, str] = {}
        for name, old in self.successors.items():
            if name in present and old not in present and old not in renamed.values():
                renamed[name] = old
        for node in (node for graph in graphs(self.graph) for node in graph.node):
            for names in (node.input, node.output):
                for slot, name in enumerate(names):
                    if name in renamed:
                        names[slot] = renamed[name]
        for value in (*self.graph.initializer, *self.graph.input):
            value.name = renamed.get(value.name, value.name)
        places = {name: place for place, name in enumerate(self.order)}
        tensors = sorted(self.graph.initializer, key=lambda t: places.get(t.name, len(places)))
        copies = [onnx.TensorProto.FromString(t.SerializeToString()) for t in tensors]
        del self.graph.initializer[:]
        self.graph.initializer.extend(copies)
        return renamed.values()

    def _insert(self, graph: onnx.GraphProto) -> None:
        """Put new nodes of a graph before those that read them."""
        ids = [id(node.source) for node in self.index.nodes]
        before = {ids[number]: nodes for number, nodes in self.inserted.items() if number >= 0}
        after = {ids[number]: nodes for number, nodes in self.appended.items()}
        ordered = list(self.inserted.get(-1, ())) if graph is self.graph else []
        for node in graph.node:
            ordered += [*before.get(id(node), ()), node]
            ordered += after.get(id(node), ())
        if len(ordered) == len(graph.node):
            return
        copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in ordered]
        del graph.node[:]
        graph.node.extend(copies)


def _source(node: Node) -> onnx.NodeProto:
    assert node.source is not None
    return node.source


def _with(sizes: list[int], numbers: Mapping[int, int]) -> list[int]:
    """A list of sizes with other numbers at some places, but for those that stand for the rest."""
    for place, number in numbers.items():
        if -place <= len(sizes) and sizes[place] not in (-1, 1):
            sizes[place] = number
    return sizes
