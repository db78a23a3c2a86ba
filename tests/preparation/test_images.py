"""Images as samples: each preset by an independent formula, odd images, all orders of axes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nettrim_cli.errors import BadInput, WrongUsage
from nettrim_cli.graph.layer import Tensor
from nettrim_cli.preparation.image_inputs import check_channels, image_form
from nettrim_cli.preparation.images import ImageForm, prepared, read_image
from nettrim_cli.preparation.presets import PRESETS, Preset, preset_of
from nettrim_cli.settings import PRESETS as NAMES
from nettrim_cli.settings import DataSettings

MEAN = {"imagenet": [0.485, 0.456, 0.406], "clip": [0.48145466, 0.4578275, 0.40821073]}
STD = {"imagenet": [0.229, 0.224, 0.225], "clip": [0.26862954, 0.26130258, 0.27577711]}


def photograph(height: int = 40, width: int = 60, seed: int = 0) -> Image.Image:
    """Smooth colours with some noise."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = np.stack([np.sin(x / 9), np.cos(y / 7), np.sin((x + y) / 11)], axis=2)
    values = 127 + 90 * waves + random.normal(0, 12, (height, width, 3))
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


def form(height: int, width: int, channels: int = 3, *, last: bool = False) -> ImageForm:
    shape = (height, width, channels) if last else (channels, height, width)
    return ImageForm(height, width, channels, last, shape, "float32")


def torchvision(image: Image.Image, resized: int, cropped: int, method: int) -> np.ndarray:
    """Resize, CenterCrop and ToTensor as torchvision's documentation defines them."""
    width, height = image.size
    short, long = min(width, height), max(width, height)
    other = int(resized * long / short)
    size = (resized, other) if width <= height else (other, resized)
    image = image.resize(size, method)
    left, top = (round((side - cropped) / 2.0) for side in image.size)
    pixels = np.asarray(image)[top : top + cropped, left : left + cropped]
    return pixels.astype(np.float32).transpose(2, 0, 1) / 255


def stretched(image: Image.Image, height: int, width: int) -> np.ndarray:
    pixels = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
    return pixels.astype(np.float64)


def test_every_preset_has_a_name() -> None:
    assert tuple(PRESETS) == NAMES


@pytest.mark.parametrize("size", [(40, 60), (60, 40), (33, 33)])
@pytest.mark.parametrize("name", ["imagenet", "clip"])
def test_presets_of_torchvision(name, size) -> None:
    image = photograph(*size)
    method = Image.Resampling.BICUBIC if name == "clip" else Image.Resampling.BILINEAR
    wanted = torchvision(image, 28 if name == "clip" else 32, 28, method)
    wanted = (wanted - np.reshape(MEAN[name], (3, 1, 1))) / np.reshape(STD[name], (3, 1, 1))
    got = prepared(image, form(28, 28), PRESETS[name])
    assert got.dtype == np.float32
    assert np.allclose(got, wanted, atol=1e-6)


def test_presets_that_stretch() -> None:
    image = photograph()
    pixels = stretched(image, 20, 30)
    wanted = {
        "tensorflow": pixels / 127.5 - 1,
        "unit": pixels / 255,
        "bytes": pixels,
        "caffe": pixels[:, :, ::-1] - [103.939, 116.779, 123.68],
    }
    for name, values in wanted.items():
        got = prepared(image, form(20, 30, last=True), PRESETS[name])
        assert np.allclose(got, values, atol=1e-4), name
        first = prepared(image, form(20, 30), PRESETS[name])
        assert np.array_equal(first, got.transpose(2, 0, 1)), name


def test_grey_images_by_mnist() -> None:
    image = photograph().convert("L")
    got = prepared(image, form(28, 28, 1), PRESETS["mnist"])
    assert np.allclose(got[0], (stretched(image, 28, 28) / 255 - 0.1307) / 0.3081, atol=1e-5)


@pytest.mark.parametrize("size", [(40, 60), (60, 40), (7, 64)])
def test_letterbox(size) -> None:
    image = photograph(*size)
    got = prepared(image, form(32, 32, last=True), PRESETS["yolo"])
    factor = min(32 / size[0], 32 / size[1])
    height, width = (round(side * factor) for side in size)
    top, left = round((32 - height) / 2 - 0.1), round((32 - width) / 2 - 0.1)
    inside = got[top : top + height, left : left + width]
    assert np.allclose(inside, stretched(image, height, width) / 255, atol=1e-6)
    margin = np.ones((32, 32), bool)
    margin[top : top + height, left : left + width] = False
    assert np.allclose(got[margin], 114 / 255)


@pytest.mark.parametrize(("size", "width"), [((20, 50), 40), ((20, 200), 64), ((20, 20), 16)])
def test_lines_of_text_stand_on_the_left(size, width) -> None:
    image = photograph(*size)
    got = prepared(image, form(16, 64), PRESETS["paddleocr"])
    pixels = stretched(image, 16, width)[:, :, ::-1].transpose(2, 0, 1)
    assert np.allclose(got[:, :, :width], (pixels / 255 - 0.5) / 0.5, atol=1e-6)
    assert not got[:, :, width:].any()


def saved(folder: Path, image: Image.Image, name: str = "image.png", **options) -> Path:
    image.save(folder / name, **options)
    return folder / name


def test_odd_images(tmp_path) -> None:
    colours = photograph()
    opaque = colours.copy()
    opaque.putalpha(Image.new("L", colours.size, 7))
    deep = Image.fromarray(np.asarray(colours.convert("L")).astype(np.uint16) * 257)
    palette = colours.quantize(16)
    palette.info["transparency"] = bytes(range(16))
    cases = {
        "alpha.png": (opaque, colours),
        "grey.png": (colours.convert("L"), colours.convert("L").convert("RGB")),
        "palette.png": (palette, palette.convert("RGBA").convert("RGB")),
        "deep.png": (deep, colours.convert("L").convert("RGB")),
        "bits.png": (colours.convert("1"), colours.convert("1").convert("RGB")),
        "deep.tif": (deep, colours.convert("L").convert("RGB")),
        "colours.bmp": (colours, colours),
        "print.tif": (colours.convert("CMYK"), colours.convert("CMYK").convert("RGB")),
    }
    for name, (image, wanted) in cases.items():
        got = prepared(read_image(saved(tmp_path, image, name)), form(40, 60, last=True), Preset())
        assert np.allclose(got * 255, np.asarray(wanted), atol=1e-3), name


def test_cameras_that_were_held_sideways(tmp_path) -> None:
    image = photograph()
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    path = saved(tmp_path, image, exif=exif)
    got = np.asarray(read_image(path))
    assert np.array_equal(got, np.rot90(np.asarray(image), -1))


def test_the_first_frame_counts(tmp_path) -> None:
    frames = [photograph(seed=seed).convert("L") for seed in range(3)]
    path = saved(tmp_path, frames[0], "film.gif", save_all=True, append_images=frames[1:])
    assert np.array_equal(np.asarray(read_image(path).convert("L")), np.asarray(frames[0]))


def test_what_is_no_image_is_named(tmp_path) -> None:
    whole = saved(tmp_path, photograph(200, 200)).read_bytes()
    Image.fromarray(np.ones((4, 4), np.float32)).save(tmp_path / "float.tif")
    contents = {
        "empty.png": b"",
        "cut.png": whole[: len(whole) // 2],
        "text.jpg": b"no image",
        "mangled.png": whole[:60] + b"\0\xff" * 40 + whole[140:],
        "float.tif": (tmp_path / "float.tif").read_bytes(),
        "script.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(BadInput, match=name):
            read_image(tmp_path / name)


def test_bombs_are_not_decompressed(tmp_path) -> None:
    import struct
    import zlib

    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    path = saved(tmp_path, photograph(4, 4))
    raw = path.read_bytes()
    chunk = b"IHDR" + head
    path.write_bytes(
        raw[:8] + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)) + raw[33:]
    )
    with pytest.raises(BadInput, match=r"pixels|bomb"):
        read_image(path)


@pytest.mark.parametrize(
    ("shape", "options", "wanted"),
    [
        ((None, 3, 32, 48), {}, (32, 48, 3, False)),
        ((None, 32, 48, 3), {}, (32, 48, 3, True)),
        (("N", 1, 28, 28), {}, (28, 28, 1, False)),
        ((1, 3, "h", "w"), {}, (224, 224, 3, False)),
        ((1, 3, "h", "w"), {"size": "64x96"}, (64, 96, 3, False)),
        ((1, "h", "w", 3), {"size": "64"}, (64, 64, 3, True)),
        ((None, None, None, None), {"layout": "nhwc"}, (224, 224, 3, True)),
        ((None, None, None, None), {}, (224, 224, 3, False)),
        ((None, 28, 28), {}, (28, 28, 1, False)),
        ((None, 784), {}, (28, 28, 1, False)),
        ((None, 3 * 8 * 6), {"size": "8x6"}, (8, 6, 3, False)),
        (None, {}, (224, 224, 3, False)),
    ],
)
def test_the_model_says_which_images_it_takes(shape, options, wanted) -> None:
    tensor = Tensor("x", "float32", shape)
    got = image_form(tensor, DataSettings(**options), Preset())
    assert (got.height, got.width, got.channels, got.last) == wanted
    sample = prepared(photograph(), got, Preset())
    assert sample.shape == got.shape
    if shape is not None:
        assert len(sample.shape) == len(shape) - 1


@pytest.mark.parametrize(
    ("shape", "options", "kind", "words"),
    [
        ((None, 5, 32, 32), {}, BadInput, "5 channels"),
        ((None, 3, 32, 32), {"size": "16"}, WrongUsage, "leave --size out"),
        ((None, 785), {}, BadInput, "--size 28x28"),
        ((None, 3, 4, 4, 4), {}, BadInput, "takes no images"),
    ],
)
def test_inputs_that_take_no_images(shape, options, kind, words) -> None:
    with pytest.raises(kind, match=words):
        image_form(Tensor("x", "float32", shape), DataSettings(**options), Preset())


def test_numbers_for_each_channel() -> None:
    settings = DataSettings(preset="imagenet", mean="0.5,0.4,0.3", std="2", channels="bgr")
    preset = preset_of(settings)
    assert preset is not None
    assert (preset.mean, preset.std, preset.channels) == ((0.5, 0.4, 0.3), (2.0,), "bgr")
    assert preset.resize == "crop"
    for bad, channels in ((preset, 1), (Preset(std=(0.0,)), 3)):
        with pytest.raises(WrongUsage, match=r"--std|--mean"):
            check_channels(form(4, 4, channels), bad)
    assert preset_of(DataSettings(size="4")) is None
    assert preset_of(DataSettings(scale=1.0)) == PRESETS["bytes"]
