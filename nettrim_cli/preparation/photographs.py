"""Samples of image files, and of arrays of pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from nettrim_cli.data.formats.base import Array
from nettrim_cli.errors import WrongUsage
from nettrim_cli.graph.model import Model
from nettrim_cli.preparation.classes import find_classes
from nettrim_cli.preparation.image_inputs import check_channels, image_form
from nettrim_cli.preparation.images import ImageForm, prepared, read_image
from nettrim_cli.preparation.presets import PRESETS, Preset, preset_of
from nettrim_cli.preparation.source import FileSource, answers_of, target_input
from nettrim_cli.settings import DataSettings

USES = {
    "imagenet": "torchvision, timm",
    "clip": "CLIP",
    "tensorflow": "Keras, -1 to 1",
    "caffe": "Keras' ResNet50 and VGG, BGR",
    "unit": "0 to 1",
    "bytes": "0 to 255",
    "mnist": "PyTorch's MNIST",
    "yolo": "Ultralytics",
    "paddleocr": "PaddleOCR",
}


def image_source(
    root: Path, files: Sequence[Path], model: Model, settings: DataSettings
) -> FileSource:
    """Samples of images.

    Parameters
    ----------
    root, files
        Their folder, and their paths.
    model
        The model that is to read the samples.
    settings
        How they are made.

    Raises
    ------
    BadInput
        The model takes no images, or classes are wanted and not there.
    WrongUsage
        It is not said how images are prepared.
    """
    tensor = target_input(model, settings)
    preset = wanted_preset(settings, tensor.dtype)
    form = image_form(tensor, settings, preset)
    check_channels(form, preset)
    classes = find_classes(settings.labels, root, files, answers_of(model))
    origin = {
        "kind": "images",
        "preset": settings.preset,
        **asdict(preset),
        "size": [form.height, form.width],
    }
    if classes.names:
        origin["classes"] = list(classes.names)
    return FileSource(
        files,
        partial(_row, tensor.name, form, preset),
        classes.numbers,
        origin,
        [classes.note] if classes.note else [],
    )


def wanted_preset(settings: DataSettings, dtype: str) -> Preset:
    """How images are to be prepared.

    Raises
    ------
    WrongUsage
        That is not said.
    """
    preset = preset_of(settings)
    if preset is not None:
        return preset
    if dtype == "uint8":
        changes = {"channels": settings.channels, "resize": settings.resize}
        values = {**asdict(PRESETS["bytes"]), **{k: v for k, v in changes.items() if v}}
        return Preset(**values)
    uses = ", ".join(f"{name} ({use})" for name, use in USES.items())
    raise WrongUsage(
        "say how images were prepared in training, as a model does not tell: "
        f"--preset {uses}; or --scale, --mean and --std."
    )


def _row(name: str, form: ImageForm, preset: Preset, path: Path) -> Mapping[str, Array]:
    return {name: prepared(read_image(path), form, preset)}
