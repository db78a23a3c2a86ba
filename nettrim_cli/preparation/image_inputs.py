"""Which images a model input takes: size, channels and the order of axes."""

from __future__ import annotations

import math

from nettrim_cli.data.input_shapes import fixed, spell_input
from nettrim_cli.errors import BadInput, WrongUsage
from nettrim_cli.graph.layer import Tensor
from nettrim_cli.preparation.images import MODES, ImageForm
from nettrim_cli.preparation.presets import PRESETS, Preset
from nettrim_cli.settings import DataSettings

PIXEL_DTYPES = ("float32", "float16", "float64", "uint8")


def image_form(tensor: Tensor, settings: DataSettings, preset: Preset) -> ImageForm:
    """What an input takes of an image.

    Raises
    ------
    BadInput
        It takes no images.
    WrongUsage
        An option contradicts its shape.
    """
    axes = tensor.shape or (None, 3, None, None)
    if settings.layout == "nhwc" and tensor.shape is None:
        axes = (None, None, None, 3)
    sizes = [fixed(axis) for axis in axes[1:]]
    target_size = _wanted_size(settings, preset)
    if len(sizes) == 1 and sizes[0]:  # a flat image
        return _flat(tensor, sizes[0], settings)
    if len(sizes) == 2:  # grey, without an axis for that
        height, width = _sides(tensor, sizes, settings, target_size)
        return ImageForm(height, width, 1, False, (height, width), tensor.dtype)
    if len(sizes) != 3 or tensor.dtype not in PIXEL_DTYPES:
        raise BadInput(
            f"the model input '{tensor.name}' {spell_input(tensor)} takes no images: they have "
            f"three axes besides that of the samples, and are {', '.join(PIXEL_DTYPES)}."
        )
    last = settings.layout == "nhwc" if settings.layout else _is_last(sizes)
    number = sizes[2 if last else 0]
    channels = number or 3
    if channels not in MODES:
        raise BadInput(
            f"the model input '{tensor.name}' {spell_input(tensor)} takes {channels} channels, and "
            "images have 1, 3 or 4: is --layout right?"
        )
    height, width = _sides(tensor, sizes[:2] if last else sizes[1:], settings, target_size)
    shape = (height, width, channels) if last else (channels, height, width)
    return ImageForm(height, width, channels, last, shape, tensor.dtype)


def check_channels(form: ImageForm, preset: Preset) -> None:
    """Check that there is one number of a preset, or one for each channel.

    Raises
    ------
    WrongUsage
        There are others.
    """
    for name, values in (("mean", preset.mean), ("std", preset.std)):
        if len(values) not in (1, form.channels):
            raise WrongUsage(
                f"the preset has {len(values)} numbers as {name} and the model takes images of "
                f"{form.channels} channel{'s' * (form.channels > 1)}: give --{name} with one "
                "number, or one for each channel."
            )
        if name == "std" and not all(values):
            raise WrongUsage("--std 0 would divide by zero.")
    if form.dtype == "uint8" and preset != PRESETS["bytes"] and _changes_bytes(preset):
        raise WrongUsage("the model takes whole pixels of uint8: --preset bytes is meant for it.")


def _changes_bytes(preset: Preset) -> bool:
    return preset.scale != 1 or any(preset.mean) or set(preset.std) != {1.0}


def _is_last(sizes: list[int | None]) -> bool:
    """Whether the channels seem to be the last of three axes."""
    return sizes[0] not in MODES and sizes[2] in MODES


def _wanted_size(settings: DataSettings, preset: Preset) -> tuple[int, int]:
    if settings.size is None:
        return preset.size
    sides = list(map(int, settings.size.split("x")))
    return sides[0], sides[-1]


def _sides(
    tensor: Tensor, sizes: list[int | None], settings: DataSettings, target_size: tuple[int, int]
) -> tuple[int, int]:
    if settings.size and any(
        have not in (None, want) for have, want in zip(sizes, target_size, strict=True)
    ):
        raise WrongUsage(
            f"--size {settings.size} contradicts the model input '{tensor.name}' "
            f"{spell_input(tensor)}, which has its size already: leave --size out."
        )
    height, width = (have or want for have, want in zip(sizes, target_size, strict=True))
    return height, width


def _flat(tensor: Tensor, pixels: int, settings: DataSettings) -> ImageForm:
    """A form of images as rows of pixels: of one channel, unless `--size` says otherwise."""
    side = math.isqrt(pixels)
    height, width = _wanted_size(settings, Preset(size=(side, side)))
    channels = pixels // (height * width) if height * width else 0
    if height * width * channels != pixels or channels not in MODES:
        raise BadInput(
            f"the model input '{tensor.name}' {spell_input(tensor)} takes {pixels} numbers: say "
            "which images these are, such as --size 28x28."
        )
    last = settings.layout == "nhwc"
    return ImageForm(height, width, channels, last, (pixels,), tensor.dtype)
