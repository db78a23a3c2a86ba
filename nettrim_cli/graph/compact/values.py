"""Smaller types that hold the values of a weight exactly: half precision, or integers of a grid.

On a grid every value is an integer times the scale of its output.  The scale is found from the
values alone: they are integers times powers of two, of which it is the greatest common divisor.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from nettrim_cli.graph.storage.elements import RAW_DTYPES

NODE_BYTES = 160  # about, of the nodes that unpack several integers of an element
MANTISSA = 24  # bits of a float32
LARGEST = {8: 127, 6: 31, 4: 7, 3: 3}  # integers of so many bits
HALVES: dict[int, type[np.floating[Any]]] = {
    TensorProto.FLOAT: np.float32,
    TensorProto.DOUBLE: np.float64,
}
AXES = ((0,), (1,), (-1,), (0, 1), (0, 2))  # along which scales may differ
Array = NDArray[Any]


@dataclass(frozen=True)
class Digits:
    """How integers are written together, as digits of one base.

    Attributes
    ----------
    count, elem_type
        Number of integers in an element, and its type.
    base, offset
        The base, and what is added to the integers.
    """

    count: int
    elem_type: int
    base: int
    offset: int

    @property
    def powers(self) -> NDArray[np.int32]:
        """The places of the digits, ``(count,)``."""
        return np.array([self.base**place for place in range(self.count)], np.int32)

    @property
    def has_table(self) -> bool:
        """Whether a table tells the integers of each element."""
        return self.elem_type == TensorProto.UINT8

    def table(self) -> NDArray[np.int8]:
        """The integers of each element that there may be, ``(elements, count)``."""
        words = np.arange(self.base**self.count)[:, None]
        return (words // self.powers % self.base - self.offset).astype(np.int8)

    def pack(self, integers: Array) -> Array:
        """Integers ``(N,)``, N a multiple of the count, as elements ``(N / count,)``."""
        digits = integers.reshape(-1, self.count).astype(np.int64) + self.offset
        packed = digits @ self.powers.astype(np.int64)
        return np.ascontiguousarray(packed, RAW_DTYPES[self.elem_type])


PACKED = {
    3: Digits(11, TensorProto.INT32, 7, 3),
    4: Digits(2, TensorProto.UINT8, 16, 8),
    6: Digits(5, TensorProto.INT32, 63, 31),
}
"""Integers of fewer than 8 bits, by these."""


@dataclass(frozen=True)
class ValueForm:
    """Values of a tensor as they are stored.

    Attributes
    ----------
    elements
        In the tensor's order, ``(N,)``.
    elem_type
        Of the elements, before those of fewer than 8 bits are packed.
    bits
        Of an element.
    scale
        Factor of the integers, which broadcasts to the tensor's shape; None for 1.
    """

    elements: Array
    elem_type: int
    bits: int
    scale: Array | None = None

    @property
    def digits(self) -> Digits | None:
        """How several elements are packed into one; None where they are not."""
        return PACKED.get(self.bits)

    @property
    def group(self) -> int:
        """How many elements are stored as one."""
        return 1 if self.digits is None else self.digits.count

    @property
    def element_bytes(self) -> float:
        """Bytes of an element."""
        return element_bytes(self.bits)

    @property
    def extra_bytes(self) -> int:
        """Bytes of the scale, and of the nodes that unpack elements."""
        scale = 0 if self.scale is None else int(shortened(self.scale).nbytes)
        return scale + (0 if self.digits is None else NODE_BYTES)


def element_bytes(bits: int) -> float:
    """Bytes of an element of so many bits."""
    if bits not in PACKED:
        return bits / 8
    return RAW_DTYPES[PACKED[bits].elem_type].itemsize / PACKED[bits].count


def shortened(scale: Array) -> Array:
    """Scales in half precision, where that holds all of them."""
    with np.errstate(over="ignore", under="ignore"):
        half = scale.astype("<f2")
    return half if _same_bits(half.astype(np.float32), scale) else scale


def value_forms(elements: Array, elem_type: int, shape: Sequence[int]) -> Iterator[ValueForm]:
    """All forms that keep every bit, the stored one first.

    Parameters
    ----------
    elements
        Elements as raw data have them, ``(N,)``.
    elem_type, shape
        Of the tensor.
    """
    yield ValueForm(elements, elem_type, 8 * elements.itemsize)
    if elem_type not in HALVES or not np.isfinite(elements).all():
        return
    with np.errstate(over="ignore", under="ignore"):
        half = elements.astype("<f2")
    if _same_bits(half.astype(HALVES[elem_type]), elements):
        yield ValueForm(half, TensorProto.FLOAT16, 16)
    if elem_type == TensorProto.FLOAT:
        grid = _grid(elements.reshape(tuple(shape)))
        if grid is not None:
            integers, scale = grid
            for bits, largest in LARGEST.items():
                if np.abs(integers).max(initial=0) <= largest:
                    yield ValueForm(integers.reshape(-1), TensorProto.INT8, bits, scale)


def _grid(values: Array) -> tuple[Array, Array] | None:
    """Integers and scales whose products are the values, float32; None where there are none."""
    for axes in AXES[: 3 if values.ndim < 3 else None]:
        if max(axes) >= values.ndim or (axes == (-1,) and values.ndim < 3):
            continue
        kept = tuple(axis % values.ndim for axis in axes)
        others = tuple(axis for axis in range(values.ndim) if axis not in kept)
        if math.prod(values.shape[axis] for axis in others) < 2:  # as many scales as values
            continue
        scale = _common_divisors(np.moveaxis(values, kept, range(len(kept))), len(kept))
        if scale is None:
            continue
        scale = np.expand_dims(scale, others)
        integers = np.rint(values / scale).astype(np.int8)
        if _same_bits(integers.astype(np.float32) * scale, values):
            return integers, scale
    return None


def _common_divisors(values: Array, axes: int) -> Array | None:
    """Largest number for each output of which all its values are multiples, up to 127 times.

    Parameters
    ----------
    values
        (D1, ..., DK) float32, the outputs on the first axes.
    axes
        How many these are.
    """
    outputs = values.shape[:axes]
    rows = values.reshape(int(np.prod(outputs)), -1)
    scales, peaks = np.ones(len(rows)), np.zeros(len(rows), np.int64)
    for number, row in enumerate(rows):
        filled = np.abs(row[row != 0])
        if not filled.size:
            continue
        largest, least = filled.max(), filled.min()
        if largest > LARGEST[8] * least:
            return None
        mantissas, exponents = np.frexp(filled.astype(np.float64))
        whole = np.ldexp(mantissas, MANTISSA + exponents - exponents.min())
        divisor = np.gcd.reduce(whole.astype(np.int64))
        scale = np.ldexp(float(divisor), int(exponents.min()) - MANTISSA)
        if largest > LARGEST[8] * scale or np.float32(scale) != scale:
            return None
        scales[number], peaks[number] = scale, round(largest / scale)
    most = next(bound for bound in sorted(LARGEST.values()) if peaks.max(initial=0) <= bound)
    shorts = [
        _short(scale, most // peak) if peak else 1.0
        for scale, peak in zip(scales.tolist(), peaks.tolist(), strict=True)
    ]
    return np.array(shorts, np.float32).reshape(outputs)


def _short(scale: float, parts: int) -> float:
    """The scale, or the largest of its halves, thirds, ... that half precision holds.

    Parameters
    ----------
    scale
        Any scale of an output.
    parts
        Most parts, with which the integers need no more bits.
    """
    shares = scale / np.arange(1, parts + 1)
    with np.errstate(over="ignore", under="ignore"):
        exact = shares.astype(np.float16) == shares
    return float(shares[np.argmax(exact)])


def _same_bits(first: Array, second: Array) -> bool:
    return np.ascontiguousarray(first).tobytes() == np.ascontiguousarray(second).tobytes()
