"""Scenes of digits: what is on them is what their boxes and masks say."""

from pathlib import Path

import numpy as np
import pytest
import torch

from hybridvit.data.detection.opening import open_box_splits
from hybridvit.data.digits import NUM_TRAIN
from hybridvit.data.scenes import DigitScenes, write_scene_recipe, write_scenes
from hybridvit.errors import DataError


def test_a_scene_follows_from_seed_part_and_number() -> None:
    scenes = DigitScenes("train", count=3, seed=1)
    pictures = [scenes.scene(i).picture_HW3 for i in range(3)]
    assert np.array_equal(DigitScenes("train", count=9, seed=1).scene(2).picture_HW3, pictures[2])
    others = [DigitScenes("train", count=3, seed=2), DigitScenes("test", count=3, seed=1)]
    different = [*pictures, *(other.scene(2).picture_HW3 for other in others)]
    assert len({picture.tobytes() for picture in different}) == 5


def test_training_and_test_scenes_share_no_digit() -> None:
    train, test = DigitScenes("train", count=1), DigitScenes("test", count=1)
    assert (len(train.strokes_NHW), len(test.strokes_NHW)) == (NUM_TRAIN, 899)


@pytest.mark.parametrize("side", [40, 64, 128])
def test_boxes_masks_and_classes_agree(side: int) -> None:
    scenes = DigitScenes("train", count=40, side=side)
    counts = set()
    for index in range(len(scenes)):
        scene = scenes.scene(index)
        assert scene.picture_HW3.shape == (side, side, 3)
        assert scene.masks_NHW.sum(axis=0).max() == 1  # each pixel belongs to one digit at most
        for (left, top, right, bottom), mask, label in zip(
            scene.boxes().astype(int), scene.masks_NHW, scene.labels_N, strict=True
        ):
            inside = mask[top:bottom, left:right]
            assert inside.sum() == mask.sum() > 0
            assert inside.any(axis=0)[[0, -1]].all()
            assert inside.any(axis=1)[[0, -1]].all()
            assert set(scene.classes()[mask > 0].tolist()) == {label + 1}
        assert (scene.classes() == 0).sum() == side * side - scene.masks_NHW.sum()
        counts.add(len(scene.labels_N))
    assert min(counts) == 1
    assert max(counts) == {40: 1, 64: 3, 128: max(counts)}[side]
    assert side < 128 or max(counts) > 6


def test_objects_carry_the_scenes_masks() -> None:
    scenes = DigitScenes("test", count=5)
    for index in range(5):
        scene, objects = scenes.scene(index), scenes.target(index)
        assert np.array_equal(objects.masks(), scene.masks_NHW)
        assert np.array_equal(objects.boxes_N4, scene.boxes())
        assert objects.areas_N.tolist() == scene.masks_NHW.sum(axis=(1, 2)).tolist()
        one = objects.keep(torch.arange(len(objects)) == 0)
        assert np.array_equal(one.masks(), scene.masks_NHW[:1])
        none = objects.keep(torch.zeros(len(objects), dtype=torch.bool))
        assert none.masks().shape == (0, 64, 64)


def test_a_part_may_be_composed_when_it_is_read(tmp_path: Path) -> None:
    write_scene_recipe(tmp_path, "train", count=7, seed=3)
    write_scenes(tmp_path, "valid", DigitScenes("test", count=2))
    splits = open_box_splits(tmp_path)
    assert (len(splits.train), len(splits.test)) == (7, 2)
    expected = DigitScenes("train", count=7, seed=3).scene(5)
    assert np.array_equal(np.asarray(splits.train.read(5)), expected.picture_HW3)
    assert np.array_equal(splits.train.target(5).boxes_N4, expected.boxes())
    written, scene = splits.test.target(1), DigitScenes("test", count=2).scene(1)
    assert np.array_equal(written.boxes_N4, scene.boxes())
    assert np.array_equal(written.masks(), scene.masks_NHW)
    assert written.areas_N.tolist() == scene.masks_NHW.sum(axis=(1, 2)).tolist()


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"digits": "train", "count": 5}', '{"digits": "all", "count": 5, "seed": 0}'],
)
def test_a_damaged_recipe_of_scenes_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "scenes.json").write_text(text)
    with pytest.raises(DataError, match="digits"):
        open_box_splits(tmp_path, val_split=0.5)


@pytest.mark.parametrize("count", [0, -3, 10**12])
def test_a_senseless_number_of_scenes_is_refused(tmp_path: Path, count: int) -> None:
    write_scene_recipe(tmp_path, "train", count=count)
    with pytest.raises(DataError, match="count between 1 and 100000000"):
        open_box_splits(tmp_path, val_split=0.5)
