"""How calibration data are made of files of other kinds: the command, ready to be run."""

from __future__ import annotations

import glob
import json
import math
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
CLASSES = ("label", "labels", "class", "target")  # names of a column of labels
SAMPLED_BYTES = 1 << 16  # of a table, to see its columns
SIDE = 224  # of images, where the model takes any
MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def other_kind(path: Path, inputs: Sequence[Tensor]) -> str:
    """What kind of file or folder this is, and how to make calibration data of it.

    Parameters
    ----------
    path
        The file or folder.
    inputs
        The model's inputs, which the samples must fit.
    """
    if path.is_dir():
        return _folder(path, inputs)
    kind = identify(path)
    if kind is not None and kind.key == "zip":
        return _archive(path, inputs)
    description = (
        f"{path} is {kind.name}" if kind else f"'{path.suffix}' of {path} tells no known format"
    )
    if kind is not None and kind.key in UNPACKED:
        export = kind.export.format(path=shlex.quote(str(path)))
        return f"{description}, not calibration data: {export}."
    key = "tensor" if path.suffix == ".pb" else kind.key if kind else ""
    program = RECIPES[key](path, inputs[0]) if key in RECIPES else ""
    return f"{description}; {WANTED}: {_finish(program, inputs)}"


def command(program: str) -> str:
    """A line for the shell that runs a Python program."""
    return f"python -c {shlex.quote(program)}"


def savez(value: str, tensor: Tensor, more: str = "") -> str:
    """Python that stores an expression as the samples of an input."""
    return f"numpy.savez({_literal(_fresh('calib'))}, **{{{_literal(tensor.name)}: {value}}}{more})"


def _finish(program: str, inputs: Sequence[Tensor]) -> str:
    """The end of a message: the command, or what the samples must be."""
    names = ", ".join(f"'{tensor.name}'" for tensor in inputs)
    if not program:
        return f"store one dataset for every model input ({names}), a row for each sample."
    reminder = "" if len(inputs) == 1 else f" The model has {len(inputs)} inputs, {names}: add all."
    return f"prepare samples as in training, such as by: {command(program)}{reminder}"


def _folder(path: Path, inputs: Sequence[Tensor]) -> str:
    files = files_of(path)
    suffix = _most_common(file.suffix for file in files)
    description = f"{path} is a folder"
    if not files:
        return f"{description} without files: give the file with the calibration data."
    stored = [file for file in files if file.suffix.lower() in ARRAYS]
    if stored:
        return f"{description}: give the file with the calibration data, such as {stored[0]}."
    program = _of_many(str(path), suffix, inputs[0]) if inputs else ""
    return f"{description} of {suffix or 'other'} files; {WANTED}: {_finish(program, inputs)}"


def _archive(path: Path, inputs: Sequence[Tensor]) -> str:
    names = [name for name in members(path) if not name.endswith("/")]
    suffix = _most_common(PurePosixPath(name).suffix for name in names)
    description = f"{path} is a zip archive of {suffix or 'other'} files; {WANTED}"
    folder = _fresh(path.stem, "")
    unpack = f"python -m zipfile -e {shlex.quote(str(path))} {shlex.quote(folder)}"
    program = _of_many(folder, suffix, inputs[0])
    if not program:
        return f"{description}: unpack it first: {unpack}"
    return (
        f"{description}: prepare samples as in training, such as by: {unpack} && {command(program)}"
    )


def _of_many(folder: str, suffix: str, tensor: Tensor) -> str:
    """Python that stacks the files of a folder, for kinds of files that hold a sample each."""
    pattern = _literal(f"{glob.escape(folder)}/**/*{suffix}")
    files = f"sorted(glob.glob({pattern}, recursive=True))"
    if suffix.lower() in IMAGES:
        return _images(files, tensor)
    if suffix == ".npy":
        value = f"numpy.stack([numpy.load(f) for f in {files}]).astype({_literal(_dtype(tensor))})"
        return f"import glob, numpy; {savez(value, tensor)}"
    return ""


def _images(files: str, tensor: Tensor) -> str:
    """Python that reads images as an input takes them; empty where it takes none."""
    shape = tensor.shape or (None, 3, SIDE, SIDE)
    last = False
    if len(shape) == 4:
        last = shape[1] not in MODES and shape[3] in MODES
        channels, height, width = (shape[3], *shape[1:3]) if last else shape[1:]
    elif len(shape) == 3:
        channels, height, width = 1, *shape[1:]
    elif len(shape) == 2 and isinstance(shape[1], int) and math.isqrt(shape[1]) ** 2 == shape[1]:
        channels, height, width = 1, math.isqrt(shape[1]), math.isqrt(shape[1])
    else:
        return ""
    mode = MODES.get(channels if isinstance(channels, int) else 3)
    if mode is None:
        return ""
    sides = [side if isinstance(side, int) and side > 0 else SIDE for side in (width, height)]
    value = (
        f'numpy.stack([numpy.asarray(Image.open(f).convert("{mode}")'
        f".resize(({sides[0]}, {sides[1]}))) for f in {files}])"
    )
    if len(shape) == 2:
        value += f".reshape(-1, {shape[1]})"
    elif len(shape) == 4 and mode == "L":
        value += "[..., None]" if last else "[:, None]"
    elif len(shape) == 4 and not last:
        value += ".transpose(0, 3, 1, 2)"
    dtype = _dtype(tensor)
    value += f".astype({_literal(dtype)})" + (" / 255" if dtype.startswith("float") else "")
    return f"import glob, numpy; from PIL import Image; {savez(value, tensor)}"


def _image(path: Path, tensor: Tensor) -> str:
    pattern = _literal(f"{glob.escape(str(path.parent))}/*{path.suffix}")
    return _images(f"sorted(glob.glob({pattern}))", tensor)


def _table(path: Path, tensor: Tensor) -> str:
    """Python that reads a table of numbers; empty where there is none."""
    with path.open("rb") as file:
        text = file.read(SAMPLED_BYTES).decode("utf-8", "replace").removeprefix("\ufeff")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if not lines:
        return ""
    row = lines[1] if len(lines) > 1 else lines[0]
    mark = max((",", ";", "\t"), key=row.count)
    head, values = (text.split(mark if mark in row else None) for text in (lines[0], row))
    names = {number: text.strip(' "').lower() for number, text in enumerate(head)}
    numbers = [number for number, text in enumerate(values) if _is_number(text)]
    header = not all(map(_is_number, head))
    classes = [number for number in numbers if header and names.get(number) in CLASSES]
    inputs = [number for number in numbers if number not in classes]
    if not inputs:
        return ""
    options = f", delimiter={_literal(mark)}" if mark in row else ""
    options += ", skiprows=1" if header else ""
    read = f'numpy.loadtxt({_literal(str(path))}, encoding="utf-8-sig"{options}'
    selection = "" if len(inputs) == len(values) else f", usecols={_columns(inputs)}"
    value = f"{read}, dtype={_literal(_dtype(tensor))}, ndmin=2{selection})" + _reshaped(tensor)
    labels = f', labels={read}, dtype="int64", usecols={classes[0]})' if classes else ""
    return f"import numpy; {savez(value, tensor, labels)}"


def _columns(columns: Sequence[int]) -> str:
    first, last = columns[0], columns[-1]
    if list(columns) == list(range(first, last + 1)):
        return f"range({first}, {last + 1})"
    return str(tuple(columns))


def _reshaped(tensor: Tensor) -> str:
    axes = (tensor.shape or ())[1:]
    if len(axes) < 2 or not all(isinstance(axis, int) and axis > 0 for axis in axes):
        return ""
    return f".reshape(-1, {', '.join(map(str, axes))})"


def _expression(modules: str, value: str) -> Callable[[Path, Tensor], str]:
    """A recipe of one expression of the path and the input's name and dtype."""

    def recipe(path: Path, tensor: Tensor) -> str:
        """The program for a file and an input."""
        filled = value.format(
            path=_literal(str(path)), name=_literal(tensor.name), dtype=_literal(_dtype(tensor))
        )
        return f"import numpy, {modules}; {savez(filled, tensor)}"

    return recipe


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


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
    "text": _table,
    "image": _image,
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
