"""Quantities as people write them: bytes, seconds, fractions, patterns."""

from __future__ import annotations

import math
import re
from decimal import Decimal

UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}


def parse_bytes(text: str) -> int:
    """Bytes in words: ``500000``, ``500k``, ``1.5M``, ``2 MiB``.

    Raises
    ------
    ValueError
        The text is no size.
    """
    match = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)\s*([kmg]?i?)b?", text.strip().lower())
    if match is None or match[2] not in UNITS:
        raise ValueError(f"{text!r} is no size; write 500000, 500k or 1.5M")
    return math.floor(float(match[1]) * UNITS[match[2]])


SECONDS = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}


def parse_seconds(text: str) -> float:
    """Seconds in words: ``90``, ``90s``, ``15m``, ``1.5h``.

    Raises
    ------
    ValueError
        The text is no time, or 0.
    """
    match = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)\s*([a-z]*)", text.strip().lower())
    if match is None or match[2] not in SECONDS or not float(match[1]):
        raise ValueError(f"{text!r} is no time; write 90, 15m or 1.5h")
    return float(match[1]) * SECONDS[match[2]]


def parse_address(text: str) -> str:
    """The address of a server, ``tcp://host:8786`` or ``tls://host:8786``, as it is.

    Raises
    ------
    ValueError
        The text is no address.
    """
    if not re.fullmatch(r"(tcp|tls|ucx|wss?)://[^\s/]+:\d+", text):
        raise ValueError(f"{text!r} is no address; write tcp://host:8786")
    return text


def parse_factor(text: str) -> float:
    """How many times as much in words: ``2``, ``1.5x``.

    Raises
    ------
    ValueError
        The text is no factor.
    """
    match = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)\s*x?", text.strip().lower())
    if match is None:
        raise ValueError(f"{text!r} is no factor; write 2 or 1.5x")
    return float(match[1])


def parse_fraction(text: str) -> float:
    """A fraction in words: ``0.7``, ``1e-3``, ``70%``, ``70 %``; of any size and sign.

    Raises
    ------
    ValueError
        The text is no fraction.
    """
    number = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]{1,2})?"
    match = re.fullmatch(rf"({number})\s*(%?)", text.strip().lower())
    if match is None:
        if re.fullmatch(rf"({number})\s*(%?)", text.strip().replace(",", ".")):
            raise ValueError(f"{text!r} has a comma; write {text.strip().replace(',', '.')}")
        raise ValueError(f"{text!r} is no fraction; write 0.05 or 5%")
    return float(Decimal(match[1]) / (100 if match[2] else 1))


def parse_share(text: str) -> float:
    """A fraction; 1 and more only as per cent, as a bare ``70`` or ``1`` lacks the sign.

    Raises
    ------
    ValueError
        The text is no fraction, or 1 and more without the sign.
    """
    value = parse_fraction(text)
    if value < 1 or "%" in text:
        return value
    raise ValueError(
        f"{value:g} would be {100 * value:g} %; {value:g} per cent"
        f"{' (one point)' if value == 1 else ''} is {value / 100:g} or {value:g}%"
    )
