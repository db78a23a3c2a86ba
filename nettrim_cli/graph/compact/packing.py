"""Sparse weights as gaps and values, from which standard nodes rebuild them.

A runtime folds these nodes when it loads the model::

    gaps = Mod(Div(words, powers), base)          see ``gaps``
    name = Reshape(ScatterElements(ConstantOfShape(size), CumSum(gaps), values), shape)

The rebuilt tensor keeps its name, so that nothing that reads it changes.  A matrix whose gaps are
shorter by columns is scattered into one column, and a Transpose follows the Reshape.  Values of
half precision are cast.  Integers of a grid stay bytes as long as possible: they are cast at the
end, and multiplied with scales; where zeros are few, all of them without gaps.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from nettrim_cli.graph.compact.builder import Common, Rebuilt, TensorBuilder, file_bytes
from nettrim_cli.graph.compact.gaps import WORD_VALUES, GapCode, best_code, stored_positions
from nettrim_cli.graph.compact.requirements import can_be_compact, can_rebuild
from nettrim_cli.graph.compact.values import ValueForm, value_forms
from nettrim_cli.graph.storage import tensors
from nettrim_cli.graph.storage.elements import FLOATS, RAW_DTYPES
from nettrim_cli.graph.storage.external import External, is_external

NO_INPUTS_IR = 4  # from which on an initializer need not be an input
FEWEST_BYTES = 256  # of a tensor that could become smaller
ALIGNED_BYTES = 1 << 13  # that two more tensors in a file of external data may need
TYPES = (*(elem_type for elem_type in FLOATS if elem_type in RAW_DTYPES), TensorProto.INT8)


class Compactor:
    """Writes a model's sparse weights in compact form where that is smaller.

    Parameters
    ----------
    model
        A model, which is changed.
    external
        The values that are not in it; some are added.
    """

    def __init__(self, model: onnx.ModelProto, external: External) -> None:
        self.model, self.external = model, external
        self.common = Common(external, used_names(model))

    def run(self) -> int:
        """Rebuild what becomes smaller by it; the number of tensors."""
        graph, count = self.model.graph, 0
        if not can_be_compact(self.model):
            return 0
        overridable = {value.name for value in graph.input} if self._may_override else set()
        for owner in tensors.graphs(graph):
            count += self._rebuild_graph(owner, overridable)
        graph.initializer.extend(self.common.shared.values())
        _put_first(graph, self.common.zeros.values())
        if count and self.model.ir_version < NO_INPUTS_IR:
            self.model.ir_version = NO_INPUTS_IR
            stored = {tensor.name for tensor in graph.initializer}
            made = {name for node in graph.node for name in node.output}
            values = [value for value in graph.input if value.name not in made - stored]
            del graph.input[:]
            graph.input.extend(values)
        return count

    @property
    def _may_override(self) -> bool:
        """Whether an initializer that is an input is one that callers may replace."""
        return self.model.ir_version >= NO_INPUTS_IR

    def _rebuild_graph(self, graph: onnx.GraphProto, overridable: set[str]) -> int:
        """Rebuild the tensors of one graph; the new nodes come first."""
        rebuilt: list[Rebuilt] = []
        for position in reversed(range(len(graph.initializer))):
            tensor = graph.initializer[position]
            if tensor.name not in overridable and (parts := self._rebuilt(tensor, tensor.name)):
                rebuilt.append(parts)
                del graph.initializer[position]
        for position in reversed(range(len(graph.node))):
            node = graph.node[position]
            if (holder := tensors.constant(node)) is not None and (
                parts := self._rebuilt(holder, node.output[0])
            ):
                rebuilt.append(parts)
                del graph.node[position]
        for parts in reversed(rebuilt):
            graph.initializer.extend(parts.tensors)
        _put_first(graph, (node for parts in reversed(rebuilt) for node in parts.nodes))
        return len(rebuilt)

    def _rebuilt(self, tensor: TensorProto, name: str) -> Rebuilt | None:
        """The nodes for a tensor; None where they take as many bytes."""
        if tensor.data_type not in TYPES or tensors.raw_bytes(tensor) < FEWEST_BYTES:
            return None
        if not can_rebuild(self.model, tensor.data_type):
            return None
        if len(tensor.dims) < 2:
            return None  # some kernels want scales and offsets that are constant as they are
        elements = self.external.elements(tensor)
        if elements is None or elements.size >= WORD_VALUES:
            return None
        first = self.common.count
        parts = self._cheapest(tensor, elements, name)
        limit = tensors.raw_bytes(tensor) if is_external(tensor) else 0
        limit += file_bytes(tensor) - (ALIGNED_BYTES if is_external(tensor) else 0)
        if parts is None or parts.bytes + self._outside(parts) >= limit:
            self.common.count = first
            return None
        self.common.shared.update(parts.shared)
        self.common.zeros.update(parts.zeros)
        return parts

    def _cheapest(self, tensor: TensorProto, elements: NDArray[Any], name: str) -> Rebuilt | None:
        """The nodes for a tensor, values and order of the elements such that bytes are fewest."""
        shape = tuple(tensor.dims)
        filled = elements.view(f"u{elements.itemsize}") != 0
        choices: list[tuple[float, int, bool, ValueForm, GapCode | None]] = []
        for form in value_forms(elements, tensor.data_type, shape):
            if form.elem_type != tensor.data_type:  # all, zeros included
                count = elements.size + -elements.size % form.group
                size = count * form.element_bytes + form.extra_bytes
                choices.append((size, len(choices), False, form, None))
            for by_columns in (False, True):
                positions = np.flatnonzero(_ordered(filled, shape, by_columns=by_columns))
                coded = best_code(positions, elements.size, form.element_bytes, form.group)
                if coded is not None:
                    size = coded[0] + form.extra_bytes
                    choices.append((size, len(choices), by_columns, form, coded[1]))
        if not choices:
            return None
        size, _, by_columns, form, code = min(choices, key=lambda choice: choice[:2])
        if size >= elements.nbytes:
            return None
        builder = TensorBuilder(self.common, Rebuilt(), tensor, name, by_columns)
        if code is None:
            builder.whole(form)
            return builder.parts
        positions = np.flatnonzero(_ordered(filled, shape, by_columns=by_columns))
        stored = stored_positions(positions, elements.size, code, form.group)
        values = _ordered(form.elements, shape, by_columns=by_columns)[stored]
        builder.scattered(stored, code, values, form)
        return builder.parts

    def _outside(self, parts: Rebuilt) -> int:
        """Bytes of tensors that are not in the protobuf."""
        return sum(tensors.raw_bytes(tensor) for tensor in parts.tensors if is_external(tensor))


def compacted(model: onnx.ModelProto, external: External) -> tuple[onnx.ModelProto, External]:
    """A copy of a model with sparse weights in compact form, where that is smaller.

    Parameters
    ----------
    model
        The model; it is returned itself where nothing becomes smaller.
    external
        The values that are not in it.
    """
    copy, values = onnx.ModelProto(), external.clone()
    copy.CopyFrom(model)
    return (copy, values) if Compactor(copy, values).run() else (model, external)


def used_names(model: onnx.ModelProto) -> set[str]:
    """Names of tensors in all graphs of a model, functions included."""
    names: set[str] = set()
    for container in tensors.containers(model):
        names.update(tensor.name for tensor in tensors.initializers(container))
        names.update(tensor.values.name for tensor in tensors.sparse_initializers(container))
        if isinstance(container, onnx.GraphProto):
            values = (*container.input, *container.output, *container.value_info)
            names.update(value.name for value in values)
        for node in container.node:
            names.update(node.input, node.output)
    return names


def _put_first(graph: onnx.GraphProto, nodes: Iterable[onnx.NodeProto]) -> None:
    """Put nodes before all others of a graph."""
    others = list(graph.node)
    del graph.node[:]
    graph.node.extend(nodes)
    graph.node.extend(others)


def _ordered(array: NDArray[Any], shape: Sequence[int], *, by_columns: bool) -> NDArray[Any]:
    """Elements ``(N,)`` in the order in which they are stored."""
    return array.reshape(shape[0], -1).T.reshape(-1) if by_columns else array
