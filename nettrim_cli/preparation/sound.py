"""Samples of sound: windows of .wav files, one channel from -1 to 1."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np

from nettrim_cli.data.formats.base import Array, Indices
from nettrim_cli.data.input_shapes import fixed, spell_input
from nettrim_cli.errors import BadInput, WrongUsage
from nettrim_cli.graph.layer import Tensor
from nettrim_cli.graph.model import Model
from nettrim_cli.preparation.source import Item, target_input
from nettrim_cli.settings import DataSettings


class SoundSource:
    """Windows of sound files, one behind the other; the last of a file is filled with silence.

    Raises
    ------
    BadInput
        The model takes no sound, or a file is damaged.
    WrongUsage
        It is not said how long a window is, or files have several rates.
    """

    def __init__(
        self, path: Path, files: Sequence[Path], model: Model, settings: DataSettings
    ) -> None:
        from scipy.io import wavfile

        self._wavfile = wavfile
        self.notes: list[str] = []
        self._tensor = target_input(model, settings)
        infos: list[tuple[Path, int, int]] = []
        for file in files:
            try:
                rate, values = self._read(file)
            except BadInput:
                if not settings.skip_damaged:
                    raise
                self.notes.append(f"damaged, left out: {file}")
                continue
            infos.append((file, rate, len(values)))
        rates = {rate for _, rate, _ in infos}
        if not infos:
            raise BadInput(f"{path}: all files are damaged.")
        if settings.sample_rate is None and len(rates) > 1:
            raise WrongUsage(
                f"{path}: its files have {', '.join(map(str, sorted(rates)))} samples a second: "
                "say how many the model takes (--sample-rate)."
            )
        self._rate = settings.sample_rate or rates.pop()
        self._window, self._shape = window_of(self._tensor, settings.window, self._rate)
        self._windows = [
            (file, number)
            for file, rate, length in infos
            for number in range(max(1, -(-(length * self._rate // rate) // self._window)))
        ]
        self._last: tuple[Path, Array] | None = None
        self.origin: Mapping[str, Any] = {
            "kind": "sound",
            "sample_rate": self._rate,
            "window": self._window,
        }

    def close(self) -> None:
        """Do nothing: files are closed once they are read."""

    def __len__(self) -> int:
        """Number of windows in all files."""
        return len(self._windows)

    def items(self, indices: Indices) -> Iterator[Item]:
        """Windows at ascending indices."""
        for index in indices:
            file, number = self._windows[index]
            yield Item(f"{file}, window {number}", partial(self._make, file, number))

    def _make(self, file: Path, number: int) -> Mapping[str, Array]:
        if self._last is None or self._last[0] != file:
            rate, values = self._read(file)
            self._last = file, resampled(values, rate, self._rate)
        piece = self._last[1][number * self._window : (number + 1) * self._window]
        piece = np.pad(piece, (0, self._window - len(piece)))
        return {self._tensor.name: piece.reshape(self._shape).astype(self._tensor.dtype)}

    def _read(self, file: Path) -> tuple[int, Array]:
        """Samples a second, and one channel of values from -1 to 1."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of chunks that hold no sound
                rate, values = self._wavfile.read(file)
        except Exception as error:  # SciPy's reader raises whatever the bytes lead it to
            raise BadInput(
                f"{file}: the sound cannot be read ({error}): write it as .wav, or go on without "
                "such files (--skip-damaged)."
            ) from error
        if values.dtype == np.uint8:
            values = (values.astype(np.float64) - 128) / 128
        elif values.dtype.kind == "i":
            values = values / -float(np.iinfo(values.dtype).min)
        if not rate or not np.isfinite(values).all():
            raise BadInput(f"{file}: has values that are no numbers, or no rate.")
        return int(rate), values.mean(axis=1) if values.ndim > 1 else values


def resampled(values: Array, rate: int, target_rate: int) -> Array:
    """Sound at another rate, by a polyphase filter."""
    if rate == target_rate:
        return values
    from scipy.signal import resample_poly

    divisor = gcd(rate, target_rate)
    return np.asarray(resample_poly(values, target_rate // divisor, rate // divisor))


def window_of(tensor: Tensor, seconds: float | None, rate: int) -> tuple[int, tuple[int, ...]]:
    """Length of a window, and shape of a sample.

    Raises
    ------
    BadInput
        The input takes no sound.
    WrongUsage
        It is not said how long a window is, or the model says something else.
    """
    sizes = [fixed(axis) for axis in (tensor.shape or (None, None))[1:]]
    long = [place for place, size in enumerate(sizes) if (size or 0) > 1]
    free = [place for place, size in enumerate(sizes) if size is None]
    places = (long or free)[-1:]
    if not places or len(long) > 1 or tensor.dtype[:5] != "float":
        raise BadInput(
            f"the model input '{tensor.name}' {spell_input(tensor)} takes no sound, which is "
            "(samples, window) of floating-point numbers, perhaps with axes of size 1."
        )
    declared = sizes[places[0]]
    window = None if seconds is None else max(1, round(seconds * rate))
    if declared and window not in (None, declared):
        raise WrongUsage(f"--window: the model takes {declared} values: leave it out.")
    length = declared or window
    if length is None:
        raise WrongUsage("say how long a sample is, such as --window 1s.")
    return length, tuple(length if place in places else 1 for place in range(len(sizes)))
