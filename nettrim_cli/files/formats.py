"""Kinds of files by content rather than name, and how to export an ONNX model from them."""

from __future__ import annotations

import difflib
import os
import re
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

HEAD_BYTES = 4096
HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
TEXT_BYTES = frozenset((*range(32, 127), 9, 10, 13, *range(128, 256)))
MAX_LISTED = 1000  # entries of a folder that are looked at


@dataclass(frozen=True)
class Format:
    """A kind of file.

    Attributes
    ----------
    key
        Its name in the tables of this project.
    name
        Name for sentences, with an article.
    export
        How to get an ONNX model from it; ``{path}`` stands for the file.
    reader
        Module of ``data.formats`` and its function that open such a file of samples; empty where
        there is none.
    suffixes
        Of such files of samples.
    """

    key: str
    name: str
    export: str = ""
    reader: str = ""
    suffixes: tuple[str, ...] = ()


SAMPLES = "if it holds samples, give them with --data"
FROM_TRAINING = "export the model from the framework that it was trained in"
TF2ONNX = "python -m tf2onnx.convert"
TORCH = "torch.onnx.export(module, (example_input,), 'model.onnx')"

FORMATS = {
    kind.key: kind
    for kind in (
        Format("onnx", "an ONNX model"),
        Format(
            "hdf5",
            "an HDF5 file",
            "if it holds samples, give them with --data; a Keras model in it is exported by "
            f"'{TF2ONNX} --keras {{path}} --output model.onnx'",
            "hdf5:open_hdf5",
            (".h5", ".hdf5"),
        ),
        Format("npz", "a NumPy archive (.npz)", SAMPLES, "npy:open_npz", (".npz",)),
        Format("npy", "a NumPy array (.npy)", SAMPLES, "npy:open_npy", (".npy",)),
        Format(
            "lfs",
            "a Git LFS pointer, which stands for a file that was not downloaded",
            "run 'git lfs pull' in its repository",
        ),
        Format(
            "torch",
            "a PyTorch file",
            f"load it in Python and export the module with {TORCH}",
        ),
        Format(
            "keras",
            "a Keras model",
            f"export it with '{TF2ONNX} --keras {{path}} --output model.onnx'",
        ),
        Format(
            "tflite",
            "a TensorFlow Lite model",
            f"export it with '{TF2ONNX} --tflite {{path}} --output model.onnx'",
        ),
        Format(
            "savedmodel",
            "a TensorFlow SavedModel",
            f"export its folder with '{TF2ONNX} --saved-model {{folder}} --output model.onnx'",
        ),
        Format(
            "graphdef",
            "a frozen TensorFlow graph",
            f"export it with '{TF2ONNX} --graphdef {{path}} --inputs x:0 --outputs y:0 "
            "--output model.onnx', with the names of its inputs and outputs",
        ),
        Format(
            "safetensors",
            "a safetensors file, which holds weights without a graph",
            f"build the module in Python, load them, and export it with {TORCH} (models of "
            "Hugging Face: 'optimum-cli export onnx --model FOLDER OUTPUT_FOLDER')",
        ),
        Format("gguf", "a GGUF file, which holds weights without a graph", FROM_TRAINING),
        Format("ort", "a model in onnxruntime's own format", "give the .onnx that it was made of"),
        Format("pickle", "a Python pickle", f"{FROM_TRAINING} (scikit-learn: skl2onnx)"),
        Format("html", "an HTML page", "download the file itself, not the page that shows it"),
        Format("xml", "an XML file", f"{FROM_TRAINING} (OpenVINO's format has no way back)"),
        Format("json", "a JSON file", FROM_TRAINING),
        Format("text", "a text file", FROM_TRAINING),
        Format("gzip", "a gzip file", "unpack it first: gzip -dk {path}"),
        Format("bzip2", "a bzip2 file", "unpack it first: bzip2 -dk {path}"),
        Format("xz", "an xz file", "unpack it first: xz -dk {path}"),
        Format("zstd", "a Zstandard file", "unpack it first: zstd -dk {path}"),
        Format("tar", "a tar archive", "unpack it first: tar -xf {path}"),
        Format("7z", "a 7-Zip archive", "unpack it first"),
        Format("zip", "a zip archive", "unpack it first: unzip {path}"),
        Format("image", "an image", FROM_TRAINING),
        Format("sound", "a sound file", FROM_TRAINING),
        Format("parquet", "a Parquet file", FROM_TRAINING),
        Format("arrow", "an Arrow file", FROM_TRAINING),
        Format("matlab", "a MATLAB file", FROM_TRAINING),
        Format("pdf", "a PDF file", FROM_TRAINING),
        Format("zeros", "a file of zeros, as a broken download leaves", "download it again"),
    )
}
"""All kinds, by key."""

READABLE = {suffix: kind for kind in FORMATS.values() for suffix in kind.suffixes[:1]}
"""Kinds of files with samples, by their usual suffix."""

MAGIC = (
    (HDF5_MAGIC, 0, "hdf5"),
    (b"\x93NUMPY", 0, "npy"),
    (b"version https://git-lfs", 0, "lfs"),
    (b"TFL3", 4, "tflite"),
    (b"ORTM", 4, "ort"),
    (b"GGUF", 0, "gguf"),
    (b"\x1f\x8b", 0, "gzip"),
    (b"BZh", 0, "bzip2"),
    (b"\xfd7zXZ\0", 0, "xz"),
    (b"\x28\xb5\x2f\xfd", 0, "zstd"),
    (b"7z\xbc\xaf\x27\x1c", 0, "7z"),
    (b"ustar", 257, "tar"),
    (b"\x89PNG\r\n", 0, "image"),
    (b"\xff\xd8\xff", 0, "image"),
    (b"GIF8", 0, "image"),
    (b"II*\0", 0, "image"),
    (b"MM\0*", 0, "image"),
    (b"WEBP", 8, "image"),
    (b"WAVE", 8, "sound"),
    (b"fLaC", 0, "sound"),
    (b"OggS", 0, "sound"),
    (b"ID3", 0, "sound"),
    (b"PAR1", 0, "parquet"),
    (b"ARROW1", 0, "arrow"),
    (b"MATLAB 5.0", 0, "matlab"),
    (b"%PDF-", 0, "pdf"),
)
"""Bytes, their offset, and the kind that they identify."""

FIELDS = tuple(bytes([byte]) for byte in b"\x12\x1a\x22\x28\x32\x3a\x42")  # behind IR version
TORCH_MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"  # of its files before they were zip archives


def identify(path: str | os.PathLike[str]) -> Format | None:
    """The kind of a file or folder; None where it is unknown, or cannot be read."""
    path = Path(path)
    try:
        if path.is_dir():
            saved = (path / "saved_model.pb").is_file()
            return FORMATS["savedmodel"] if saved else None
        if not path.is_file():
            return None
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
        key = next((find(head) for find in TESTS if find(head)), "")
        if key == "zip":
            key = inside_zip(members(path) or _first_member(head))
        if key == "" and _has_user_block(path):
            key = "hdf5"
    except (OSError, ValueError):
        return None
    return FORMATS.get(key)


def members(path: Path) -> list[str]:
    """Names in a zip archive; none where it is damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except Exception:  # zipfile raises whatever the bytes lead it to
        return []


def files_of(folder: Path) -> list[Path]:
    """Some of the files in a folder and below it, sorted; at most ``MAX_LISTED``."""
    paths: list[Path] = []
    for directory, folders, names in os.walk(folder):
        folders.sort()
        paths += [Path(directory, name) for name in sorted(names)]
        if len(paths) > MAX_LISTED:
            break
    return paths[:MAX_LISTED]


def inside_zip(names: Sequence[str]) -> str:
    """Key of the kind of a zip archive that holds these files."""
    if any(name.endswith("/data.pkl") for name in names):
        return "torch"
    if "model.weights.h5" in names:
        return "keras"
    if all(name.endswith(".npy") for name in names):
        return "npz" if names else ""
    return "zip"


def not_a_model(path: Path) -> str:
    """A sentence on the kind of a file that is no ONNX model, and what to do; empty if unknown."""
    kind = identify(path)
    if kind is None or not kind.export:
        return ""
    advice = kind.export.format(path=path, folder=path if path.is_dir() else path.parent)
    if kind.key == "zip":
        models = [name for name in members(path) if name.endswith(".onnx")]
        advice += f", and give {models[0]}" if models else f"; or {FROM_TRAINING}"
    return f"{path}: this is {kind.name}, not an ONNX model: {advice}."


def swap_message(models: Sequence[Path], data: Path) -> str:
    """A sentence where models and samples are swapped; else empty."""
    if _is_kind(data, "onnx"):
        for model in models:
            kind = identify(model)
            if kind is not None and kind.key in ("hdf5", "npz", "npy"):
                return (
                    f"{model} is {kind.name} and {data} an ONNX model: were the two swapped? "
                    f"Samples follow --data, as in: --data {model}"
                )
    return ""


def _is_kind(path: Path, key: str) -> bool:
    kind = identify(path)
    return kind is not None and kind.key == key


def _magic(head: bytes) -> str:
    for magic, start, key in MAGIC:
        if head[start : start + len(magic)] == magic:
            return key
    return ""


def _zip(head: bytes) -> str:
    return "zip" if head[:4] in (b"PK\x03\x04", b"PK\x05\x06") else ""


def _first_member(head: bytes) -> list[str]:
    """The name in the first local header, which a truncated archive still has."""
    length = int.from_bytes(head[26:28], "little")
    return [head[30 : 30 + length].decode("utf-8", "replace")] if head[2:4] == b"\x03\x04" else []


def _pickle(head: bytes) -> str:
    if not (head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")):
        return ""
    return "torch" if TORCH_MAGIC in head[:32] else "pickle"


def _safetensors(head: bytes) -> str:
    size = int.from_bytes(head[:8], "little")
    return "safetensors" if head[8:9] == b"{" and 2 <= size < 1 << 32 else ""


def _protobuf(head: bytes) -> str:
    """ONNX, a SavedModel or a GraphDef: protobufs have no magic, but a first field."""
    if head[:2] == b"\x08\x01" and head[2:3] == b"\x12" and b"\x0a" in head[4:8]:
        return "savedmodel"  # its version, then what describes its first graph
    if head[:1] == b"\x08" and 0 < int.from_bytes(head[1:2], "little") < 64 and head[2:3] in FIELDS:
        return "onnx"
    nodes = (b"Placeholder", b"Const", b"NoOp")
    return "graphdef" if head[:1] == b"\x0a" and any(node in head for node in nodes) else ""


def _text(head: bytes) -> str:
    if not head or any(byte not in TEXT_BYTES for byte in head):
        return ""
    start = head.decode("utf-8", "replace").lstrip("\ufeff \t\r\n").lower()
    if start.startswith(("<!doctype html", "<html")) or "<html" in start[:500]:
        return "html"
    if start.startswith("<?xml"):
        return "xml"
    return "json" if start.startswith(("{", "[")) else "text"


def _zeros(head: bytes) -> str:
    return "zeros" if len(head) >= 16 and not any(head) else ""


def _has_user_block(path: Path) -> bool:
    """Whether HDF5 begins behind a block of the user's, at a power of 2 from 512 bytes on."""
    with path.open("rb") as file:
        for power in range(9, 21):
            file.seek(1 << power)
            if file.read(len(HDF5_MAGIC)) == HDF5_MAGIC:
                return True
    return False


TESTS: tuple[Callable[[bytes], str], ...] = (
    _magic,
    _zip,
    _pickle,
    _safetensors,
    _protobuf,
    _text,
    _zeros,
)
"""Tests that give a kind by the first bytes of a file, in order."""


def where_missing(path: Path, what: str = "the file") -> str:
    """What to do where something is not there: the nearest name, or what is wrong."""
    if re.match(r"[a-z][a-z0-9+.-]+:/", str(path)):
        return "this is an address, and nothing is read from the network: download the file first"
    folder = path.parent
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return f"the folder {folder} cannot be found: check the path of {what}"
    near = difflib.get_close_matches(path.name, names, n=1, cutoff=0.6)
    return f"did you mean {folder / near[0]}?" if near else f"check the path of {what}"
