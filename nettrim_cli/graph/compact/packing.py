"""Sparse weights as gaps and values, from which standard nodes rebuild them.

A runtime folds these nodes when it loads the model::

    gaps = Mod(Div(words, powers), base)          see ``gaps``
    name = Reshape(ScatterElements(ConstantOfShape(size), CumSum(gaps), values), shape)

The rebuilt tensor keeps its name, so that nothing that reads it changes.  A matrix whose gaps are
shorter by columns is scattered into one column, and a Transpose follows the Reshape.  Values that
fit into a smaller type are cast, and integers multiplied with scales at the end; where zeros are
few, all of them without gaps.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from nettrim_cli.graph.compact.gaps import (
    WORD_VALUES,
    GapCode,
    Positions,
    best_code,
    gap_words,
    stored_positions,
)
from nettrim_cli.graph.compact.requirements import can_be_compact, can_rebuild
from nettrim_cli.graph.compact.values import ValueForm, shortened, value_forms
from nettrim_cli.graph.ir.node_writer import NodeWriter
from nettrim_cli.graph.storage import tensors
from nettrim_cli.graph.storage.elements import FLOATS, RAW_DTYPES
from nettrim_cli.graph.storage.external import External, is_external

NO_INPUTS_IR = 4  # from which on an initializer need not be an input
FEWEST_BYTES = 256  # of a tensor that could become smaller
ALIGNED_BYTES = 1 << 13  # that two more tensors in a file of external data may need
Key = tuple[Any, ...]
TYPES = (*(elem_type for elem_type in FLOATS if elem_type in RAW_DTYPES), TensorProto.INT8)


@dataclass
class Rebuilt:
    """The nodes that rebuild a tensor, and the tensors that they read.

    Attributes
    ----------
    shared, zeros
        Constants by their content, and nodes that make zeros by these, that rebuild others, too.
    """

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    tensors: list[TensorProto] = field(default_factory=list)
    shared: dict[Key, TensorProto] = field(default_factory=dict)
    zeros: dict[Key, onnx.NodeProto] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """Bytes in a file."""
        parts = [*self.nodes, *self.tensors, *self.shared.values(), *self.zeros.values()]
        return sum(map(file_bytes, parts))


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
        self.shared: dict[Key, TensorProto] = {}
        self.zeros: dict[Key, onnx.NodeProto] = {}
        self._used = used_names(model)
        self._count = 0

    def run(self) -> int:
        """Rebuild what becomes smaller by it; the number of tensors."""
        graph, count = self.model.graph, 0
        if not can_be_compact(self.model):
            return 0
        overridable = {value.name for value in graph.input} if self._may_override else set()
        for owner in tensors.graphs(graph):
            count += self._rebuild_graph(owner, overridable)
        graph.initializer.extend(self.shared.values())
        _put_first(graph, self.zeros.values())
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
        first = self._count
        parts = self._cheapest(tensor, elements, name)
        limit = tensors.raw_bytes(tensor) if is_external(tensor) else 0
        limit += file_bytes(tensor) - (ALIGNED_BYTES if is_external(tensor) else 0)
        if parts is None or parts.bytes + self._outside(parts) >= limit:
            self._count = first
            return None
        self.shared.update(parts.shared)
        self.zeros.update(parts.zeros)
        return parts

    def _cheapest(self, tensor: TensorProto, elements: NDArray[Any], name: str) -> Rebuilt | None:
        """The nodes for a tensor, values and order of the elements such that bytes are fewest."""
        shape = tuple(tensor.dims)
        filled = elements.view(f"u{elements.itemsize}") != 0
        choices: list[tuple[float, int, bool, ValueForm, GapCode | None]] = []
        for form in value_forms(elements, tensor.data_type, shape):
            if form.scale is not None and elements.size % form.group == 0:  # all, zeros included
                size = elements.size * form.element_bytes + form.extra_bytes
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
        builder = _Builder(self, Rebuilt(), tensor, name, by_columns)
        if code is None:
            builder.whole(form)
            return builder.parts
        positions = np.flatnonzero(_ordered(filled, shape, by_columns=by_columns))
        stored = stored_positions(positions, elements.size, code, form.group)
        values = _ordered(form.elements, shape, by_columns=by_columns)[stored]
        values = values.reshape(-1, 1) if by_columns else values
        builder.rebuild(builder.gaps(stored, code), builder.values(values, form), form.scale)
        return builder.parts

    def _outside(self, parts: Rebuilt) -> int:
        """Bytes of tensors that are not in the protobuf."""
        return sum(tensors.raw_bytes(tensor) for tensor in parts.tensors if is_external(tensor))

    def new_name(self) -> str:
        """A short name that nothing has."""
        while (name := f"z{self._count:x}") in self._used:
            self._count += 1
        self._count += 1
        return name


@dataclass
class _Builder:
    """Adds nodes and tensors to the parts of one rebuilt tensor.

    Attributes
    ----------
    tensor, name
        What is rebuilt; its large parts stay outside the protobuf if it is there.
    by_columns
        Whether elements stand in one column, in the order of the tensor's columns.
    """

    compactor: Compactor
    parts: Rebuilt
    tensor: TensorProto
    name: str
    by_columns: bool

    def __post_init__(self) -> None:
        self.nodes = NodeWriter(self.parts.nodes, self.compactor.new_name)

    def rebuild(self, gaps: str, values: str, scale: NDArray[Any] | None) -> None:
        """Add the nodes that gaps and values lead to.

        Parameters
        ----------
        gaps, values
            Names of both, of equal shape.
        scale
            Factor that broadcasts to the tensor, (M,) or (M, 1, ...); None for 1.
        """
        nodes, shape = self.nodes, list(self.tensor.dims)
        zeros = self._zeros(math.prod(shape))
        positions = nodes.CumSum(gaps, self.shared(0))
        scattered = nodes.ScatterElements(zeros, positions, values)
        turned = [*shape[1:], shape[0]] if self.by_columns else shape
        sizes, last = self.shared(turned), len(shape) - 1
        factors = "" if scale is None else self._scale(scale)
        name = "" if factors else self.name
        if self.by_columns:
            columns = nodes.Reshape(scattered, sizes)
            whole = nodes.Transpose(columns, output=name, perm=[last, *range(last)])
        else:
            whole = nodes.Reshape(scattered, sizes, output=name)
        if factors:
            nodes.Mul(whole, factors, output=self.name)

    def whole(self, form: ValueForm) -> None:
        """Add the nodes that multiply all elements of a form with their scales."""
        values = self.values(form.elements.reshape(tuple(self.tensor.dims)), form)
        self.nodes.Mul(values, self._scale(np.asarray(form.scale)), output=self.name)

    def gaps(self, stored: Positions, code: GapCode) -> str:
        """The gaps between positions ``(N,)``, by their code; the name."""
        words = gap_words(stored, code)
        if code.per_word == 1:
            return self.own(words.reshape(-1, *self._column), TensorProto.INT32)
        name = self.own(words.reshape(-1, 1), TensorProto.INT32)
        return self._digits(name, code.powers, code.base, [-1, *self._column])

    def values(self, elements: NDArray[Any], form: ValueForm) -> str:
        """Values (N,) of a form, or of any shape, as elements of the tensor's type; the name."""
        if (packed := form.digits) is None:
            name = self.own(elements, form.elem_type)
        else:
            name = self.own(packed.pack(elements).reshape(-1, 1), packed.elem_type)
            if packed.elem_type != TensorProto.INT32:
                name = self.nodes.Cast(name, to=TensorProto.INT32)
            name = self._digits(name, packed.powers, packed.base, elements.shape)
            name = self.nodes.Sub(name, self.shared(np.array(packed.offset, np.int32)))
        if form.elem_type == self.tensor.data_type:
            return name
        return self.nodes.Cast(name, to=self.tensor.data_type)

    def _zeros(self, size: int) -> str:
        """So many zeros, for all tensors of that size: runtimes hold each constant as they load."""
        elem_type = self.tensor.data_type
        key = (size, self.by_columns, elem_type)
        known = self.compactor.zeros.get(key)
        if known is None:
            zero = None if elem_type == TensorProto.FLOAT else _zero(elem_type)
            nodes: list[onnx.NodeProto] = []
            writer = NodeWriter(nodes, self.compactor.new_name)
            writer.ConstantOfShape(self.shared([size, *self._column]), value=zero)
            known = self.parts.zeros[key] = nodes[0]
        return str(known.output[0])

    def _scale(self, scale: NDArray[Any]) -> str:
        """Scales in the tensor's type; the name."""
        short = shortened(scale)
        name = self.own(short, helper.np_dtype_to_tensor_dtype(short.dtype))
        return name if short is scale else self.nodes.Cast(name, to=self.tensor.data_type)

    def _digits(
        self, words: str, powers: NDArray[np.int32], base: int, shape: Sequence[int]
    ) -> str:
        """The digits of words ``(N, 1)`` one after the other, in a shape."""
        shifted = self.nodes.Div(words, self.shared(powers))
        digits = self.nodes.Mod(shifted, self.shared(np.array(base, np.int32)))
        return self.nodes.Reshape(digits, self.shared(list(shape)))

    @property
    def _column(self) -> tuple[int, ...]:
        """Sizes of the axes behind the first of what is scattered."""
        return (1,) if self.by_columns else ()

    def own(self, elements: NDArray[Any], elem_type: int) -> str:
        """Add a tensor (N, ...) of this one alone; its name."""
        name, external = self.compactor.new_name(), self.compactor.external
        self.parts.tensors.append(
            external.new_tensor(name, elements, elem_type, outside=is_external(self.tensor))
        )
        return name

    def shared(self, values: Any) -> str:
        """Add a constant, or find an equal one; its name."""
        array = np.asarray(values) if isinstance(values, np.ndarray) else np.array(values, np.int64)
        key = (array.dtype, array.shape, array.tobytes())
        known = self.compactor.shared.get(key) or self.parts.shared.get(key)
        if known is None:
            elem_type = helper.np_dtype_to_tensor_dtype(array.dtype)
            known = TensorProto(
                name=self.compactor.new_name(),
                data_type=elem_type,
                dims=array.shape,
                raw_data=array.tobytes(),
            )
            self.parts.shared[key] = known
        return str(known.name)


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


def file_bytes(message: Any) -> int:
    """Bytes of a message inside another one, with its tag and length."""
    size = int(message.ByteSize())
    return size + 1 + max(1, -(-size.bit_length() // 7))


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


def _zero(elem_type: int) -> TensorProto:
    raw = bytes(RAW_DTYPES[elem_type].itemsize)
    return TensorProto(data_type=elem_type, dims=[1], raw_data=raw)
