"""The pages under docs/ are up to date with the code, linked, and readable."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import textwrap
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import click
import pytest

from nettrim_cli import cli, errors
from nettrim_cli.graph.ops.spec import OpSpec
from nettrim_cli.options.help import GROUPS, Flag
from tests.support import command_page, man_page
from tests.support.options import PATIENCE

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
USAGE = (ROOT / "docs" / "usage.md").read_text("utf-8")
CODE = ("|", "    ", "<", "!")  # at the start of lines that may be long: tables, code, pictures


def test_the_page_of_commands_is_up_to_date() -> None:
    assert command_page.PAGE.read_text("utf-8") == command_page.page(), "run make docs"


def test_the_manual_page_is_up_to_date() -> None:
    assert man_page.PAGE.read_text("utf-8") == man_page.page(), "run make docs"


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
def test_the_manual_page_is_one() -> None:
    words = ["groff", "-man", "-Tascii", "-ww", "-z", str(man_page.PAGE)]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert ended.stderr == ""


OPTIONS = [
    (name, option)
    for name, command in cli.nettrim.all_commands().items()
    for option in command.params
    if isinstance(option, click.Option)
]


@pytest.mark.parametrize(("command", "option"), OPTIONS, ids=lambda each: str(each))
def test_every_option_has_help_a_default_and_an_example_that_is_taken(command, option) -> None:
    assert isinstance(option, Flag), f"{option.opts}: add it by options.help.flag"
    assert option.group in GROUPS
    assert option.help[-1] in ".)", option.help
    assert len(option.help) <= 120, f"{option.opts}: the long text belongs into detail="
    cells = [
        line.split(" | ")
        for line in section_of(command).splitlines()
        if re.match(rf"\| .*`{max(option.opts, key=len)}[ `]", line)
    ]
    assert len(cells) == 1
    _, meaning, default, example = cells[0]
    assert meaning
    assert default
    _, *words = shlex.split(example.strip("` |"))
    if words:
        value = option.type.convert(words[0], option, click.Context(cli.nettrim))
        assert value is not None
    if isinstance(option.type, click.Choice):
        assert all(choice in option.help for choice in option.type.choices), option.opts


def section_of(command: str) -> str:
    """What docs/cli.md says of a command."""
    return (
        command_page.PAGE.read_text("utf-8").split(f"## nettrim {command}\n")[1].split("\n## ")[0]
    )


def test_examples_of_help_are_understood() -> None:
    given = [
        cli.nettrim.examples,
        *(command.examples for command in cli.nettrim.all_commands().values()),
    ]
    for _, line in (example for examples in given for example in examples):
        _, name, *words = shlex.split(line)
        parent = click.Context(cli.nettrim, **cli.CONTEXT)
        assert cli.nettrim.all_commands()[name].make_context(name, words, parent=parent).params
    assert all(given)


def test_every_option_is_explained_and_no_other() -> None:
    params = [param for command in cli.nettrim.all_commands().values() for param in command.params]
    known = {name for param in params for name in (*param.opts, *param.secondary_opts)}
    named = set(re.findall(r"--[a-z][a-z0-9-]*", USAGE)) - {"--help", "--version"}
    assert named == {name for name in known if name.startswith("--")}


def test_every_exit_code_is_explained() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    codes = {kind.exit_code for kind in kinds if issubclass(kind, errors.NettrimError)}
    table = USAGE.split("## Exit codes")[1].split("## ")[0]
    listed = {int(code) for code in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)}
    assert listed == codes | {0, 2}


def is_quick(line: str) -> bool:
    """Whether a command ends before anything is solved."""
    quick = ("inspect lenet/model.onnx", "nettrim data mlp", "mlp/calib.h5 --data", "--sparsity 90")
    return any(words in line for words in quick)


def examples() -> dict[str, str]:
    """Commands of the guide with what it shows of their output."""
    code = re.findall(
        r"^    \$ (nettrim .*)\n((?:    [^$\n].*\n|\n(?=    [^$\n]))*)", USAGE, re.MULTILINE
    )
    return {line: textwrap.dedent(shown).strip() for line, shown in code}


@pytest.mark.parametrize("line", [line for line in examples() if is_quick(line)])
def test_quick_examples_of_the_guide_are_real(line: str, monkeypatch, capfd) -> None:
    monkeypatch.chdir(ROOT / "sample_models")
    monkeypatch.setenv("COLUMNS", "116")
    cli.run(shlex.split(line)[1:])
    printed = "".join(capfd.readouterr())
    for part in examples()[line].split("...\n"):
        assert part.strip() in textwrap.dedent(printed)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in links(page):
        path, _, anchor = target.partition("#")
        linked = (page.parent / path) if path else page
        assert linked.exists(), target
        if anchor:
            assert anchor in anchors(linked), target


def test_every_page_is_linked_from_the_readme_or_the_guide() -> None:
    starts = (ROOT / "README.md", ROOT / "docs" / "usage.md")
    linked = {(page.parent / link).resolve() for page in starts for link in links(page)}
    assert linked >= set(PAGES) - set(starts)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_lines_of_prose_are_short(page: Path) -> None:
    for line in prose(page):
        assert len(line) <= 120, line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_are_named_exist(page: Path) -> None:
    folders = ("nettrim_cli", "benchmarks", "tests", "sample_models")
    files = [path.as_posix() for folder in folders for path in (ROOT / folder).rglob("*.py")]
    for name in re.findall(r"`([\w/]+\.py)\b", page.read_text("utf-8")):
        assert any(file.endswith(f"/{name}") for file in files), name


@pytest.mark.parametrize("page", ["contributing.md", "solver.md"])
def test_classes_and_constants_that_are_named_exist(page: str) -> None:
    code = "\n".join(path.read_text("utf-8") for path in (ROOT / "nettrim_cli").rglob("*.py"))
    text = "\n".join(prose(ROOT / "docs" / page, with_tables=True))
    tests = (ROOT / "tests" / "test_architecture.py").read_text("utf-8")
    for name in re.findall(r"`_?([A-Z][a-zA-Z_]{2,})(?:\(\w+\))?`", text):
        assert re.search(rf"^(class )?{name}\b", f"{code}\n{tests}", re.MULTILINE), name


def test_walkers_ask_for_the_facts_that_architecture_md_names() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    rooms = "ir|analysis|channels|gradient|layers|storage"
    rows = re.findall(rf"^\| (`(?:{rooms})/.*) \| (.*) \|$", text, re.MULTILINE)
    assert rows
    named = {"gate", "spreads", "subtracts"}  # that rules of other ops ask for
    for modules, facts in rows:
        code = [ROOT / "nettrim_cli" / "graph" / path for path in re.findall(r"`(.*?)`", modules)]
        asked = "\n".join(path.read_text("utf-8") for path in code)
        for fact in re.findall(r"`(\w+)`", facts):
            assert re.search(rf"\.{fact}\b", asked), f"{modules}: {fact}"
            named.add(fact)
    assert named == {fact.name for fact in fields(OpSpec)}


def links(page: Path) -> list[str]:
    """Targets of a page's links within the repository."""
    text = "\n".join(prose(page, with_tables=True))
    return [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]


def anchors(page: Path) -> set[str]:
    """Names of a page's headings and of its marked places."""
    text = page.read_text("utf-8")
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    names = {
        re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings
    }
    return names | set(re.findall(r'<a id="([^"]+)">', text))


def prose(page: Path, *, with_tables: bool = False) -> Iterator[str]:
    """A page's lines without code and, unless asked for, without tables."""
    fenced = False
    for line in page.read_text("utf-8").splitlines():
        if line.startswith("```"):
            fenced = not fenced
        elif not fenced and not line.startswith(CODE[1:] if with_tables else CODE):
            yield line
