"""The task of detection: pictures and objects move together, batches are padded, predictions come back to the picture."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from hybridvit.config import DetectionAugmentSection, DetectionRecipe, Preprocess, load_recipe
from hybridvit.data.detection.transforms import EvalTransform, Frame, TrainTransform, resized_to
from hybridvit.data.loader import eval_loader
from hybridvit.data.objects import Objects, encode
from hybridvit.data.scenes import DigitScenes
from hybridvit.errors import ConfigError, DataError
from hybridvit.evaluation.detection import Detections
from hybridvit.evaluation.run import stream
from hybridvit.models.heads import assembly
from hybridvit.tasks.detection import TASK

SMALL = Preprocess(image_size=(64, 64), crop_pct=1.0, crop_mode="border", interpolation="bilinear")


def picture_of(masks_NHW: np.ndarray) -> tuple[Image.Image, Objects]:
    """A black picture on which the objects are white, with their boxes."""
    boxes = []
    for mask in masks_NHW:
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        boxes.append((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
    pixels = masks_NHW.max(axis=0)[..., None].repeat(3, axis=2) * 255
    count, *size = masks_NHW.shape
    objects = Objects(
        size=(size[0], size[1]),
        boxes_N4=torch.tensor(boxes, dtype=torch.float64),
        labels_N=torch.arange(count),
        crowd_N=torch.zeros(count, dtype=torch.bool),
        areas_N=torch.tensor(masks_NHW.sum(axis=(1, 2)), dtype=torch.float64),
        outlines=encode(masks_NHW),
    )
    return Image.fromarray(pixels.astype(np.uint8)), objects


def two_rectangles(rows: int = 300, columns: int = 500) -> tuple[Image.Image, Objects]:
    masks = np.zeros((2, rows, columns), dtype=np.uint8)
    masks[0, 40:150, 60:200] = 1
    masks[1, 180:290, 300:480] = 1
    return picture_of(masks)


@pytest.mark.parametrize("seed", range(12))
def test_boxes_and_masks_stay_on_their_pixels_through_crop_resize_and_flip(seed: int) -> None:
    picture, objects = two_rectangles()
    augment = DetectionAugmentSection(short_sides=(160, 224, 288), long_side=400, hflip=0.5, crop=0.7)
    torch.manual_seed(seed)
    image, target = TrainTransform(SMALL, augment, masks=True)(picture, objects)
    assert image.dtype == torch.uint8
    assert target["size"] == tuple(image.shape[1:])
    assert max(target["size"]) <= 400
    white = image[0] > 128
    assert len(target["boxes"]) == len(target["labels"]) == len(target["masks"])
    union = target["masks"].amax(dim=0) > 0 if len(target["masks"]) else torch.zeros_like(white)
    assert (union ^ white).float().mean() < 0.02  # resizing's borders
    for box, mask in zip(target["boxes"], target["masks"], strict=True):
        rows, columns = torch.where(mask)
        found = torch.tensor([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        assert (found - box).abs().max() <= 1.5


def test_a_flipped_picture_has_flipped_boxes_and_the_same_seed_gives_the_same() -> None:
    picture, objects = two_rectangles()
    plain = DetectionAugmentSection(short_sides=(300,), long_side=500, hflip=0.0)
    flipped = DetectionAugmentSection(short_sides=(300,), long_side=500, hflip=1.0)
    _, target = TrainTransform(SMALL, plain, masks=False)(picture, objects)
    assert torch.equal(target["boxes"], objects.boxes_N4.float())
    assert "masks" not in target
    _, target = TrainTransform(SMALL, flipped, masks=False)(picture, objects)
    assert target["boxes"][0].tolist() == [300, 40, 440, 150]
    draws = DetectionAugmentSection(short_sides=(100, 200, 300), long_side=500)
    seen = []
    for _ in range(2):
        torch.manual_seed(3)
        seen.append(TrainTransform(SMALL, draws, masks=True)(picture, objects))
    assert torch.equal(seen[0][0], seen[1][0])
    assert torch.equal(seen[0][1]["boxes"], seen[1][1]["boxes"])


def test_crowds_and_specks_are_not_learnt() -> None:
    picture, objects = two_rectangles()
    crowded = Objects(**{**vars(objects), "crowd_N": torch.tensor([True, False])})
    augment = DetectionAugmentSection(short_sides=(300,), long_side=500, hflip=0.0)
    _, target = TrainTransform(SMALL, augment, masks=True)(picture, crowded)
    assert target["labels"].tolist() == [1]
    speck = Objects(**{**vars(objects), "boxes_N4": torch.tensor([[5.0, 5, 5.5, 9], [300, 180, 480, 290]]).double()})
    _, target = TrainTransform(SMALL, augment, masks=False)(picture, speck)
    assert target["labels"].tolist() == [1]


def test_masks_that_are_missing_are_said() -> None:
    picture, objects = two_rectangles()
    boxes_only = Objects(**{**vars(objects), "outlines": None})
    with pytest.raises(DataError, match="have boxes and no outlines"):
        TrainTransform(SMALL, DetectionAugmentSection(), masks=True)(picture, boxes_only)


def test_objects_of_a_picture_of_another_size_are_refused() -> None:
    picture, objects = two_rectangles()
    with pytest.raises(DataError, match="they belong to another size"):
        TrainTransform(SMALL, DetectionAugmentSection(), masks=False)(picture.rotate(90, expand=True), objects)


@pytest.mark.parametrize(
    ("size", "resized"),
    [((480, 640), (800, 1067)), ((640, 480), (1067, 800)), ((300, 1000), (400, 1333)), ((500, 500), (800, 800))],
)
def test_pictures_are_resized_as_mmdetection_resizes_them(size: tuple[int, int], resized: tuple[int, int]) -> None:
    assert resized_to(size, 800, 1333) == resized


def test_batches_are_padded_at_the_right_and_bottom_to_multiples_of_32() -> None:
    images = [torch.ones(3, 40, 70), torch.ones(3, 64, 33)]
    batch = TASK.collate(images, empty=torch.empty)
    assert batch.shape == (2, 3, 64, 96)
    assert batch.is_contiguous(memory_format=torch.channels_last)
    assert batch.sum() == sum(image.sum() for image in images)
    assert batch[0, :, :40, :70].min() == batch[1, :, :64, :33].min() == 1


def test_predictions_come_back_to_the_pictures_own_pixels() -> None:
    """A model's answer that is the truth, resized, is the truth again; boxes on the padding are cut."""
    picture, objects = two_rectangles()
    image, frame = EvalTransform(Preprocess(image_size=(150, 400), crop_pct=1.0))(picture)
    assert frame == Frame((300, 500), (150, 250))
    assert image.shape == (3, 150, 250)
    scale = 0.5
    answer = {
        "boxes": objects.boxes_N4.float() * scale,
        "scores": torch.tensor([0.9, 0.8]),
        "labels": objects.labels_N,
        "masks": torch.ones(2, 1, 28, 28),
    }
    answer["boxes"][1, 2:] = 1000.0
    (found,) = TASK.predictions([answer], [frame])
    assert found.boxes_N4[0].tolist() == pytest.approx(objects.boxes_N4[0].tolist())
    assert found.boxes_N4[1].tolist()[2:] == [500, 300]
    masks = Objects(**{**vars(objects), "outlines": found.outlines}).masks()
    assert (masks[0] ^ objects.masks()[0]).sum() < 0.06 * masks[0].sum()


def recipe(name: str) -> DetectionRecipe:
    loaded = load_recipe("detection_demo", [f"model.name={name}"])
    assert isinstance(loaded, DetectionRecipe)
    return loaded


@pytest.mark.parametrize("name", ["retinanet_cmt_nano", "mask_rcnn_cmt_nano"])
def test_the_criterion_sums_the_models_losses_and_padding_is_the_mean_colour(name: str) -> None:
    chosen = recipe(name)
    model = TASK.create_model(chosen, num_classes=10).train()
    scenes = DigitScenes("train", count=2)
    transform = TASK.train_transform(chosen)
    images, targets = zip(*(transform(scenes.read(i), scenes.target(i)) for i in range(2)), strict=True)
    small = images[0][:, :50, :40]
    targets[0]["size"] = (50, 40)
    criterion = TASK.criterion(chosen, num_classes=10, device=torch.device("cpu"), device_batch=2, steps=1)
    seen: list[torch.Tensor] = []
    model.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    losses = criterion(
        model, TASK.collate([small, images[1]], empty=lambda s: torch.empty(s, dtype=torch.uint8)), targets
    )
    expected = {"classification", "boxes"} | ({"objectness", "proposals", "masks"} if "rcnn" in name else set())
    assert set(losses) == expected
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert seen[0][0, :, 50:].abs().max() == seen[0][0, :, :, 40:].abs().max() == 0


def test_evaluation_streams_pictures_of_several_sizes_and_counts_each_once() -> None:
    torch.manual_seed(0)
    model: Any = assembly.create("mask_rcnn_cmt_nano", num_classes=10)
    scenes = DigitScenes("test", count=5)
    loader = eval_loader(
        scenes, preprocess=SMALL, transform=TASK.eval_transform(SMALL), collate=TASK.collate, batch_size=2
    )
    metric = TASK.metric(scenes)
    assert stream(model, loader, metric, predictions=TASK.predictions) == []
    result = metric.compute()
    assert result.images == 5
    assert next(iter(result.figures)) == TASK.primary
    assert result.masks is not None
    assert "mask AP" in TASK.headline(result.figures)
    assert str(result).startswith("box AP ")


def detections() -> Detections:
    _, objects = two_rectangles()
    return Detections(
        size=objects.size,
        boxes_N4=objects.boxes_N4.numpy(),
        scores_N=np.array([0.87, 0.12]),
        labels_N=np.array([0, 1]),
        outlines=objects.outlines,
    )


def test_a_row_names_the_best() -> None:
    (entry,) = TASK.row(detections(), ("cat", "dog"), top_k=1)["predictions"]
    assert entry["class"] == "cat"
    assert entry["score"] == 0.87
    assert [entry[side] for side in ("left", "top", "right", "bottom")] == [60, 40, 200, 150]
    assert entry["rle"]["size"] == [300, 500]


@pytest.mark.parametrize("size", [(24, 30), (300, 500), (1000, 1600)])
def test_drawing_changes_pixels_at_the_box_and_leaves_the_rest(size: tuple[int, int]) -> None:
    picture = Image.new("RGB", size[::-1], (200, 200, 200))
    box = [size[1] * 0.25, size[0] * 0.4, size[1] * 0.75, size[0] * 0.9]
    said = Detections(
        size=size, boxes_N4=np.array([box]), scores_N=np.array([0.9]), labels_N=np.array([0]), outlines=None
    )
    drawn = TASK.draw(picture, said, ("cat",))
    step = drawn.width // size[1]
    assert max(drawn.size) >= min(512, 512 - max(size)) or max(size) >= 512
    changed = (np.asarray(drawn) != 200).any(axis=2)
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    assert columns[0] == round(box[0] * step)
    assert rows[-1] == round(box[3] * step) - 1
    assert not changed[int((box[1] + box[3]) / 2 * step), int((box[0] + box[2]) / 2 * step)]


def test_a_classifiers_name_is_no_detector() -> None:
    with pytest.raises(
        ConfigError, match=r"cmt_nano is no detector\. Put a head before a backbone's name: retinanet_cmt"
    ):
        TASK.create_model(recipe("cmt_nano"), num_classes=2)
