"""What slow runs try in full, and quick ones in part."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import settings


def examples(count: int) -> settings:
    """So many examples in slow runs; ``conftest`` says how many of a hundred in quick ones."""
    share = settings.default.max_examples
    return settings(max_examples=max(5, count * share // 100), deadline=None)


def thinned(cases: Iterable[Any], step: int) -> list[Any]:
    """Cases of which one in so many is quick, the first among them; the others are slow."""
    several = [case if isinstance(case, tuple) else (case,) for case in cases]
    return [
        pytest.param(*case, marks=() if number % step == 0 else pytest.mark.slow)
        for number, case in enumerate(several)
    ]
