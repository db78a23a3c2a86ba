"""NumPy's files and zip archives whose headers lie."""

from __future__ import annotations

import io
import itertools
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from tests.support.hostile.cases import (
    BAD,
    FINE,
    REFUSED,
    UNCLEAR,
    Case,
    Codes,
    Content,
    data_case,
    written,
)
from tests.support.small import normal

X = normal(12, 6)
MAGIC = b"\x93NUMPY"
HEAD = "{'descr': '<f4', 'fortran_order': False, 'shape': (12, 6), }"


def npy(head: str = HEAD, payload: bytes = X.tobytes(), version: bytes = b"\x01\x00") -> bytes:
    """An array's file with any header."""
    text = head.encode("latin1" if version < b"\x03" else "utf-8", "replace")
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    size = struct.pack("<H" if version == b"\x01\x00" else "<I", len(text))
    return MAGIC + version + size + text + payload


def head(descr: str = "'<f4'", order: str = "False", shape: str = "(12, 6)") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}"


WIDE = X.astype("<f8")
HEADERS: dict[str, tuple[bytes, Codes]] = {
    "right": (npy(), FINE),
    "version-2": (npy(version=b"\x02\x00"), FINE),
    "version-3": (npy(version=b"\x03\x00"), FINE),
    "version-4": (npy(version=b"\x04\x00"), BAD),
    "version-255": (npy(version=b"\xff\xff"), BAD),
    "magic-of-another": (b"\x93NUMPZ" + npy()[6:], BAD),
    "head-of-4-gigabytes": (MAGIC + b"\x02\x00" + b"\xff" * 4 + HEAD.encode(), BAD),
    "head-cut": (npy()[:40], BAD),
    "head-of-nothing": (MAGIC + b"\x01\x00\x00\x00", BAD),
    "head-of-a-megabyte": (npy(HEAD + " " * 2**20, version=b"\x02\x00"), BAD),
    "head-of-a-call": (npy("__import__('os').system('false')"), BAD),
    "head-of-brackets": (npy("(" * 5000 + ")" * 5000), BAD),
    "head-of-a-list": (npy("[1, 2, 3]"), BAD),
    "head-without-shape": (npy("{'descr': '<f4', 'fortran_order': False, }"), BAD),
    "head-of-one-key-more": (npy(HEAD[:-1] + "'more': 1, }"), BAD),
    "head-of-zeros": (npy("\0" * 60), BAD),
    "head-that-is-no-text": (npy(HEAD.replace("descr", "d\xe9scr")), BAD),
    "order-7": (npy(head(order="7")), BAD),
    "order-fortran": (npy(head(order="True")), FINE),
    "order-none": (npy(head(order="None")), BAD),
    "shape-negative": (npy(head(shape="(-12, 6)")), BAD),
    "shape-both-negative": (npy(head(shape="(-12, -6)")), BAD),
    "shape-zero": (npy(head(shape="(0, 6)")), BAD),
    "shape-no-features": (npy(head(shape="(12, 0)")), BAD),
    "shape-2^62": (npy(head(shape=f"({2**62}, 6)")), BAD),
    "shape-that-overflows": (npy(head(shape=f"({2**62}, 4)")), BAD),
    "shape-10^4000": (npy(head(shape="(" + "9" * 4000 + ", 6)")), BAD),
    "shape-of-floats": (npy(head(shape="(12.0, 6.0)")), BAD),
    "shape-of-words": (npy(head(shape="('12', '6')")), BAD),
    "shape-of-truth": (npy(head(shape="(True, True)")), BAD),
    "shape-none": (npy(head(shape="None")), BAD),
    "shape-a-number": (npy(head(shape="72")), BAD),
    "shape-scalar": (npy(head(shape="()")), BAD),
    "shape-flat": (npy(head(shape="(72,)")), BAD),
    "shape-nested": (npy(head(shape="((12, 6),)")), BAD),
    "shape-of-rank-40": (npy(head(shape="(12, 6" + ", 1" * 38 + ")")), BAD),
    "shape-of-rank-400": (npy(head(shape="(12, 6" + ", 1" * 398 + ")")), BAD),
    "shape-larger": (npy(head(shape="(13, 6)")), BAD),
    "shape-smaller": (npy(head(shape="(11, 6)")), FINE),
    "shape-of-other-features": (npy(head(shape="(6, 12)")), BAD),
    "type-pickle": (npy(head("'|O'")), REFUSED),
    "type-pickle-in-a-record": (npy(head("[('a', '|O')]")), REFUSED),
    "type-record": (npy(head("[('a', '<f4')]")), BAD),
    "type-record-of-arrays": (npy(head("[('a', '<f4', (6,))]", shape="(12,)")), BAD),
    "type-void": (npy(head("'|V4'")), BAD),
    "type-void-of-zero": (npy(head("'|V0'")), BAD),
    "type-void-of-2^31": (npy(head(f"'|V{2**31 - 1}'")), BAD),
    "type-text": (npy(head("'<U1'")), BAD),
    "type-text-of-2^29": (npy(head(f"'<U{2**29 - 1}'")), BAD),
    "type-bytes": (npy(head("'|S4'")), BAD),
    "type-time": (npy(head("'<M8[s]'", shape="(6, 6)")), BAD),
    "type-time-span": (npy(head("'<m8[Y]'", shape="(6, 6)")), BAD),
    "type-complex": (npy(head("'<c8'", shape="(6, 6)")), BAD),
    "type-float-of-3": (npy(head("'<f3'")), BAD),
    "type-float-of-16": (npy(head("'<f16'", shape="(3, 6)")), UNCLEAR),
    "type-big-ends": (npy(head("'>f4'"), X.astype(">f4").tobytes()), FINE),
    "type-big-ends-unsaid": (npy(head("'>f4'")), UNCLEAR),
    "type-double": (npy(head("'<f8'"), WIDE.tobytes()), FINE),
    "type-half": (npy(head("'<f2'"), X.astype("<f2").tobytes()), FINE),
    "type-integers": (npy(head("'<i4'"), np.arange(72, dtype="<i4").tobytes()), BAD),
    "type-large-integers": (npy(head("'<i8'"), np.full(72, 2**60 + 1).tobytes()), BAD),
    "type-truth": (npy(head("'|b1'"), bytes(range(72))), UNCLEAR),
    "type-none": (npy(head("None")), UNCLEAR),
    "type-of-words": (npy(head("'floats'")), BAD),
    "type-a-number": (npy(head("4")), BAD),
    "type-an-array": (npy(head("('<f4', (2,))", shape="(12, 3)")), UNCLEAR),
    "type-commas": (npy(head("'f4,f4'", shape="(6, 6)")), BAD),
    "values-nan": (npy(payload=np.where(X > 1, np.nan, X).astype("<f4").tobytes()), BAD),
    "values-infinite": (npy(payload=np.full(72, np.inf, "<f4").tobytes()), BAD),
    "values-too-large": (npy(head("'<f8'"), np.full(72, 1e300).tobytes()), BAD),
    "values-3e38": (npy(payload=np.full(72, 3e38, "<f4").tobytes()), UNCLEAR),
    "values-zero": (npy(payload=bytes(288)), UNCLEAR),
    "values-random-bits": (
        npy(payload=np.random.default_rng(7).bytes(288)),
        UNCLEAR,
    ),
    "cut": (npy()[:-1], BAD),
    "cut-in-the-middle": (npy()[:-100], BAD),
    "tail": (npy() + b"more", FINE),
    "twice": (npy() + npy(), FINE),
    "one-sample": (npy(head(shape="(1, 6)")), UNCLEAR),
    "zip-of-another-name": (b"PK\x03\x04" + npy(), BAD),
}


def archive(*entries: tuple[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """A zip archive."""
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", method) as file:
        for name, content in entries:
            file.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), content, method)
    return whole.getvalue()


ENTRY = ("x.npy", npy())
PLAIN = archive(ENTRY)
SMALL = archive(ENTRY, method=zipfile.ZIP_DEFLATED)
DIRECTORY, END, LOCAL = b"PK\x01\x02", b"PK\x05\x06", b"PK\x03\x04"
# Offsets of the fields behind a signature and their sizes (APPNOTE.TXT, 4.3.7, 4.3.12, 4.3.16).
FIELDS = {
    "local": (
        LOCAL,
        {"flags": 6, "method": 8, "crc": 14, "packed": 18, "size": 22, "name": 26, "extra": 28},
    ),
    "directory": (
        DIRECTORY,
        {
            "system": 4,
            "version": 6,
            "flags": 8,
            "method": 10,
            "crc": 16,
            "packed": 20,
            "size": 24,
            "name": 28,
            "extra": 30,
            "comment": 32,
            "disk": 34,
            "place": 42,
        },
    ),
    "end": (
        END,
        {"disk": 4, "start": 6, "here": 8, "all": 10, "size": 12, "place": 16, "comment": 20},
    ),
}
WIDE_FIELDS = {"crc", "packed", "size", "place"}


def patched(whole: bytes, part: str, field: str, value: int) -> bytes:
    signature, offsets = FIELDS[part]
    at = whole.index(signature) + offsets[field]
    width = 4 if field in WIDE_FIELDS else 2
    return whole[:at] + (value % 256**width).to_bytes(width, "little") + whole[at + width :]


def zip_fields() -> Iterator[tuple[str, bytes, Codes]]:
    """Every field of a zip archive with a value that is not its own."""
    for (part, (_, fields)), (kind, whole) in itertools.product(
        FIELDS.items(), (("plain", PLAIN), ("packed", SMALL))
    ):
        for field in fields:
            for value in (0, -1):
                made = patched(whole, part, field, value)
                if made != whole:
                    yield f"{kind}-{part}-{field}-{'most' if value else 'none'}", made, UNCLEAR


def deflated(content: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(content) + packer.flush()


def bomb(shape: str, size: int) -> bytes:
    """A packed array of zeros that says to have a shape."""
    return archive(("x.npy", npy(head(shape=shape), bytes(size))), method=zipfile.ZIP_DEFLATED)


def zips() -> Iterator[tuple[str, Content, Codes]]:
    yield "right", PLAIN, FINE
    yield "packed", SMALL, FINE
    yield "packed-by-bzip2", archive(ENTRY, method=zipfile.ZIP_BZIP2), BAD
    yield "packed-by-lzma", archive(ENTRY, method=zipfile.ZIP_LZMA), BAD
    yield "empty", archive(), BAD
    yield "of-a-text", archive(("readme.txt", b"hello")), BAD
    yield "of-another-archive", archive(("x.npz", PLAIN)), BAD
    yield "of-a-pickle", archive(("x.npy", npy(head("'|O'")))), REFUSED
    yield "of-a-pickle-beside", archive(ENTRY, ("labels.npy", npy(head("'|O'")))), REFUSED
    yield "of-a-name-above", archive(("../x.npy", npy())), UNCLEAR
    yield "of-a-name-at-the-root", archive(("/x.npy", npy())), UNCLEAR
    yield "of-a-name-of-controls", archive(("\x1b[2Jx\n.npy", npy())), UNCLEAR
    yield "of-a-name-of-controls-beside", archive(("a.npy", npy()), ("\x1b[2J\n.npy", npy())), BAD
    yield "of-a-name-at-length", archive(("x" * 60_000 + ".npy", npy())), UNCLEAR
    yield "of-no-name", archive((".npy", npy())), UNCLEAR
    yield "of-a-folder", archive(("x.npy/", b"")), BAD
    yield "of-many", lambda: archive(*((f"a{at}.npy", npy()) for at in range(2000))), BAD
    yield "of-labels-that-are-floats", archive(ENTRY, ("labels.npy", npy())), BAD
    yield "in-front-of-something", PLAIN + b"#" * 3000, UNCLEAR
    yield "behind-something", b"#!/bin/sh\n" + PLAIN, UNCLEAR
    yield "cut", PLAIN[:-10], BAD
    yield "cut-in-the-middle", PLAIN[: len(PLAIN) // 2], BAD
    yield "end-alone", PLAIN[PLAIN.index(END) :], BAD
    yield "end-twice", PLAIN + PLAIN[PLAIN.index(END) :], UNCLEAR
    yield "damaged-packing", SMALL.replace(deflated(npy())[20:40], bytes(20)), BAD
    yield "damaged-values", PLAIN.replace(X.tobytes()[:8], bytes(8)), UNCLEAR
    yield "bomb-that-is-short", lambda: bomb(f"({2**24}, 6)", 2**26), BAD
    yield "bomb-of-wide-samples", lambda: bomb(f"(2, {2**24})", 2**27), BAD
    fortran = npy(head(order="True"))
    yield "packed-in-fortran", archive(("x.npy", fortran), method=zipfile.ZIP_DEFLATED), BAD
    for name, (content, codes) in HEADERS.items():
        if name.startswith(("shape-", "type-", "head-")):
            yield f"of-{name}", archive(("x.npy", content)), codes


def labelled(labels: np.ndarray) -> Callable[[Path], None]:
    return lambda path: np.savez(path, x=X, labels=labels)


LABELS: dict[str, tuple[np.ndarray, Codes]] = {
    "whole": (np.arange(12) % 4, FINE),
    "few": (np.arange(11), BAD),
    "many": (np.arange(13), BAD),
    "none": (np.arange(0), BAD),
    "halves": (np.arange(12) + 0.5, BAD),
    "nan": (np.full(12, np.nan), BAD),
    "text": (np.array(["a"] * 12), BAD),
    "complex": (np.ones(12, complex), BAD),
    "most": (np.full(12, 2**63, np.uint64), BAD),
    "one-hot": (np.eye(12), BAD),
    "scalar": (np.array(1), BAD),
    "of-rank-3": (np.zeros((12, 1, 1), int), BAD),
}


def cases() -> Iterator[Case]:
    """All of them."""
    for name, (content, codes) in HEADERS.items():
        yield data_case(name, "npy", written(content), codes)
    for name, content, codes in itertools.chain(zips(), zip_fields()):
        yield data_case(name, "npz", written(content), codes)
    for name, (labels, codes) in LABELS.items():
        yield data_case(f"labels-{name}", "npz", labelled(labels), codes)
