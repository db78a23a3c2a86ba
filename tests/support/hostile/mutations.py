"""Random changes of models and data files, tried by the hundred in a child that may crash."""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from tests.support import forked
from tests.support.hostile import cases, data_arrays, data_hdf5

FILES = {
    "onnx": (cases.SERVED,),
    "h5": (
        data_hdf5.content(data_hdf5.stored(data_hdf5.X)),
        data_hdf5.content(data_hdf5.CHUNKS["gzip"][0]),
    ),
    "npz": (data_arrays.PLAIN, data_arrays.SMALL),
    "npy": (data_arrays.npy(),),
}
KINDS = (*FILES, "fields")
RIGHT = {0, 4, 65, 66, 69, 71, 77}
BATCH, SECONDS = 500, 60
WORDS = tuple(bytes([value] * size) for value in (0, 255) for size in (1, 2, 4, 8))


def changed(kind: str, seed: int) -> bytes:
    """A file with some bits, bytes or words changed, cut, moved or repeated."""
    draw = random.Random(seed)
    found = bytearray(draw.choice(FILES[kind]))
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(found)) if draw.random() < 0.5 else draw.randrange(len(found)) // 8
        how = draw.randrange(7)
        if how == 0:
            found[at] ^= 1 << draw.randrange(8)
        elif how == 1:
            found[at] = draw.randrange(256)
        elif how == 2:
            word = draw.choice(WORDS)
            found[at : at + len(word)] = word
        elif how == 3:
            found[at : at + 8] = draw.randrange(2**64).to_bytes(8, "little")
        elif how == 4:
            del found[at : at + draw.randint(1, 8)]
        elif how == 5:
            found[at:at] = found[draw.randrange(len(found)) :][: draw.randint(1, 16)]
        elif draw.random() < 0.1:
            del found[at + 1 :]
        if not found:
            break
    return bytes(found)


def changed_fields(seed: int) -> bytes:
    """A model with one to three fields of its protobuf cleared, repeated, or of another value."""
    draw, model = random.Random(seed), onnx.ModelProto.FromString(cases.SERVED)
    for _ in range(draw.randint(1, 3)):
        message, field = draw.choice([*fields(model)])
        value = getattr(message, field.name)
        if hasattr(value, "extend"):
            at = draw.randrange(len(value))
            if draw.random() < 0.4:
                del value[at]
            elif field.message_type is not None:
                value.add().CopyFrom(value[at])
            elif draw.random() < 0.5:
                value.append(value[at])
            else:
                value[at] = other(draw, value[at])
        elif field.message_type is not None or draw.random() < 0.3:
            message.ClearField(field.name)
        else:
            setattr(message, field.name, other(draw, value))
    return model.SerializeToString()


def fields(message: Message) -> Iterator[tuple[Message, FieldDescriptor]]:
    """Every field that is set in a message, and in those inside of it."""
    for field, value in message.ListFields():
        yield message, field
        if field.message_type is not None:
            for inner in value if hasattr(value, "extend") else [value]:
                yield from fields(inner)


def other(draw: random.Random, value: int | float | str | bytes) -> Any:
    """Another value of that kind."""
    if isinstance(value, int):
        near = [max(value - 1, 0), min(value + 1, 2**31 - 1)]
        return draw.choice([*near, 0, 1, 2, draw.randrange(40), 2**31 - 1])
    if isinstance(value, float):
        return draw.choice([0.0, -value, 1e30, float("nan"), float("inf")])
    names = [
        "",
        "x",
        "y",
        "h",
        "N",
        "MatMul",
        "Relu",
        "Loop",
        "com.microsoft",
        "\u00e9",
        "a" * 5000,
    ]
    if isinstance(value, str):
        return draw.choice(names)
    return draw.choice([value[: len(value) // 2], value * 2, value[::-1], b""])


def run(kind: str, seeds: Iterable[int]) -> Iterator[tuple[int, object]]:
    """Seeds and their exit codes, or the name of the signal that ended the process."""
    pending = list(seeds)
    while pending:
        done = dict(batch(kind, pending[:BATCH]))
        yield from done.items()
        pending = list(itertools.dropwhile(done.__contains__, pending))


def batch(kind: str, seeds: list[int]) -> Iterator[tuple[int, object]]:
    """What a child makes of some seeds, up to the one that it does not survive."""
    last, command = -1, [sys.executable, "-m", __name__, kind, *map(str, seeds)]
    with forked.Popen(command, stdout=subprocess.PIPE, cwd=forked.ROOT) as child:
        assert child.stdout is not None
        for line in child.stdout:
            last, code = map(int, line.split())
            yield last, code
    if status := child.returncode:
        name = signal.Signals(-status).name if status < 0 else f"exit {status}"
        yield seeds[seeds.index(last) + 1 if last in seeds else 0], name


def serve(kind: str, seeds: list[int]) -> None:
    """Try the seeds; an alarm ends the process where one of them takes too long."""
    from nettrim_cli.cli import run as command

    told, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    folder = Path(tempfile.mkdtemp())
    (folder / "model.onnx").write_bytes(cases.SERVED)
    np.savez(folder / "data.npz", x=data_arrays.X)
    is_model = kind in ("onnx", "fields")
    path = folder / ("model.onnx" if is_model else f"data.{kind}")
    words = ["inspect", str(path), "--json"]
    if not is_model:
        model = str(folder / "model.onnx")
        words = [
            "compare",
            model,
            model,
            "--data",
            str(path),
            "--certificate",
            "none",
            "--threads",
            "1",
        ]
    for seed in seeds:
        signal.alarm(SECONDS)
        path.write_bytes(changed_fields(seed) if kind == "fields" else changed(kind, seed))
        code = command(words)
        sys.stdout.flush()
        os.write(told, f"{seed} {code}\n".encode())
    signal.alarm(0)
    for each in folder.iterdir():
        each.unlink()
    folder.rmdir()
    os._exit(0)


if __name__ == "__main__":
    serve(sys.argv[1], list(map(int, sys.argv[2:])))
