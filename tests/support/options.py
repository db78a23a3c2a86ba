"""Options of runs of which a test asks what is read, written or said, not which weights go."""

from __future__ import annotations

from typing import Any

PLAIN: dict[str, Any] = {
    "threads": 1,
    "augment": "none",
    "final_fit": "none",
    "no_delete": True,
    "refit": "layers",
}
QUICK = PLAIN | {"sparsity": 0.5, "allocate": "uniform"}  # of the time of the defaults, an eighth


def words(options: dict[str, Any]) -> list[str]:
    """The settings as the command line takes them."""
    flags = ((f"--{name.replace('_', '-')}", value) for name, value in options.items())
    words = ([flag] if value is True else [flag, str(value)] for flag, value in flags)
    return [word for pair in words for word in pair]


FAST = words(QUICK)
PATIENCE = 600  # seconds; what has not ended then hangs, however busy the machine is
