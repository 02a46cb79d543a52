"""cli/table.py: aligned without a terminal, drawn on one."""

import pytest

from hybridvit.cli.table import show


def test_plain_columns_are_aligned_numbers_to_the_right(capsys: pytest.CaptureFixture[str]) -> None:
    show(["name", "n", "share"], [["a", 5, "12.50"], ["[long]", 1234, None]], title="Title")
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
    show(["name"], [["[red]file.png"]])
    assert "[red]file.png" in capsys.readouterr().out
