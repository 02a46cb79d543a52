"""Small trained models: one that looks for a square, one that reads digits."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from hybridvit.config import Preprocess
from hybridvit.data.digits import write_digits
from hybridvit.data.loader import eval_loader
from hybridvit.data.readers.folder import read_folder
from hybridvit.models import catalog

SIDE, SQUARE = 64, 24
SQUARE_STEPS, DIGIT_EPOCHS = 80, 6
PLAIN = Preprocess(image_size=(SIDE, SIDE), crop_pct=1.0, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
DIGITS = Preprocess(image_size=(32, 32), crop_pct=1.0, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


@contextmanager
def one_thread() -> Iterator[None]:
    """Small batches train fastest, and to the same weights everywhere, on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def draw(rng: np.random.Generator, corner: tuple[int, int] | None) -> Image.Image:
    """Grey noise; a white square with its upper left corner at (row, column)."""
    pixels = rng.integers(96, 160, (SIDE, SIDE, 3), dtype=np.uint8)
    if corner is not None:
        pixels[corner[0] : corner[0] + SQUARE, corner[1] : corner[1] + SQUARE] = 255
    return Image.fromarray(pixels)


@pytest.fixture
def noise_with_square() -> Callable[..., Image.Image]:
    """noise_with_square(rng, (row, column) or None)."""
    return draw


def _fit(model: nn.Module, batches: Iterator[tuple[Tensor, Tensor]], *, steps: int) -> nn.Module:
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2e-3, total_steps=steps)
    for images, labels in batches:
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


@pytest.fixture(scope="session")
def square_finder() -> Callable[[str], nn.Module]:
    """square_finder(architecture): classes "none" and "square"; the square may be anywhere."""

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        rng = np.random.default_rng(0)
        for _ in range(SQUARE_STEPS):
            labels = rng.integers(0, 2, 16)
            corners = rng.integers(0, SIDE - SQUARE + 1, (16, 2))
            pictures = [
                np.asarray(draw(rng, tuple(corner) if label else None))
                for label, corner in zip(labels, corners, strict=True)
            ]
            yield (torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2) / 255 - 0.5) / 0.25, torch.tensor(labels)

    @cache
    def trained(name: str) -> nn.Module:
        torch.manual_seed(0)
        with one_thread():
            model: Any = _fit(catalog.create(name, num_classes=2, img_size=SIDE), batches(), steps=SQUARE_STEPS)
        model.preprocess, model.label_names = PLAIN, ["none", "square"]
        return model

    return trained


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits as a folder with train/ and test/."""
    return write_digits(tmp_path_factory.mktemp("digits"))


@pytest.fixture(scope="session")
def digit_reader(digits: Path) -> Callable[[str], nn.Module]:
    """digit_reader(architecture): trained on the digits for a few epochs."""

    @cache
    def trained(name: str) -> nn.Module:
        loader = eval_loader(read_folder(digits / "train"), preprocess=DIGITS, batch_size=898)
        (batch,) = loader
        images, labels = batch.images.contiguous(), torch.tensor(batch.targets)
        generator = torch.Generator().manual_seed(0)

        def batches() -> Iterator[tuple[Tensor, Tensor]]:
            for _ in range(DIGIT_EPOCHS):
                for rows in torch.randperm(len(images), generator=generator).split(32):
                    yield images[rows], labels[rows]

        torch.manual_seed(0)
        with one_thread():
            model: Any = _fit(catalog.create(name, num_classes=10, img_size=32), batches(), steps=29 * DIGIT_EPOCHS)
        model.preprocess, model.label_names = DIGITS, [str(digit) for digit in range(10)]
        return model

    return trained
