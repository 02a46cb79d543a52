"""A small checkpoint for the commands that read one."""

from pathlib import Path

import pytest
import torch

from hybridvit.config import Preprocess
from hybridvit.models import catalog
from hybridvit.weights import checkpoint


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A cvt_nano of the classes a, b, c, with random weights that tell bright from dark."""
    torch.manual_seed(0)
    model = catalog.create("cvt_nano", num_classes=3)
    with torch.no_grad():
        model.head.weight.normal_()
    preprocess = Preprocess(image_size=(32, 32), crop_pct=1.0, crop_mode="squash")
    checkpoint.save(model, tmp_path / "model.safetensors", label_names=["a", "b", "c"], preprocess=preprocess)
    return tmp_path / "model.safetensors"
