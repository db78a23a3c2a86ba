"""Random changes of models and data files, tried by the hundred in a child that may crash."""

from __future__ import annotations

import itertools
import os
import random
import signal
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import cases
import data_arrays
import data_hdf5
import numpy as np

FILES = {
    "onnx": (cases.SERVED,),
    "h5": (
        data_hdf5.content(data_hdf5.stored(data_hdf5.X)),
        data_hdf5.content(data_hdf5.CHUNKS["gzip"][0]),
    ),
    "npz": (data_arrays.PLAIN, data_arrays.SMALL),
    "npy": (data_arrays.npy(),),
}
KINDS = tuple(FILES)
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


def run(kind: str, seeds: Iterable[int]) -> Iterator[tuple[int, object]]:
    """Seeds and their exit codes, or the name of the signal that ended the process."""
    pending = list(seeds)
    while pending:
        done = dict(batch(kind, pending[:BATCH]))
        yield from done.items()
        pending = list(itertools.dropwhile(done.__contains__, pending))


def batch(kind: str, seeds: list[int]) -> Iterator[tuple[int, object]]:
    """What a child makes of some seeds, up to the one that it does not survive."""
    heard, told = os.pipe()
    child = os.fork()
    if not child:
        os.close(heard)
        serve(kind, seeds, told)
    os.close(told)
    last = -1
    with os.fdopen(heard) as stream:
        for line in stream:
            last, code = map(int, line.split())
            yield last, code
    _, status = os.waitpid(child, 0)
    if status:
        name = signal.Signals(status).name if os.WIFSIGNALED(status) else f"exit {status >> 8}"
        yield seeds[seeds.index(last) + 1 if last in seeds else 0], name


def serve(kind: str, seeds: list[int], told: int) -> None:
    """Try the seeds; an alarm ends the process where one of them takes too long."""
    from nettrim_cli.cli import run as command

    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    folder = Path(tempfile.mkdtemp())
    (folder / "model.onnx").write_bytes(cases.SERVED)
    np.savez(folder / "data.npz", x=data_arrays.X)
    path = folder / ("model.onnx" if kind == "onnx" else f"data.{kind}")
    words = ["inspect", str(path), "--json"]
    if kind != "onnx":
        model = str(folder / "model.onnx")
        words = ["compare", model, model, "--data", str(path), "--no-proof", "--threads", "1"]
    for seed in seeds:
        signal.alarm(SECONDS)
        path.write_bytes(changed(kind, seed))
        code = command(words)
        sys.stdout.flush()
        os.write(told, f"{seed} {code}\n".encode())
    signal.alarm(0)
    for each in folder.iterdir():
        each.unlink()
    folder.rmdir()
    os._exit(0)
