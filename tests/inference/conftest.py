"""A small checkpoint, as a file."""

from pathlib import Path

import pytest
import torch

from hybridvit.config import Preprocess
from hybridvit.models import catalog
from hybridvit.weights import checkpoint


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cmt_nano of the classes a, b, c, for pictures of 32 pixels."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    model = catalog.create("cmt_nano", num_classes=3)
    checkpoint.save(model, path, label_names=["a", "b", "c"], preprocess=Preprocess(image_size=(32, 32)))
    return path
