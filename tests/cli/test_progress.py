"""cli/progress.py: what a person sees of long work, with and without a terminal."""

import pytest

from hybridvit.cli import progress as module
from hybridvit.cli.progress import progress


def test_without_a_terminal_long_work_writes_plain_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    with progress("evaluating", total=50) as advance:
        for done, now in ((10, 4.0), (20, 11.0), (30, 15.0), (40, 22.0)):  # noqa: B007 (the clock reads it)
            advance(done)
    assert capsys.readouterr().err == "evaluating: 20 of 50\nevaluating: 40 of 50\n"


def test_a_total_may_come_with_the_count(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SECONDS_BETWEEN_LINES", 0.0)
    with progress("tensors") as advance:
        advance(3, 7)
    assert capsys.readouterr().err == "tensors: 3 of 7\n"


def test_on_a_terminal_a_bar_is_drawn_and_wiped(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with progress("tensors") as advance:
        advance(3, 7)
    assert "tensors" in capsys.readouterr().err
