"""Sizes of a model's file in each form: as it lies, gzipped, and by Zstandard if it is there."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from nettrim_cli.evaluation.comparison import LARGE_BYTES, gzip_compressor
from nettrim_cli.graph.model import Model
from nettrim_cli.report.result import FileForm

MOST_BYTES = 1 << 31  # of a model that is compressed in all forms: more would take minutes
ZSTD_LEVEL, FAST_ZSTD_LEVEL = 12, 1


def forms(model: Model) -> tuple[FileForm, ...]:
    """The forms that a model can be written in; none for one over `MOST_BYTES`."""
    if model.approximate_bytes > MOST_BYTES:
        return ()
    return (
        FileForm("plain", *_sizes(model, compact=False), written=not model.compact),
        FileForm("compact", *_sizes(model, compact=True), written=model.compact),
    )


def _sizes(model: Model, *, compact: bool) -> tuple[int, int, int | None]:
    """Bytes of all files together: as they lie, gzipped, and by Zstandard."""
    zstd = _zstd()
    size, totals = model.approximate_bytes, [0, 0, 0]
    for content in model.contents(compact=compact):
        compressors = [gzip_compressor(size)]
        if zstd is not None:
            compressors.append(zstd(ZSTD_LEVEL if size <= LARGE_BYTES else FAST_ZSTD_LEVEL))
        for piece in content:
            totals[0] += len(piece)
            for position, compressor in enumerate(compressors, 1):
                totals[position] += len(compressor.compress(piece))
        for position, compressor in enumerate(compressors, 1):
            totals[position] += len(compressor.flush())
    return totals[0], totals[1], None if zstd is None else totals[2]


def _zstd() -> Callable[[int], Any] | None:
    """A maker of compressors: Python's own from 3.14 on, or those of the package ``zstandard``."""
    try:
        standard = import_module("compression.zstd")
        return lambda level: standard.ZstdCompressor(level)
    except ImportError:
        pass
    try:
        library = import_module("zstandard")
    except ImportError:
        return None
    return lambda level: library.ZstdCompressor(level=level).compressobj()
