"""HTML reports: whole pages that need nothing else, unbroken by hostile names."""

from __future__ import annotations

import re
import shutil
import subprocess
from html import escape
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nettrim_cli.report.formatting import clean
from tests.support.effort import examples
from tests.support.markup import Page
from tests.support.reports import ODD, few, pictured

HOSTILE = (
    *ODD,
    "</script><script>alert(1)</script>",
    "</style><img src=x onerror=alert(1)>",
    "\"'><svg/onload=alert(1)>",
    "&lt;b&gt; &#x3c; ]]> <!-- -->",
    "שכבה/מרכזית \u202egnp.exe",
    "🧠🏽/👩‍👩‍👧 layer",
    "javascript:alert(1)//https://example.org/x.js",
    "\ud800 alone",
)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
KNOWN = {
    *("html", "head", "meta", "title", "style", "body", "article", "section", "details", "summary"),
    *("h1", "h2", "h3", "p", "div", "span", "b", "i", "u", "code", "small", "bdi"),
    *("table", "thead", "tbody", "tr", "th", "td", "figure", "figcaption"),
    *("svg", "path", "text", "circle", "rect"),
}


def check_page(text: str, name: str) -> Page:
    """A page is well-formed, holds its names as text, and refers to nothing."""
    page = Page(text)
    assert {tag for tag, _ in page.elements} <= KNOWN
    for tag, attributes in page.elements:
        assert not {key for key in attributes if key.startswith("on")}, tag
        assert not {"src", "href", "action", "xlink:href"} & set(attributes), tag
    (style,) = page.all_of("style")
    assert not re.search(r"url\(|@import|expression|//", style)
    layers = page.tables[1]
    assert [row[0] for row in layers[1:]] == [clean(name), clean(name) + " 2"]
    return page


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_stay_text(name: str) -> None:
    page = check_page(pictured(name, f"{name} 2").render(".html"), name)
    titles = [text for text in page.all_of("title") if text.startswith("error of ")]
    assert titles == [f"error of {clean(name)}", f"error of {clean(name)} 2"]


@examples(60)
@given(st.text(max_size=40))
def test_any_name_stays_text(name: str) -> None:
    check_page(pictured(name, f"{name} 2").render(".html"), name)


def test_a_page_shows_pictures_of_layers_outputs_and_sizes() -> None:
    report = pictured("fc1", "fc2")
    page = Page(report.render(".html"))
    headings = list(page.all_of("h2"))
    assert headings == [
        *("Layers (2 of 2 pruned)", "Error against sparsity", "Weights before and after"),
        *("Outputs, dense against pruned", "Certificate of the outputs"),
        *("Forms of the file", "Files and versions"),
    ]
    assert sum(tag == "svg" for tag, _ in page.elements) == 2 + 2 + 1 + 1
    files = page.tables[-1]
    assert files[1] == ["model", "dense.onnx", "2.55 MB", "ab" * 32]
    assert "is faster, ratio 0.50 (0.49 to 0.51)" in page.all_of("small")
    widths = [each["style"] for tag, each in page.elements if tag == "i" and "style" in each]
    assert f"width:calc((100% - 6em) * {401_234 / 2_361_234:.4f})" in widths


def test_layers_of_a_deep_network_are_all_there_in_a_small_file() -> None:
    names = [f"/encoder/layer.{k}/attention/self/query/MatMul" for k in range(200)]
    text = pictured(*names).render(".html")
    assert len(text) < 3_000_000
    page = Page(text)
    assert [row[0] for row in page.tables[1][1:]] == names
    assert sum(tag == "svg" for tag, _ in page.elements) == 2 + 200 + 200 + 1 + 1
    assert "Error against sparsity: the other 188 layers" in page.all_of("summary")
    shown = text[: text.index("the other 188 layers")]
    assert "error of /encoder/layer.199/" in shown  # it costs most
    assert "error of /encoder/layer.0/" not in shown


def test_warnings_stand_in_front_of_the_figures() -> None:
    page = pictured("fc1").render(".html")
    assert 'class="notice' not in page
    warned = (
        pictured("fc1")
        .__class__(**{**vars(pictured("fc1")), "warnings": few("few <samples>")})
        .render(".html")
    )
    notice = warned.index('<div class="notice note"><b>Note:</b><span>few &lt;samples&gt;</span>')
    assert notice < warned.index("<table")


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
@pytest.mark.parametrize("width", [400, 1400])
def test_a_browser_shows_it_without_complaint_or_overflow(tmp_path: Path, width: int) -> None:
    names = [f"/encoder/layer.{k}/attention/self/query/MatMul" for k in range(30)]
    text = pictured(*names, *HOSTILE[:-1]).render(".html")
    frame = f'<iframe width="{width}" height="900" srcdoc="{escape(text)}"></iframe>'
    probe = (
        "<script>addEventListener('load', () => { const page = "
        "document.querySelector('iframe').contentDocument.documentElement; document.title = "
        "page.scrollWidth + ' of ' + page.clientWidth; })</script>"
    )
    path = tmp_path / "report.html"
    path.write_text(f"<!DOCTYPE html><meta charset=utf-8><title></title>{frame}{probe}", "utf-8")
    ended = subprocess.run(
        [
            *(str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
            *("--disable-background-networking", "--enable-logging=stderr", "--v=0"),
            *("--window-size=1600,1000", f"--user-data-dir={tmp_path / 'profile'}"),
            *("--virtual-time-budget=3000", "--dump-dom", path.as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "CONSOLE" not in ended.stderr
    found = re.search(r"<title>(\d+) of (\d+)</title>", ended.stdout)
    assert found, "the page was not run"
    wide, window = map(int, found.groups())
    assert width - 20 < window <= width
    assert wide <= window
