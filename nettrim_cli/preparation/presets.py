"""How images are prepared in training: the usual ways by name.

Every sample is ``(pixels / scale - mean) / std`` with pixels from 0 to 255.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from nettrim_cli.settings import DataSettings


@dataclass(frozen=True)
class Preset:
    """A way to prepare images.

    Attributes
    ----------
    scale, mean, std
        Of the formula; mean and std have one number, or one for each channel in the model's order.
    channels
        ``rgb`` or ``bgr``.
    resize
        ``crop`` scales the shorter side to the wanted one over `ratio` and takes the centre,
        ``stretch`` forgets proportions, ``pad`` puts the whole image into the middle, ``left``
        scales it to the height and puts it to the left.
    cubic
        Whether pixels are interpolated by cubic rather than linear functions.
    fill
        Margins of ``pad`` and ``left``, as the model gets them.
    size
        Height and width where the model takes any.
    """

    scale: float = 255.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    channels: str = "rgb"
    resize: str = "stretch"
    ratio: float = 1.0
    cubic: bool = False
    fill: float = 0.0
    size: tuple[int, int] = (224, 224)


IMAGENET = Preset(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), resize="crop", ratio=0.875)
PRESETS = {
    "imagenet": IMAGENET,  # torchvision.transforms: Resize(256), CenterCrop(224)
    "clip": Preset(  # openai/CLIP, clip.py: _transform
        mean=(0.48145466, 0.4578275, 0.40821073),
        std=(0.26862954, 0.26130258, 0.27577711),
        resize="crop",
        cubic=True,
    ),
    "tensorflow": Preset(scale=127.5, mean=(1.0,)),  # keras.applications, mode "tf": -1 to 1
    "caffe": Preset(  # keras.applications, mode "caffe"
        scale=1.0, mean=(103.939, 116.779, 123.68), channels="bgr"
    ),
    "unit": Preset(),  # 0 to 1
    "bytes": Preset(scale=1.0),  # 0 to 255
    "mnist": Preset(mean=(0.1307,), std=(0.3081,), size=(28, 28)),  # pytorch/examples
    "yolo": Preset(resize="pad", fill=114 / 255, size=(640, 640)),  # ultralytics, LetterBox
    "paddleocr": Preset(  # PaddleOCR, predict_rec.py: resize_norm_img
        mean=(0.5,), std=(0.5,), channels="bgr", resize="left", size=(48, 320)
    ),
}


def preset_of(settings: DataSettings) -> Preset | None:
    """The preset of some options with what they change in it; None where they say nothing."""
    changes = {
        "scale": settings.scale,
        "mean": numbers(settings.mean),
        "std": numbers(settings.std),
        "channels": settings.channels,
        "resize": settings.resize,
    }
    changes = {name: value for name, value in changes.items() if value is not None}
    if settings.preset is None and not {"scale", "mean", "std"} & changes.keys():
        return None
    return replace(PRESETS[settings.preset or "unit"], **changes)  # type: ignore[arg-type]


def numbers(text: str | None) -> tuple[float, ...] | None:
    """Numbers with commas between them."""
    return None if text is None else tuple(map(float, text.split(",")))
