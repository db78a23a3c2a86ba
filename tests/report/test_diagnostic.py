"""Warnings: stable codes, and an order that puts first what matters most."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nettrim_cli.report import diagnostic
from nettrim_cli.report.diagnostic import SEVERITIES, Diagnostic, Severity, ordered


def test_a_warning_has_the_severity_of_its_code() -> None:
    for code, severity in SEVERITIES.items():
        assert Diagnostic(code, "text").severity is severity
        assert Diagnostic(code, "text").as_dict()["severity"] == severity.name.lower()


def test_a_code_that_is_not_in_the_table_is_a_defect() -> None:
    with pytest.raises(ValueError, match="no code of a warning"):
        Diagnostic("nosuch", "text")


def test_the_most_severe_come_first_and_each_comes_once(monkeypatch) -> None:
    levels = {"a": Severity.NOTE, "b": Severity.CRITICAL, "c": Severity.WARNING}
    monkeypatch.setattr(diagnostic, "SEVERITIES", levels)
    texts = [("a", "1"), ("c", "2"), ("b", "3"), ("c", "4"), ("b", "3")]
    found = ordered(Diagnostic(code, text) for code, text in texts)
    assert [each.text for each in found] == ["3", "2", "4", "1"]


def test_every_code_is_documented_with_its_severity_and_no_other() -> None:
    text = (Path(__file__).parents[2] / "docs" / "warnings.md").read_text("utf-8")
    found = re.findall(r"^\| `([a-z-]+)` \| (\w+) \|", text, re.MULTILINE)
    assert found == [(code, each.name.lower()) for code, each in SEVERITIES.items()]
