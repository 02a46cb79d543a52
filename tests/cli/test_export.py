import json
from collections.abc import Callable
from pathlib import Path

import pytest

from hybridvit.cli.main import main
from hybridvit.deploy import engines
from hybridvit.models import catalog
from hybridvit.weights import checkpoint

SMALL = {"dims": (8, 16), "depths": (1, 1), "heads": (1, 2)}


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    path = tmp_path / "small.safetensors"
    checkpoint.save(catalog.create("cvt_nano", num_classes=3, **SMALL), path, label_names=["a", "b", "c"])
    return path


def test_an_export_is_written_beside_the_checkpoint_and_compared(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(trained), "--to", "pt2", "--image-size", "40", "48", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["file"] == str(trained.with_suffix(".pt2"))
    assert result["report"]["passed"]
    metadata = engines.open_export(trained.with_suffix(".pt2")).metadata
    assert metadata["image_size"] == [40, 48]
    assert metadata["label_names"] == ["a", "b", "c"]


@pytest.mark.parametrize("as_list", [False, True])
def test_an_export_tells_its_pictures_and_takes_classes_from_folders_only(
    trained: Path, make_pictures: Callable[..., Path], capsys: pytest.CaptureFixture[str], as_list: bool
) -> None:
    """Not from the folders of a list, which has labels of its own."""
    data = make_pictures(train=0, test=2) / "test"
    (data / "a" / "notes.txt").touch()
    if as_list:
        (data / "list.csv").write_text("\n".join(f"{name}/000.png,b" for name in "abc"))
    given = data / "list.csv" if as_list else data
    assert main(["export", str(trained), "--to", "pt2", "--pictures", str(given), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    passed_over = {} if as_list else {"no picture (.txt)": 1}
    assert result["counts"] == {"seen": 3 if as_list else 7, "taken": 3 if as_list else 6, "passed_over": passed_over}
    assert (result["report"]["accuracy"] is None) == as_list


def test_pictures_of_which_none_can_be_read_are_named(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.png").write_bytes(b"no picture")
    assert main(["export", str(trained), "--to", "pt2", "--pictures", str(tmp_path / "x.png")]) == 2
    assert "x.png" in capsys.readouterr().err


def test_int8_asks_for_pictures(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(trained), "--to", "onnx", "--precision", "int8"]) == 2
    assert "--pictures DIR" in capsys.readouterr().err


def test_a_precision_that_the_format_lacks_is_refused(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(trained), "--to", "onnx", "--precision", "bf16"]) == 2
    assert "onnx is written in fp32 or int8" in capsys.readouterr().err
