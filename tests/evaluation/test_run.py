"""evaluation/run.py: every picture once, whatever the batch size, and the model as it was before."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from hybridvit.config import Preprocess
from hybridvit.data.loader import eval_loader
from hybridvit.data.readers.folder import read_folder
from hybridvit.evaluation.run import evaluate

PREPROCESS = Preprocess(image_size=(16, 24), crop_pct=1.0, crop_mode="squash")


@pytest.fixture
def folder(make_pictures: Callable[..., Path]) -> Path:
    return make_pictures(test=5) / "test"


class Means(nn.Module):
    """Channel means as logits; in training mode something else, so that the mode shows."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(()))

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        return x_BCHW.mean(dim=(2, 3)) * (-1 if self.training else self.gain)


@pytest.mark.parametrize("batch_size", [1, 4, 15, 64])
@pytest.mark.parametrize("workers", [0, 2])
def test_every_picture_is_seen_once_and_in_order(folder: Path, batch_size: int, workers: int) -> None:
    source = read_folder(folder)
    done: list[int] = []
    loader = eval_loader(source, preprocess=PREPROCESS, batch_size=batch_size, workers=workers)
    result = evaluate(Means().train(), loader, on_batch=done.append)
    assert result.paths == tuple(source.name(index) for index in range(15))
    assert result.labels.tolist() == list(source.labels)
    assert result.class_names == ("a", "b", "c")
    assert done[-1] == 15
    whole = evaluate(Means(), eval_loader(source, preprocess=PREPROCESS, batch_size=15))
    np.testing.assert_allclose(result.logits, whole.logits, rtol=1e-6)


@pytest.mark.parametrize("training", [True, False])
def test_the_model_keeps_its_mode_even_after_an_error(folder: Path, training: bool) -> None:
    class Fails(Means):
        def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
            assert not self.training
            raise RuntimeError("out of memory")

    model = Fails().train(training)
    with pytest.raises(RuntimeError, match="out of memory"):
        evaluate(model, eval_loader(read_folder(folder), preprocess=PREPROCESS))
    assert model.training is training


def test_broken_pictures_are_named_and_in_no_figure(folder: Path) -> None:
    for name in ("a/000.png", "c/004.png"):
        (folder / name).write_bytes(b"no picture")
    done: list[int] = []
    loader = eval_loader(read_folder(folder), preprocess=PREPROCESS, batch_size=1)
    result = evaluate(Means(), loader, on_batch=done.append)
    assert result.broken == (str(folder / "a/000.png"), str(folder / "c/004.png"))
    assert result.logits.shape == (13, 3)
    assert result.metrics.images == 13
    assert done[-1] == 15


def test_pictures_come_in_the_models_own_precision(folder: Path) -> None:
    result = evaluate(Means().double(), eval_loader(read_folder(folder), preprocess=PREPROCESS))
    assert result.logits.dtype == np.float32
