"""Options of ``nettrim data``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from nettrim_cli.options.declare import check_bounds, option
from nettrim_cli.quantities import parse_seconds
from nettrim_cli.settings.bench import check_shape, parsed_shapes

PRESETS = ("imagenet", "clip", "tensorflow", "caffe", "unit", "bytes", "mnist", "yolo", "paddleocr")
LAYOUTS = ("nchw", "nhwc")
RESIZES = ("crop", "stretch", "pad", "left")
CHANNELS = ("rgb", "bgr")


def check_size(text: str) -> str:
    """Give the text of a size of images unchanged.

    Raises
    ------
    ValueError
        It is not of the form ``224`` or ``48x320``.
    """
    if not re.fullmatch(r"[1-9][0-9]{0,4}(x[1-9][0-9]{0,4})?", text):
        raise ValueError(f"{text!r} is no size; write 224, or HEIGHTxWIDTH such as 48x320")
    return text


def check_numbers(text: str) -> str:
    """Give the text of one number, or of one for each channel, unchanged.

    Raises
    ------
    ValueError
        It is not of the form ``0.5`` or ``0.485,0.456,0.406``.
    """
    try:
        [float(number) for number in text.split(",")]
    except ValueError as error:
        raise ValueError(
            f"{text!r} is no number; write 0.5, or 0.485,0.456,0.406 for three channels"
        ) from error
    return text


def check_value(text: str) -> str:
    """Give the text of an input's value unchanged.

    Raises
    ------
    ValueError
        It is not of the form ``NAME=NUMBER``.
    """
    name, _, value = text.rpartition("=")
    try:
        float(value)
    except ValueError:
        name = ""
    if not name:
        raise ValueError(f"{text!r} is no value of an input; write NAME=NUMBER, such as sr=16000")
    return text


@dataclass(frozen=True)
class DataSettings:
    """How samples are made.

    Raises
    ------
    BadInput
        A value is outside its bounds.
    """

    samples: int | None = option(
        None,
        "Make at most N samples, drawn at random.",
        group="Samples",
        example="2000",
        absent="5,000, or what fits into 1 GB",
        low=1,
        metavar="N",
    )
    seed: int = option(0, "Seed of all draws.", group="Run", example="1", low=0, metavar="N")
    input: str | None = option(
        None,
        "The model input that the samples are for.",
        group="Samples",
        example="image",
        absent="the one that fits",
        metavar="NAME",
    )
    set: tuple[str, ...] = option(
        (),
        "A number for an input that is the same in all samples (repeatable).",
        group="Samples",
        example="sr=16000",
        absent="none",
        metavar="NAME=NUMBER",
        parse=check_value,
    )
    labels: str | None = option(
        None,
        "Classes: folders, none, or a CSV file of file names and classes.",
        group="Samples",
        detail="folders: each class has a folder of images.",
        example="classes.csv",
        absent="folders where there are as many as the model has answers",
        metavar="FILE",
    )
    skip_damaged: bool = option(
        False, "Leave files out that cannot be read, and count them.", group="Samples"
    )
    random: int | None = option(
        None,
        "Make N samples of random numbers instead.",
        group="Samples",
        detail="They show that a model runs, not how good it is, and all reports say so.",
        example="100",
        low=1,
        high=1 << 20,
        metavar="N",
    )
    shape: tuple[str, ...] = option(
        (),
        "For --random: shape of an input with other free axes (repeatable).",
        group="Samples",
        example="ids=1x128",
        absent="as declared",
        metavar="NAME=SIZES",
        parse=check_shape,
    )
    preset: str | None = option(
        None,
        f"How images are prepared: {', '.join(PRESETS[:-1])} or {PRESETS[-1]}.",
        group="Images",
        detail="It sets --resize, --channels, --scale, --mean and --std; the table is in "
        "[usage.md](usage.md#samples-of-photographs-and-other-files).",
        absent="pixels as they are",
        choices=PRESETS,
        metavar="NAME",
    )
    size: str | None = option(
        None,
        "Size of images (height, width) where the model takes any.",
        group="Images",
        example="224",
        absent="that of the model or preset",
        metavar="HxW",
        parse=check_size,
    )
    resize: str | None = option(
        None,
        "How images get their size: crop, stretch, pad or left.",
        group="Images",
        detail="crop: the centre. stretch: all, in other proportions. pad: all, with margins. "
        "left: all, with a margin on the right.",
        absent="that of the preset",
        choices=RESIZES,
        metavar="HOW",
    )
    layout: str | None = option(
        None,
        "Order of axes where the model does not tell: nchw or nhwc.",
        group="Images",
        absent="that of the model",
        choices=LAYOUTS,
        metavar="ORDER",
    )
    channels: str | None = option(
        None,
        "Order of the channels: rgb or bgr.",
        group="Images",
        absent="that of the preset",
        choices=CHANNELS,
        metavar="ORDER",
    )
    scale: float | None = option(
        None,
        "Pixels from 0 to 255 are divided by this first.",
        group="Images",
        example="255",
        absent="that of the preset",
        low=1e-6,
        metavar="X",
    )
    mean: str | None = option(
        None,
        "Then subtracted: one number, or one for each channel.",
        group="Images",
        example="0.485,0.456,0.406",
        absent="that of the preset",
        metavar="X[,X,X]",
        parse=check_numbers,
    )
    std: str | None = option(
        None,
        "Then divided by: one number, or one for each channel.",
        group="Images",
        example="0.229,0.224,0.225",
        absent="that of the preset",
        metavar="X[,X,X]",
        parse=check_numbers,
    )
    tokenizer: str | None = option(
        None,
        "Text: the tokenizer.json.",
        group="Text and sound",
        example="tokenizer.json",
        absent="the one in the model's folder or above it",
        metavar="FILE",
    )
    length: int | None = option(
        None,
        "Text: tokens of a sample where the model takes any number.",
        group="Text and sound",
        example="128",
        absent="as many as the longest has",
        low=1,
        high=1 << 20,
        metavar="N",
    )
    sample_rate: int | None = option(
        None,
        "Sound: samples a second; others are resampled.",
        group="Text and sound",
        example="16000",
        absent="that of the files",
        low=1,
        high=1 << 20,
        metavar="N",
    )
    window: float | None = option(
        None,
        "Sound: length of a sample where the model takes any.",
        group="Text and sound",
        example="0.5s",
        absent="that of the model",
        low=1e-3,
        metavar="T",
        parse=parse_seconds,
    )

    def __post_init__(self) -> None:
        """Check each value against what its field declares."""
        check_bounds(self)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of inputs by name."""
        return parsed_shapes(self.shape)

    @property
    def values(self) -> dict[str, float]:
        """Numbers of inputs that are the same in all samples, by name."""
        pairs = (text.rpartition("=") for text in self.set)
        return {name: float(number) for name, _, number in pairs}
