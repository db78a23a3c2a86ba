"""Images -> what a model takes: read, turned upright, resized, scaled."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.data.formats.base import Array
from nettrim_cli.errors import BadInput, OutOfMemory
from nettrim_cli.preparation.presets import Preset

if TYPE_CHECKING:
    from PIL.Image import Image

MODES = {1: "L", 3: "RGB", 4: "RGBA"}
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
MAX_PIXELS = 178_956_970  # Pillow's own limit for what may be a decompression bomb
SHORTS = 65535 / 255  # steps of 16 bits to one of 8


@dataclass(frozen=True)
class ImageForm:
    """What an input takes of an image.

    Attributes
    ----------
    height, width
        Its size.
    channels
        Number of channels: 1, 3 or 4.
    last
        Whether the channels are the last axis.
    shape
        Of a sample; other axes than those of the image, if it is flat or has no channels.
    """

    height: int
    width: int
    channels: int
    last: bool
    shape: tuple[int, ...]
    dtype: str


def read_image(path: Path) -> Image:
    """The first frame of an image file, upright, with 8 bits a channel.

    Raises
    ------
    BadInput
        The file is damaged, no image, too large, or holds no pixels of 8 or 16 bits.
    OutOfMemory
        It does not fit into memory.
    """
    from PIL import Image, ImageOps

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # damaged metadata harm no pixel
            with Image.open(path, formats=FORMATS) as file:
                if file.width * file.height > MAX_PIXELS:
                    raise BadInput(
                        f"{path}: an image of {file.width:,} x {file.height:,} pixels; at most "
                        f"{MAX_PIXELS:,} are read: make it smaller."
                    )
                file.load()
                return eight_bits(ImageOps.exif_transpose(file), path)
    except (BadInput, KeyboardInterrupt):
        raise
    except MemoryError as error:
        raise OutOfMemory(f"{path}: the image does not fit into memory.") from error
    except Exception as error:  # Pillow's readers raise whatever the bytes lead them to
        reason = str(error).partition("\n")[0].replace(str(path), "it") or type(error).__name__
        raise BadInput(
            f"{path}: the image cannot be read ({reason}): replace it, or go on without "
            "such images (--skip-damaged)."
        ) from error


def eight_bits(image: Image, path: Path) -> Image:
    """An image with 8 bits a channel; of palettes the colours.

    Raises
    ------
    BadInput
        Its pixels are floating-point numbers.
    """
    from PIL import Image

    if image.mode == "F":
        raise BadInput(
            f"{path}: holds floating-point pixels, of which no range is known: store them as "
            "numbers in .npy instead."
        )
    if image.mode.startswith("I"):
        values = np.clip(np.asarray(image).astype(np.float64) / SHORTS, 0, 255)
        return Image.fromarray(np.rint(values).astype(np.uint8))
    if image.mode in ("P", "PA"):
        return image.convert("RGBA")
    return image


def prepared(image: Image, form: ImageForm, preset: Preset) -> Array:
    """An image as a sample for a model input."""
    pixels = np.asarray(resized(image.convert(MODES[form.channels]), form, preset))
    pixels = pixels.reshape(*pixels.shape[:2], form.channels)
    if preset.channels == "bgr" and form.channels == 3:
        pixels = pixels[:, :, ::-1]
    values = normalised(pixels, preset)
    if (missing := (form.height - values.shape[0], form.width - values.shape[1])) != (0, 0):
        margins = (0, 0) if preset.resize == "left" else tuple(round(m / 2 - 0.1) for m in missing)
        around = [(b, m - b) for b, m in zip(margins, missing, strict=True)]
        values = np.pad(values, (*around, (0, 0)), constant_values=np.float32(preset.fill))
    if not form.last:
        values = values.transpose(2, 0, 1)
    return np.ascontiguousarray(values.reshape(form.shape).astype(form.dtype))


def normalised(pixels: NDArray[np.uint8], preset: Preset) -> NDArray[np.float32]:
    """Pixels (H, W, C) as a preset scales them."""
    mean, std = np.array(preset.mean, np.float32), np.array(preset.std, np.float32)
    scaled: NDArray[np.float32] = pixels.astype(np.float32) / np.float32(preset.scale)
    return (scaled - mean) / std


def resized(image: Image, form: ImageForm, preset: Preset) -> Image:
    """An image in the size of a form, or within it where margins are to be added."""
    from PIL import Image

    method = Image.Resampling.BICUBIC if preset.cubic else Image.Resampling.BILINEAR
    wide, high, width, height = image.width, image.height, form.width, form.height
    if preset.resize == "stretch":
        return image.resize((width, height), method)
    if preset.resize == "crop":  # torchvision.transforms.functional: resize, then center_crop
        wanted_width, wanted_height = (int(side / preset.ratio) for side in (width, height))
        if wide * wanted_height < high * wanted_width:
            size = wanted_width, int(wanted_width * high / wide)
        else:
            size = int(wanted_height * wide / high), wanted_height
        size = max(size[0], width), max(size[1], height)
        left, top = (round((size[0] - width) / 2.0), round((size[1] - height) / 2.0))
        return image.resize(size, method).crop((left, top, left + width, top + height))
    if preset.resize == "left":
        size = min(math.ceil(height * wide / high), width), height
    else:
        factor = min(width / wide, height / high)
        size = round(wide * factor), round(high * factor)
    return image.resize((max(size[0], 1), max(size[1], 1)), method)
