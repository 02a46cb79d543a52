"""evaluation/views.py: several views, models and weights become one answer."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.transforms import functional as TF

from hybridvit.config import Preprocess
from hybridvit.data.loader import eval_loader
from hybridvit.data.readers.folder import read_folder
from hybridvit.data.transforms import WithoutFrame, eval_transform
from hybridvit.errors import CheckpointError, ConfigError, DataError
from hybridvit.evaluation.logits import Result
from hybridvit.evaluation.metrics import softmax
from hybridvit.evaluation.run import evaluate
from hybridvit.evaluation.views import average_weights, ensemble, mean_answer, view_transform
from hybridvit.models import catalog

PREPROCESS = Preprocess(image_size=(16, 24), crop_pct=0.8)
PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, size=(50, 60, 3), dtype=np.uint8))


def result(logits: object, **changes: object) -> Result:
    array = np.array(logits, dtype=np.float32)
    values = {
        "logits": array,
        "labels": np.zeros(len(array), dtype=np.int64),
        "paths": tuple(map(str, range(len(array)))),
        "class_names": tuple("abc"[: array.shape[1]]),
    }
    return Result(**(values | changes))  # type: ignore[arg-type]


def test_one_view_is_the_usual_one_and_flip_adds_its_mirror_image() -> None:
    usual = eval_transform(PREPROCESS)(PICTURE)
    views = view_transform(PREPROCESS, flip=True)(PICTURE)
    torch.testing.assert_close(views, torch.stack([usual, TF.hflip(usual)]), rtol=0, atol=0)


def test_five_crops_are_the_corners_and_the_usual_centre() -> None:
    views = view_transform(PREPROCESS, crops=5)(PICTURE)
    assert views.shape == (5, 3, 16, 24)
    torch.testing.assert_close(views[4], eval_transform(PREPROCESS)(PICTURE), rtol=0, atol=0)
    assert len({view.sum().item() for view in views}) == 5
    assert view_transform(PREPROCESS, crops=5, flip=True)(PICTURE).shape == (10, 3, 16, 24)


def test_five_crops_need_room() -> None:
    with pytest.raises(ConfigError, match="need room around the centre"):
        view_transform(Preprocess(image_size=(16, 16), crop_pct=1.0), crops=5)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_model_is_evaluated_by_the_mean_probability_of_the_views(
    make_pictures: Callable[..., Path], workers: int
) -> None:
    class Left(nn.Module):
        """Answers by the left half only, so that mirror images differ."""

        def __init__(self) -> None:
            super().__init__()
            self.gain = nn.Parameter(torch.full((), 3.0))

        def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
            return self.gain * x_BCHW[..., : x_BCHW.shape[-1] // 2].mean(dim=(2, 3))

    source = read_folder(make_pictures(test=2) / "test")
    several = view_transform(PREPROCESS, crops=5, flip=True)
    loader = eval_loader(source, preprocess=PREPROCESS, transform=WithoutFrame(several), batch_size=4, workers=workers)
    found = evaluate(Left(), loader)
    model = Left()
    for index in range(len(source)):
        picture = Image.open(source.name(index))
        with torch.no_grad():
            expected = model(several(picture)).softmax(1).mean(0)
        np.testing.assert_allclose(np.exp(found.logits[index]), expected, rtol=1e-4)


def test_the_mean_answer_is_the_logarithm_of_the_mean_probability() -> None:
    logits = torch.randn(3, 5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = logits.softmax(-1).mean(1)
    torch.testing.assert_close(mean_answer(logits, dim=1).exp(), expected)


def test_an_ensemble_is_the_mean_of_probabilities() -> None:
    one, other = result([[3.0, 0.0, 1.0], [0.0, 9.0, 1.0]]), result([[0.0, 1.0, 5.0], [2.0, 2.0, 2.0]])
    both = ensemble([one, other], ["one", "other"])
    np.testing.assert_allclose(softmax(both.logits), (softmax(one.logits) + softmax(other.logits)) / 2, rtol=1e-5)


def test_an_ensemble_of_what_does_not_belong_together_is_refused() -> None:
    one = result([[1.0, 0.0, 1.0]])
    with pytest.raises(DataError, match="other has other classes than one"):
        ensemble([one, result([[1.0, 0.0, 1.0]], class_names=("a", "c", "b"))], ["one", "other"])
    with pytest.raises(DataError, match="other is about other pictures than one"):
        ensemble([one, result([[1.0, 0.0, 1.0]], paths=("else",))], ["one", "other"])


def nano(seed: int, **options: object) -> nn.Module:
    torch.manual_seed(seed)
    model = catalog.create("cmt_nano", num_classes=3, **options)
    for name, buffer in model.named_buffers():
        if name.endswith("running_var"):
            buffer.fill_(1.0 + seed)
    model.label_names, model.preprocess = ["a", "b", "c"], PREPROCESS
    return model


def test_the_mean_of_the_same_weights_is_the_same_and_of_two_lies_between() -> None:
    one, other = nano(0), nano(1)
    same = average_weights([one, one, one], ["x"] * 3)
    assert all(torch.equal(a, b) for a, b in zip(same.state_dict().values(), one.state_dict().values(), strict=True))
    between = average_weights([one, other], ["one", "other"])
    for key, value in between.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value, (one.state_dict()[key] + other.state_dict()[key]) / 2)
    assert any(name.endswith("running_var") and (v == 1.5).all() for name, v in between.named_buffers())
    assert between is not one


def test_the_mean_of_different_models_is_refused() -> None:
    torch.manual_seed(0)
    wide = catalog.create("cmt_nano", num_classes=4)
    with pytest.raises(CheckpointError, match="other is not the architecture or the size of one"):
        average_weights([nano(0), wide], ["one", "other"])
    renamed = nano(0)
    renamed.label_names = ["c", "b", "a"]
    with pytest.raises(CheckpointError, match="other has other class names"):
        average_weights([nano(0), renamed], ["one", "other"])
