"""The targets of a run, of which there is one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from nettrim_cli.errors import BadInput

SEARCHED = ("max_error", "max_drop", "max_bytes", "speedup")
"""Those for which the sparsity that meets them is searched for."""
TARGETS = ("epsilon", "sparsity", *SEARCHED)
DEFAULT_TARGET = "default"
"""Name of the target where none is given, until samples are known: see pruning.default_target."""
DEFAULT_DROP, DEFAULT_ERROR, DEFAULT_EPSILON = 0.01, 0.05, 0.05


def check_one_target(options: Mapping[str, Any], label: Callable[[str], str] = str) -> list[str]:
    """Give the names of the targets among some options; ``label`` writes a name in messages.

    Raises
    ------
    BadInput
        There are several targets.
    """
    targets = [name for name in TARGETS if options[name] is not None]
    if len(targets) > 1:
        given = " and ".join(map(label, targets))
        raise BadInput(f"Give one target: {given} are {len(targets)}; leave out all but one.")
    return targets
