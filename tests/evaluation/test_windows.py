"""Pictures of any size through a segmenter, whole and in windows."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from hybridvit.config import Preprocess
from hybridvit.data.mask_transforms import normalised
from hybridvit.errors import ConfigError, DataError
from hybridvit.evaluation.windows import _starts, evaluate_pictures, segment

PREPROCESS = Preprocess(image_size=(16, 24), crop_pct=1.0, crop_mode="border", interpolation="bilinear")


class Brightness(nn.Module):
    """A segmenter of three classes whose answer for a pixel depends on that pixel alone, or, `wide`, on its neighbours."""

    num_classes, preprocess = 3, PREPROCESS

    def __init__(self, wide: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, wide, padding=wide // 2)
        self.sizes: list[tuple[int, ...]] = []

    def forward(self, x_BCHW: Tensor) -> Tensor:
        self.sizes.append(tuple(x_BCHW.shape[2:]))
        return self.conv(x_BCHW)


def model(wide: int = 1) -> Brightness:
    torch.manual_seed(0)
    return Brightness(wide)


def picture(height: int = 37, width: int = 61) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def direct(net: nn.Module, image: Image.Image) -> Tensor:
    with torch.no_grad():
        return net(normalised(image, (image.height, image.width), PREPROCESS)[None])[0].argmax(dim=0)


@pytest.mark.parametrize("size", [(37, 61), (16, 24), (5, 70), (9, 9)])
@pytest.mark.parametrize("overlap", [0.0, 1 / 3, 0.9])
def test_windows_cover_every_pixel_once_they_are_averaged(size: tuple[int, int], overlap: float) -> None:
    net, image = model(), picture(*size)
    found = segment(net, image, windows=True, overlap=overlap)
    assert (tuple(found.shape), found.dtype) == (size, torch.uint8)
    assert torch.equal(found.long(), direct(net, image))
    assert {tuple(map(min, zip(size, (16, 24), strict=True)))} == set(net.sizes[:-1])


def test_overlapping_windows_are_averaged_as_probabilities() -> None:
    net, image = model(wide=9), picture(24, 24)
    net.preprocess = Preprocess(image_size=(16, 24), crop_pct=1.0, crop_mode="border")
    sums = torch.zeros(3, 24, 24)
    with torch.no_grad():
        for top in _starts(24, 16, 0.5):
            cut = image.crop((0, top, 24, top + 16))
            sums[:, top : top + 16] += net(normalised(cut, (16, 24), net.preprocess)[None])[0].softmax(dim=0)
    assert torch.equal(segment(net, image, windows=True, overlap=0.5).long(), sums.argmax(dim=0))


@pytest.mark.parametrize(
    ("length", "window", "overlap"), [(100, 30, 1 / 3), (31, 30, 0.0), (30, 30, 0.5), (7, 30, 0.5)]
)
def test_windows_begin_at_the_first_pixel_end_at_the_last_and_overlap_enough(
    length: int, window: int, overlap: float
) -> None:
    starts = _starts(length, window, overlap)
    assert starts[0] == 0
    assert starts[-1] == max(length - window, 0)
    steps = np.diff(starts)
    assert (steps <= np.ceil(window * (1 - overlap))).all()


def test_the_whole_picture_keeps_its_ratio_and_comes_back_to_its_own_size() -> None:
    net = model()
    assert segment(net, picture(40, 20)).shape == (40, 20)
    assert net.sizes == [(16, 8)]


def test_scales_and_mirrors_are_each_looked_at() -> None:
    net = model()
    segment(net, picture(16, 24), scales=(1.0, 1.5), flip=True)
    assert net.sizes == [(16, 24), (16, 24), (24, 36), (24, 36)]


def test_mirroring_a_model_that_knows_no_sides_changes_nothing() -> None:
    net, image = model(), picture()
    assert torch.equal(segment(net, image, windows=True, flip=True), segment(net, image, windows=True))


def test_a_model_is_left_in_its_mode() -> None:
    net = model().train()
    segment(net, picture())
    assert net.training


def test_memory_does_not_grow_with_the_pictures_height(monkeypatch: pytest.MonkeyPatch) -> None:
    largest = []
    zeros = torch.zeros

    def counted(*shape: object, **kwargs: object) -> Tensor:
        found = zeros(*shape, **kwargs)
        largest.append(found.numel())
        return found

    monkeypatch.setattr(torch, "zeros", counted)
    segment(model(), picture(400, 30), windows=True)
    assert max(largest) == 3 * 16 * 30


def test_answers_that_are_not_finite_are_refused() -> None:
    net = model()
    with torch.no_grad():
        net.conv.weight.fill_(float("nan"))
    for windows in (True, False):
        with pytest.raises(DataError, match="answers are not finite"):
            segment(net, picture(), windows=windows)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"overlap": 1.0}, "overlap is a share below 1"),
        ({"scales": ()}, "at least one"),
        ({"scales": (0,)}, "positive"),
    ],
)
def test_arguments_out_of_range_are_refused(how: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        segment(model(), picture(), **how)


def test_a_source_is_evaluated_picture_by_picture_at_its_own_size(tmp_path) -> None:
    from hybridvit.data.mask_folders import read_masks

    net = model()
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for i, size in enumerate(((37, 61), (20, 20))):
        image = picture(*size)
        image.save(tmp_path / "images" / f"{i}.png")
        truth = direct(net, image).numpy().astype(np.uint8)
        truth[:2] = 255
        Image.fromarray(truth).save(tmp_path / "masks" / f"{i}.png")
    result = evaluate_pictures(net, read_masks(tmp_path)[""], windows=True)
    assert (result.miou, result.images, result.pixels) == (100.0, 2, 35 * 61 + 18 * 20)
