"""What a hostile case is, and the codes that are right for the kinds of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import parser

from tests.support.small import HEAD, normal

Codes = tuple[int, ...]
Content = bytes | Callable[[], bytes]  # many bytes are made when they are wanted

FINE: Codes = (0,)
NOTHING: Codes = (4,)
BAD: Codes = (65,)
GONE: Codes = (66,)
REFUSED: Codes = (77,)
# What onnx's checker lets pass and the engine refuses, or the other way round, whichever
# versions are installed: both codes tell that it is the model.
UNRUNNABLE: Codes = (65, 69)
# The only layer is malformed: nettrim says so of it, or onnx, or the engine.
ILL_LAYER: Codes = (4, 65, 69)
# The specification leaves it open, and the engine may take it: then the result must run.
UNCLEAR: Codes = (0, 4, 65, 69)


@dataclass(frozen=True)
class Case:
    """A hostile file.

    Attributes
    ----------
    write
        Writes the files into a folder; gives the name of the hostile one.
    codes
        Right exit codes of ``prune`` or, for data, also of ``compare``.
    inspect
        Right exit codes of ``inspect``; those of `codes` that do not need an engine by default.
    says
        Words of the sentence, whose letters may be large or small.
    """

    name: str
    write: Callable[[Path], str]
    codes: Codes
    inspect: Codes = ()
    says: str = ""

    def __str__(self) -> str:
        """The test's name."""
        return self.name


def text(body: str, *, head: str = HEAD, **tensors: Any) -> onnx.ModelProto:
    """A model from onnx's text form, unchecked."""
    proto = parser.parse_model(f"{head}\n{body}")
    for name, values in tensors.items():
        array = values if isinstance(values, np.ndarray) else np.array(values, np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return proto


def model_case(
    name: str,
    model: onnx.ModelProto | bytes,
    codes: Codes,
    *,
    says: str = "",
    inspect: Codes = (),
    feeds: dict[str, np.ndarray] | None = None,
    beside: dict[str, bytes] | None = None,
) -> Case:
    """A case of a hostile model with plain samples.

    Parameters
    ----------
    feeds
        Samples; twelve of the first input's shape, its free axes 3 long, by default.
    beside
        More files in the model's folder.
    """
    payload = model if isinstance(model, bytes) else model.SerializeToString()
    known = feeds if feeds is not None else samples(model)

    def write(folder: Path) -> str:
        for other, content in (beside or {}).items():
            (folder / other).write_bytes(content)
        (folder / "model.onnx").write_bytes(payload)
        np.savez(folder / "data.npz", **known)
        return "model.onnx"

    without = tuple(code for code in codes if code != 69) + ((0,) if 69 in codes else ())
    return Case(name, write, codes, inspect or (*without, *((0,) if 4 in codes else ())), says)


def samples(model: onnx.ModelProto | bytes, count: int = 12) -> dict[str, np.ndarray]:
    """Normal samples for every input that could be told, by name."""
    if isinstance(model, bytes):
        return {"x": normal(count, 6)}
    found = {}
    for value in model.graph.input:
        axes = value.type.tensor_type.shape.dim[1:]
        sizes = [axis.dim_value if 0 < axis.dim_value < 64 else 3 for axis in axes]
        kind = value.type.tensor_type.elem_type
        drawn = normal(count, *sizes)
        found[value.name.replace("/", "_") or "x"] = drawn if kind == 1 else np.abs(drawn) > 1
    return found or {"x": normal(count, 6)}


def edited(
    make: Callable[[], onnx.ModelProto], *edits: tuple[str, Callable[[Any], Any], Codes, str]
) -> Iterator[Case]:
    """A case for each change of a model."""
    for name, edit, codes, says in edits:
        proto = make()
        edit(proto)
        yield model_case(name, proto, codes, says=says)


def written(content: Content) -> Callable[[Path], object]:
    """What writes a file."""
    return lambda path: path.write_bytes(content if isinstance(content, bytes) else content())


def data_case(
    name: str, suffix: str, write: Callable[[Path], Any], codes: Codes, says: str = ""
) -> Case:
    """A case of hostile data for a model of one input ``x`` of 6 numbers a sample."""

    def whole(folder: Path) -> str:
        (folder / "model.onnx").write_bytes(SERVED)
        write(folder / f"data.{suffix}")
        return f"data.{suffix}"

    return Case(f"{suffix}-{name}", whole, codes, says=says)


SERVED = text(
    "g (float[N,6] x) => (float[N,4] y) { h = Gemm(x, w, b)\n r = Relu(h)\n y = MatMul(r, v) }",
    w=normal(6, 5, seed=1),
    b=normal(5, seed=2),
    v=normal(5, 4, seed=3),
).SerializeToString()
