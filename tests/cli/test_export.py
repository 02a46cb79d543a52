import json
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


def test_int8_asks_for_pictures(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(trained), "--to", "onnx", "--precision", "int8"]) == 2
    assert "--pictures DIR" in capsys.readouterr().err


def test_a_precision_that_the_format_lacks_is_refused(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(trained), "--to", "onnx", "--precision", "bf16"]) == 2
    assert "onnx is written in fp32 or int8" in capsys.readouterr().err
