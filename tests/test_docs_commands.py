"""Every command that a page shows is understood, and runs."""

from __future__ import annotations

import re
import shlex
import shutil
from dataclasses import fields
from pathlib import Path

import click
import onnx
import pytest
from onnx import numpy_helper

from nettrim_cli import cli
from nettrim_cli.errors import GateFailed
from nettrim_cli.settings import BenchSettings, CurveSettings, DataSettings, Gate, Settings
from tests.preparation.test_images import photograph
from tests.preparation.test_making import classifier
from tests.support.networks import save_model

ROOT = Path(__file__).parents[1]
PAGES = {page.stem: page.read_text("utf-8") for page in sorted((ROOT / "docs").glob("*.md"))}
KINDS = {
    "prune": Settings,
    "curve": CurveSettings,
    "compare": Gate,
    "bench": BenchSettings,
    "data": DataSettings,
}
ELSEWHERE = ("--time-limit", "mlp/calib.h5 --data", "--sparsity 90\n")  # tests of errors and limits
SAMPLES = ("photographs", "arrays.npz", "table.csv", "test_data", "lines.txt", "sounds")
QUICKLY = {  # of the commands that solve
    "prune": "--force --samples 100 --augment none --final-fit none --refit layers --no-delete"
    " --allocate uniform --certificate none",
    "curve": "--samples 100 --augment none --refit layers --measured 0",
    "compare": "--certificate none",
    "bench": "--seconds 0.2",
}


def commands(text: str) -> list[str]:
    """Lines of a page that call nettrim."""
    return re.findall(r"^ {4,}\$ (nettrim .*\n)", text, re.MULTILINE)


LINES = [(page, line) for page, text in PAGES.items() for line in commands(text)]


@pytest.mark.parametrize(("page", "line"), LINES)
def test_commands_are_understood(page: str, line: str) -> None:
    if line.endswith(ELSEWHERE[-1]):
        pytest.skip("an error that the page shows")
    _, name, *words = shlex.split(line)
    command = cli.nettrim.all_commands()[name]
    # The parent's names of the help option are kept by the command from its first context on.
    parent = click.Context(cli.nettrim, **cli.CONTEXT)
    given = command.make_context(name, words, parent=parent).params
    kind = KINDS.get(name)
    if kind is not None:
        kind(**{field.name: given[field.name] for field in fields(kind) if field.name in given})


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of sample_models, with the files that pages name besides."""
    for source in (ROOT / "sample_models").glob("*/*"):
        (tmp_path / source.parent.name).mkdir(exist_ok=True)
        (tmp_path / source.parent.name / source.name).symlink_to(source)
    dense = tmp_path / "mlp" / "model.onnx"
    for name in ("model.onnx", "dense.onnx", "small.onnx", "mlp.shrunk.onnx"):
        shutil.copy(dense, tmp_path / name)
    for name in ("calib.h5", "test.h5"):
        (tmp_path / name).symlink_to(dense.with_name("calib.h5"))
    shutil.copyfile(with_zeros(dense), tmp_path / "mlp.pruned.onnx")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))  # where completions are installed
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    return tmp_path


def with_zeros(path: Path) -> Path:
    """A copy of a model in which nine of ten weights are zero."""
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor).copy()
        if values.ndim == 2:
            values.reshape(-1)[[at for at in range(values.size) if at % 10]] = 0
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    target = path.parent / "zeros.onnx"
    onnx.save(model, target)
    return target


def photographs(folder: Path) -> None:
    """Photographs, and a model for them as model.onnx."""
    (folder / "photographs").mkdir()
    for number in range(40):
        photograph(12, 16, seed=number).save(folder / "photographs" / f"{number:02}.jpg")
    save_model(folder / "model.onnx", classifier())
    (folder / "calib.h5").unlink()


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page, text in PAGES.items() if commands(text)])
def test_commands_run(page: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if page == "index":
        photographs(here)
    if page == "usage":
        shutil.copy(write_images(here), here / "images.npy")
    for line in commands(PAGES[page]):
        _, name, *words = shlex.split(line)
        if any(text in line for text in ELSEWHERE):
            continue
        if page != "index" and name == "data" and words[0] in SAMPLES:
            continue  # tests/preparation runs these
        if name == "prune" and not any(word in words for word in ("--data", "--config")):
            continue
        code = cli.run([name, *quickly(name, words)])
        allowed = {0, GateFailed.exit_code} if "--max" in line or "--speedup" in line else {0}
        assert code in allowed, f"{line}{capsys.readouterr().err}"


def write_images(folder: Path) -> Path:
    """Images without labels."""
    import h5py
    import numpy as np

    with h5py.File(folder / "lenet" / "calib.h5") as file:
        np.save(folder / "some.npy", file["image"][:100])
    return folder / "some.npy"


def quickly(name: str, words: list[str]) -> list[str]:
    """Words of a command with options that make it quick, where it does not have these."""
    options = re.findall(r"(--[\w-]+)((?: [^-]\S*)?)", QUICKLY.get(name, ""))
    structured, targets = "--structure" in words, {"--sparsity", "--max-error", "--max-drop"}
    ruled_out = {"--no-delete", "--allocate"} if structured else set()
    if not targets & set(words) or "--limit" in words:
        ruled_out |= {"--allocate"}
    if name == "prune" and structured:  # one layer is enough
        words = [*words, "--include", "*fc2*" if words[0].startswith("lenet") else "*fc3*"]
    added = [
        [flag, *value.split()]
        for flag, value in options
        if flag not in words and flag not in ruled_out
    ]
    return [*words, *(word for pair in added for word in pair)]
