import json
from pathlib import Path

import pytest

from hybridvit.cli.main import main

TINY = ["cvt_nano", "--against", "cmt_nano", "--image-size", "32", "--rounds", "2"]


def test_the_first_model_is_the_measure_of_the_others(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    plot = tmp_path / "plot.svg"
    assert main(["bench", *TINY, "--batch-size", "2", "--json", "--plot", str(plot)]) == 0
    result = json.loads(capsys.readouterr().out)
    rows = result["timings"]
    assert [(row["model"], row["engine"]) for row in rows] == [
        ("cmt_nano", "eager"),
        ("cmt_nano", "fused"),
        ("cvt_nano", "eager"),
        ("cvt_nano", "fused"),
    ]
    assert [row["ratio"] for row in rows[:2]] == [1.0, 1.0]
    assert all(row["gmacs"] > 0 and row["spread"][0] <= row["milliseconds"] <= row["spread"][1] for row in rows)
    assert plot.stat().st_size > 0


def test_a_training_step_can_be_timed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *TINY, "--train"]) == 0
    assert "pictures/s" in capsys.readouterr().out


def test_an_unknown_model_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "no_such_model", "--against", "none"]) == 2
    assert "no_such_model" in capsys.readouterr().err
