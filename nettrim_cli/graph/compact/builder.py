"""The nodes that rebuild a tensor.

Integers of a grid are scattered along an axis that is counted from the last: so weights that are
integers themselves, whose Cast and Mul belong to the model, are told apart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from nettrim_cli.graph.compact.gaps import GapCode, Positions, gap_words
from nettrim_cli.graph.compact.values import Digits, ValueForm, shortened
from nettrim_cli.graph.ir.node_writer import NodeWriter
from nettrim_cli.graph.storage.elements import RAW_DTYPES
from nettrim_cli.graph.storage.external import External, is_external

FEWEST_TABLED = 1 << 12  # elements from which on a table of all bytes is worth its place
Key = tuple[Any, ...]


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


@dataclass
class Common:
    """What all rebuilt tensors of a model share.

    Attributes
    ----------
    external
        The values that are not in the model.
    used
        Names that it has.
    count
        Of new names.
    shared, zeros
        As in ``Rebuilt``.
    """

    external: External
    used: set[str]
    count: int = 0
    shared: dict[Key, TensorProto] = field(default_factory=dict)
    zeros: dict[Key, onnx.NodeProto] = field(default_factory=dict)

    def new_name(self) -> str:
        """A short name that nothing has."""
        while (name := f"z{self.count:x}") in self.used:
            self.count += 1
        self.count += 1
        return name


@dataclass
class TensorBuilder:
    """Adds nodes and tensors to the parts of one rebuilt tensor.

    Attributes
    ----------
    tensor, name
        What is rebuilt; its large parts stay outside the protobuf if it is there.
    by_columns
        Whether elements stand in one column, in the order of the tensor's columns.
    """

    common: Common
    parts: Rebuilt
    tensor: TensorProto
    name: str
    by_columns: bool

    def __post_init__(self) -> None:
        self.nodes = NodeWriter(self.parts.nodes, self.common.new_name)

    def scattered(
        self, stored: Positions, code: GapCode, elements: NDArray[Any], form: ValueForm
    ) -> None:
        """Add the nodes that scatter elements into zeros.

        Parameters
        ----------
        stored
            (N,) places of the elements, zeros among them.
        code
            Of the gaps between them.
        elements, form
            (N,) as they are stored.
        """
        shape, last = list(self.tensor.dims), len(self.tensor.dims) - 1
        grid = form.scale is not None
        gaps = self._gaps(stored, code)
        values = self._values(elements.reshape(-1, *self._column), form)
        elem_type = form.elem_type if grid else self.tensor.data_type
        values = values if grid else self._cast(values, form.elem_type)
        zeros = self._zeros(math.prod(shape), elem_type)
        nodes, axis = self.nodes, -1 - len(self._column) if grid else None
        positions = nodes.CumSum(gaps, self._shared(0))
        tensor = nodes.ScatterElements(zeros, positions, values, axis=axis)
        name = "" if grid else self.name
        if self.by_columns:
            tensor = nodes.Reshape(tensor, self._shared([*shape[1:], shape[0]]))
            tensor = nodes.Transpose(tensor, output=name, perm=[last, *range(last)])
        else:
            tensor = nodes.Reshape(tensor, self._shared(shape), output=name)
        if grid:
            factors = self._scale(form)
            nodes.Mul(nodes.Cast(tensor, to=self.tensor.data_type), factors, output=self.name)

    def whole(self, form: ValueForm) -> None:
        """Add the nodes that cast all elements of a form, and multiply them with their scales."""
        if form.scale is None:
            flat = self._own(form.elements, form.elem_type)
            halves = self.nodes.Reshape(flat, self._shared(list(self.tensor.dims)))
            self.nodes.Cast(halves, to=self.tensor.data_type, output=self.name)
            return
        values = self._values(form.elements.reshape(tuple(self.tensor.dims)), form)
        values = self._cast(values, form.elem_type)
        self.nodes.Mul(values, self._scale(form), output=self.name)

    def _gaps(self, stored: Positions, code: GapCode) -> str:
        """The gaps between positions ``(N,)``, by their code; the name."""
        words = gap_words(stored, code)
        if code.per_word == 1:
            return self._own(words.reshape(-1, *self._column), TensorProto.INT32)
        name = self._own(words.reshape(-1, 1), TensorProto.INT32)
        return self._digits(name, code, [-1, *self._column])

    def _values(self, elements: NDArray[Any], form: ValueForm) -> str:
        """Values (N,) of a form, or of any shape, as elements of its type; the name."""
        if (packed := form.digits) is None:
            return self._own(elements, form.elem_type)
        missing = -elements.size % packed.count
        padded = np.append(elements.reshape(-1), np.zeros(missing, elements.dtype))
        shape = [-1] if missing else list(elements.shape)
        words = packed.pack(padded)
        tabled = packed.has_table and elements.size >= FEWEST_TABLED
        name = self._own(words if tabled else words.reshape(-1, 1), packed.elem_type)
        if packed.elem_type != TensorProto.INT32:
            name = self.nodes.Cast(name, to=TensorProto.INT32)
        if tabled:
            name = self.nodes.Gather(self._shared(packed.table()), name)
            name = self.nodes.Reshape(name, self._shared(shape))
        else:
            name = self._digits(name, packed, shape)
            name = self.nodes.Sub(name, self._shared(np.array(packed.offset, np.int32)))
            name = self.nodes.Cast(name, to=form.elem_type)
        if not missing:
            return name
        name = self.nodes.Slice(name, self._shared([0]), self._shared([elements.size]))
        return self.nodes.Reshape(name, self._shared(list(elements.shape)))

    def _cast(self, name: str, elem_type: int) -> str:
        """Elements of a type as those of the tensor; the name."""
        if elem_type == self.tensor.data_type:
            return name
        return self.nodes.Cast(name, to=self.tensor.data_type)

    def _zeros(self, size: int, elem_type: int) -> str:
        """So many zeros, for all tensors of that size: runtimes hold each constant as they load."""
        key = (size, self.by_columns, elem_type)
        node = self.common.zeros.get(key)
        if node is None:
            zero = None if elem_type == TensorProto.FLOAT else _zero(elem_type)
            nodes: list[onnx.NodeProto] = []
            writer = NodeWriter(nodes, self.common.new_name)
            writer.ConstantOfShape(self._shared([size, *self._column]), value=zero)
            node = self.parts.zeros[key] = nodes[0]
        return str(node.output[0])

    def _scale(self, form: ValueForm) -> str:
        """A grid's scales in the tensor's type; the name."""
        short = shortened(np.asarray(form.scale))
        elem_type = helper.np_dtype_to_tensor_dtype(short.dtype)
        return self._cast(self._own(short, elem_type), elem_type)

    def _digits(self, words: str, code: GapCode | Digits, shape: Sequence[int]) -> str:
        """The digits of words ``(N, 1)`` one after the other, in a shape."""
        shifted = self.nodes.Div(words, self._shared(code.powers))
        digits = self.nodes.Mod(shifted, self._shared(np.array(code.base, np.int32)))
        return self.nodes.Reshape(digits, self._shared(list(shape)))

    @property
    def _column(self) -> tuple[int, ...]:
        """Sizes of the axes behind the first of what is scattered."""
        return (1,) if self.by_columns else ()

    def _own(self, elements: NDArray[Any], elem_type: int) -> str:
        """Add a tensor (N, ...) of this one alone; its name."""
        name, outside = self.common.new_name(), is_external(self.tensor)
        stored = self.common.external.new_tensor(name, elements, elem_type, outside=outside)
        self.parts.tensors.append(stored)
        return name

    def _shared(self, values: Any) -> str:
        """Add a constant, or find an equal one; its name."""
        array = np.asarray(values) if isinstance(values, np.ndarray) else np.array(values, np.int64)
        key = (array.dtype, array.shape, array.tobytes())
        tensor = self.common.shared.get(key) or self.parts.shared.get(key)
        if tensor is None:
            elem_type = helper.np_dtype_to_tensor_dtype(array.dtype)
            tensor = TensorProto(
                name=self.common.new_name(),
                data_type=elem_type,
                dims=array.shape,
                raw_data=array.tobytes(),
            )
            self.parts.shared[key] = tensor
        return str(tensor.name)


def file_bytes(message: Any) -> int:
    """Bytes of a message inside another one, with its tag and length."""
    size = int(message.ByteSize())
    return size + 1 + max(1, -(-size.bit_length() // 7))


def _zero(elem_type: int) -> TensorProto:
    raw = bytes(RAW_DTYPES[elem_type].itemsize)
    return TensorProto(data_type=elem_type, dims=[1], raw_data=raw)
