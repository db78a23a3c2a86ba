"""The site has every page of docs/, is built without a warning, and asks nobody for anything."""

from __future__ import annotations

import importlib.util
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).parents[2]
PAGES = sorted(path.name for path in (ROOT / "docs").glob("*.md"))
CONFIG = yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))
HOOKS = runpy.run_path(str(ROOT / "docs" / "site_hooks.py"))


def test_every_page_is_in_the_navigation_once() -> None:
    assert sorted(name for name, _ in HOOKS["pages"](CONFIG["nav"])) == PAGES


def test_links_that_the_site_does_not_have_become_words() -> None:
    text = "See [the scripts](../benchmarks/README.md#a), [faq.md](faq.md#b) and [x](cli.md)."
    changed = HOOKS["on_page_markdown"](text, CONFIG, page=None)
    assert changed == "See the scripts, [Questions](faq.md#b) and [x](cli.md)."


@pytest.mark.slow
def test_the_site_is_built_without_warnings(tmp_path: Path) -> None:
    if importlib.util.find_spec("material") is None:
        pytest.skip("mkdocs-material is not installed")
    words = ["build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    assert "WARNING -" not in built.stderr
    for name in PAGES:
        folder = tmp_path / "site" / ("" if name == "index.md" else name[:-3])
        page = (folder / "index.html").read_text("utf-8")
        fetched = re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="(https?://[^"]+)"', page)
        assert not fetched, f"{name} asks for {fetched}"
