"""The commands of the Dockerfile work, by Docker where it is there, and without it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.networks import Files
from tests.support.options import FAST

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")


def instructions() -> list[tuple[str, str]]:
    """Instructions with what follows them."""
    lines = re.sub(r"\\\n", " ", DOCKERFILE).splitlines()
    pairs = (line.split(maxsplit=1) for line in lines if line and not line.startswith("#"))
    return [(name, words) for name, words in pairs]


@dataclass
class Image:
    """A folder in place of an image, in which the instructions are carried out."""

    root: Path
    folder: Path
    variables: dict[str, str]
    words: dict[str, list[str]] = field(default_factory=dict)

    def carry_out(self, name: str, words: str) -> None:
        if name == "WORKDIR":
            self.folder = self.root / words.lstrip("/")
            self.folder.mkdir(parents=True, exist_ok=True)
        elif name == "ENV":
            key, _, value = words.partition("=")
            self.variables[key] = value.replace("/tmp", str(self.root / "tmp"))
        elif name == "COPY":
            *sources, target = words.split()
            for source in sources:
                self.copy(ROOT / source, self.folder / target)
        elif name == "RUN":
            subprocess.run(["sh", "-ec", words], cwd=self.folder, env=self.variables, check=True)
        elif name in ("ENTRYPOINT", "CMD"):
            self.words[name] = json.loads(words)
        else:
            assert name == "FROM", name

    def copy(self, source: Path, target: Path) -> None:
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copy(source, target)

    def run(self, *words: str) -> str:
        """What the container prints."""
        line = [*self.words["ENTRYPOINT"], *(words or self.words["CMD"])]
        path = shutil.which(line[0], path=self.variables["PATH"])
        assert path is not None
        done = subprocess.run(
            [path, *line[1:]],
            cwd=self.folder,
            env=self.variables,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout


def test_what_is_copied_is_there_and_the_python_will_do() -> None:
    (base,) = (words for name, words in instructions() if name == "FROM")
    assert re.fullmatch(r"python:3\.1[0-9]-slim", base)
    for name, words in instructions():
        if name == "COPY":
            assert all((ROOT / source).exists() for source in words.split()[:-1])


@pytest.mark.slow
def test_the_commands_work_without_docker(files: Files, tmp_path: Path) -> None:
    environment = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    path = f"{environment / 'bin'}:{os.environ['PATH']}"
    variables = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    image = Image(tmp_path / "image", tmp_path, variables | {"PATH": path})
    for name, words in instructions():
        image.carry_out(name, words)
    assert "Usage: nettrim" in image.run()
    for path in (files.model, files.data):
        shutil.copy(path, image.folder)
    assert "Reached: 50" in image.run("prune", "model.onnx", "--data", "calib.h5", *FAST)


@pytest.mark.slow
def test_docker_builds_it(files: Files) -> None:
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "info"], capture_output=True).returncode:
        pytest.skip("Docker is not installed, or does not run")
    build, run = re.findall(r"^# (docker .*)$", DOCKERFILE, re.MULTILINE)
    subprocess.run(build, shell=True, cwd=ROOT, check=True)
    subprocess.run(f"{run} {' '.join(FAST)}", shell=True, cwd=files.folder, check=True)
    assert files.output.is_file()
