"""Fixtures for more than one room."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

MakePictures = Callable[..., Path]


@pytest.fixture
def make_pictures(tmp_path: Path) -> MakePictures:
    """make_pictures(name, train=12, test=6, classes=("a", "b", "c"), size=(20, 30)): a folder of noise in class folders.

    Each class has its own brightness, so that a model can learn to tell them apart.
    """

    def make(
        name: str = "pictures",
        *,
        train: int = 12,
        test: int = 6,
        classes: tuple[str, ...] = ("a", "b", "c"),
        size: tuple[int, int] = (20, 30),
    ) -> Path:
        rng = np.random.default_rng(0)
        for split, count in (("train", train), ("test", test)):
            for number, class_name in enumerate(classes):
                folder = tmp_path / name / split / class_name
                folder.mkdir(parents=True)
                low = 160 * number // max(len(classes) - 1, 1)
                for i in range(count):
                    pixels = rng.integers(low, low + 95, size=(*size, 3), dtype=np.uint8)
                    Image.fromarray(pixels).save(folder / f"{i:03d}.png")
        return tmp_path / name

    return make
