"""The action's script, run as a runner runs it, with the inputs of docs/ci.md."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest

from nettrim_cli import cli
from nettrim_cli.errors import GateFailed, MissingInput
from tests.support import forked
from tests.support.networks import Files, initializers
from tests.support.options import FAST, PATIENCE

yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".github" / "actions" / "nettrim"
ACTION = yaml.safe_load((FOLDER / "action.yml").read_text("utf-8"))
HOOKS = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text("utf-8"))
PAGE = (ROOT / "docs" / "ci.md").read_text("utf-8")
EXAMPLES = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]
SCRIPT = "import runpy, sys; sys.argv = ['run.py']; runpy.run_path({!r}, run_name='__main__')"


class Runner:
    """Files and variables of GitHub's runner."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.output, self.summary = folder / "output", folder / "summary.md"
        self.event = folder / "event.json"
        self.event.write_text("{}")
        self.variables = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "RUNNER_TEMP": str(folder / "temp"),
            "GITHUB_OUTPUT": str(self.output),
            "GITHUB_STEP_SUMMARY": str(self.summary),
            "GITHUB_EVENT_PATH": str(self.event),
            "GITHUB_REPOSITORY": "owner/models",
        }

    def run(self, **inputs: Any) -> tuple[int, str, dict[str, str]]:
        """Exit code, what is printed, and the step's outputs."""
        for path in (self.output, self.summary):
            path.write_text("")
        given = {name: each.get("default", "") for name, each in ACTION["inputs"].items()}
        given |= {name: str(value) for name, value in inputs.items()}
        variables = {f"INPUT_{name.upper()}": value for name, value in given.items()}
        ended = forked.run(
            [sys.executable, "-c", SCRIPT.format(str(FOLDER / "run.py"))],
            cwd=self.folder,
            env=self.variables | variables,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        lines = self.output.read_text("utf-8").splitlines()
        outputs = dict(line.split("=", 1) for line in lines)
        return ended.returncode, ended.stdout + ended.stderr, outputs

    def with_gh(self, code: int = 0) -> Path:
        """A program ``gh`` that writes down what it is asked; the file with that."""
        log, folder = self.folder / "gh.log", self.folder / "programs"
        folder.mkdir()
        (folder / "gh").write_text(
            f'#!/bin/sh\necho "$@" >> {shlex.quote(str(log))}\nexit {code}\n'
        )
        (folder / "gh").chmod(0o755)
        self.variables["PATH"] = f"{folder}:{self.variables['PATH']}"
        self.event.write_text(json.dumps({"pull_request": {"number": 7}}))
        return log


@pytest.fixture
def runner(files: Files) -> Runner:
    """A runner in a folder with the files that the examples name, small.onnx being dense.onnx."""
    for name in ("dense.onnx", "small.onnx"):
        shutil.copy(files.model, files.folder / name)
    shutil.copy(files.data, files.folder / "test.h5")
    return Runner(files.folder)


def damaged(path: Path) -> None:
    """Turn the answers of a model round."""
    model = onnx.load(path)
    weights = model.graph.initializer[-2]
    assert weights.name == "w3"
    weights.raw_data = (-initializers(model)["w3"]).tobytes()
    onnx.save(model, path)


def used(example: dict[str, Any]) -> dict[str, Any]:
    """Inputs that a workflow gives to the action."""
    (job,) = example["jobs"].values()
    (step,) = (each for each in job["steps"] if "actions/nettrim" in each.get("uses", ""))
    return {
        name: str(value).lower() if isinstance(value, bool) else value
        for name, value in step["with"].items()
    }


@pytest.mark.slow
def test_the_gate_of_the_page_passes_and_fails(runner: Runner) -> None:
    inputs = used(EXAMPLES[0])
    log = runner.with_gh()
    code, _, outputs = runner.run(**inputs | {"options": "--max-drop 1%"})
    assert (code, outputs["passed"], outputs["exit-code"]) == (0, "true", "0")
    assert float(outputs["error"]) == float(outputs["drop"]) == 0
    assert "passed" in runner.summary.read_text("utf-8").lower()
    words = log.read_text().split()
    assert words[:3] == ["pr", "comment", "7"]
    assert Path(words[words.index("--body-file") + 1]).read_text("utf-8").strip()
    assert words[words.index("--repo") + 1] == "owner/models"

    damaged(runner.folder / "small.onnx")
    code, printed, outputs = runner.run(**inputs)
    assert (code, outputs["passed"]) == (GateFailed.exit_code, "false")
    assert float(outputs["drop"]) > 0.01
    assert re.search(r"^::error title=nettrim compare::.*max-drop", printed, re.MULTILINE)
    assert "failed" in runner.summary.read_text("utf-8").lower()
    assert len(log.read_text().splitlines()) == 2

    (runner.folder / "small.onnx").unlink()
    code, _, outputs = runner.run(**inputs)
    assert (code, outputs["passed"]) == (MissingInput.exit_code, "")
    assert not runner.summary.read_text("utf-8")


@pytest.mark.slow
def test_the_release_of_the_page_writes_a_model(runner: Runner) -> None:
    inputs = used(EXAMPLES[1])
    code, _, outputs = runner.run(**inputs | {"options": shlex.join(FAST)})
    assert (code, outputs["passed"]) == (0, "true")
    assert float(outputs["sparsity"]) == pytest.approx(0.5, abs=0.01)
    arrays = list(initializers(onnx.load(runner.folder / "small.onnx")).values())
    zeros = sum(int((array == 0).sum()) for array in arrays if array.ndim == 2)
    assert zeros == pytest.approx(sum(a.size for a in arrays if a.ndim == 2) / 2, abs=4)
    reports = Path(outputs["reports"])
    assert {path.name for path in reports.iterdir()} == {
        f"report.{k}" for k in ("md", "html", "json")
    }
    assert runner.summary.read_text("utf-8") == (reports / "report.md").read_text("utf-8")


@pytest.mark.slow
def test_comments_that_are_not_allowed_end_no_step(runner: Runner) -> None:
    log = runner.with_gh(code=1)
    code, printed, _ = runner.run(**used(EXAMPLES[0]) | {"options": "--max-drop 1%"})
    assert code == 0
    assert log.exists()
    assert "::warning title=nettrim::The report is no comment" in printed
    runner.event.write_text("{}")
    _, printed, _ = runner.run(**used(EXAMPLES[0]) | {"options": "--max-drop 1%"})
    assert "::notice title=nettrim::There is no pull request" in printed


@pytest.mark.parametrize(
    ("inputs", "code", "message"),
    [
        ({"command": "delete"}, 2, "command is 'delete': write prune or compare."),
        ({"command": "compare", "candidate": ""}, 2, "compare needs the input candidate."),
        ({"data": ""}, 2, "prune needs the input data."),
        pytest.param({"model": "none.onnx"}, 66, "none.onnx", marks=pytest.mark.slow),
        ({"options": "--sparcity 1"}, 2, "--spar"),
        ({"options": "--sparsity '0.5"}, 2, "No closing quotation"),
    ],
)
def test_mistakes_are_errors_of_the_step(runner, inputs, code, message) -> None:
    ended, printed, outputs = runner.run(**{"model": "dense.onnx", "data": "test.h5"} | inputs)
    assert ended == code
    assert message in printed
    assert "::error title=nettrim" in printed
    assert outputs.get("passed", "") == ""
    assert not runner.summary.read_text("utf-8")


@pytest.mark.slow
def test_names_of_files_are_no_commands(runner: Runner) -> None:
    name = "a; touch stolen $(touch stolen).onnx"
    shutil.copy(runner.folder / "dense.onnx", runner.folder / name)
    code, _, outputs = runner.run(
        command="compare", model="dense.onnx", candidate=name, data="test.h5"
    )
    assert (code, outputs["passed"]) == (0, "")
    assert not (runner.folder / "stolen").exists()


def test_the_action_passes_every_input_and_output_on() -> None:
    install, run = ACTION["runs"]["steps"]
    passed = {value: name for name, value in run["env"].items()}
    for name in ACTION["inputs"]:
        expression = f"${{{{ inputs.{name} }}}}"
        if name == "package":
            assert "inputs.package" in install["env"]["PACKAGE"]
        else:
            assert passed[expression] == (
                "GH_TOKEN" if name == "token" else f"INPUT_{name.upper()}"
            )
    for name, output in ACTION["outputs"].items():
        assert output["value"] == f"${{{{ steps.{run['id']}.outputs.{name} }}}}"
    assert not any("${{" in step["run"] for step in (install, run)), "a name would be a command"


def test_the_page_names_all_inputs_and_outputs() -> None:
    rows = re.findall(r"^\| `([\w-]+)` \|", PAGE, re.MULTILINE)
    assert rows == list(ACTION["inputs"])
    told = PAGE.split("Outputs are ")[1].split(", the folder")[0]
    assert re.findall(r"`([\w-]+)`", told) == list(ACTION["outputs"])
    required = {name for name, each in ACTION["inputs"].items() if each.get("required")}
    for example in EXAMPLES[:2]:
        assert required <= used(example).keys() <= ACTION["inputs"].keys()


def test_the_hook_of_the_page_runs(runner: Runner, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(runner.folder)
    (configured,) = EXAMPLES[2]["repos"][0]["hooks"]
    hooks = {hook["id"]: hook for hook in HOOKS}
    words = shlex.split(hooks[configured["id"]]["entry"])
    assert words[0] == "nettrim"
    assert cli.run([*words[1:], *configured["args"]]) == 0
    damaged(runner.folder / "small.onnx")
    assert cli.run([*words[1:], *configured["args"]]) == GateFailed.exit_code
    assert "failed" in capsys.readouterr().out


def test_the_hook_takes_its_arguments_from_a_file(runner: Runner, monkeypatch) -> None:
    monkeypatch.chdir(runner.folder)
    table = {"reference": "dense.onnx", "candidate": "small.onnx", "data": "test.h5"}
    lines = [f'{name} = "{value}"' for name, value in table.items()]
    (runner.folder / "nettrim.toml").write_text("\n".join(["[compare]", *lines, 'max-drop = "1%"']))
    assert cli.run(["compare"]) == 0
    damaged(runner.folder / "small.onnx")
    assert cli.run(["compare"]) == GateFailed.exit_code


def test_the_command_of_the_page_writes_the_gates_report(runner: Runner, monkeypatch) -> None:
    (line,) = re.findall(r"^    \$ nettrim (.*)$", PAGE, re.MULTILINE)
    monkeypatch.chdir(runner.folder)
    damaged(runner.folder / "small.onnx")
    assert cli.run(shlex.split(line)) == GateFailed.exit_code
    assert (runner.folder / "gate.md").read_text("utf-8").strip()
