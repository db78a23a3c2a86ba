"""HDF5 files of every type, shape, storage and link, and such whose fields lie."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tests.support.hostile.cases import BAD, FINE, REFUSED, UNCLEAR, Case, Codes, Content, data_case
from tests.support.small import normal

X = normal(12, 6)
Fill = Callable[[h5py.File], Any]
MOST = 2**63 - 1


def dataset(name: str = "x", /, **options: Any) -> Fill:
    return lambda file: file.create_dataset(name, **options)


def stored(value: Any) -> Fill:
    return dataset(data=value)


def typed(kind: Any, shape: tuple[int, ...] = (12, 6)) -> Fill:
    """A dataset of a type of HDF5's own; nothing is written to it."""

    def fill(file: h5py.File) -> None:
        space = h5py.h5s.create_simple(shape)
        h5py.h5d.create(file.id, b"x", kind, space)

    return fill


def changed(kind: Any, **calls: Any) -> Any:
    made = kind.copy()
    for name, value in calls.items():
        getattr(made, name)(*value if isinstance(value, tuple) else (value,))
    return made


def enumerated() -> Any:
    return h5py.enum_dtype({"A": 0, "B": 1}, basetype="i1")


FLOAT, INTEGER = h5py.h5t.IEEE_F32LE, h5py.h5t.STD_I32LE
VARYING = h5py.vlen_dtype(np.float32)
TYPES: dict[str, tuple[Fill, Codes]] = {
    "double": (stored(X.astype("<f8")), FINE),
    "half": (stored(X.astype("<f2")), FINE),
    "big-ends": (stored(X.astype(">f4")), FINE),
    "integers": (stored(np.arange(72).reshape(12, 6)), BAD),
    "truth": (stored(X > 0), UNCLEAR),
    "enumeration": (dataset(shape=(12, 6), dtype=enumerated()), UNCLEAR),
    "complex": (stored(X.astype("c8")), BAD),
    "record": (stored(np.zeros((12, 6), [("a", "<f4"), ("b", "<i8")])), BAD),
    "record-of-one": (stored(np.zeros((12, 6), [("a", "<f4")])), BAD),
    "array-of-six": (dataset(shape=(12,), dtype=np.dtype(("<f4", (6,)))), UNCLEAR),
    "array-of-arrays": (dataset(shape=(12,), dtype=np.dtype(("<f4", (6, 2)))), BAD),
    "varying": (dataset(shape=(12,), dtype=VARYING), BAD),
    "varying-text": (stored(["a"] * 12), BAD),
    "text": (stored(np.full((12, 6), b"four")), BAD),
    "text-of-2^20": (dataset(shape=(12, 6), dtype=f"S{2**20}"), BAD),
    "opaque": (typed(h5py.h5t.create(h5py.h5t.OPAQUE, 4)), BAD),
    "opaque-of-2^30": (typed(h5py.h5t.create(h5py.h5t.OPAQUE, 2**30), (2, 6)), BAD),
    "references": (dataset(shape=(12, 6), dtype=h5py.ref_dtype), BAD),
    "references-to-regions": (dataset(shape=(12, 6), dtype=h5py.regionref_dtype), BAD),
    "bits": (typed(h5py.h5t.STD_B32LE), BAD),
    "time": (typed(h5py.h5t.UNIX_D32LE), BAD),
    "float-of-3-bytes": (typed(changed(FLOAT, set_fields=(23, 16, 7, 0, 16), set_size=3)), UNCLEAR),
    "float-of-odd-bias": (typed(changed(FLOAT, set_ebias=3)), UNCLEAR),
    "float-of-bfloat": (
        typed(changed(FLOAT, set_fields=(15, 7, 8, 0, 7), set_precision=16, set_size=2)),
        UNCLEAR,
    ),
    "integer-of-3-bytes": (typed(changed(INTEGER, set_size=3)), UNCLEAR),
}

SHAPES: dict[str, tuple[Fill, Codes]] = {
    "scalar": (stored(np.float32(3)), BAD),
    "null": (stored(h5py.Empty("f4")), BAD),
    "no-samples": (stored(X[:0]), BAD),
    "no-features": (stored(X[:, :0]), BAD),
    "one-sample": (stored(X[:1]), UNCLEAR),
    "flat": (stored(X.ravel()), BAD),
    "features-first": (stored(X.T.copy()), BAD),
    "rank-32": (stored(X.reshape(12, 6, *[1] * 30)), BAD),
    "2^62-samples": (dataset(shape=(2**58, 6), dtype="f4", chunks=(64, 6)), UNCLEAR),
    "most-features": (dataset(shape=(12, 2**55), dtype="f4", chunks=(1, 1024)), BAD),
    "wide-samples": (dataset(shape=(12, 2**31), dtype="f4", chunks=(1, 1024)), BAD),
    "growing": (dataset(data=X, maxshape=(None, None), chunks=(4, 6)), FINE),
    "never-written": (dataset(shape=(12, 6), dtype="f4"), UNCLEAR),
    "filled-with-nan": (dataset(shape=(12, 6), dtype="f4", fillvalue=np.nan), BAD),
    "filled-with-1e30": (dataset(shape=(12, 6), dtype="f4", fillvalue=1e30), UNCLEAR),
}

CHUNKS: dict[str, tuple[Fill, Codes]] = {
    "gzip": (dataset(data=X, chunks=(4, 6), compression="gzip"), FINE),
    "lzf": (dataset(data=X, chunks=(4, 6), compression="lzf"), FINE),
    "shuffle": (dataset(data=X, chunks=(4, 6), shuffle=True, compression="gzip"), FINE),
    "checksum": (dataset(data=X, chunks=(4, 6), fletcher32=True), FINE),
    "scale-offset": (dataset(data=X, chunks=(4, 6), scaleoffset=2), FINE),
    "one-by-one": (dataset(data=X, chunks=(1, 1), compression="gzip"), FINE),
    "larger-than-the-data": (
        dataset(data=X, chunks=(4096, 6), maxshape=(None, 6), compression="gzip"),
        FINE,
    ),
    "of-4-gigabytes": (
        dataset(
            shape=(12, 6), maxshape=(None, None), chunks=(2**14, 2**15), dtype="f4", shuffle=True
        ),
        BAD,
    ),
}


def chunk(code: int, payload: Content, values: tuple[int, ...] = (1,), mask: int = 0) -> Fill:
    """A dataset of one chunk that a filter is said to have made."""

    def fill(file: h5py.File) -> None:
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_chunk((12, 6))
        properties.set_filter(code, h5py.h5z.FLAG_OPTIONAL, values)
        space = h5py.h5s.create_simple((12, 6))
        made = h5py.h5d.create(file.id, b"x", FLOAT, space, properties)
        content = payload if isinstance(payload, bytes) else payload()
        made.write_direct_chunk((0, 0), content, mask)

    return fill


def packed(payload: bytes) -> bytes:
    return zlib.compress(payload)


def packed_zeros(megabytes: int) -> bytes:
    """Zeros that are packed in an instant: after a flush each megabyte has the same bytes."""
    packer = zlib.compressobj()
    first, next_one = (
        packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH) for _ in range(2)
    )
    checksum = ((megabytes << 20) % 65521) << 16 | 1
    return first + next_one * (megabytes - 1) + b"\x03\x00" + checksum.to_bytes(4, "big")


GZIP, SHUFFLE, CHECKSUM, SZIP, BITS, SCALE, LZF = 1, 2, 3, 4, 5, 6, 32000
FILTERS: dict[str, tuple[Fill, Codes]] = {
    "right": (chunk(GZIP, packed(X.tobytes())), FINE),
    "noise": (chunk(GZIP, b"noise" * 20), BAD),
    "cut": (chunk(GZIP, packed(X.tobytes())[:-9]), BAD),
    "too-short": (chunk(GZIP, packed(X.tobytes()[:40])), UNCLEAR),
    "too-long": (chunk(GZIP, lambda: packed_zeros(2**4)), UNCLEAR),
    "bomb": (chunk(GZIP, lambda: packed_zeros(2**8)), UNCLEAR),
    "masked": (chunk(GZIP, X.tobytes(), mask=1), FINE),
    "masked-and-cut": (chunk(GZIP, X.tobytes()[:40], mask=1), UNCLEAR),
    "shuffle-of-2^31": (chunk(SHUFFLE, X.tobytes(), (2**31,)), UNCLEAR),
    "shuffle-of-zero": (chunk(SHUFFLE, X.tobytes(), (0,)), UNCLEAR),
    "checksum-wrong": (chunk(CHECKSUM, X.tobytes() + b"nope", ()), BAD),
    "checksum-of-three-bytes": (chunk(CHECKSUM, b"abc", ()), BAD),
    "szip": (chunk(SZIP, b"noise" * 20, (4, 4)), BAD),
    "szip-of-zeros": (chunk(SZIP, bytes(64), (0, 0, 0, 0)), BAD),
    "bits": (chunk(BITS, b"noise" * 20, (1, 2, 3)), UNCLEAR),
    "scale": (chunk(SCALE, b"noise" * 20, (0, 2)), UNCLEAR),
    "lzf": (chunk(LZF, b"noise" * 20, (4, 261, 288)), BAD),
    "lzf-of-2^31": (chunk(LZF, b"\x1f" + b"\xff" * 90, (4, 261, 2**31)), BAD),
    "unknown": (chunk(40_000, b"noise"), BAD),
    "blosc": (chunk(32_001, b"noise" * 9), BAD),
    "reserved": (chunk(300, b"noise"), BAD),
}


def link(target: Any, **more: Any) -> Fill:
    def fill(file: h5py.File) -> None:
        for name, value in more.items():
            file[name] = value
        file["x"] = target

    return fill


def circle(file: h5py.File) -> None:
    file.create_group("a")["again"] = file["/"]
    file["a/b"] = file["a"]
    file["c"] = X
    file["d"] = X


def group(file: h5py.File) -> None:
    file.create_group("x")["x"] = X


def deep(file: h5py.File) -> None:
    file["/".join(["g"] * 3000)] = X


def many(file: h5py.File) -> None:
    for at in range(3000):
        file.create_group(f"g{at}")
    file["x"] = X


def named_type(file: h5py.File) -> None:
    file["x"] = np.dtype("f4")


def virtual(*sources: tuple[str, str], rows: int = 12) -> Fill:
    def fill(file: h5py.File) -> None:
        file["part"] = X
        layout = h5py.VirtualLayout((rows, 6), "f4")
        for at, source in enumerate(sources):
            layout[at * 12 : at * 12 + 12] = h5py.VirtualSource(*source, (12, 6))
        file.create_virtual_dataset("x", layout)

    return fill


def external(*places: tuple[str, int, int]) -> Fill:
    return dataset(shape=(12, 6), dtype="f4", external=list(places))


def attributes(file: h5py.File) -> None:
    made = file.create_dataset("x", data=X)
    for at in range(500):
        made.attrs[f"a{at}"] = np.zeros(200)


LINKS: dict[str, tuple[Fill, Codes]] = {
    "soft": (link(h5py.SoftLink("/real"), real=X), FINE),
    "soft-nowhere": (link(h5py.SoftLink("/gone")), BAD),
    "soft-to-itself": (link(h5py.SoftLink("/x")), BAD),
    "soft-through-a-dataset": (link(h5py.SoftLink("/real/x"), real=X), FINE),
    "soft-to-nothing": (link(h5py.SoftLink("."), real=X), FINE),
    "soft-at-length": (link(h5py.SoftLink("/./" * 20_000 + "real"), real=X), FINE),
    "outside": (link(h5py.ExternalLink("other.h5", "/x")), REFUSED),
    "outside-to-a-device": (link(h5py.ExternalLink("/dev/zero", "/x")), REFUSED),
    "outside-to-itself": (link(h5py.ExternalLink("data.h5", "/x")), REFUSED),
    "outside-of-controls": (link(h5py.ExternalLink("\x1b[2J", "/\n")), REFUSED),
    "circle": (circle, BAD),
    "group": (group, UNCLEAR),
    "deep": (deep, UNCLEAR),
    "many-groups": (many, FINE),
    "type": (named_type, BAD),
    "nothing": (lambda file: None, BAD),
    "another-name": (dataset("features", data=X), FINE),
    "name-of-controls": (dataset("\x1b[2Jx\n", data=X), FINE),
    "name-that-is-no-text": (dataset(b"\xff\xfe", data=X), UNCLEAR),
    "names-of-controls": (
        lambda f: [f.create_dataset(n, data=X) for n in ("\x1b[2J\n", "b\x07")],
        BAD,
    ),
    "attributes": (attributes, FINE),
    "virtual": (virtual((".", "part")), FINE),
    "virtual-of-itself": (virtual((".", "x")), BAD),
    "virtual-of-nothing": (virtual((".", "gone")), UNCLEAR),
    "virtual-outside": (virtual(("other.h5", "x")), REFUSED),
    "virtual-outside-and-in": (virtual((".", "part"), ("/etc/passwd", "x"), rows=24), REFUSED),
    "virtual-without-sources": (virtual(), UNCLEAR),
    "external": (external(("raw.bin", 0, 288)), REFUSED),
    "external-passwords": (external(("/etc/passwd", 0, 288)), REFUSED),
    "external-in-two": (external(("a", 0, 100), ("b", 0, 188)), REFUSED),
    "labels-outside": (
        link(X, labels=h5py.ExternalLink("other.h5", "/x")),
        REFUSED,
    ),
    "labels-a-group": (lambda f: [link(X)(f), f.create_group("labels")], UNCLEAR),
    "labels-text": (link(X, labels=["a"] * 12), BAD),
    "labels-references": (
        lambda f: [link(X)(f), f.create_dataset("labels", (12,), h5py.ref_dtype)],
        BAD,
    ),
}


def content(fill: Fill, **options: Any) -> bytes:
    """A file made in memory."""
    file = h5py.File.in_memory(**options) if hasattr(h5py.File, "in_memory") else None
    assert file is not None
    with file:
        fill(file)
        file.flush()
        return bytes(file.id.get_file_image())


def put(whole: bytes, at: int, value: bytes) -> bytes:
    return whole[:at] + value + whole[at + len(value) :]


def bytewise() -> Iterator[tuple[str, bytes, Codes]]:
    """Fields of the file format itself (HDF5 File Format Specification, II.A to IV.A)."""
    plain = content(dataset(data=X))
    chunked = content(dataset(data=X, chunks=(4, 6), compression="gzip"))
    latest = content(dataset(data=X, chunks=(4, 6)), libver="latest")
    size = np.asarray([12, 6], "<u8").tobytes()
    yield "empty", b"", BAD
    yield "signature-alone", plain[:8], BAD
    yield "signature-damaged", put(plain, 1, b"X"), BAD
    yield "cut-by-one", plain[:-1], UNCLEAR
    yield "cut-in-the-middle", plain[: len(plain) // 2], BAD
    yield "cut-after-the-superblock", plain[:96], BAD
    yield "tail", plain + bytes(100), FINE
    yield "behind-512-bytes", bytes(512) + plain, UNCLEAR
    yield "behind-7-bytes", bytes(7) + plain, BAD
    for at, name in ((8, "version"), (13, "size-of-offsets"), (14, "size-of-lengths")):
        for value in (0, 3, 255):
            yield f"superblock-{name}-{value}", put(plain, at, bytes([value])), UNCLEAR
    for at, name in ((24, "base"), (40, "end"), (64, "root"), (80, "tree"), (88, "heap")):
        for value in (0, 1, 2**40, 2**64 - 1):
            made = put(plain, at, value.to_bytes(8, "little"))
            yield f"address-of-{name}-{value:x}", made, UNCLEAR
    for kind, whole in (("plain", plain), ("chunked", chunked), ("latest", latest)):
        place = whole.index(size)
        for name, rows, columns in (
            *(("more-rows", 13, 6), ("2^40-rows", 2**40, 6), ("most-rows", MOST, 6)),
            *(("minus-one-rows", 2**64 - 1, 6), ("no-rows", 0, 6), ("most", MOST, MOST)),
            ("fewer-features", 12, 5),
        ):
            shape = rows.to_bytes(8, "little") + columns.to_bytes(8, "little")
            yield f"{kind}-space-of-{name}", put(whole, place, shape), UNCLEAR
        for offset in (-8, -7, -6, -5):  # version, rank, flags of the dataspace
            for value in (0, 1, 33, 255):
                made = put(whole, place + offset, bytes([value]))
                yield f"{kind}-space{offset}-{value}", made, UNCLEAR
    signatures = {b"TREE": plain, b"HEAP": plain, b"SNOD": plain, b"OHDR": latest, b"FRHP": latest}
    for signature, whole in signatures.items():
        if signature in whole:
            at = whole.index(signature)
            yield f"{signature.decode()}-gone", put(whole, at, b"NONE"), UNCLEAR
            for offset in (4, 5, 6, 8):
                made = put(whole, at + offset, b"\xff")
                yield f"{signature.decode()}+{offset}", made, UNCLEAR


def filled(fill: Fill) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with h5py.File(path, "w") as file:
            fill(file)

    return write


def through_a_link(path: Path) -> None:
    filled(stored(X))(path.with_name("real.h5"))
    path.symlink_to("real.h5")


def cases() -> Iterator[Case]:
    """All of them."""
    tables = {"type": TYPES, "shape": SHAPES, "chunk": CHUNKS, "filter": FILTERS, "link": LINKS}
    for kind, table in tables.items():
        for name, (fill, codes) in table.items():
            yield data_case(f"{kind}-{name}", "h5", filled(fill), codes)
    for name, whole, codes in bytewise():
        yield data_case(name, "h5", lambda path, w=whole: path.write_bytes(w), codes)
    yield data_case("a-link", "h5", through_a_link, FINE)
    yield data_case("a-pipe", "h5", lambda path: os.mkfifo(path), (66,))
    yield data_case("a-device", "h5", lambda path: path.symlink_to("/dev/zero"), (66,))
    yield data_case("a-folder", "h5", lambda path: path.mkdir(), (66,))
    yield data_case("a-link-to-itself", "h5", lambda path: path.symlink_to(path), (66,))
