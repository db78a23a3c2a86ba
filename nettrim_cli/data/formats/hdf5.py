"""HDF5 files, read without ever leaving the file.

h5py follows external links, external raw storage and virtual datasets to any file, and loads
filter plugins from ``HDF5_PLUGIN_PATH`` while it reads. So links are looked at before they are
followed, one path component at a time, a dataset's creation properties before its shape (asking
a virtual dataset for its shape opens the sources), and the plugin paths are taken away meanwhile.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from nettrim_cli.data.formats.base import Array, Indices, pieces, row_bytes, spell
from nettrim_cli.errors import BadInput, Refused

PROVENANCE = "nettrim"  # attribute of files that nettrim made
MAX_LINKS = 32  # soft links and virtual datasets on the way to one dataset
MAX_OBJECTS = 10_000  # objects looked at when a file is listed, sources of a virtual dataset
MAX_CHUNK_BYTES = 1 << 28  # a compressed chunk inflates as a whole; the cache holds the largest
CHECKSUM_BYTES = 4  # at the end of a chunk


class Hdf5Container:
    """An HDF5 file; see `nettrim_cli.data.formats.base.Container`."""

    def __init__(self, path: Path) -> None:
        import h5py

        self.path = path
        self._h5 = h5py
        self._names: list[str] | None = None
        try:
            with no_plugins(h5py):
                self._file = h5py.File(path, "r", locking="best-effort")
        except (OSError, RuntimeError, ValueError) as error:
            raise BadInput(
                f"{path} is not an HDF5 file or is damaged ({brief(error)}): "
                "copy or download it again."
            ) from error

    def close(self) -> None:
        """Give the file back."""
        self._file.close()

    @property
    def provenance(self) -> Mapping[str, Any]:
        """What `nettrim_cli.data.formats.hdf5_writer` has said of how the file was made."""
        try:
            with self._guard("its origin"):
                facts = json.loads(self._file.attrs.get(PROVENANCE, "{}"))
        except (BadInput, RecursionError):  # JSON of anybody; nothing depends on it
            return {}
        return facts if isinstance(facts, dict) else {}

    def names(self) -> list[str]:
        """Name every dataset that hard links reach, and every external link; each object once."""
        if self._names is None:
            with self._guard("the list of datasets"):
                self._names = list(self._walk())
        return self._names

    def find(self, name: str) -> Hdf5Source | None:
        """Look a dataset up by its exact path, without leaving the file."""
        with self._guard(f"dataset '{name}'"):
            location = self._resolve(self._file.id, components(name), name, MAX_LINKS)
            if location is None:
                return None
            group, leaf = location
            opened = self._h5.h5o.open(group, leaf)
            if not isinstance(opened, self._h5.h5d.DatasetID):
                return None
            self._refuse_foreign(opened, name, MAX_LINKS, set())
            return self._source(group, leaf, opened, name)

    def describe(self, name: str) -> str:
        """Give name, shape and dtype for a message."""
        try:
            source = self.find(name)
        except Refused:
            return f"'{name}' (leads out of the file)"
        except BadInput:
            return f"'{name}' (unreadable)"
        return f"'{name}' {spell(source.shape, source.dtype)}" if source else f"'{name}'"

    @contextmanager
    def _guard(self, subject: str) -> Iterator[None]:
        try:
            with no_plugins(self._h5):
                yield
        except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
            raise BadInput(
                f"{self.path}: {subject} cannot be read ({brief(error)}): the file is damaged or "
                "uses a feature of HDF5 that nettrim does not read; write it again with h5py."
            ) from error

    def _walk(self) -> Iterator[str]:
        h5 = self._h5
        pending: list[tuple[Any, tuple[bytes, ...]]] = [(self._file.id, ())]
        visited: set[int] = set()
        while pending:
            group, above = pending.pop(0)
            for leaf in group:
                if len(visited) > MAX_OBJECTS:
                    return
                kind = group.links.get_info(leaf).type
                path = (*above, leaf)
                if kind == h5.h5l.TYPE_SOFT:
                    continue  # its target is listed under its own name
                if kind != h5.h5l.TYPE_HARD:
                    yield spelled(path)
                    continue
                opened = h5.h5o.open(group, leaf)
                address = h5.h5o.get_info(opened).addr
                if address in visited:
                    continue
                visited.add(address)
                if isinstance(opened, h5.h5g.GroupID):
                    pending.append((opened, path))
                elif isinstance(opened, h5.h5d.DatasetID):
                    yield spelled(path)

    def _resolve(
        self, group: Any, parts: list[bytes], name: str, links_left: int
    ) -> tuple[Any, bytes] | None:
        """Find the group and the link name of an object; soft links are followed by hand."""
        h5 = self._h5
        while parts:
            leaf, parts = parts[0], parts[1:]
            if not isinstance(group, h5.h5g.GroupID) or not group.links.exists(leaf):
                return None
            kind = group.links.get_info(leaf).type
            if kind == h5.h5l.TYPE_SOFT:
                if links_left == 0:
                    raise BadInput(
                        f"{self.path}: the soft links of dataset '{name}' go in a circle: "
                        "store the dataset itself under that name."
                    )
                target = group.links.get_val(leaf)
                start = self._file.id if target.startswith(b"/") else group
                return self._resolve(start, components(target) + parts, name, links_left - 1)
            if kind != h5.h5l.TYPE_HARD:
                raise self._refusal(name, "is an external link")
            if not parts:
                return group, leaf
            group = h5.h5o.open(group, leaf)
        return None

    def _refuse_foreign(self, opened: Any, name: str, depth: int, visited: set[int]) -> None:
        """Refuse a dataset whose data lie in another file, also by way of virtual sources."""
        h5 = self._h5
        address = h5.h5o.get_info(opened).addr
        if depth == 0:
            raise BadInput(
                f"{self.path}: the virtual dataset '{name}' is built on itself: "
                "store the data themselves."
            )
        properties = opened.get_create_plist()
        if properties.get_external_count():
            raise self._refusal(name, "keeps its data in another file (external storage)")
        if properties.get_layout() != h5.h5d.VIRTUAL or address in visited:
            return
        for index in range(properties.get_virtual_count()):
            source = properties.get_virtual_dsetname(index)
            if properties.get_virtual_filename(index) != ".":
                raise self._refusal(name, "is a virtual dataset with sources in another file")
            if index >= MAX_OBJECTS or "%" in source:
                raise self._refusal(name, "is a virtual dataset with sources by pattern")
            location = self._resolve(self._file.id, components(source), name, MAX_LINKS)
            if location is not None:
                inner = h5.h5o.open(*location)
                if isinstance(inner, h5.h5d.DatasetID):
                    self._refuse_foreign(inner, name, depth - 1, visited)
        visited.add(address)  # only now: a circle must run into the limit of the depth

    def _refusal(self, name: str, why: str) -> Refused:
        return Refused(
            f"{self.path}: dataset '{name}' {why}, which nettrim does not follow: "
            "copy the data into this file."
        )

    def _source(self, group: Any, leaf: bytes, opened: Any, name: str) -> Hdf5Source:
        h5 = self._h5
        dataset = h5.Dataset(opened)
        text = h5.check_string_dtype(dataset.dtype) is not None
        if dataset.dtype.hasobject and not text:
            raise BadInput(
                f"{self.path}: dataset '{name}' holds {dataset.dtype} (rows of varying length or "
                "references): store one array of numbers of equal shape for every sample."
            )
        shape = dataset.shape
        if shape is None:
            raise BadInput(f"{self.path}: dataset '{name}' is empty: store samples in it.")
        if dataset.chunks is not None:
            self._check_filters(opened.get_create_plist(), dataset, name)
            access = h5.h5p.create(h5.h5p.DATASET_ACCESS)
            access.set_chunk_cache(12421, cache_bytes(dataset), 0.75)
            del opened, dataset  # the cache's size counts for the first handle only
            dataset = h5.Dataset(h5.h5d.open(group, leaf, access))
        return Hdf5Source(self, name, dataset, text)

    def _check_filters(self, properties: Any, dataset: Any, name: str) -> None:
        count, h5z = properties.get_nfilters(), self._h5.h5z
        size = math.prod(dataset.chunks) * dataset.dtype.itemsize
        if count and size > MAX_CHUNK_BYTES:
            raise BadInput(
                f"{self.path}: dataset '{name}' is compressed in chunks of {size:,} bytes, at most "
                f"{MAX_CHUNK_BYTES:,} are read: write it again with smaller chunks, e.g. "
                "chunks=(64, ...)."
            )
        for index in range(count):
            code, _, _, label = properties.get_filter(index)
            if code == h5z.FILTER_FLETCHER32:
                self._check_sums(dataset, name)
            if code == h5z.FILTER_SZIP or not h5z.filter_avail(code):
                kind = label.decode(errors="replace") or f"number {code}"
                raise BadInput(
                    f"{self.path}: dataset '{name}' is compressed by the filter {kind}, but szip "
                    "and filter plugins are not loaded: write it again with compression='gzip'."
                )

    def _check_sums(self, dataset: Any, name: str) -> None:
        """Refuse chunks too short for their checksum, at which HDF5 crashes."""

        def short(chunk: Any) -> bool | None:
            """True where a chunk is too short; None goes on to the next."""
            return True if chunk.size < CHECKSUM_BYTES else None

        if dataset.id.chunk_iter(short):
            raise BadInput(
                f"{self.path}: dataset '{name}' is damaged (a chunk without its checksum): "
                "write the file again."
            )


class Hdf5Source:
    """A dataset of an HDF5 file; see `nettrim_cli.data.formats.base.Source`."""

    def __init__(self, container: Hdf5Container, name: str, dataset: Any, text: bool) -> None:
        self._container = container
        self._reader = dataset.asstr() if text and dataset.dtype.kind == "O" else dataset
        self.name = name
        self.shape: tuple[int, ...] = dataset.shape
        self.dtype: np.dtype[Any] = dataset.dtype

    def read(self, indices: Indices) -> Array:
        """Rows at sorted indices; a scalar dataset gives itself."""
        with self._container._guard(f"dataset '{self.name}'"):
            if not self.shape:
                return np.asarray(self._reader[()], dtype=self.dtype)
            rows = np.empty((len(indices), *self.shape[1:]), dtype=self.dtype)
            for cover, places, take in pieces(indices, row_bytes(self.shape, self.dtype)):
                rows[places] = self._reader[cover][take]
            return rows


def open_hdf5(path: Path) -> Hdf5Container:
    """Open an HDF5 file."""
    return Hdf5Container(path)


@contextmanager
def no_plugins(h5py: Any) -> Iterator[None]:
    """Take HDF5's plugin paths away: with none left it looks for no plugin at all."""
    paths = []
    while h5py.h5pl.size():
        paths.append(h5py.h5pl.get(0))
        h5py.h5pl.remove(0)
    try:
        yield
    finally:
        for path in paths:
            h5py.h5pl.append(path)


def cache_bytes(dataset: Any) -> int:
    """Room for the chunks that neighbouring rows share, so that each is inflated once."""
    chunks = dataset.chunks
    across = math.prod(
        -(-size // chunk) for size, chunk in zip(dataset.shape[1:], chunks[1:], strict=True)
    )
    size = math.prod(chunks) * dataset.dtype.itemsize * across
    return int(min(max(size, 1 << 20), MAX_CHUNK_BYTES))


def components(name: str | bytes) -> list[bytes]:
    """Path components of an HDF5 name; empty ones and ``.`` mean nothing in HDF5."""
    raw = name.encode("utf-8", "surrogateescape") if isinstance(name, str) else name
    return [component for component in raw.split(b"/") if component not in (b"", b".")]


def spelled(path: tuple[bytes, ...]) -> str:
    """Undo `components`."""
    return b"/".join(path).decode("utf-8", "surrogateescape")


def brief(error: BaseException) -> str:
    """First line of what a library said, without its quotes."""
    text = str(error.args[0] if error.args else error).strip() or type(error).__name__
    return text.splitlines()[0][:200]
