"""Nodes of the flat view as protobuf again, with what a recording shows of their subgraphs.

Where values are carried, a tensor leaves a subgraph as two: all its values as one axis, and for
each time that it was there its rank and its sizes.  What is shown may then be of another shape each
time, or not be there at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from nettrim_cli.graph.capture.recording import SHAPES, CapturePlan, Export
from nettrim_cli.graph.ir.flatten import Node, Subgraph
from nettrim_cli.graph.ir.index import Index

FLAT, NO_VALUES, NO_SHAPES = "flat", "no values", "no shapes"
"""Constants that carrying takes, after the recording's mark."""


class Writer:
    """Writes nodes of the flat view as protobuf again, under flat names.

    Parameters
    ----------
    plan
        What is to be shown; nothing by default.
    rename
        Other names for tensors, those inside of subgraphs among them.
    carried
        Whether Loops carry the values that they show instead of stacking them.
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
        """A model without nodes that knows the operators of this one."""
        made = onnx.ModelProto(ir_version=max(4, self.index.model.ir_version))
        for domain, version in self.index.flat.versions.items():
            made.opset_import.add(domain=domain, version=version)
        made.graph.name = name
        if self.carried:
            for key, values in (
                (FLAT, np.array([-1])),
                (NO_VALUES, np.zeros(0, np.float32)),
                (NO_SHAPES, np.zeros(0, np.int64)),
            ):
                made.graph.initializer.append(numpy_helper.from_array(values, self._mark + key))
        return made

    def node(self, node: Node, *, probe: bool = False) -> onnx.NodeProto:
        """A node; a probe hands its own results out under names that nobody reads.

        Where weights change on the way, probes alone show what is inside.
        """
        outputs = self._outputs(node)
        if probe and self.plan is not None:
            outputs = [name and self.plan.mark + name for name in outputs]
        shows = self.plan is not None and (probe or not self.plan.cascade)
        return self._written(node, outputs, shows=shows)

    def _written(self, node: Node, outputs: list[str], *, shows: bool) -> onnx.NodeProto:
        made = onnx.NodeProto(op_type=node.op_type, domain=node.domain)
        made.input.extend(self.rename(name) for name in node.input)
        shown = self._shown(node) if shows else None
        if shown:
            wanted = len(node.bodies[0].graph.output) - (node.op_type == "Loop")
            outputs += [f"{shown[0].outer}#{at}" for at in range(len(outputs), wanted)]
            outputs = [name or f"{shown[0].outer}#{at}" for at, name in enumerate(outputs)]
            states = self._states(node) if self._hands_on(node) else wanted
            outputs[states:states] = [name for show in shown for name in self._outer(show)]
        if shown and self._hands_on(node):
            made.input.extend([""] * (2 - len(node.input)))
            made.input.extend([self._mark + NO_VALUES, self._mark + NO_SHAPES] * len(shown))
        made.output.extend(self.rename(name) for name in outputs)
        graphs = iter(enumerate(node.bodies))
        for attribute in node.attribute:
            if attribute.HasField("g"):
                copy = made.attribute.add(name=attribute.name, type=attribute.type)
                copy.g.CopyFrom(self._graph(node, *next(graphs), shown))
            elif attribute.graphs:
                copy = made.attribute.add(name=attribute.name, type=attribute.type)
                copy.graphs.extend(
                    self._graph(node, *next(graphs), shown) for _ in attribute.graphs
                )
            else:
                made.attribute.append(attribute)
        if node.op_type == "Scan" and shown:
            for attribute in made.attribute:
                if attribute.name in ("scan_output_axes", "scan_output_directions"):
                    attribute.ints.extend([0] * len(shown))
        return made

    @property
    def _mark(self) -> str:
        return "" if self.plan is None else self.plan.mark

    def _hands_on(self, node: Node) -> bool:
        """Whether what a node shows goes from turn to turn."""
        return self.carried and node.op_type == "Loop"

    def _states(self, loop: Node) -> int:
        """How many tensors a Loop hands on: its inputs but for the count and the condition."""
        return max(0, len(loop.input) - 2)

    def _outputs(self, node: Node) -> list[str]:
        outputs = list(node.output)
        hidden = {} if self.plan is None else self.plan.hidden.get(node.number, {})
        for slot, name in hidden.items():
            outputs += [""] * (slot + 1 - len(outputs))
            outputs[slot] = name
        return outputs

    def _shown(self, node: Node) -> list[Export]:
        if self.plan is None:
            return []
        places = ((node.number, at) for at in range(len(node.bodies)))
        found = [show for place in places for show in self.plan.shows.get(place, ())]
        return [show for show in found if show.shapes or not self.carried]

    def _outer(self, show: Export) -> tuple[str, ...]:
        """The owner's outputs for a tensor."""
        return (show.outer, show.shapes) if self.carried else (show.outer,)

    def _graph(
        self, owner: Node, at: int, body: Subgraph, shown: Sequence[Export] | None
    ) -> onnx.GraphProto:
        """A subgraph under flat names, with what it shows; None for nothing down to the bottom."""
        made = onnx.GraphProto(name=body.graph.name)
        for name, tensor in body.initializers.items():
            made.initializer.add().CopyFrom(tensor)
            made.initializer[-1].name = self.rename(name)
        for name, sparse in body.sparse.items():
            made.sparse_initializer.add().CopyFrom(sparse)
            made.sparse_initializer[-1].values.name = self.rename(name)
        for names, values, target in (
            (body.inputs, body.graph.input, made.input),
            (body.outputs, body.graph.output, made.output),
        ):
            for name, value in zip(names, values, strict=False):
                target.add().CopyFrom(value)
                target[-1].name = self.rename(name)
        shows = shown is not None
        made.node.extend(
            self._written(node, self._outputs(node), shows=shows) for node in body.nodes
        )
        mine = () if self.plan is None else self.plan.shows.get((owner.number, at), ())
        outputs: list[str] = []
        for show in shown or ():
            lead = self._lead_flat if self.carried else self._lead
            leaving = lead(made, show, f"~{at}", there=show in mine)
            if self._hands_on(owner):
                leaving = self._hand_on(made, show, leaving)
            outputs += leaving
        after = 1 + self._states(owner) if self._hands_on(owner) else len(made.output)
        own = list(made.output)
        del made.output[:]
        made.output.extend(own[:after])
        made.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
        made.output.extend(own[after:])
        return made

    def _lead(self, made: onnx.GraphProto, show: Export, end: str, *, there: bool) -> list[str]:
        """Give a tensor a name to leave by; it is empty where another branch shows it."""
        out = show.outer + end
        if not there:
            empty = helper.make_tensor(out, TensorProto.FLOAT, [0], [])
            made.node.append(helper.make_node("Constant", [], [out], value=empty))
        elif show.first:
            made.node.append(helper.make_node("Cast", [show.inner], [out], to=TensorProto.FLOAT))
        else:
            made.node.append(helper.make_node("Identity", [show.inner], [out]))
        return [out]

    def _lead_flat(
        self, made: onnx.GraphProto, show: Export, end: str, *, there: bool
    ) -> list[str]:
        """The same as values on one axis, and their rank and sizes."""
        values, shapes = show.outer + end, show.shapes + end

        def add(op: str, inputs: Sequence[str], output: str, **given: Any) -> str:
            made.node.append(helper.make_node(op, list(inputs), [output], **given))
            return output

        if not there:
            add("Identity", [self._mark + NO_VALUES], values)
            add("Identity", [self._mark + NO_SHAPES], shapes)
        elif show.first:
            plain = add("Cast", [show.inner], f"{values}:plain", to=TensorProto.FLOAT)
            add("Reshape", [plain, self._mark + FLAT], values)
            sizes = add("Shape", [show.inner], f"{shapes}:sizes")
            rank = add("Shape", [sizes], f"{shapes}:rank")
            add("Concat", [rank, sizes], shapes, axis=0)
        else:
            add("Identity", [show.inner], values)
            add("Identity", [show.inner + SHAPES], shapes)
        return [values, shapes]

    def _hand_on(self, made: onnx.GraphProto, show: Export, leaving: Sequence[str]) -> list[str]:
        """Put what a turn shows behind what the turns before it have shown."""
        whole = []
        for name, kind in zip(leaving, (TensorProto.FLOAT, TensorProto.INT64), strict=True):
            before = f"{name}:before"
            made.input.append(helper.make_tensor_value_info(before, kind, [None]))
            made.node.append(helper.make_node("Concat", [before, name], [f"{name}:whole"], axis=0))
            whole.append(f"{name}:whole")
        return whole


def value_type(name: str, kind: Any, rank: int | None) -> onnx.TypeProto:
    """Type of a value by dtype and rank, or as the engine spells it: ``seq(tensor(float))``."""
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
