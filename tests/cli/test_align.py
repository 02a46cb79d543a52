"""hybridvit align: two files, one answer, and an exit code that says it."""

import json
from pathlib import Path
from typing import Any

import pytest

import foreign
from conftest import MakePictures
from hybridvit.cli.main import main
from hybridvit.models import catalog
from hybridvit.weights import checkpoint
from support import randomise


def save(path: Path, name: str = "cvt_nano", **changes: Any) -> str:
    checkpoint.save(randomise(catalog.create(name, num_classes=5, **changes)), path)
    return str(path)


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    return save(tmp_path / "a.safetensors"), save(tmp_path / "b.safetensors", activation="gelu")


def test_the_first_place_where_two_checkpoints_part_is_shown(
    files: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["align", *files]) == 1
    out = capsys.readouterr().out
    assert "weights: all " in out
    assert "forward, evaluating: part at stages.0.blocks.0.mlp (in it act), by" in out
    rows = {line.split()[0]: line.split() for line in out.splitlines() if line.startswith("stages.")}
    assert rows["stages.0.blocks.0.attn"][1:4] == ["0"] * 3
    assert rows["stages.0.blocks.0.attn"][5:] == ["gradient"]
    assert rows["stages.0.blocks.0.mlp"][5:] == ["eval,", "train,", "gradient"]


def test_a_checkpoint_is_aligned_with_itself(files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["align", files[0], files[0], "--dtype", "float32"]) == 0
    assert "backward: all " in capsys.readouterr().out


def test_pictures_of_ones_own_are_used(
    files: tuple[str, str], make_pictures: MakePictures, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["align", files[0], files[0], "--images", str(make_pictures(train=4, test=1))]) == 0
    assert "On 8 pictures of 32 x 32 pixels in float64." in capsys.readouterr().out


def test_json_has_every_tensor(files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["align", *files, "--json", "--tolerance", "100"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["aligned"]
    assert found["tolerance"] == 100
    assert found["rows"][0]["phase"] == "weights"
    assert found["rows"][-1]["name"] == "stages.0.embed.conv.weight"
    assert not any(row["parts"] for row in found["rows"])


@pytest.mark.parametrize("turned", [False, True])
def test_a_published_file_is_held_against_golden_answers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], turned: bool
) -> None:
    pair = [str(foreign.golden_file("flyegle", tmp_path)), str(foreign.GOLDEN / "flyegle-cmt_ti-160x160.json")]
    assert main(["align", *(reversed(pair) if turned else pair)]) == 0
    assert "forward, training: all 1 alike" in capsys.readouterr().out


def test_what_cannot_be_compared_is_refused(
    tmp_path: Path, files: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    answers = str(foreign.GOLDEN / "flyegle-cmt_ti-160x160.json")
    assert main(["align", answers, answers]) == 2
    assert main(["align", files[0], answers, "--images", str(tmp_path)]) == 2
    assert main(["align", files[0], save(tmp_path / "grey.safetensors", in_chans=1)]) == 2
    assert "takes 3 channels" in capsys.readouterr().err
    assert main(["align", files[0], str(tmp_path / "missing.safetensors")]) == 2
