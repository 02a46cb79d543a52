"""Scenes of digits: what is on them is what their boxes and masks say."""

import numpy as np
import pytest
import torch

from hybridvit.data.digits import NUM_TRAIN
from hybridvit.data.scenes import DigitScenes


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
