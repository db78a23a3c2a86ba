"""Options in files: read, written, checked, and overruled by the command line."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nettrim_cli.cli import run
from nettrim_cli.settings import LayerOptions, Settings
from nettrim_cli.settings.recipe import Recipe, as_toml, changed
from tests.support.effort import examples
from tests.support.options import FAST

USAGE = Path(__file__).parents[2] / "docs" / "usage.md"
TEXT = st.text(st.characters(blacklist_categories=["Cs"]), min_size=1, max_size=12)


@pytest.fixture
def folder(files, monkeypatch):
    """A folder with a model and samples, in which commands are run."""
    monkeypatch.chdir(files.model.parent)
    return files.model.parent


def write(folder: Path, text: str, name: str = "nettrim.toml") -> Path:
    path = folder / name
    path.write_text(text, "utf-8")
    return path


FILES = 'model = "model.onnx"\ndata = "calib.h5"\nthreads = 1\nno-delete = true\nrefit = "layers"\n'
PLAIN = FILES + 'augment = "none"\nfinal-fit = "none"\nallocate = "uniform"\n'


@pytest.mark.parametrize("name", ["nettrim.toml", "pyproject.toml", "other.toml"])
def test_a_file_stands_for_the_words(folder, name, capsys) -> None:
    head = "[tool.nettrim]\n" if name == "pyproject.toml" else ""
    write(folder, f'{head}{PLAIN}sparsity = "60%"\nreport = ["r.json"]\n', name)
    assert run(["prune", *(["--config", name] if name == "other.toml" else [])]) == 0
    assert f"options of {name}" in capsys.readouterr().err
    report = json.loads((folder / "r.json").read_text())
    assert report["sparsity"] == pytest.approx(0.6, abs=0.01)


def test_words_go_before_the_file_and_a_target_replaces_its_target(folder, capsys) -> None:
    write(folder, f'{PLAIN}sparsity = "60%"\nmax-bytes = "1k"\n'.replace('max-bytes = "1k"\n', ""))
    assert run(["prune", "--sparsity", "0.3", "--report", "r.json", "-q"]) == 0
    assert not capsys.readouterr().err.startswith("options")
    report = json.loads((folder / "r.json").read_text())
    assert report["sparsity"] == pytest.approx(0.3, abs=0.01)
    text = FILES + 'sparsity = "60%"\n'
    write(folder, text)
    assert run(["prune", "--epsilon", "0.4", "--force", "--report", "e.json", "-q"]) == 0
    assert json.loads((folder / "e.json").read_text())["settings"]["sparsity"] is None


@pytest.mark.parametrize(
    ("text", "words", "pattern"),
    [
        ('pattern = "2:4"\n', ["--sparsity", "0.3"], None),
        ("sparsity = 0.3\n", ["--pattern", "2:4"], "2:4"),
        ('pattern = "1x4"\nsparsity = 0.3\n', ["--sparsity", "0.4"], "1x4"),
    ],
)
def test_a_pattern_that_is_a_target_takes_the_place_of_one(folder, text, words, pattern) -> None:
    write(folder, PLAIN.replace('allocate = "uniform"\n', "") + text)
    assert run(["prune", *words, "--report", "r.json", "-q"]) == 0
    settings = json.loads((folder / "r.json").read_text())["settings"]
    assert settings["pattern"] == pattern
    assert settings["sparsity"] == (None if pattern == "2:4" else float(words[1]))


@pytest.mark.parametrize(
    "text", ["# [tool.nettrim]\n", "tool = 3\n", "[tool]\nnettrim = 3\n", "[tool.nettrim", "\0"]
)
def test_a_project_of_something_else_is_passed_over(folder, text) -> None:
    write(folder, text, "pyproject.toml")
    assert run(["prune", "model.onnx", "--data", "calib.h5", "-q", *FAST]) == 0


@pytest.mark.parametrize(
    ("name", "code"),
    [("model.pruned.onnx", 2), ("r.json", 2), ("model.onnx", 73), ("calib.h5", 73)],
)
def test_saved_options_replace_no_other_file(folder, name, code, capsys) -> None:
    words = ["prune", "model.onnx", "--data", "calib.h5", "--report", "r.json", "--force", *FAST]
    before = sorted(path.name for path in folder.iterdir())
    contents = (folder / "model.onnx").read_bytes(), (folder / "calib.h5").read_bytes()
    assert run([*words, "--save-config", name]) == code
    assert name in capsys.readouterr().err
    assert sorted(path.name for path in folder.iterdir()) == before
    assert ((folder / "model.onnx").read_bytes(), (folder / "calib.h5").read_bytes()) == contents


def test_no_file_is_read_where_none_is_wanted(folder) -> None:
    write(folder, "nonsense = 1")
    assert run(["prune", "model.onnx", "--data", "calib.h5", "--no-config", "-q", *FAST]) == 0


def test_paths_are_those_beside_the_file(folder, monkeypatch) -> None:
    (folder / "deep").mkdir()
    write(folder, f'{PLAIN}sparsity = 0.5\noutput = "out.onnx"\n')
    monkeypatch.chdir(folder / "deep")
    assert run(["prune", "--config", "../nettrim.toml", "-q"]) == 0
    assert (folder / "out.onnx").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sparcity = 0.5", "no option sparcity; did you mean sparsity?"),
        ("sparsity = 2", "sparsity: 2 "),
        ("samples = true", "samples: "),
        ("sparsity = ", "is no TOML"),
        ("[compare]\nmax-dorp = 0.1", "no option compare.max-dorp; did you mean compare.max-drop?"),
        ("compare = 3", "compare is a table"),
        ('[layers."fc1"]\nsparsty = 1', 'layers."fc1".sparsty; did you mean'),
        ('[layers."fc1"]\nsparsity = "x"', 'layers."fc1".sparsity: '),
        ('[layers."fc1"]\nsparsity = 1.5', 'layers."fc1": sparsity is 1.5'),
        ('[layers."fc1"]\nexclude = 1', 'layers."fc1".exclude: write true or false'),
        ("layers.fc1 = 3", "[layers] holds tables"),
        ("layers = 3", "layers is a table"),
    ],
)
def test_what_is_wrong_is_told_with_the_file(folder, text, message, capsys) -> None:
    write(folder, text)
    assert run(["prune", "model.onnx", "--data", "calib.h5"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "nettrim.toml" in said
    assert message in said
    assert "Try: " not in said
    assert not (folder / "model.pruned.onnx").exists()


@pytest.mark.parametrize("name", ["missing.toml", "pyproject.toml"])
def test_a_file_without_options_is_wrong_usage(folder, name, capsys) -> None:
    write(folder, "[project]\n", "pyproject.toml")
    assert run(["prune", "model.onnx", "--data", "calib.h5", "--config", name]) == 2
    assert name in capsys.readouterr().err
    # It is passed over where nobody names it.
    assert run(["prune", "model.onnx", "--data", "calib.h5", "-q", *FAST]) == 0


def test_gates_stand_in_tables_of_their_commands(folder, capsys) -> None:
    write(folder, "[compare]\nmax-error = 0.5\n")
    words = ["compare", "model.onnx", "model.onnx", "--data", "calib.h5", "--json"]
    assert run(words) == 0
    assert json.loads(capsys.readouterr().out)["passed"] is True


def test_saved_options_make_the_same_run(folder) -> None:
    words = ["prune", "model.onnx", "--data", "calib.h5", *FAST, "-q", "--limit", "*=0.1:0.9"]
    assert run([*words, "--save-config", "saved.toml"]) == 0
    first = (folder / "model.pruned.onnx").read_bytes()
    assert run(["prune", "--config", "saved.toml", "--force", "-q"]) == 0
    assert (folder / "model.pruned.onnx").read_bytes() == first


@given(st.dictionaries(TEXT, st.floats(0, 1), max_size=3), TEXT, st.booleans())
@examples(100)
def test_what_is_written_is_read_again(tmp_path_factory, layers, word, flag) -> None:
    options = tuple(LayerOptions(name, sparsity=share) for name, share in layers.items())
    settings = Settings(sparsity=0.5, include=(word, "a"), forecast=flag, seed=7)
    path = tmp_path_factory.mktemp("saved") / "x.toml"
    path.write_text(as_toml(changed(settings), options), "utf-8")
    recipe = Recipe.read(path)
    assert recipe.layers() == options
    values = {key: value for key, value in recipe.values.items() if key != "layers"}
    assert values == {
        "sparsity": 0.5,
        "include": [word, "a"],
        "seed": 7,
        **({"forecast": True} if flag else {}),
    }


def test_the_guide_tells_every_key_of_a_layer() -> None:
    section = USAGE.read_text("utf-8").split("## Options in a file")[1].split("\n## ")[0]
    told = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    assert told == [each.name for each in fields(LayerOptions)[1:]]


def test_curves_take_the_options_of_the_run_that_they_predict(folder, capsys) -> None:
    shared = 'sparsity = 0.5\nreport = ["r.json"]\nexclude = ["z1"]\n'
    write(folder, f'{PLAIN}{shared}[curve]\nat = ["40%,60%"]\nmeasured = 0\n')
    assert run(["curve", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [point["sparsity"] for point in told["points"]] == [0, 0.4, 0.6]
    assert told["weights"] == 24 * 12 + 12 * 4
    assert not (folder / "r.json").exists()
    write(folder, f'{PLAIN}sparsity = 0.5\n[layers."z2"]\nsparsity = 0.25\n')
    assert run(["curve", "--json", "--at", "0.4", "--measured", "0"]) == 0
    assert json.loads(capsys.readouterr().out)["weights"] == 16 * 24 + 24 * 12 + 12 * 4
    write(folder, "[curve]\nmesured = 1\n")
    assert run(["curve", "model.onnx", "--data", "calib.h5"]) == 2
    assert "did you mean curve.measured?" in " ".join(capsys.readouterr().err.split())
