"""Options of ``nettrim data``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from nettrim_cli.errors import BadInput
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
        "Make at most N samples, drawn at random [default: 5,000, or what fits into 1 GB].",
        low=1,
        metavar="N",
    )
    seed: int = option(0, "Seed of all draws.", low=0, metavar="N")
    input: str | None = option(
        None, "The model input that the samples are for, where there are several.", metavar="NAME"
    )
    set: tuple[str, ...] = option(
        (),
        "A number for an input that is the same in all samples, such as sr=16000 (repeatable).",
        metavar="NAME=NUMBER",
        parse=check_value,
    )
    preset: str | None = option(
        None,
        "How images are prepared: sets --resize, --channels, --scale, --mean and --std; "
        "docs/usage.md has the table.",
        choices=PRESETS,
    )
    size: str | None = option(
        None,
        "Size of images where the model takes any, such as 224 or 48x320 (height, width).",
        metavar="HxW",
        parse=check_size,
    )
    resize: str | None = option(
        None,
        "How images get their size. crop: the centre; stretch: all, in other proportions; "
        "pad: all, with margins; left: all, with a margin on the right.",
        choices=RESIZES,
    )
    layout: str | None = option(
        None,
        "Order of axes where the model does not tell: channels first or last.",
        choices=LAYOUTS,
    )
    channels: str | None = option(None, "Order of the channels.", choices=CHANNELS)
    scale: float | None = option(
        None, "Pixels from 0 to 255 are divided by this first.", low=1e-6, metavar="X"
    )
    mean: str | None = option(
        None,
        "Then subtracted: one number, or one for each channel.",
        metavar="X[,X,X]",
        parse=check_numbers,
    )
    std: str | None = option(
        None,
        "Then divided by: one number, or one for each channel.",
        metavar="X[,X,X]",
        parse=check_numbers,
    )
    labels: str | None = option(
        None,
        "Classes: folders (of images in a folder for each class), none, or a CSV file of file "
        "names and classes [default: folders where there are as many as the model has answers].",
        metavar="FILE",
    )
    skip_damaged: bool = option(False, "Leave files out that cannot be read, and count them.")
    tokenizer: str | None = option(
        None,
        "For text: the tokenizer.json [default: the one in the model's folder or above it].",
        metavar="FILE",
    )
    length: int | None = option(
        None,
        "Tokens of a text where the model takes any number [default: as many as the longest has].",
        low=1,
        high=1 << 20,
        metavar="N",
    )
    sample_rate: int | None = option(
        None, "For sound: samples a second; others are resampled.", low=1, high=1 << 20, metavar="N"
    )
    window: float | None = option(
        None,
        "For sound: length of a sample where the model takes any, such as 1 or 0.5s.",
        low=1e-3,
        metavar="T",
        parse=parse_seconds,
    )
    random: int | None = option(
        None,
        "Make N samples of random numbers instead: to see that the model runs, not how good it "
        "is. All reports say so.",
        low=1,
        high=1 << 20,
        metavar="N",
    )
    shape: tuple[str, ...] = option(
        (),
        "For --random: shape of an input that has other free axes than that of the samples, such "
        "as ids=1x128 (repeatable).",
        metavar="NAME=SIZES",
        parse=check_shape,
    )

    def __post_init__(self) -> None:
        """Check each value against what its field declares."""
        check_bounds(self)
        checks = ((check_size, self.size), (check_numbers, self.mean), (check_numbers, self.std))
        for check, text in (*checks, *((check_value, text) for text in self.set)):
            try:
                if text is not None:
                    check(text)
            except ValueError as error:
                raise BadInput(f"{error}.") from error

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of inputs by name."""
        return parsed_shapes(self.shape)

    @property
    def values(self) -> dict[str, float]:
        """Numbers of inputs that are the same in all samples, by name."""
        pairs = (text.rpartition("=") for text in self.set)
        return {name: float(number) for name, _, number in pairs}
