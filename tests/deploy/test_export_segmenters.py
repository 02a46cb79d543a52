"""Exported segmenters give every pixel the class that the model gives it, at any size."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import hybridvit
from hybridvit.deploy.export import export
from hybridvit.models.heads.upernet import GridPool
from support import pictures, relative_error

SIZES = [(64, 64), (96, 128), (65, 99)]


@pytest.mark.parametrize(("name", "suffix"), [("semantic_fpn_cmt_nano", ".onnx"), ("upernet_cvt_nano", ".xml")])
def test_an_exported_file_names_every_pixel_as_the_model_does(name: str, suffix: str, tmp_path: Path) -> None:
    model = hybridvit.create_model(name, num_classes=5).eval()
    export(model, path := tmp_path / f"model{suffix}", any_size=True)
    engine = hybridvit.load(path)
    for size in SIZES:
        x = pictures(2, *size).float()
        with torch.no_grad():
            expected, found = model(x), torch.as_tensor(engine(x))
        assert found.shape == (2, 5, *size)
        assert torch.equal(found.argmax(dim=1), expected.argmax(dim=1))
        assert relative_error(found, expected) < 1e-5


@pytest.mark.parametrize("grid", [1, 2, 3, 6])
@pytest.mark.parametrize("size", [(5, 9), (12, 6), (1, 7)])
def test_pooling_in_a_graph_is_torchs(grid: int, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.compiler.is_exporting", lambda: True)
    x = pictures(2, *size, channels=4)
    assert relative_error(GridPool(grid)(x), F.adaptive_avg_pool2d(x, grid)) < 1e-14
