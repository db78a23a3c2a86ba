"""Nodes of the flat view as protobuf again, with the exports of a plan from their subgraphs.

Where values are carried, a tensor leaves a subgraph as two: all its values on one axis, and its
rank and sizes, once for each time that it was computed.  An exported tensor may then have another
shape each time, or not be computed at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from nettrim_cli.graph.capture.plan import SHAPES, CapturePlan, Export
from nettrim_cli.graph.ir.flat_graph import Node, Subgraph
from nettrim_cli.graph.ir.index import Index
from nettrim_cli.graph.ir.node_writer import NodeWriter

FLAT, NO_VALUES, NO_SHAPES = "flat", "no values", "no shapes"
"""Constants for carried values; the plan's prefix comes before their names."""


class Writer:
    """Writes nodes of the flat view as protobuf again, under flat names.

    Parameters
    ----------
    index
        The model.
    plan
        The plan with the exports; none by default.
    rename
        Gives new names to tensors, also to those inside subgraphs.
    carried
        Whether Loops carry exported values from iteration to iteration instead of stacking them.
    """

    def __init__(
        self,
        index: Index,
        plan: CapturePlan | None = None,
        rename: Callable[[str], str] = lambda name: name,
        *,
        carried: bool = False,
    ) -> None:
        self.index, self.plan, self.rename, self.carried = index, plan, rename, carried

    def model(self, name: str) -> onnx.ModelProto:
        """A model without nodes that imports the same operators as this one."""
        model = onnx.ModelProto(ir_version=max(4, self.index.model.ir_version))
        for domain, version in self.index.flat.versions.items():
            model.opset_import.add(domain=domain, version=version)
        model.graph.name = name
        if self.carried:
            for key, values in (
                (FLAT, np.array([-1])),
                (NO_VALUES, np.zeros(0, np.float32)),
                (NO_SHAPES, np.zeros(0, np.int64)),
            ):
                model.graph.initializer.append(numpy_helper.from_array(values, self._prefix + key))
        return model

    def node(self, node: Node, *, probe: bool = False) -> onnx.NodeProto:
        """A node; the results of a probe get names that no node reads.

        In a cascade, probes alone have exports.
        """
        outputs = self._outputs(node)
        if probe and self.plan is not None:
            outputs = [name and self.plan.prefix + name for name in outputs]
        exporting = self.plan is not None and (probe or not self.plan.cascade)
        return self._node_proto(node, outputs, exporting=exporting)

    def _node_proto(self, node: Node, outputs: list[str], *, exporting: bool) -> onnx.NodeProto:
        proto = onnx.NodeProto(op_type=node.op_type, domain=node.domain)
        proto.input.extend(self.rename(name) for name in node.input)
        exports = self._exports(node) if exporting else None
        if exports:
            count = len(node.subgraphs[0].graph.output) - node.carries
            outputs += [""] * (count - len(outputs))
            stem = exports[0].outer
            outputs = [name or f"{stem}#{position}" for position, name in enumerate(outputs)]
            start = self._state_count(node) if self._accumulates(node) else count
            names = [name for export in exports for name in self._outer_names(export)]
            outputs[start:start] = names
        if exports and self._accumulates(node):
            proto.input.extend([""] * (2 - len(node.input)))
            proto.input.extend([self._prefix + NO_VALUES, self._prefix + NO_SHAPES] * len(exports))
        proto.output.extend(self.rename(name) for name in outputs)
        graphs = iter(enumerate(node.subgraphs))
        for attribute in node.attribute:
            if attribute.HasField("g"):
                copy = proto.attribute.add(name=attribute.name, type=attribute.type)
                copy.g.CopyFrom(self._graph_proto(node, *next(graphs), exports))
            elif attribute.graphs:
                copy = proto.attribute.add(name=attribute.name, type=attribute.type)
                copy.graphs.extend(
                    self._graph_proto(node, *next(graphs), exports) for _ in attribute.graphs
                )
            else:
                proto.attribute.append(attribute)
        for attribute in proto.attribute:
            if attribute.name in ("scan_output_axes", "scan_output_directions"):
                attribute.ints.extend([0] * len(exports or ()))
        return proto

    @property
    def _prefix(self) -> str:
        return "" if self.plan is None else self.plan.prefix

    def _accumulates(self, node: Node) -> bool:
        """Whether exported values go from iteration to iteration of a node."""
        return self.carried and node.carries

    def _state_count(self, loop: Node) -> int:
        """Number of a Loop's state tensors: its inputs but for the count and the condition."""
        return max(0, len(loop.input) - 2)

    def _outputs(self, node: Node) -> list[str]:
        outputs = list(node.output)
        unnamed = {} if self.plan is None else self.plan.unnamed_outputs.get(node.number, {})
        for slot, name in unnamed.items():
            outputs += [""] * (slot + 1 - len(outputs))
            outputs[slot] = name
        return outputs

    def _exports(self, node: Node) -> list[Export]:
        if self.plan is None:
            return []
        keys = ((node.number, position) for position in range(len(node.subgraphs)))
        exports = [export for key in keys for export in self.plan.exports.get(key, ())]
        return [export for export in exports if export.shapes or not self.carried]

    def _outer_names(self, export: Export) -> tuple[str, ...]:
        """The owner's outputs for an export."""
        return (export.outer, export.shapes) if self.carried else (export.outer,)

    def _graph_proto(
        self, owner: Node, position: int, subgraph: Subgraph, exports: Sequence[Export] | None
    ) -> onnx.GraphProto:
        """A subgraph under flat names, with exports; with None its subgraphs have none either."""
        proto = onnx.GraphProto(name=subgraph.graph.name)
        for name, tensor in subgraph.initializers.items():
            proto.initializer.add().CopyFrom(tensor)
            proto.initializer[-1].name = self.rename(name)
        for name, sparse in subgraph.sparse.items():
            proto.sparse_initializer.add().CopyFrom(sparse)
            proto.sparse_initializer[-1].values.name = self.rename(name)
        for flat_names, values, target in (
            (subgraph.inputs, subgraph.graph.input, proto.input),
            (subgraph.outputs, subgraph.graph.output, proto.output),
        ):
            for name, value in zip(flat_names, values, strict=True):
                target.add().CopyFrom(value)
                target[-1].name = self.rename(name)
        proto.node.extend(
            self._node_proto(node, self._outputs(node), exporting=exports is not None)
            for node in subgraph.nodes
        )
        exported = () if self.plan is None else self.plan.exports.get((owner.number, position), ())
        outputs: list[str] = []
        for export in exports or ():
            write = self._export_flat if self.carried else self._export
            names = write(proto, export, f"~{position}", present=export in exported)
            if self._accumulates(owner):
                names = self._accumulate(proto, names)
            outputs += names
        start = 1 + self._state_count(owner) if self._accumulates(owner) else len(proto.output)
        results = list(proto.output)
        del proto.output[:]
        proto.output.extend(results[:start])
        proto.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
        proto.output.extend(results[start:])
        return proto

    def _export(
        self, proto: onnx.GraphProto, export: Export, suffix: str, *, present: bool
    ) -> list[str]:
        """Add an output to a subgraph; it is empty where another branch has the tensor.

        Parameters
        ----------
        proto
            The subgraph; nodes are added.
        export
            The tensor.
        suffix
            End of the output's name.
        present
            Whether the subgraph has the tensor.

        Returns
        -------
        list
            The name of the output.
        """
        name, nodes = export.outer + suffix, NodeWriter(proto.node)
        if not present:
            empty = helper.make_tensor(name, TensorProto.FLOAT, [0], [])
            nodes.Constant(output=name, value=empty)
        elif export.innermost:
            nodes.Cast(export.inner, output=name, to=TensorProto.FLOAT)
        else:
            nodes.Identity(export.inner, output=name)
        return [name]

    def _export_flat(
        self, proto: onnx.GraphProto, export: Export, suffix: str, *, present: bool
    ) -> list[str]:
        """Like `_export`, with two outputs: values on one axis, and their rank and sizes."""
        values, shapes = export.outer + suffix, export.shapes + suffix
        nodes = NodeWriter(proto.node)
        if not present:
            nodes.Identity(self._prefix + NO_VALUES, output=values)
            nodes.Identity(self._prefix + NO_SHAPES, output=shapes)
        elif export.innermost:
            plain = nodes.Cast(export.inner, output=f"{values}:plain", to=TensorProto.FLOAT)
            nodes.Reshape(plain, self._prefix + FLAT, output=values)
            sizes = nodes.Shape(export.inner, output=f"{shapes}:sizes")
            rank = nodes.Shape(sizes, output=f"{shapes}:rank")
            nodes.Concat(rank, sizes, output=shapes, axis=0)
        else:
            nodes.Identity(export.inner, output=values)
            nodes.Identity(export.inner + SHAPES, output=shapes)
        return [values, shapes]

    def _accumulate(self, proto: onnx.GraphProto, names: Sequence[str]) -> list[str]:
        """Append the values of an iteration to those of the iterations before it."""
        joined, nodes = [], NodeWriter(proto.node)
        for name, dtype in zip(names, (TensorProto.FLOAT, TensorProto.INT64), strict=True):
            previous, total = f"{name}:before", f"{name}:whole"
            proto.input.append(helper.make_tensor_value_info(previous, dtype, [None]))
            joined.append(nodes.Concat(previous, name, output=total, axis=0))
        return joined


def value_type(name: str, kind: Any, rank: int | None) -> onnx.TypeProto:
    """Type of a value.

    Parameters
    ----------
    name
        Its name; those of its axes begin with it.
    kind
        Its dtype; for a value that is no tensor the engine's spelling: ``seq(tensor(float))``.
    rank
        Its number of axes; None if that changes.
    """
    if not isinstance(kind, str):
        dtype = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
        axes = None if rank is None else [f"{name}.{axis}" for axis in range(rank)]
        return helper.make_tensor_type_proto(dtype, axes)
    outer, inner = kind.rstrip(")").split("(", 1)
    if outer == "seq":
        return helper.make_sequence_type_proto(value_type(name, inner, None))
    if outer == "optional":
        return helper.make_optional_type_proto(value_type(name, inner, None))
    return helper.make_tensor_type_proto(TensorProto.DataType.Value(inner.upper()), None)
