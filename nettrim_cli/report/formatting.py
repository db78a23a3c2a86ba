"""Numbers and names as text for people; machine formats do not use this module."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import ROUND_CEILING, Context, Decimal

UNKNOWN = "–"


def percent(share: float | None, digits: int = 1) -> str:
    """A share as per cent without the sign: 0.9 -> ``90.0``.

    A share between 0 and 1 is never rounded to either: ``>99.9``, ``<0.1``.
    """
    if share is None:
        return UNKNOWN
    if not math.isfinite(share):
        return str(float(share))
    text = f"{100 * share:.{digits}f}"
    step = 10.0**-digits
    if share < 1 and float(text) == 100:
        return f">{100 - step:.{digits}f}"
    if share > 0 and float(text) == 0:
        return f"<{step:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def plain_percent(share: float) -> str:
    """A share that a user gave, as per cent without the sign: 0.9 -> ``90``, 0.005 -> ``0.5``."""
    return f"{100 * share:.6g}"


def new_samples(bound: float, *, labels: bool) -> str:
    """Upper bound on new samples' loss: points of accuracy, or without labels answers."""
    unit = "points are lost" if labels else "% of answers change"
    return f"at most {percent(bound, 2)} {unit} (95 %)"


def error(share: float | None) -> str:
    """A relative error as per cent without the sign: two decimals, fewer digits when tiny or huge.

    0.0812 -> ``8.12``, 3e-7 -> ``3e-05``, 123.456 -> ``12,346``.
    """
    if share is None or not math.isfinite(share) or share == 0:
        return UNKNOWN if share is None else "0" if share == 0 else str(float(share))
    value = 100 * share
    if abs(value) >= 1e6 or abs(value) < 0.005:
        return f"{value:.0e}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.2f}"


def at_most(share: float) -> str:
    """An upper bound as per cent without the sign: three digits, never rounded down."""
    if not math.isfinite(share) or share <= 0:
        return error(share)
    value = Context(prec=3, rounding=ROUND_CEILING).plus(100 * Decimal(share))
    return f"{value:,f}" if Decimal("0.001") <= value < 10**7 else f"{value:.2e}"


def count(number: int | None) -> str:
    """A count with thousands separators."""
    return UNKNOWN if number is None else f"{number:,}"


def about(number: float) -> str:
    """A count of two digits, rounded up: 4133 -> ``4,200``."""
    step = 10 ** max(0, len(str(math.ceil(number))) - 2)
    return count(math.ceil(number / step) * step)


def size(number: int) -> str:
    """Bytes with three significant digits and a decimal unit: 1065372 -> ``1.07 MB``."""
    if number < 1000:
        return f"{number} B"
    value, units = number / 1000, iter(("kB", "MB", "GB", "TB"))
    unit = next(units)
    while value >= 999.5 and unit != "TB":
        value, unit = value / 1000, next(units)
    return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f} {unit}"


def duration(seconds: float) -> str:
    """Seconds in the usual units: ``0.42 s``, ``12.3 s``, ``2 min 05 s``, ``1 h 02 min``."""
    if not math.isfinite(seconds):
        return UNKNOWN
    if seconds < 59.95:
        return f"{seconds:.{2 if seconds < 0.995 else 1}f} s"
    minutes, remainder = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {remainder:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def milliseconds(seconds: float) -> str:
    """Milliseconds with three digits: 0.000123 -> ``0.123``, 1.5 -> ``1,500``."""
    value = 1000 * seconds
    if not math.isfinite(value):
        return UNKNOWN
    digits = 2 - math.floor(math.log10(value)) if value > 0 else 0
    return f"{value:,.{min(max(digits, 0), 4)}f}"


def factor(reference: int, candidate: int) -> str:
    """How a size changed: ``7.0 times smaller``, ``3.2 % smaller``, ``same size``."""
    if reference == candidate:
        return "same size"
    if min(reference, candidate) <= 0:
        return ""
    word = "smaller" if candidate < reference else "larger"
    ratio = max(reference, candidate) / min(reference, candidate)
    if ratio >= 1.5:
        return f"{ratio:.{1 if ratio < 99.95 else 0}f} times {word}"
    return f"{percent(abs(candidate - reference) / reference)} % {word}"


def points(
    reference: float | None, candidate: float | None, lost: tuple[float, float] | None = None
) -> str:
    """The change of an accuracy in points: ``0.31 points lost``, ``0.10 points gained``.

    ``lost`` is an interval for the loss, which is written in the same direction:
    ``0.31 points lost (95 %: -0.02 to 0.66)``.
    """
    if reference is None or candidate is None:
        return ""
    if not math.isfinite(candidate - reference):
        return "not comparable"
    change = f"{100 * (reference - candidate):.2f}"
    gained = change.startswith("-") and float(change) != 0
    text = f"{change.removeprefix('-')} points {'gained' if gained else 'lost'}"
    if float(change) == 0:
        text = "unchanged"
    if lost is None:
        return text
    low, high = (-lost[1], -lost[0]) if gained else lost
    return f"{text} (95 %: {100 * low:.2f} to {100 * high:.2f})"


def margins(usual: float | None, changed: float | None) -> str:
    """The reference's margins of the changed answers, and of all answers."""
    if usual is None or changed is None:
        return ""
    return f"changed ones had a margin of {changed:.3g}, all of {usual:.3g}"


def shape(sides: Sequence[int]) -> str:
    """A shape as ``300 x 1000``."""
    return " x ".join(str(size) for size in sides) if any(sides) else UNKNOWN


def clean(name: str) -> str:
    """A name on one line: line breaks, escape codes and other invisible characters spelled out."""
    if name.isprintable():
        return name
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in name
    )


def wrap(text: str, width: int, *, split: bool = True) -> list[str]:
    """Break a text at blanks into lines of ``width`` cells; longer words too, if ``split``."""
    from rich.cells import cell_len, chop_cells

    lines: list[str] = []
    for word in text.split(" "):
        if lines and cell_len(lines[-1]) + 1 + cell_len(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines += chop_cells(word, width) if split and word else [word]
    return lines


def shorten(name: str, width: int, head: int | None = None) -> str:
    """Cut a name in the middle to ``width`` cells, ``head`` of them before the ellipsis."""
    from rich.cells import cell_len, set_cell_size

    if cell_len(name) <= width:
        return name
    if width < 3:
        return set_cell_size(name, max(width, 0))
    head = (width - 1) // 3 if head is None else max(0, min(head, width - 1))
    if name.isascii():
        return f"{name[:head]}…{name[len(name) - (width - 1 - head) :]}"
    start = set_cell_size(name, head)
    end = len(name)
    room = width - 1 - head
    while end > 0 and cell_len(name[end - 1 :]) <= room:
        end -= 1
    return f"{start}…{name[end:]}"


def shorten_all(names: Sequence[str], width: int) -> list[str]:
    """Cut long names in the middle, at the place where the fewest of them come out alike."""
    usual = (width - 1) // 3
    best: list[str] = []
    for head in sorted(range(max(width, 1)), key=lambda position: abs(position - usual)):
        shortened = [shorten(name, width, head) for name in names]
        if len(set(shortened)) > len(set(best)):
            best = shortened
        if len(set(best)) == len(set(names)):
            break
    return best
