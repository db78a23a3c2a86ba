"""Results in files of every format: right numbers, unbroken by odd names."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from nettrim_cli.errors import CannotWrite, WrongUsage
from nettrim_cli.report import formatting
from nettrim_cli.report.plain import json_text
from nettrim_cli.report.result import FileForm
from nettrim_cli.report.saving import FORMATS
from tests.support.markup import Page, read_markdown
from tests.support.reports import (
    ODD,
    comparison,
    dense,
    few,
    node,
    pictured,
    shown,
    solved,
    strict,
    summary,
    whole,
)


def test_json_round_trips_and_is_strict() -> None:
    nan = solved("b", error_calibration=math.nan, gap=math.inf, seconds=np.float64(1.5))
    report = whole(solved("a"), nan, dense("c"), settings={"p": (1, 2), "w": np.float32(math.nan)})
    text = report.render(".json")
    held = strict(text)
    assert text == json_text(held) == json_text(report)
    assert [each["nonzeros_after"] for each in held["layers"]] == [30_000, 30_000, 96]
    assert (held["weights"], held["nonzeros"], held["sparsity"]) == (600_000, 60_000, 0.9)
    assert held["layers"][1]["error_calibration"] is None
    assert held["layers"][1]["gap"] is None
    assert held["layers"][1]["seconds"] == 1.5
    assert held["settings"] == {"p": [1, 2], "w": None}
    assert held["comparison"]["drop"] == pytest.approx(0.0025)
    assert list(held) == sorted(held)


def test_lists_of_numbers_stand_on_one_line_and_texts_stay() -> None:
    odd = ["[\n  1,\n  2\n]", "[", "]", "[ 1,   2 ]"]
    values = {"texts": odd, "numbers": [1, 2.5, math.nan, None, True], "none": [], "deep": [[1, 2]]}
    text = json_text(values)
    assert strict(text) == {**values, "numbers": [1, 2.5, None, None, True]}
    assert '\n  "numbers": [1, 2.5, null, null, true]' in text
    assert '"deep": [\n    [1, 2]\n  ]' in text


def test_csv_parses_back_to_equal_numbers() -> None:
    layers = (solved("a", gap=1 / 3), solved("b", error_holdout=math.nan), dense("c"))
    layers = (*layers[:2], replace(layers[2], reason="excluded"))
    rows = list(csv.DictReader(io.StringIO(whole(*layers).render(".csv"), newline="")))
    assert len(rows) == 3
    for row, layer in zip(rows, layers, strict=True):
        assert (int(row["inputs"]), int(row["outputs"])) == layer.shape
        assert int(row["nonzeros_after"]) == layer.nonzeros_after
        assert float(row["sparsity_after"]) == layer.sparsity_after
    assert [row["reason"] for row in rows] == ["", "", "excluded"]
    assert float(rows[0]["gap"]) == 1 / 3
    assert float(rows[0]["error_calibration"]) == 0.0812
    assert rows[1]["error_holdout"] == rows[2]["error_holdout"] == rows[2]["gap"] == ""


def columns(table: list[list[str]]) -> list[dict[str, str]]:
    """Rows of a table by its head."""
    head, *rows = table
    assert {len(row) for row in rows} <= {len(head)}
    return [dict(zip(head, row, strict=True)) for row in rows]


@pytest.mark.parametrize("suffix", [".md", ".html"])
def test_people_read_a_row_per_layer_and_the_totals(suffix: str) -> None:
    report = whole(solved("a"), dense("c"), warnings=few("few samples"))
    page = (read_markdown if suffix == ".md" else Page)(report.render(suffix))
    totals, layers, *_ = page.tables
    pruned, left = columns(layers)
    assert (pruned["layer"], pruned["op"], pruned["shape"]) == ("a", "Gemm", "300 x 1000")
    assert (pruned["zeros before %"], pruned["zeros after %"]) == ("", "90.0")
    assert pruned["error held-out %"] == "12.44"
    assert (left["zeros before %"], left["zeros after %"]) == ("4.0", "4.0")
    assert left["error held-out %"] == ""
    assert left["note"] == "excluded"
    rows = {row[0]: row[1:] for row in totals}
    assert rows["non-zeros"] == ["300,000", "30,000", "90.0 % sparsity"]
    assert rows["gzipped"] == ["2.36 MB", "401 kB", "5.9 times smaller"]
    assert any("few samples" in text for _, text in page.texts)
    assert any("few-samples" in text for _, text in page.texts)


def test_markdown_begins_with_the_verdict_and_one_table_and_folds_the_layers() -> None:
    text = whole(solved("a"), warnings=few("few samples")).render(".md")
    heading, verdict, *_ = text.split("\n\n")
    assert heading == "## nettrim prune"
    assert verdict.startswith("✅ **Reached:")
    first, folded = text.index("| non-zeros |"), text.index("<details>")
    assert first < text.index("> [!NOTE]\n> few samples (few-samples)") < folded
    assert text.index("| a | Gemm |") > folded
    assert text.count("<details>") == text.count("</details>")


def test_markdown_leaves_out_what_is_a_picture() -> None:
    page = read_markdown(pictured("fc1", "fc2").render(".md"))
    assert list(page.all_of("summary")) == [
        *("Layers (2 of 2 pruned)", "Certificate of the outputs", "Certificate of the layers"),
        *("Forms of the file", "Settings", "Files and versions"),
    ]
    assert [row[-2:] for row in page.tables[1]] == [
        *(["error held-out %", "cost at output %"], ["2.00", "1.00"], ["4.00", "2.00"]),
    ]
    assert not {"svg", "figure"} & {tag for tag, _ in page.elements}


def test_markdown_of_a_deep_network_fits_into_a_comment_on_github() -> None:
    names = [f"/encoder/layer.{k}/attention/self/query/MatMul" for k in range(900)]
    text = pictured(*names).render(".md")
    assert len(text) < 65_536
    page = read_markdown(text)
    assert page.tables[0][1][0] == "layers pruned"
    assert [row[0] for row in page.tables[1][1:]] == names[:400]
    assert "500 more rows stand in the HTML report." in page.all_of("em")
    assert "Files and versions" in page.all_of("summary")
    whole_text = pictured(*names[:200]).render(".md")
    assert len(read_markdown(whole_text).tables[1]) == 201
    assert "more rows" not in whole_text


@pytest.mark.parametrize("length", [20, 200, 900])
def test_markdown_with_very_many_warnings_fits_and_tells_how_many_are_left_out(length) -> None:
    texts = [f"{k} {'z' * length}" for k in range(1_000)]
    report = replace(pictured(*map("fc{}".format, range(500))), warnings=few(*texts))
    text = report.render(".md")
    assert len(text) < 65_536
    shown = [k for k, note in enumerate(texts) if note in text]
    assert shown == list(range(len(shown)))
    page = read_markdown(text)
    assert len(shown) >= 5
    assert f"{1_000 - len(shown)} more notes stand in the HTML report." in page.all_of("em")
    assert len(page.tables[1]) > 100
    assert "Files and versions" in page.all_of("summary")


def test_markdown_of_a_long_first_table_fits() -> None:
    names = [f"/encoder/layer.{k}/{'x' * 200}" for k in range(1_000)]
    text = summary(*map(node, names)).render(".md")
    assert len(text) < 65_536
    assert [row[0] for row in read_markdown(text).tables[0][1:]] == names[:100]


def test_forms_of_the_file_are_told_and_the_compact_one_if_it_is_smaller() -> None:
    plain = FileForm("plain", 2_552_641, 401_234, None, written=True)
    report = whole(solved("a"), forms=(plain, FileForm("compact", 318_664, 289_000, 288_000)))
    *_, rows = (read_markdown(report.render(".md")).tables)[:3]
    assert rows[1:] == [
        ["plain, as written", "2,552,641", "401,234", "–"],
        ["compact", "318,664", "289,000", "288,000"],
    ]
    assert strict(report.render(".json"))["forms"][1]["raw"] == 318_664
    assert "if compact 319 kB 8.0 times smaller" in " ".join(shown(report).split())
    written = FileForm("compact", 318_664, 289_000, None, written=True)
    assert "if compact" not in shown(whole(solved("a"), forms=(written,)))


@pytest.mark.parametrize("name", ODD)
def test_odd_names_survive_in_files(name: str) -> None:
    report = whole(solved(name, note=name), dense("c", note=name), warnings=few(name))
    assert strict(report.render(".json"))["layers"][0]["name"] == name
    rows = list(csv.DictReader(io.StringIO(report.render(".csv"), newline="")))
    assert [rows[0]["name"], rows[0]["note"], rows[1]["note"]] == [name] * 3
    for page in (read_markdown(report.render(".md")), Page(report.render(".html"))):
        pruned, left = columns(page.tables[1])
        clean = formatting.clean(name)
        assert [pruned["layer"], pruned.get("note", ""), left.get("note", "")] == [clean] * 3


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_takes_an_empty_report(suffix: str) -> None:
    nothing = whole(comparison=comparison(outputs=(), samples=0), settings={})
    assert nothing.render(suffix.upper()).endswith("\n")


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("result", [whole(solved("a")), comparison()], ids=["run", "comparison"])
def test_results_are_saved_in_the_format_of_the_ending(tmp_path, suffix: str, result: Any) -> None:
    path = tmp_path / f"report{suffix}"
    assert result.save(path) == path
    assert path.read_bytes().decode("utf-8") == result.render(suffix)
    with pytest.raises(CannotWrite, match="exists already"):
        result.save(path)
    assert result.save(str(path), force=True) == path
    with pytest.raises(WrongUsage, match=r"report\.pdf: a report ends in one of \.html, \.md"):
        result.save(tmp_path / "report.pdf")
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_notebooks_show_a_part_of_a_page_with_its_own_style() -> None:
    page = Page(whole(solved("a"))._repr_html_())
    assert page.elements[0] == ("article", {"class": "nettrim"})
    assert not {"html", "body", "head"} & {tag for tag, _ in page.elements}
    (style,) = page.all_of("style")
    rules = [rule for rule in style.split("\n") if rule.startswith(".")]
    assert rules
    assert all(rule.startswith(".nettrim") for rule in rules)
