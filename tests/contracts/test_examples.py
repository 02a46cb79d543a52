"""Every script in examples/ runs, and says what it should."""

import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
RUNS = {
    "own_loop.py": (["--steps", "12"], "of 899 pictures"),
    "features.py": (["cmt_ti"], "(1, 21, 50, 80)"),
    "two_arithmetics.py": ([], "same answer for"),
}
"""Script -> arguments that keep it short, and a part of what it prints."""


ELSEWHERE = {"align_transformers.py": "compare/test_align.py", "nearest.py": "inference/test_job.py"}
"""Script -> the test that runs it."""


def test_every_script_is_run() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == RUNS.keys() | ELSEWHERE.keys()
    assert all(name in (EXAMPLES.parent / "tests" / test).read_text() for name, test in ELSEWHERE.items())


@pytest.mark.parametrize("name", RUNS)
def test_the_script_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, expected = RUNS[name]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    assert expected in capsys.readouterr().out
