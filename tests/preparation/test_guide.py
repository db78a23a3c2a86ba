"""The commands on samples in docs/usage.md run as they stand there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from onnx import numpy_helper

from nettrim_cli.cli import run
from nettrim_cli.preparation.presets import PRESETS
from tests.preparation.test_images import photograph
from tests.preparation.test_making import classifier
from tests.preparation.test_sources import reader, write_sound
from tests.support.networks import input_samples, mlp, save_model
from tests.support.options import FAST
from tests.support.small import build, normal

SECTION = (Path(__file__).parents[2] / "docs" / "usage.md").read_text("utf-8")
SECTION = SECTION.split("### Samples of photographs")[1].split("### Numbers of samples")[0]
LINES = re.findall(r"^    \$ nettrim (data .*-o calib.h5)$", SECTION, re.MULTILINE)
LISTENER = (
    "g (float[N,512] input, int64 sr, float[2,N,4] state) => (float[N,512] y, float[2,N,4] z) "
    "{\ny = Relu(input)\nz = Identity(state)\n}"
)


@pytest.fixture
def here(tmp_path: Path, monkeypatch) -> Path:
    """A folder with all files that the section names; the model is that of a test."""
    monkeypatch.chdir(tmp_path)
    for folder in ("photographs", "sounds", "test_data/test_data_set_0"):
        Path(folder).mkdir(parents=True)
    for number in range(20):
        photograph(12, 16, seed=number).save(f"photographs/{number:02}.jpg")
    x = input_samples(mlp(), 20)
    np.savetxt("table.csv", x, delimiter=",")
    pixels = np.random.default_rng(0).integers(0, 256, (9, 8, 8, 3), dtype=np.uint8)
    np.savez("arrays.npz", x=pixels)
    content = numpy_helper.from_array(x).SerializeToString()
    Path("test_data/test_data_set_0/input_0.pb").write_bytes(content)
    write_sound("sounds/a.wav", np.clip(normal(20_000) / 9, -1, 1), rate=16_000)
    Path("lines.txt").write_text("w1 w2\nw3\n")
    save_model(tmp_path / "vad.onnx", build(LISTENER))
    return tmp_path


@pytest.mark.parametrize("line", LINES)
def test_commands_of_the_guide_make_samples(here, line) -> None:
    _, source, *_ = words = shlex.split(line)
    proto = mlp()
    if source in ("photographs", "arrays.npz"):
        proto = classifier()
    elif source == "sounds":
        proto = build("g (float[N,L] x) => (float[N,L] y) { y = Relu(x) }")
    elif source == "lines.txt":
        tokenizers = pytest.importorskip("tokenizers")
        known = tokenizers.models.WordLevel({"w1": 1, "w2": 2, "w3": 3, "?": 0}, unk_token="?")
        tokenizers.Tokenizer(known).save("tokenizer.json")
        proto = reader()
    save_model(here / "model.onnx", proto)
    assert run(words) == 0
    if source == "photographs":  # the second of two commands
        assert run(["prune", "model.onnx", "--data", "calib.h5", "-q", *FAST]) == 0


def test_the_table_has_every_preset() -> None:
    assert re.findall(r"^\| `(\w+)` \|", SECTION, re.MULTILINE) == list(PRESETS)
    assert len(LINES) == 8
