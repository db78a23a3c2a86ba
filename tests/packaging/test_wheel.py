"""The wheel and the source archive: small, whole, and they work on every Python that is here."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.parser import HeaderParser
from functools import cache
from pathlib import Path

import pytest

from nettrim_cli import __version__
from tests.lowest import lowest
from tests.support.networks import Files
from tests.support.options import FAST

ROOT = Path(__file__).parents[2]
PROJECT = (ROOT / "pyproject.toml").read_text("utf-8")
MAX_WHEEL_BYTES = 1_000_000  # a third of the bytes are docstrings
OLDEST = (3, 10)
FOLDERS = ("nettrim_cli", "tests", "docs", "benchmarks", "sample_models")
FILES = ("Makefile", "README.md", "LICENSE", "CHANGELOG.md", "pyproject.toml", "Dockerfile")


@cache
def interpreters() -> dict[tuple[int, ...], str]:
    """A Python of each version from the oldest on, as far as they are here."""
    names = [shutil.which(f"python3.{minor}") for minor in range(OLDEST[1], 20)]
    managed = sorted((Path.home() / ".pyenv" / "versions").glob("*/bin/python"))
    found: dict[tuple[int, ...], str] = {}
    for path in [sys.executable, *map(str, managed), *filter(None, names)]:
        asked = [path, "-c", "import sys; print(*sys.version_info[:2])"]
        answer = subprocess.run(asked, capture_output=True, text=True, check=False)
        version = tuple(map(int, answer.stdout.split()))
        if not answer.returncode and version >= OLDEST:
            found.setdefault(version, path)
    return found


def call(*words: object, cwd: Path) -> str:
    """Run a program that has to succeed; what it prints."""
    line = [str(word) for word in words]
    own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ended = subprocess.run(line, cwd=cwd, env=own, capture_output=True, text=True, check=False)
    assert not ended.returncode, ended.stderr[-3000:]
    return ended.stdout


@pytest.fixture(scope="session")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the source archive."""
    folder = tmp_path_factory.mktemp("dist")
    call(sys.executable, "-m", "venv", folder / "venv", cwd=ROOT)
    python = folder / "venv" / "bin" / "python"
    call(python, "-m", "pip", "install", "--quiet", "build", cwd=ROOT)
    call(python, "-m", "build", "--outdir", folder, ROOT, cwd=folder)
    return folder


@pytest.fixture(scope="session")
def wheel(archives: Path) -> Path:
    (path,) = archives.glob("*.whl")
    return path


def test_the_metadata_name_every_python_that_may_be_used() -> None:
    oldest = re.search(r'requires-python = ">=3\.(\d+)"', PROJECT)
    listed = [
        int(minor) for minor in re.findall(r'"Programming Language :: Python :: 3\.(\d+)"', PROJECT)
    ]
    assert oldest is not None
    assert listed == list(range(int(oldest[1]), listed[-1] + 1))
    assert int(oldest[1]) == OLDEST[1]


def test_every_dependency_has_a_lower_bound() -> None:
    names = {line.split("==")[0] for line in lowest()}
    body = PROJECT.split("dependencies = [")[1].split("]")[0]
    wanted = re.findall(r'^  "([\w-]+)', body, re.MULTILINE)
    assert wanted
    assert set(wanted) <= names


@pytest.mark.slow
def test_the_wheel_is_small_and_holds_the_package_alone(wheel: Path) -> None:
    assert wheel.stat().st_size < MAX_WHEEL_BYTES
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.startswith("nettrim_cli/")]
        pages = [name for name in archive.namelist() if name.endswith("share/man/man1/nettrim.1")]
        (facts,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
        metadata = HeaderParser().parsestr(archive.read(facts).decode())
    package = ROOT / "nettrim_cli"
    kept = [path for path in package.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert sorted(names) == sorted(path.relative_to(ROOT).as_posix() for path in kept)
    assert len(pages) == 1
    assert metadata["Version"] == __version__
    assert metadata["License-Expression"] == "MIT"


@pytest.mark.slow
def test_the_source_archive_is_whole(archives: Path, tmp_path: Path) -> None:
    (path,) = archives.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        archive.extractall(tmp_path, filter="data")
    (folder,) = tmp_path.iterdir()
    assert all((folder / name).is_dir() for name in FOLDERS)
    assert all((folder / name).is_file() for name in FILES)
    tests = ["tests/test_quantities.py", "tests/test_readme.py", "tests/test_docs.py"]
    call(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *tests, cwd=folder)


@pytest.mark.slow
@pytest.mark.parametrize("minor", range(OLDEST[1], 16))
def test_the_wheel_works_in_a_clean_environment(minor: int, wheel: Path, files: Files) -> None:
    if (python := interpreters().get((3, minor))) is None:
        pytest.skip(f"Python 3.{minor} is not here")
    environment = files.folder / "venv"
    call(python, "-m", "venv", environment, cwd=files.folder)
    own = environment / "bin"
    call(own / "pip", "install", "--quiet", wheel, cwd=files.folder)
    assert call(own / "nettrim", "--version", cwd=files.folder).startswith(f"nettrim {__version__}")
    words = ["prune", files.model, "--data", files.data, "--report", "report.html", *FAST]
    assert "Reached: 50" in call(own / "nettrim", *words, cwd=files.folder)
    assert files.output.is_file()
    assert "<html" in (files.folder / "report.html").read_text("utf-8")
    code = "import nettrim_cli; print(len(nettrim_cli.inspect('model.onnx').layers))"
    assert call(own / "python", "-c", code, cwd=files.folder).strip() == "3"


@pytest.mark.slow
def test_uv_installs_the_wheel_as_a_tool(wheel: Path, tmp_path: Path, monkeypatch) -> None:
    if shutil.which("uv") is None:
        pytest.skip("uv is not installed")
    monkeypatch.setenv("UV_TOOL_DIR", str(tmp_path / "tools"))
    monkeypatch.setenv("UV_TOOL_BIN_DIR", str(tmp_path / "bin"))
    call("uv", "tool", "install", "--python", sys.executable, wheel, cwd=tmp_path)
    assert __version__ in call(tmp_path / "bin" / "nettrim", "--version", cwd=tmp_path)
