"""The pages under docs/ are up to date with the code, linked, and readable."""

from __future__ import annotations

from pathlib import Path

from support import command_page

DOCS = Path(__file__).parents[1] / "docs"


def test_the_page_of_commands_is_up_to_date() -> None:
    assert command_page.PAGE.read_text("utf-8") == command_page.page(), "run make docs"
