"""hybridvit score: the same figures from the logits alone."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from hybridvit.cli.main import main


def test_score_says_from_the_logits_what_eval_said(
    tmp_path: Path, weights: Path, make_pictures: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    data = make_pictures(test=5)
    (data / "test" / "a" / "broken.png").write_bytes(b"no picture")
    file = str(tmp_path / "logits.npz")
    assert main(["eval", str(weights), "--data", str(data), "--logits", file, "--json", "--workers", "0"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert main(["score", file, "--json"]) == 1
    again = json.loads(capsys.readouterr().out)
    assert said["images"] == 15
    for key in said.keys() - {"checkpoint", "data", "counts"}:
        assert again[key] == said[key], key


def test_a_missing_file_is_an_error_without_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", str(tmp_path / "none.npz")]) == 2
    assert "does not exist" in capsys.readouterr().err
