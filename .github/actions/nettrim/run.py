"""What the action does: a command of nettrim, outputs, a summary of the step, and a comment.

Inputs are variables ``INPUT_*``, as ``action.yml`` passes them.  ``GITHUB_OUTPUT``,
``GITHUB_STEP_SUMMARY``, ``GITHUB_EVENT_PATH`` and ``RUNNER_TEMP`` are the runner's.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

KINDS = ("md", "html", "json")


def main() -> int:
    """Run the command; its exit code is that of the step."""
    folder = Path(os.environ["RUNNER_TEMP"]) / "nettrim-reports"
    folder.mkdir(parents=True, exist_ok=True)
    reports = {kind: folder / f"report.{kind}" for kind in KINDS}
    for path in reports.values():
        path.unlink(missing_ok=True)  # that of an earlier step
    try:
        words = command()
    except ValueError as error:
        print(f"::error title=nettrim::{error}")
        return 2
    flags = [word for path in reports.values() for word in ("--report", str(path))]
    line = [sys.executable, "-m", "nettrim_cli", *words, *flags, "--force"]
    ended = subprocess.run(line, stderr=subprocess.PIPE, text=True, check=False)
    sys.stderr.write(ended.stderr)
    facts = json.loads(reports["json"].read_text("utf-8")) if reports["json"].exists() else {}
    append("GITHUB_OUTPUT", outputs(facts, ended.returncode, folder))
    if reports["md"].exists():
        append("GITHUB_STEP_SUMMARY", reports["md"].read_text("utf-8"))
        if os.environ.get("INPUT_COMMENT") == "true":
            comment(reports["md"])
    if ended.returncode:
        lines = ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}"]
        print(f"::error title=nettrim {words[0]}::{escaped(lines[-1])}")
    return ended.returncode


def command() -> list[str]:
    """The words of the command.

    Raises
    ------
    ValueError
        An input is missing, or makes no sense.
    """
    inputs = {name: os.environ.get(f"INPUT_{name.upper()}", "") for name in ("command", "model")}
    inputs |= {name: os.environ.get(f"INPUT_{name.upper()}", "") for name in ("data", "candidate")}
    kind = inputs["command"] or "prune"
    if kind not in ("prune", "compare"):
        raise ValueError(f"command is {kind!r}: write prune or compare.")
    wanted = ("model", "data") if kind == "prune" else ("model", "candidate", "data")
    if missing := [name for name in wanted if not inputs[name]]:
        raise ValueError(f"{kind} needs the input {missing[0]}.")
    options = shlex.split(os.environ.get("INPUT_OPTIONS", ""))
    models = [inputs["model"]] if kind == "prune" else [inputs["model"], inputs["candidate"]]
    output = os.environ.get("INPUT_OUTPUT") or "model.pruned.onnx"
    written = ["--output", output] if kind == "prune" else []
    return [kind, *models, "--data", inputs["data"], *written, *options]


def outputs(facts: Mapping[str, Any], code: int, folder: Path) -> str:
    """Lines of the step's outputs."""
    measured = facts.get("comparison", facts)
    passed = facts["verdict"]["reached"] if "verdict" in facts else facts.get("passed")
    values = {
        "passed": passed,
        "exit-code": code,
        "error": measured.get("error"),
        "drop": measured.get("drop"),
        "sparsity": facts.get("sparsity"),
        "reports": folder,
    }
    texts = {
        name: "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in values.items()
    }
    return "".join(f"{name}={text}\n" for name, text in texts.items())


def append(variable: str, text: str) -> None:
    """Append to a file of the runner, where there is one."""
    if path := os.environ.get(variable):
        with open(path, "a", encoding="utf-8") as file:
            file.write(text)


def comment(report: Path) -> None:
    """Write the report as a comment on the pull request, in place of an earlier one.

    Where that is not allowed, as of a fork, the step goes on.
    """
    event = os.environ.get("GITHUB_EVENT_PATH")
    facts = json.loads(Path(event).read_text("utf-8")) if event else {}
    number = facts.get("pull_request", {}).get("number")
    if number is None:
        print("::notice title=nettrim::There is no pull request to comment on.")
        return
    line = ["gh", "pr", "comment", str(number), "--body-file", str(report)]
    line += ["--edit-last", "--create-if-none", "--repo", os.environ.get("GITHUB_REPOSITORY", "")]
    try:
        subprocess.run(line, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"::warning title=nettrim::The report is no comment: {escaped(str(error))}")


def escaped(text: str) -> str:
    """A text in a command of the runner."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


if __name__ == "__main__":
    sys.exit(main())
