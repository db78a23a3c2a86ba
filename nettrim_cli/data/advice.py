"""How calibration data are made of files of other kinds: the command, ready to be run.

`nettrim data` makes them of most; for the others there is a line of Python.
"""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePosixPath

from nettrim_cli.data.convert import MODEL_DTYPES
from nettrim_cli.files.formats import READABLE, files_of, identify, members
from nettrim_cli.graph.layer import Tensor

FORMATS = " and ".join(", ".join(READABLE).rsplit(", ", 1))
WANTED = f"calibration data are read from {FORMATS}"
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
ARRAYS = {suffix for kind in READABLE.values() for suffix in kind.suffixes} - {".npy"}
"""Suffixes of files with all samples; an array of many may be a sample itself."""
OPTIONS = {
    **dict.fromkeys(IMAGES, ("--preset", "unit")),
    **dict.fromkeys((".npy", ".txt"), ()),
    ".wav": ("--window", "1s"),
}
"""Options with which `nettrim data` takes a folder of files with a suffix."""
OF_KINDS = {"image": OPTIONS[".png"], "sound": OPTIONS[".wav"], "text": ()}
"""The same for a single file, by the key of its format."""


def other_kind(path: Path, inputs: Sequence[Tensor], model: str) -> str:
    """What kind of file or folder this is, and how to make calibration data of it.

    Parameters
    ----------
    path
        The file or folder.
    inputs
        The model's inputs, which the samples must fit.
    model
        The model's file.
    """
    if path.is_dir():
        return _folder(path, inputs, model)
    kind = identify(path)
    if kind is not None and kind.key == "zip":
        return _archive(path, model)
    description = (
        f"{path} is {kind.name}" if kind else f"'{path.suffix}' of {path} tells no known format"
    )
    key = "tensor" if path.suffix == ".pb" else kind.key if kind else ""
    if kind is not None and key in UNPACKED:
        export = kind.export.format(path=shlex.quote(str(path)))
        return f"{description}, not calibration data: {export}."
    if key in OF_KINDS:
        source = path.parent if key == "image" else path
        return f"{description}; {_advice(_made(str(source), OF_KINDS[key], model))}"
    if key in RECIPES:
        return f"{description}; {_advice(command(RECIPES[key](path, inputs[0])), inputs)}"
    return f"{description}; {_unknown(inputs)}"


def command(program: str) -> str:
    """A line for the shell that runs a Python program."""
    return f"python -c {shlex.quote(program)}"


def savez(value: str, tensor: Tensor) -> str:
    """Python that stores an expression as the samples of an input."""
    return f"numpy.savez({_literal(_fresh('calib'))}, **{{{_literal(tensor.name)}: {value}}})"


def _made(source: str, options: Sequence[str], model: str) -> str:
    """The line that makes calibration data of a source."""
    words = ["nettrim", "data", source, "--model", model, *options]
    return shlex.join([*words, "-o", _fresh("calib", ".h5")])


def _advice(line: str, inputs: Sequence[Tensor] = ()) -> str:
    """The end of a message: the line that makes calibration data."""
    names = ", ".join(f"'{tensor.name}'" for tensor in inputs)
    reminder = f" The model has {len(inputs)} inputs, {names}: add all." if len(inputs) > 1 else ""
    return f"{WANTED}: prepare samples as in training, such as by: {line}{reminder}"


def _unknown(inputs: Sequence[Tensor]) -> str:
    """The end of a message where nothing makes calibration data of a file."""
    names = ", ".join(f"'{tensor.name}'" for tensor in inputs)
    return f"{WANTED}: store one dataset for every model input ({names}), a row for each sample."


def _folder(path: Path, inputs: Sequence[Tensor], model: str) -> str:
    files = files_of(path)
    suffix = _most_common(file.suffix for file in files)
    description = f"{path} is a folder"
    if not files:
        return f"{description} without files: give the file with the calibration data."
    stored = [file for file in files if file.suffix.lower() in ARRAYS]
    if stored:
        return f"{description}: give the file with the calibration data, such as {stored[0]}."
    description += f" of {suffix or 'other'} files"
    if suffix.lower() not in OPTIONS:
        return f"{description}; {_unknown(inputs)}"
    return f"{description}; {_advice(_made(str(path), OPTIONS[suffix.lower()], model))}"


def _archive(path: Path, model: str) -> str:
    names = [name for name in members(path) if not name.endswith("/")]
    suffix = _most_common(PurePosixPath(name).suffix for name in names)
    description = f"{path} is a zip archive of {suffix or 'other'} files"
    folder = _fresh(path.stem, "")
    unpack = f"python -m zipfile -e {shlex.quote(str(path))} {shlex.quote(folder)}"
    if suffix.lower() not in OPTIONS:
        return f"{description}; {WANTED}: unpack it first: {unpack}"
    made = _made(folder, OPTIONS[suffix.lower()], model)
    return f"{description}; {_advice(f'{unpack} && {made}')}"


def _expression(modules: str, value: str) -> Callable[[Path, Tensor], str]:
    """A recipe of one expression of the path and the input's name and dtype."""

    def recipe(path: Path, tensor: Tensor) -> str:
        """The program for a file and an input."""
        filled = value.format(
            path=_literal(str(path)), name=_literal(tensor.name), dtype=_literal(_dtype(tensor))
        )
        return f"import numpy, {modules}; {savez(filled, tensor)}"

    return recipe


def _dtype(tensor: Tensor) -> str:
    return tensor.dtype if tensor.dtype in MODEL_DTYPES else "str"


def _most_common(suffixes: Iterable[str]) -> str:
    counts = Counter(suffixes)
    return max(counts, key=lambda suffix: (counts[suffix], suffix)) if counts else ""


def _literal(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _fresh(stem: str, suffix: str = ".npz") -> str:
    """A name in the working folder that no file has: nothing is to be overwritten."""
    name, number = f"{stem}{suffix}", 2
    while Path(name).exists():
        name, number = f"{stem}-{number}{suffix}", number + 1
    return name


UNPACKED = ("lfs", "gzip", "bzip2", "xz", "zstd", "tar", "7z", "html", "zeros")
RECIPES: dict[str, Callable[[Path, Tensor], str]] = {
    "matlab": _expression("scipy.io", "scipy.io.loadmat({path})[{name}].astype({dtype})"),
    "parquet": _expression("pandas", "pandas.read_parquet({path}).to_numpy({dtype})"),
    "arrow": _expression("pandas", "pandas.read_feather({path}).to_numpy({dtype})"),
    "pickle": _expression("pickle", 'numpy.asarray(pickle.load(open({path}, "rb")), {dtype})'),
    "torch": _expression("torch", "torch.load({path}).numpy().astype({dtype})"),
    "safetensors": _expression(
        "safetensors.numpy", "safetensors.numpy.load_file({path})[{name}].astype({dtype})"
    ),
    "tensor": _expression("onnx", "onnx.numpy_helper.to_array(onnx.load_tensor({path}))"),
}
"""Python that stores a file of another kind, by the key of its format."""
