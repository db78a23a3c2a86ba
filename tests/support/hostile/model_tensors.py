"""Weights that lie about their type, size or place, and protobuf that is none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from tests.support.hostile.cases import (
    BAD,
    FINE,
    GONE,
    ILL_LAYER,
    REFUSED,
    UNCLEAR,
    UNRUNNABLE,
    Case,
    Codes,
    edited,
    model_case,
    samples,
    text,
)
from tests.support.hostile.model_graphs import drop, plain, put
from tests.support.small import normal

FIRST = "graph.initializer[0]"  # w (6, 5) float32


def values(array: np.ndarray) -> Callable[[onnx.ModelProto], None]:
    """A change of the first weight."""

    def edit(proto: onnx.ModelProto) -> None:
        proto.graph.initializer[0].CopyFrom(numpy_helper.from_array(array, "w"))

    return edit


def typed(field: str, numbers: list[float], kind: int = 1) -> Callable[[onnx.ModelProto], None]:
    """The first weight's values in one of the typed fields."""

    def edit(proto: onnx.ModelProto) -> None:
        tensor = proto.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_type = kind
        getattr(tensor, field).extend(numbers)

    return edit


def segment(proto: onnx.ModelProto) -> None:
    proto.graph.initializer[0].segment.begin = 1
    proto.graph.initializer[0].segment.end = 2**40


W = normal(6, 5, seed=1)
TENSORS = (
    ("weight-cut", put(f"{FIRST}.raw_data", W.tobytes()[:-4]), BAD, "bytes"),
    ("weight-of-half-a-number", put(f"{FIRST}.raw_data", W.tobytes() + b"#"), BAD, "bytes"),
    ("weight-too-long", put(f"{FIRST}.raw_data", W.tobytes() * 9), BAD, "bytes"),
    ("weight-empty", put(f"{FIRST}.raw_data", b""), BAD, "bytes"),
    ("weight-without-data", drop(f"{FIRST}.raw_data"), BAD, ""),
    ("weight-without-dims", drop(f"{FIRST}.dims"), BAD, "bytes"),
    ("weight-without-type", drop(f"{FIRST}.data_type"), BAD, "w"),
    ("weight-without-name", drop(f"{FIRST}.name"), BAD, ""),
    ("weight-dims-2^62", put(f"{FIRST}.dims", [2**62, 4]), BAD, "bytes"),
    ("weight-dims-that-overflow", put(f"{FIRST}.dims", [2**33, 2**31]), BAD, "bytes"),
    ("weight-dims-negative", put(f"{FIRST}.dims", [-6, -5]), BAD, "negative"),
    ("weight-dims-zero", put(f"{FIRST}.dims", [6, 0]), BAD, "bytes"),
    ("weight-dims-swapped", put(f"{FIRST}.dims", [5, 6]), ILL_LAYER, ""),
    ("weight-flat", put(f"{FIRST}.dims", [30]), ILL_LAYER, ""),
    ("weight-of-rank-40", put(f"{FIRST}.dims", [6, 5] + [1] * 38), UNRUNNABLE, ""),
    ("weight-of-rank-4000", put(f"{FIRST}.dims", [6, 5] + [1] * 3998), BAD, "axes"),
    ("weight-of-none", values(np.zeros((6, 0), np.float32)), UNRUNNABLE, ""),
    ("weight-of-type-4711", put(f"{FIRST}.data_type", 4711), BAD, "4711"),
    ("weight-of-type--1", put(f"{FIRST}.data_type", -1), BAD, ""),
    ("weight-of-double", put(f"{FIRST}.data_type", 11), BAD, "bytes"),
    ("weight-of-integers", put(f"{FIRST}.data_type", 6), UNRUNNABLE, ""),
    ("weight-of-text", put(f"{FIRST}.data_type", 8), BAD, "w"),
    ("weight-of-complex", values(W.astype(np.complex64)), UNRUNNABLE, ""),
    ("weight-of-truth", values(W > 0), UNRUNNABLE, ""),
    ("weight-of-halves", values(W.astype(np.float16)), UNRUNNABLE, ""),
    ("weight-typed", typed("float_data", W.ravel().tolist()), FINE, ""),
    ("weight-typed-short", typed("float_data", [1.0]), BAD, "w"),
    ("weight-typed-long", typed("float_data", [1.0] * 99), BAD, "w"),
    ("weight-in-the-wrong-field", typed("int64_data", [1] * 30), BAD, "int64_data"),
    ("weight-halves-too-large", typed("int32_data", [2**30] * 30, 10), UNCLEAR, ""),
    ("weight-twice", lambda p: p.graph.initializer[0].float_data.append(1.0), BAD, "w"),
    ("weight-segment", segment, BAD, "w"),
    ("weight-nan", values(W * np.nan), UNCLEAR, ""),
    ("weight-infinite", values(W * np.inf), UNCLEAR, ""),
    ("weight-one-nan", values(np.where(W > 1, np.nan, W)), UNCLEAR, ""),
    ("weight-3e38", values(np.full((6, 5), 3e38, np.float32)), UNCLEAR, ""),
    ("weight-1e-40", values(np.full((6, 5), 1e-40, np.float32)), UNCLEAR, ""),
    ("weight-zero", values(np.zeros((6, 5), np.float32)), UNCLEAR, ""),
    ("weight-one-number", values(np.ones((6, 5), np.float32)), FINE, ""),
    ("bias-nan", lambda p: values_of(p, 1, np.full(5, np.nan, np.float32)), UNCLEAR, ""),
    ("bias-3e38", lambda p: values_of(p, 1, np.full(5, 3e38, np.float32)), UNCLEAR, ""),
    ("bias-of-another-size", lambda p: values_of(p, 1, normal(7)), ILL_LAYER, ""),
    ("bias-of-rank-3", lambda p: values_of(p, 1, normal(1, 1, 5)), ILL_LAYER, ""),
    ("weight-is-the-bias", put("graph.node[0].input[2]", "w"), ILL_LAYER, ""),
    ("weight-is-the-input", put("graph.node[0].input[1]", "x"), UNRUNNABLE, ""),
)


def values_of(proto: onnx.ModelProto, at: int, array: np.ndarray) -> None:
    tensor = proto.graph.initializer[at]
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def sparse(indices: object, numbers: int = 3, dims: object = (6, 5), **fields: object) -> Case:
    """The first weight as a sparse tensor."""
    proto = plain()
    del proto.graph.initializer[0]
    made = onnx.SparseTensorProto(dims=list(dims))  # type: ignore[call-overload]
    made.values.CopyFrom(numpy_helper.from_array(normal(numbers), "w"))
    made.indices.CopyFrom(numpy_helper.from_array(np.asarray(indices), "at"))
    proto.graph.sparse_initializer.append(made)
    return model_case(str(fields["name"]), proto, fields["codes"])  # type: ignore[arg-type]


def sparse_cases() -> Iterator[Case]:
    far, most = [1, 2, 99], [1, 2, 2**62]
    yield sparse([1, 7, 12], name="sparse", codes=UNCLEAR)
    yield sparse(far, name="sparse-far", codes=BAD)
    yield sparse(most, name="sparse-2^62", codes=BAD)
    yield sparse([-1, 2, 3], name="sparse-negative", codes=BAD)
    yield sparse([3, 2, 1], name="sparse-unsorted", codes=BAD)
    yield sparse([2, 2, 2], name="sparse-of-one-place", codes=BAD)
    yield sparse([1, 2], name="sparse-of-two-places", codes=BAD)
    yield sparse([[0, 1], [1, 9], [2, 2]], name="sparse-far-in-a-row", codes=BAD)
    yield sparse([1.0, 2.0, 3.0], name="sparse-by-floats", codes=BAD)
    yield sparse([1, 2, 3], dims=(2**40, 2**40), name="sparse-2^80", codes=BAD)
    yield sparse([1, 2, 3], dims=(-6, 5), name="sparse-of-negative-size", codes=BAD)
    yield sparse([1, 2, 3], dims=(2**20, 2**20), name="sparse-4-terabytes", codes=(65, 69, 71))
    yield sparse(np.zeros(0, np.int64), 0, name="sparse-of-nothing", codes=UNCLEAR)


def outside(**entries: str) -> onnx.ModelProto:
    """The plain model with its first weight in ``w.bin``."""
    proto = plain()
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": "w.bin", **entries}.items():
        tensor.external_data.add(key=key, value=value)
    return proto


BESIDE = {"w.bin": W.tobytes()}
EXTERNAL: dict[str, tuple[dict[str, str], Codes]] = {
    "right": ({}, FINE),
    "of-another-length": ({"length": "7"}, BAD),
    "of-negative-length": ({"length": "-120"}, BAD),
    "of-length-2^63": ({"length": str(2**63)}, BAD),
    "of-length-in-words": ({"length": "all"}, BAD),
    "of-a-digit-of-another-script": ({"length": "\u0661\u0662\u0660"}, UNCLEAR),
    "at-a-negative-place": ({"offset": "-4"}, BAD),
    "at-2^62": ({"offset": str(2**62)}, BAD),
    "at-a-place-past-the-end": ({"offset": "60"}, BAD),
    "at-a-place-in-words": ({"offset": "0x10"}, BAD),
    "of-a-wrong-checksum": ({"checksum": "0" * 40}, UNCLEAR),
    "nowhere": ({"location": ""}, BAD),
    "gone": ({"location": "gone.bin"}, GONE),
    "a-folder": ({"location": "."}, (65, 66, 77)),
    "above": ({"location": "../w.bin"}, REFUSED),
    "above-in-a-roundabout-way": ({"location": "a/../../w.bin"}, REFUSED),
    "above-in-the-way-of-windows": ({"location": "..\\w.bin"}, REFUSED),
    "at-the-root": ({"location": "/etc/passwd"}, REFUSED),
    "at-a-drive": ({"location": "C:\\w.bin"}, REFUSED),
    "at-an-address": ({"location": "https://example.org/w.bin"}, GONE),
    "of-a-zero": ({"location": "w\x00.bin"}, BAD),
    "of-a-long-name": ({"location": "w" * 5000}, (65, 66)),
    "of-the-memory": ({"location": "*/_ORT_MEM_ADDR_/*", "offset": "4096"}, (65, 66, 77)),
    "of-the-model": ({"location": "model.onnx"}, UNCLEAR),
    "of-nettrims-own-mark": ({"nettrim": "1"}, UNCLEAR),
    "of-an-unknown-key": ({"colour": "red"}, UNCLEAR),
}


def linked(name: str, make: Callable[[Path], None], codes: Codes) -> Case:
    """External data that are no plain file."""
    proto = outside()

    def write(folder: Path) -> str:
        (folder / "model.onnx").write_bytes(proto.SerializeToString())
        np.savez(folder / "data.npz", **samples(proto))
        (folder / "apart").mkdir()
        (folder / "apart" / "w.bin").write_bytes(W.tobytes())
        make(folder)
        return "model.onnx"

    return Case(f"external-{name}", write, codes, codes)


def pipe(folder: Path) -> None:
    import os

    os.mkfifo(folder / "w.bin")


def hole(folder: Path) -> None:
    (folder / "w.bin").unlink(missing_ok=True)
    with open(folder / "w.bin", "wb") as file:
        file.truncate(1 << 40)


def external_cases() -> Iterator[Case]:
    for name, (entries, codes) in EXTERNAL.items():
        proto = outside(**entries)
        yield model_case(f"external-{name}", proto, codes, beside=BESIDE)
    yield model_case("external-cut", outside(), BAD, beside={"w.bin": W.tobytes()[:50]})
    yield model_case("external-empty", outside(), BAD, beside={"w.bin": b""})
    proto = outside()
    proto.graph.initializer[0].raw_data = W.tobytes()
    yield model_case("external-and-inside", proto, UNCLEAR, beside=BESIDE)
    proto = outside()
    del proto.graph.initializer[0].external_data[:]
    yield model_case("external-without-a-place", proto, BAD)
    yield linked("a-pipe", pipe, (65, 66))
    yield linked("a-link-inside", lambda f: (f / "w.bin").symlink_to("apart/w.bin"), FINE)
    yield linked("a-link-outside", lambda f: (f / "w.bin").symlink_to("/etc/passwd"), REFUSED)
    yield linked("a-link-to-itself", lambda f: (f / "w.bin").symlink_to("w.bin"), (65, 66, 77))
    yield linked("a-hard-link", lambda f: (f / "w.bin").hardlink_to(f / "apart/w.bin"), REFUSED)
    yield linked("a-terabyte", hole, UNCLEAR)


def wire() -> Iterator[tuple[str, bytes, Codes]]:
    """Protobuf that no writer makes."""
    whole = plain().SerializeToString()
    yield "empty", b"", BAD
    yield "zeros", bytes(500), BAD
    yield "unknown-field", whole + b"\xfa\x3f\x03abc", FINE
    yield "group", whole + b"\xfb\x3f\xfc\x3f", UNCLEAR
    yield "group-never-ended", whole + b"\xfb\x3f", BAD
    yield "wrong-wire-type", b"\x0d\x01\x02\x03\x04" + whole, UNCLEAR
    yield "length-of-2^40", whole + b"\x3a\x80\x80\x80\x80\x80\x20", BAD
    yield "length-of-minus-one", whole + b"\x3a" + b"\xff" * 9 + b"\x01", BAD
    yield "endless-number", b"\x08" + b"\xff" * 20 + whole, BAD
    yield "overlong-number", b"\x08\x88\x80\x80\x00" + whole[2:], UNCLEAR
    yield "field-zero", b"\x02\x00" + whole, BAD
    yield "two-models", whole + whole, BAD
    yield "a-second-empty-graph", whole + b"\x3a\x00", FINE
    yield "name-that-is-no-text", whole.replace(b"\x0a\x01x", b"\x0a\x01\xff"), BAD
    yield "deep", b"\x3a\x04" * 50_000, BAD
    yield "tail", whole + b"\x00", BAD
    yield "cut-in-the-middle", whole[: len(whole) // 2], BAD
    yield "cut-by-one", whole[:-1], BAD
    yield "zip", b"PK\x03\x04" + whole, BAD
    yield "gzip", b"\x1f\x8b\x08\x00" + whole, BAD
    yield "text", b"ir_version: 8\ngraph { }", BAD
    yield "html", b"<!DOCTYPE html><html></html>", BAD
    yield "lfs", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", BAD
    yield "pickle", b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00.", BAD


def cases() -> Iterator[Case]:
    """All of them."""
    yield from edited(plain, *TENSORS)
    yield from sparse_cases()
    yield from external_cases()
    for name, payload, codes in wire():
        yield model_case(f"wire-{name}", payload, codes)
    proto = text(
        "g (float[N,6] x) => (float[N,4] y) { y = MatMul(x, w) }",
        w=normal(6, 4).astype(np.float64),
    )
    yield model_case("weight-of-another-precision", proto, UNRUNNABLE)
