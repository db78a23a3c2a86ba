"""The lowest versions that pyproject.toml allows, one a line, as constraints of pip."""

from __future__ import annotations

import re
import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROJECT = Path(__file__).parents[1] / "pyproject.toml"
EXTRAS = ("dev", "text")


def lowest() -> list[str]:
    """Every requirement with a lower bound, at that bound."""
    project = tomllib.loads(PROJECT.read_text("utf-8"))["project"]
    extras = (project["optional-dependencies"][name] for name in EXTRAS)
    requirements = [*project["dependencies"], *(each for extra in extras for each in extra)]
    pinned = (re.fullmatch(r"([\w.-]+)(?:\[\w+\])?>=([\w.]+)(;.*)?", text) for text in requirements)
    return sorted({f"{match[1]}=={match[2]}{match[3] or ''}" for match in pinned if match})


if __name__ == "__main__":
    print("\n".join(lowest()))
