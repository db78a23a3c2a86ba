"""How a model gets its calibration file: a line of ``nettrim data``, or of Python."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence

from nettrim_cli.report.model_summary import TensorFacts

FILE = "calib.h5"
TOKENS = ("input_ids", "attention_mask", "token_type_ids")
SOUND = re.compile(r"audio|wave|speech|sound|pcm|input_values", re.IGNORECASE)
PIXELS, COLOURS = ("float32", "float16", "uint8"), (1, 3)


def command(model: str, inputs: Sequence[TensorFacts]) -> str:
    """The line that makes a calibration file for a model, of what its inputs look like."""
    words = ["nettrim", "data", *_source(inputs)]
    words[3:3] = ["--model", model]
    return shlex.join([*words, "-o", FILE])


def script(inputs: Sequence[TensorFacts]) -> list[str]:
    """Lines of Python that write a calibration file."""
    lines = ["import h5py", f'with h5py.File("{FILE}", "w") as file:']
    for number, tensor in enumerate(inputs):
        array = "samples" if len(inputs) == 1 else f"samples_{number + 1}"
        shape = ", ".join("?" if axis is None else str(axis) for axis in tensor.dataset or ())
        shape = shape if tensor.shape is not None else "samples, ..."
        lines.append(f"    file[{json.dumps(tensor.name)}] = {array}  # ({shape}) {tensor.dtype}")
    return lines


def _source(inputs: Sequence[TensorFacts]) -> list[str]:
    """What samples are made of, and the options that this takes."""
    names = {tensor.name for tensor in inputs}
    if names & set(TOKENS):
        return ["lines.txt", "--tokenizer", "tokenizer.json"]
    for tensor in inputs:
        only = ["--input", tensor.name] if len(inputs) > 1 else []
        if _colours(tensor):
            return ["photographs", "--preset", _preset(tensor), *only]
        if SOUND.search(tensor.name) and tensor.dtype == "float32":
            return ["sounds", *only]
    if len(inputs) == 1 and len(inputs[0].shape or ()) == 2:
        return ["table.csv"]
    return ["arrays.npz"]


def _colours(tensor: TensorFacts) -> int | None:
    """Channels of an input that looks like images; None for another."""
    shape = tensor.shape or ()
    if len(shape) != 4 or tensor.dtype not in PIXELS:
        return None
    return next((int(size) for size in (shape[1], shape[3]) if size in COLOURS), None)


def _preset(tensor: TensorFacts) -> str:
    """A usual way to prepare such images."""
    if tensor.dtype == "uint8":
        return "bytes"
    return "imagenet" if _colours(tensor) == 3 else "unit"
