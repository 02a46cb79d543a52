"""hybridvit models: the catalogue as a table."""

import json

import pytest

from hybridvit.cli.main import main
from hybridvit.models.catalog import ARCHITECTURES
from hybridvit.weights.published import WEIGHTS


def test_json_lists_every_architecture_and_all_weights(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--json"]) == 0
    listing = json.loads(capsys.readouterr().out)
    assert listing["architectures"].keys() == ARCHITECTURES.keys()
    assert listing["weights"].keys() == WEIGHTS.keys()
    assert listing["architectures"]["cvt_13"]["params"] == 19_997_480


def test_a_pattern_chooses_names_and_their_weights(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "cmt_s"]) == 0
    out = capsys.readouterr().out
    names = [line.split()[0] for line in out.splitlines() if line.startswith(("cmt", "cvt"))]
    assert names == ["cmt_s", *(name for name in WEIGHTS if name.startswith("cmt_s."))]
    assert "83.5" in out
    assert "26.26" in out


def test_a_pattern_without_match_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "vit_*"]) == 2
    assert "No model's name matches 'vit_*'" in capsys.readouterr().err


def test_detectors_are_listed_by_task(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "retinanet_cmt_?", "--task", "detection"]) == 0
    out = capsys.readouterr().out
    assert "retinanet_cmt_s\n" in out
    assert "retinanet.timm/MODEL" in out
    assert main(["models", "vit_*", "--task", "detection"]) == 2
    assert "No name of a detection model matches 'vit_*'" in capsys.readouterr().err
