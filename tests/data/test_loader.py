"""data/loader.py: batches that depend on addresses only, and broken pictures."""

import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from hybridvit.config import AugmentSection, Preprocess
from hybridvit.data.decode import decode
from hybridvit.data.loader import EvalBatch, TrainBatch, eval_loader, normalize, train_loader
from hybridvit.data.opening import open_splits
from hybridvit.data.sampler import TrainSampler
from hybridvit.data.transforms import KeepingTarget, eval_transform, train_transform
from hybridvit.errors import DataError

MakePictures = Callable[..., Path]
PREPROCESS = Preprocess(image_size=(16, 24), crop_pct=0.9)
AUGMENT = AugmentSection(
    hflip=0.5, color_jitter=0.4, auto_augment="rand-m9-mstd0.5-inc1", rotate=10, interpolation="random"
)

TRANSFORM = KeepingTarget(train_transform(PREPROCESS, AUGMENT))


def train_batches(root: Path, *, workers: int = 0, first_step: int = 0) -> list[TrainBatch]:
    source = open_splits(root).train
    sampler = TrainSampler(
        len(source), global_batch=8, device_batch=4, epochs=6, seed=1, first_step=first_step, repeats=2
    )
    return list(train_loader(source, sampler, transform=TRANSFORM, workers=workers))


def test_batches_are_the_same_at_any_number_of_workers_and_from_any_step(make_pictures: MakePictures) -> None:
    root = make_pictures()
    expected = train_batches(root)
    for found, first in ((train_batches(root, workers=2), 0), (train_batches(root, workers=1, first_step=5), 10)):
        assert len(found) == len(expected) - first
        for one, other in zip(found, expected[first:], strict=True):
            assert one.targets == other.targets
            assert all(torch.equal(one[part], other[part]) for part in (0, 2, 3))


def test_a_picture_is_the_same_in_batches_of_any_size(make_pictures: MakePictures) -> None:
    source = open_splits(make_pictures()).train
    seen: list[dict[int, torch.Tensor]] = []
    for device_batch in (1, 4, 8):
        sampler = TrainSampler(len(source), global_batch=8, device_batch=device_batch, epochs=1, seed=1)
        batches: list[TrainBatch] = list(train_loader(source, sampler, transform=TRANSFORM))
        seen.append(
            {i: image for batch in batches for i, image in zip(batch.indices.tolist(), batch.images, strict=True)}
        )
    for other in seen[1:]:
        assert other.keys() == seen[0].keys()
        assert all(torch.equal(other[index], image) for index, image in seen[0].items())


def test_workers_write_pictures_where_the_trainer_reads_them(make_pictures: MakePictures) -> None:
    batch = train_batches(make_pictures(), workers=1)[0]
    assert batch.images.is_shared()
    assert batch.images.is_contiguous(memory_format=torch.channels_last)


def test_loading_leaves_the_global_random_generators_alone(make_pictures: MakePictures) -> None:
    root = make_pictures()
    random.seed(3), np.random.seed(3), torch.manual_seed(3)  # noqa: NPY002
    expected = random.random(), np.random.rand()  # noqa: NPY002
    random.seed(3), np.random.seed(3), torch.manual_seed(3)  # noqa: NPY002
    train_batches(root)
    assert (random.random(), np.random.rand()) == expected  # noqa: NPY002


def test_a_broken_training_picture_is_replaced_by_the_next_and_named(make_pictures: MakePictures) -> None:
    root = make_pictures()
    (root / "train" / "b" / "003.png").write_bytes(b"no picture")
    batches = train_batches(root)
    assert {index for batch in batches for index in batch.broken.tolist()} == {15}
    assert all(len(batch.images) == 4 and 15 not in batch.indices for batch in batches)


def test_a_folder_of_broken_pictures_stops(make_pictures: MakePictures) -> None:
    root = make_pictures()
    for path in (root / "train").rglob("*.png"):
        path.write_bytes(b"no picture")
    with pytest.raises(DataError, match="the 100 pictures before it cannot be read"):
        train_batches(root)


@pytest.mark.parametrize("workers", [0, 2])
def test_evaluation_sees_every_picture_once_and_leaves_the_broken_out(
    make_pictures: MakePictures, workers: int
) -> None:
    root = make_pictures()
    (root / "test" / "a" / "005.png").write_bytes(b"no picture")
    source = open_splits(root).test
    batches: list[EvalBatch] = list(eval_loader(source, preprocess=PREPROCESS, batch_size=5, workers=workers))
    assert [index for batch in batches for index in batch.indices.tolist()] == [i for i in range(18) if i != 5]
    assert [index for batch in batches for index in batch.broken.tolist()] == [5]


@pytest.mark.parametrize("world", [2, 4, 25])
def test_evaluation_over_ranks_counts_every_picture_once(make_pictures: MakePictures, world: int) -> None:
    source = open_splits(make_pictures()).test
    seen = [
        index
        for rank in range(world)
        for batch in eval_loader(source, preprocess=PREPROCESS, batch_size=5, rank=rank, world=world)
        for index in batch.indices.tolist()
    ]
    assert sorted(seen) == list(range(18))


def test_normalize_equals_timms_evaluation_transform(make_pictures: MakePictures) -> None:
    source = open_splits(make_pictures(size=(16, 24))).test
    picture = decode(source.read(0), name="x")
    whole = Preprocess(image_size=(16, 24), crop_pct=1.0, crop_mode="squash")
    pixels = torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1)[None]
    torch.testing.assert_close(normalize(pixels, whole)[0], eval_transform(whole)(picture), rtol=0, atol=1e-6)


def test_grey_preprocessing_gives_one_channel(make_pictures: MakePictures) -> None:
    source = open_splits(make_pictures()).test
    grey = Preprocess(image_size=(16, 24), mean=(0.5,), std=(0.5,))
    picture = decode(source.read(0), name="x", channels=grey.in_chans)
    assert train_transform(grey, AUGMENT)(picture).shape == (1, 16, 24)
    assert eval_transform(grey)(picture).shape == (1, 16, 24)


def test_without_augmentation_training_pictures_only_get_cropped(make_pictures: MakePictures) -> None:
    source = open_splits(make_pictures(size=(16, 24))).train
    picture = decode(source.read(0), name="x")
    whole = AugmentSection(crop_scale=(1.0, 1.0), crop_ratio=(1.5, 1.5))
    tensor = train_transform(PREPROCESS, whole)(picture)
    assert tensor.dtype == torch.uint8
    np.testing.assert_array_equal(tensor.permute(1, 2, 0).numpy(), np.asarray(picture))


LEAVING = """
from hybridvit.config import Preprocess
from hybridvit.data.loader import eval_loader
from hybridvit.data.source import Source

class Faulty(Source):
    class_names, labels = ("a", "b"), [0] * 40

    def __len__(self):
        return 40

    def name(self, index):
        return str(index)

    def read(self, index):
        raise TypeError("a fault of the program")

if __name__ == "__main__":
    for batch in eval_loader(Faulty(), preprocess=Preprocess(image_size=(8, 8)), batch_size=2, workers=2):
        pass
"""


def test_a_program_that_leaves_with_an_error_does_not_wait_for_its_workers(tmp_path: Path) -> None:
    (tmp_path / "leaving.py").write_text(LEAVING)
    done = subprocess.run([sys.executable, tmp_path / "leaving.py"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    assert done.stderr.rstrip().endswith("TypeError: a fault of the program")
