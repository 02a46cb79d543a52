"""cli/table.py: aligned without a terminal, drawn on one."""

import pytest

from hybridvit.cli.table import show
from hybridvit.output import Table


def test_plain_columns_are_aligned_numbers_to_the_right(capsys: pytest.CaptureFixture[str]) -> None:
    show(Table(["name", "n", "share"], [["a", 5, "12.50"], ["[long]", 1234, None]], "Title"))
    assert capsys.readouterr().out.splitlines() == [
        "Title",
        "name       n  share",
        "a          5  12.50",
        "[long]  1234      -",
    ]


def test_on_a_terminal_names_in_brackets_are_no_markup(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    show(Table(["name"], [["[red]file.png"]]))
    assert "[red]file.png" in capsys.readouterr().out
