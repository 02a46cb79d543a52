"""Losses with proofs, answers in the picture's own pixels, rows and drawings."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from hybridvit.config.segmentation import SegmentationLossSection
from hybridvit.data.mask_transforms import Placed
from hybridvit.data.masks import colour_map, palette_picture, read_values
from hybridvit.errors import ConfigError
from hybridvit.models.heads import segmenter
from hybridvit.models.heads.segmenter import classes_at, resize
from hybridvit.render.masks import difference, overlay, runs
from hybridvit.tasks.segmentation import TASK
from hybridvit.tasks.segmentation_loss import dice, lovasz, segmentation_loss

GENERATOR = torch.Generator().manual_seed(0)


def batch(classes: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (2, classes, 9, 7) in float64, and labels of which class 3 is nowhere and a part is ignored."""
    logits = torch.randn(2, classes, 9, 7, dtype=torch.float64, generator=GENERATOR)
    labels = torch.randint(3, (2, 9, 7), generator=GENERATOR)
    labels[:, 2:4] = 255
    return logits, labels


def loss(
    section: SegmentationLossSection, logits: torch.Tensor, labels: torch.Tensor, **kwargs: object
) -> torch.Tensor:
    return segmentation_loss(logits, labels, section, **{"weights_K": None, "ignore": 255, **kwargs})


@pytest.mark.parametrize("weights", [None, torch.tensor([1.0, 2.0, 0.5, 3.0], dtype=torch.float64)])
def test_cross_entropy_is_torchs_with_ignored_pixels(weights: torch.Tensor | None) -> None:
    logits, labels = batch()
    expected = F.cross_entropy(logits, labels, weights, ignore_index=255)
    assert loss(SegmentationLossSection(), logits, labels, weights_K=weights).item() == pytest.approx(
        expected.item(), rel=1e-12
    )


def jaccards(answer: torch.Tensor, truth: torch.Tensor) -> float:
    """1 - IoU, the mean over the classes of the truth."""
    values = [
        1 - ((answer == k) & (truth == k)).sum().item() / ((answer == k) | (truth == k)).sum().item()
        for k in truth.unique().tolist()
    ]
    return float(np.mean(values))


def test_lovasz_of_sure_answers_is_one_minus_miou() -> None:
    """The definition of the extension: at the corners it is the function itself."""
    truth = torch.randint(4, (300,), generator=GENERATOR)
    answer = torch.randint(4, (300,), generator=GENERATOR)
    assert lovasz(F.one_hot(answer, 4).double(), truth).item() == pytest.approx(jaccards(answer, truth), rel=1e-12)


def test_lovasz_is_the_convex_closure_between_corners() -> None:
    """Of two classes, on errors: the sum over thresholds of 1 - IoU of the pixels above, times the threshold's share."""
    probabilities = torch.rand(40, dtype=torch.float64, generator=GENERATOR)
    truth = torch.randint(2, (40,), generator=GENERATOR)
    found = lovasz(torch.stack((1 - probabilities, probabilities), dim=1), truth).item()
    means = []
    for k in (0, 1):
        errors = ((truth == k).double() - (probabilities if k else 1 - probabilities)).abs()
        thresholds = torch.cat((errors.new_zeros(1), errors.sort().values))
        total = 0.0
        for low, high in itertools.pairwise(thresholds):
            wrong = errors > low  # sure answers that are wrong in these pixels
            answered = (truth == k) ^ wrong
            union = (answered | (truth == k)).sum().item()
            total += (high - low).item() * (1 - (answered & (truth == k)).sum().item() / union)
        means.append(total)
    assert found == pytest.approx(np.mean(means), rel=1e-10)


def test_dice_of_sure_answers_is_one_minus_dice() -> None:
    from sklearn.metrics import f1_score

    truth = torch.randint(3, (300,), generator=GENERATOR)
    answer = torch.randint(4, (300,), generator=GENERATOR)
    expected = 1 - f1_score(truth, answer, labels=[0, 1, 2], average="macro")
    assert dice(F.one_hot(answer, 4).double(), truth).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", ["cross_entropy", "dice", "lovasz"])
def test_a_losss_gradient_is_its_slope_and_is_zero_in_ignored_pixels(name: str) -> None:
    section = SegmentationLossSection(**{"cross_entropy": 0.0, name: 2.0})
    logits, labels = batch()
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(section, x, labels), logits, atol=1e-6)
    gradient = torch.autograd.grad(loss(section, logits, labels), logits)[0]
    assert gradient.movedim(1, -1)[labels == 255].abs().max() == 0
    assert gradient.abs().sum() > 0


def test_losses_add_up_by_their_weights() -> None:
    logits, labels = batch()
    parts = [
        loss(SegmentationLossSection(**{"cross_entropy": 0.0, name: 1.0}), logits, labels)
        for name in ("cross_entropy", "dice", "lovasz")
    ]
    whole = loss(SegmentationLossSection(cross_entropy=0.5, dice=2.0, lovasz=3.0), logits, labels)
    assert whole.item() == pytest.approx((0.5 * parts[0] + 2 * parts[1] + 3 * parts[2]).item(), rel=1e-12)


def test_a_batch_without_a_labelled_pixel_teaches_nothing() -> None:
    logits, labels = batch()
    logits.requires_grad_()
    value = loss(SegmentationLossSection(dice=1.0, lovasz=1.0), logits, torch.full_like(labels, 255))
    value.backward()
    assert value.item() == 0
    assert logits.grad.abs().max() == 0


@pytest.mark.parametrize("size", [(9, 7), (40, 61), (5, 3), (1, 1), (300, 8)])
def test_classes_at_any_size_are_those_of_the_resized_logits(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segmenter, "BAND", 600)
    logits = torch.randn(5, 9, 7, dtype=torch.float64, generator=GENERATOR)
    assert torch.equal(classes_at(logits, size), resize(logits[None], size)[0].argmax(dim=0))


def test_an_answer_comes_back_to_the_pictures_own_pixels_without_the_padding() -> None:
    logits = torch.zeros(1, 3, 8, 8)
    logits[0, 1, :, :4], logits[0, 0, :, 4:], logits[0, 2, 4:] = 1, 1, 9  # below lies padding
    [mask] = TASK.predictions(logits, [Placed((8, 16), (4, 8))])
    assert mask.dtype == torch.uint8
    assert mask.tolist() == [[1] * 8 + [0] * 8] * 8


def test_logits_that_are_not_finite_give_no_class() -> None:
    logits = torch.zeros(2, 3, 4, 4)
    logits[1, 0, 0, 0] = float("nan")
    good, bad = TASK.predictions(logits.numpy(), [Placed((4, 4), (4, 4))] * 2)
    assert set(good.unique().tolist()) == {0}
    assert set(bad.unique().tolist()) == {255}


def test_runs_are_cocos() -> None:
    from faster_coco_eval.core import mask as coco

    for seed in range(4):
        mask = np.random.default_rng(seed).random((6, 9)) < (0.5 if seed else 2)
        rle = coco.frPyObjects({"size": [6, 9], "counts": runs(mask)}, 6, 9)
        assert np.array_equal(coco.decode(rle), mask)


def test_a_row_tells_shares_and_runs_largest_first() -> None:
    mask = torch.tensor([[0, 2, 2], [2, 2, 1]], dtype=torch.uint8)
    found = TASK.row(mask, ("sky", "road", "car"), top_k=2)["predictions"]
    assert [(one["class"], one["share"]) for one in found] == [("car", 4 / 6), ("sky", 1 / 6)]
    assert found[0]["rle"] == {"size": [2, 3], "counts": [1, 4, 1]}


def test_a_palette_png_holds_the_numbers_of_the_classes(tmp_path) -> None:
    mask = np.arange(12, dtype=np.uint8).reshape(3, 4)
    palette_picture(mask, colour_map(12)).save(path := tmp_path / "mask.png")
    assert np.array_equal(read_values(path.read_bytes(), name="mask"), mask)
    assert Image.open(path).convert("RGB").getpixel((1, 0)) == (128, 0, 0)
    palette_picture(mask.astype(np.int32) + 300, colour_map(400)).save(path)
    assert np.array_equal(read_values(path.read_bytes(), name="mask"), mask.astype(np.int32) + 300)


@pytest.mark.parametrize("size", [(1, 1), (20, 33), (300, 260)])
def test_pictures_of_any_size_are_drawn_with_a_legend(size: tuple[int, int]) -> None:
    mask = np.resize(np.arange(20, dtype=np.uint8), size)
    mask[0, 0] = 255
    drawn = overlay(Image.new("RGB", size[::-1], "white"), mask, [f"a class with a long name {k}" for k in range(20)])
    assert drawn.width >= 240
    assert drawn.height > drawn.width * size[0] // size[1]
    assert difference(mask, mask, ignore=255).width >= 240


def test_a_recipe_that_names_no_segmenter_is_refused_with_the_name_to_take() -> None:
    from hybridvit.config import load_recipe

    recipe = load_recipe("segmentation_demo", ["model.name=cmt_nano"])
    with pytest.raises(ConfigError, match=r"cmt_nano is no segmenter.*semantic_fpn_cmt_nano, upernet_cmt_nano"):
        TASK.create_model(recipe, num_classes=3)


def test_class_weights_of_another_number_are_refused() -> None:
    from hybridvit.config import load_recipe

    recipe = load_recipe("segmentation_demo", ["loss.class_weights=[1, 2]"])
    with pytest.raises(ConfigError, match="class_weights has 2 values, the data set 3 classes"):
        TASK.criterion(recipe, num_classes=3, device=torch.device("cpu"), device_batch=2, steps=1)
