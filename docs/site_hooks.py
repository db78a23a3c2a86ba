"""What MkDocs changes for the site: links that lead out of docs/ become plain words."""

from __future__ import annotations

import re
from typing import Any

OUTSIDE = re.compile(r"\[([^\]]+)\]\(\.\./[^)\s]*\)")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """A page without links to files that the site does not have."""
    return OUTSIDE.sub(r"\1", markdown)
