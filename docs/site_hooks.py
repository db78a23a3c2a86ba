"""What MkDocs changes for the site: links that lead out of docs/ become plain words, and links that
say the name of a page's file say its title.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

OUTSIDE = re.compile(r"\[([^\]]+)\]\(\.\./[^)\s]*\)")
PAGE = re.compile(r"\[`?(\w+\.md)`?\]\(\1")


def on_page_markdown(markdown: str, config: Any, **_: Any) -> str:
    """A page as the site has it."""
    titles = dict(pages(config["nav"]))
    plain = OUTSIDE.sub(r"\1", markdown)
    return PAGE.sub(lambda link: f"[{titles[link[1]]}]({link[1]}", plain)


def pages(nav: Any) -> Iterator[tuple[str, str]]:
    """Files of pages with their titles."""
    for entry in nav:
        for title, inner in entry.items():
            if isinstance(inner, str):
                yield inner, title
            else:
                yield from pages(inner)
