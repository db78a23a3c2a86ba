"""Options of ``nettrim bench``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from nettrim_cli.options.declare import check_bounds, option
from nettrim_cli.quantities import parse_fraction, parse_seconds


def check_shape(text: str) -> str:
    """Give the text of a shape unchanged.

    Raises
    ------
    ValueError
        It is not of the form ``NAME=1x128``.
    """
    if not re.fullmatch(r".+=[1-9][0-9]*(x[1-9][0-9]*)*", text):
        raise ValueError(f"{text!r} is no shape; write NAME=SIZES, such as ids=1x128")
    return text


def parsed_shapes(texts: Iterable[str]) -> dict[str, tuple[int, ...]]:
    """Shapes of inputs by name."""
    pairs = (text.rpartition("=") for text in texts)
    return {name: tuple(map(int, sizes.split("x"))) for name, _, sizes in pairs}


@dataclass(frozen=True)
class BenchSettings:
    """How models are timed.

    Raises
    ------
    BadInput
        A value is outside its bounds.
    """

    batch: tuple[int, ...] = option(
        (),
        "Samples in a batch (repeatable).",
        group="Samples",
        example="64",
        absent="1",
        low=1,
        high=1 << 20,
        metavar="N",
    )
    shape: tuple[str, ...] = option(
        (),
        "Shape of a made input with free axes besides that of the samples (repeatable).",
        group="Samples",
        detail="It goes without --data.",
        example="ids=1x128",
        absent="as declared",
        metavar="NAME=SIZES",
        parse=check_shape,
    )
    threads: int = option(
        1,
        "Processor threads of onnxruntime for a model.",
        group="Run",
        example="4",
        low=1,
        high=1024,
        metavar="N",
    )
    seconds: float = option(
        10,
        "Time the models at most so long at each batch size.",
        group="Run",
        detail="It ends before where their ratios are known to 1 %.",
        example="30s",
        low=0.1,
        high=86400.0,
        metavar="T",
        parse=parse_seconds,
    )
    max_latency_ratio: float | None = option(
        None,
        "Exit 3 if a model takes more than R of the reference's time.",
        group="Limits",
        detail="Exit 65 if that cannot be told.",
        example="0.8",
        low=0.001,
        high=1000.0,
        metavar="R",
        parse=parse_fraction,
    )

    def __post_init__(self) -> None:
        """Check each value against the bounds that its field declares."""
        check_bounds(self)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of inputs by name."""
        return parsed_shapes(self.shape)
