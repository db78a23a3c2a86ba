"""Quantities as people write them."""

from __future__ import annotations

import re

import pytest

from nettrim_cli.quantities import parse_address, parse_bytes, parse_fraction, parse_share


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.7", 0.7),
        (".7", 0.7),
        ("70%", 0.7),
        (" 70 % ", 0.7),
        ("0.1%", 0.001),
        ("7%", 0.07),
        ("1e-3", 0.001),
        ("-5%", -0.05),
        ("0", 0.0),
        ("150%", 1.5),
    ],
)
def test_fractions_in_words(text, value) -> None:
    assert parse_share(text) == parse_fraction(text) == value


@pytest.mark.parametrize(
    "text", ["", "%", "a", "5%%", "%5", "5%x", "1_0", "nan", "inf", "-inf%", "1e999", "５%"]
)
def test_what_is_no_fraction(text) -> None:
    with pytest.raises(ValueError, match="no fraction"):
        parse_share(text)


def test_a_comma_is_told_as_such() -> None:
    with pytest.raises(ValueError, match=r"'0,5' has a comma; write 0\.5"):
        parse_share("0,5")


@pytest.mark.parametrize(
    ("text", "words"),
    [("1", "1 per cent (one point) is 0.01 or 1%"), ("70", "0.7 or 70%"), ("1.5", "0.015 or 1.5%")],
)
def test_what_is_meant_by_a_bare_number_must_be_said(text, words) -> None:
    assert parse_fraction(text) == float(text)
    with pytest.raises(ValueError, match=re.escape(words)):
        parse_share(text)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        *(("500000", 500_000), ("500k", 500_000), ("1.5M", 1_500_000), (" 2 MB ", 2_000_000)),
        *(("3KiB", 3072), ("1.5mi", 1_572_864), (".5G", 500_000_000), ("7b", 7), ("1.9", 1)),
    ],
)
def test_bytes_as_people_write_them(text, count) -> None:
    assert parse_bytes(text) == count


@pytest.mark.parametrize("text", ["", "k", "-5", "5 T", "1,5M", "1e6", "i", "5 ib", "nan"])
def test_what_is_no_size(text) -> None:
    with pytest.raises(ValueError, match="is no size"):
        parse_bytes(text)


@pytest.mark.parametrize("text", ["tcp://scheduler:8786", "tls://10.0.0.1:8786", "tcp://[::1]:1"])
def test_addresses_stay_as_they_are(text) -> None:
    assert parse_address(text) == text


@pytest.mark.parametrize("text", ["", "host:8786", "tcp://host", "http://a:1", "tcp://a b"])
def test_what_is_no_address(text) -> None:
    with pytest.raises(ValueError, match="write tcp://host:8786"):
        parse_address(text)
