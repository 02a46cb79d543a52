"""attribution/explain.py: what it leaves of the model, which numbers it takes, and what it says of models it cannot explain."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import nn

import hybridvit
from hybridvit.attribution.explanation import METHODS, Method
from hybridvit.attribution.geometry import view
from hybridvit.config import Preprocess
from hybridvit.deploy.fuse import fuse
from hybridvit.errors import CheckpointError, ConfigError

PLAIN = Preprocess(image_size=(32, 32), crop_pct=1.0)


@pytest.fixture
def model() -> Any:
    torch.manual_seed(0)
    model: Any = hybridvit.create_model("cvt_nano", num_classes=3)
    with torch.no_grad():
        model.head.weight.normal_()
    model.preprocess = PLAIN
    return model


@pytest.fixture
def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (30, 40, 3), dtype=np.uint8))


@pytest.mark.parametrize("method", METHODS)
def test_every_part_of_a_model_keeps_its_mode_and_its_statistics(
    model: Any, picture: Image.Image, method: Method
) -> None:
    model.train()
    model.stages[1].eval()  # as a frozen BatchNorm would be
    modes = [module.training for module in model.modules()]
    before = {key: value.clone() for key, value in model.state_dict().items()}
    hybridvit.explain(model, picture, method=method)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_model_keeps_its_mode_after_an_error(model: Any, picture: Image.Image) -> None:
    model.train()
    with pytest.raises(ConfigError, match="no stage 9"):
        hybridvit.explain(model, picture, stage=9)
    assert model.training


@pytest.mark.parametrize("method", METHODS)
def test_a_frozen_model_is_explained_in_inference_mode(model: Any, picture: Image.Image, method: Method) -> None:
    expected = hybridvit.explain(model, picture, method=method).map_hrc
    model.requires_grad_(False)
    with torch.inference_mode():
        seen = view(picture, PLAIN)
        found = hybridvit.explain(model, seen, method=method).map_hrc
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("method", [method for method in METHODS if method != "occlusion"])
def test_a_fused_model_is_refused_where_there_is_nothing_to_look_into(
    model: Any, picture: Image.Image, method: Method
) -> None:
    with pytest.raises(ConfigError, match=f"{method} looks into a CvT or CMT .* this is a FusedCvT. Explain the model"):
        hybridvit.explain(fuse(model.eval()), picture, method=method)


def test_occlusion_of_a_fused_model_is_that_of_the_plain_one(model: Any, picture: Image.Image) -> None:
    plain, fused = (hybridvit.explain(each, picture, method="occlusion") for each in (model.eval(), fuse(model.eval())))
    assert fused.label == plain.label
    np.testing.assert_allclose(fused.heat, plain.heat, rtol=1e-3, atol=1e-4)


def test_models_of_other_families_are_refused_or_covered_up(picture: Image.Image) -> None:
    resnet = timm.create_model("resnet10t", num_classes=4).eval()
    with pytest.raises(ConfigError, match="this is a ResNet"):
        hybridvit.explain(resnet, picture)
    assert hybridvit.explain(resnet, picture, method="occlusion").heat.shape == (30, 40)
    with pytest.raises(ConfigError, match="Linear does not say how its pictures are prepared"):
        hybridvit.explain(nn.Linear(3, 3), picture, method="occlusion")


@pytest.mark.parametrize("kwargs", [{"num_classes": 0}, {"num_classes": 3, "global_pool": ""}], ids=str)
def test_a_model_without_classes_is_refused(picture: Image.Image, kwargs: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="gives features"):
        hybridvit.explain(hybridvit.create_model("cvt_nano", **kwargs), picture)


def test_weights_that_are_not_finite_are_refused(model: Any, picture: Image.Image) -> None:
    with torch.no_grad():
        model.head.bias[0] = float("nan")
    with pytest.raises(CheckpointError, match="not finite"):
        hybridvit.explain(model, picture)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stage": -1}, "no stage -1: the model has 3, numbered 0 to 2"),
        ({"stage": 3}, "no stage 3"),
        ({"stage": 0, "block": -1}, "no block of stage 0 -1: the model has 1, numbered 0 to 0"),
        ({"head": -1}, "no head -1: the model has 4, numbered 0 to 3"),
        ({"method": "gradcam", "stage": -1}, "no stage -1"),
        ({"method": "gradcam", "label": -1}, "knows no class -1"),
        ({"method": "smile"}, "no method 'smile'"),
    ],
    ids=str,
)
def test_numbers_count_from_nought_and_are_refused_with_their_range(
    model: Any, picture: Image.Image, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        hybridvit.explain(model, picture, **options)


@pytest.mark.parametrize("method", ["attention", "rollout", "gradcam"])
def test_several_threads_each_get_their_own_map(model: Any, method: Method) -> None:
    model.eval()
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(0, 255, (30, 40, 3), dtype=np.uint8)) for _ in range(12)]
    alone = [hybridvit.explain(model, each, method=method).map_hrc for each in pictures]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda each: hybridvit.explain(model, each, method=method).map_hrc, pictures))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
