"""data/readers/memory.py and huggingface.py: data sets that are in memory already."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, Dataset, Subset
from torchvision.datasets import ImageFolder

from hybridvit.config import AugmentSection, Preprocess
from hybridvit.data.check import check
from hybridvit.data.decode import decode
from hybridvit.data.loader import eval_loader, train_loader
from hybridvit.data.opening import open_parts, open_splits, open_test
from hybridvit.data.sampler import TrainSampler
from hybridvit.data.source import Source
from hybridvit.data.transforms import KeepingTarget, train_transform
from hybridvit.errors import DataError

MakePictures = Callable[..., Path]


class Pairs(Dataset[Any]):
    """Grey pictures whose brightness is their number, with labels as they are given."""

    def __init__(self, labels: list[Any], **attributes: Any) -> None:
        self.labels_given = labels
        self.__dict__ |= attributes

    def __len__(self) -> int:
        return len(self.labels_given)

    def __getitem__(self, index: int) -> tuple[Image.Image, Any]:
        return Image.new("L", (8, 6), index), self.labels_given[index]


def labels_of(source: Source) -> list[str]:
    return [source.class_names[source.target(i)] for i in range(len(source))]


def test_a_torch_dataset_gives_what_its_files_give(make_pictures: MakePictures) -> None:
    root = make_pictures(train=4, test=2)
    files = open_splits(root)
    splits = open_splits({part: ImageFolder(str(root / part)) for part in ("train", "test")})
    assert splits.train.class_names == files.train.class_names
    for ours, theirs in ((splits.train, files.train), (splits.test, files.test)):
        assert list(ours.labels) == list(theirs.labels)
        for i in range(len(ours)):
            found = decode(ours.read(i), name=ours.name(i))
            np.testing.assert_array_equal(np.asarray(found), np.asarray(decode(theirs.read(i), name="x")))
    assert splits.train.name(3) == "ImageFolder/train/3"
    assert str(splits.train.counts) == "12 pictures of 12 seen"


def test_a_run_sees_the_same_batches_from_memory_at_any_number_of_workers(make_pictures: MakePictures) -> None:
    root = make_pictures(train=4)
    preprocess, sampler = (
        Preprocess(image_size=(8, 8)),
        TrainSampler(12, global_batch=4, device_batch=4, epochs=2, seed=0),
    )
    transform = KeepingTarget(train_transform(preprocess, AugmentSection(hflip=0.5)))

    def batches(source: Source, workers: int) -> list[tuple[Any, Any]]:
        loader = train_loader(source, sampler, transform=transform, workers=workers)
        return [(batch.images.tolist(), batch.targets) for batch in loader]

    expected = batches(open_splits(root).train, 0)
    in_memory = open_splits(ImageFolder(str(root / "train")), val_split=0.5)
    assert len(in_memory.train) == len(in_memory.test) == 6
    whole = open_test(ImageFolder(str(root / "train")))[1]
    assert batches(whole, 0) == batches(whole, 2) == expected


@pytest.mark.parametrize(
    ("dataset", "names", "labels"),
    [
        (Pairs(["b", "a", "b"]), ("a", "b"), ["b", "a", "b"]),
        (Pairs([1, 0, 1]), ("0", "1"), ["1", "0", "1"]),
        (Pairs([torch.tensor(1), np.int64(0), 1], classes=["x", "y", "z"]), ("x", "y", "z"), ["y", "x", "y"]),
        (Pairs([0, 1, 0], classes=["1", "0"]), ("1", "0"), ["1", "0", "1"]),
        (Pairs([1, 0, 1], targets=[1, 0, 1], classes=["x", "y"]), ("x", "y"), ["y", "x", "y"]),
        (Pairs([1, 0, 1], targets=[0, 1, 0]), ("0", "1"), ["1", "0", "1"]),
        (Subset(Pairs([0, 1, 2], targets=[0, 1, 2], classes=["x", "y", "z"]), [2, 0]), ("x", "y", "z"), ["z", "x"]),
        (ConcatDataset([Pairs([0, 1], classes=["x", "y"]), Pairs([1])]), ("x", "y"), ["x", "y", "y"]),
    ],
)
def test_labels_are_those_of_the_samples(dataset: Any, names: tuple[str, ...], labels: list[str]) -> None:
    source = open_test(dataset)[1]
    assert (source.class_names, labels_of(source)) == (names, labels)


def test_targets_are_read_without_the_pictures() -> None:
    class Counted(Pairs):
        read = 0

        def __getitem__(self, index: int) -> tuple[Image.Image, Any]:
            self.read += 1
            return super().__getitem__(index)

    labels = [k % 2 for k in range(1000)]
    dataset = Counted(labels, targets=labels)
    assert list(open_test(dataset)[1].labels) == labels
    assert dataset.read <= 20


def test_what_is_no_pair_of_picture_and_label_is_refused() -> None:
    class Tensors(Pairs):
        def __getitem__(self, index: int) -> Any:
            return torch.zeros(3, 8, 8), 0

    with pytest.raises(DataError, match=r"Tensors gives \(Tensor, int\), expected \(PIL picture, label\)\. Leave out"):
        open_test(Tensors([0, 1]))
    with pytest.raises(DataError, match="Pairs holds no pictures"):
        open_test(Pairs([]))
    with pytest.raises(DataError, match="Data is a int; expected a path, a map-style torch Dataset"):
        open_test(3)
    with pytest.raises(DataError, match="The Pairs is one whole"):
        open_splits(Pairs([0, 1]))


@pytest.mark.parametrize("label", [None, 1.5, torch.tensor([0, 1]), torch.tensor(1.0), b"cat"], ids=repr)
def test_a_label_that_is_neither_a_number_nor_a_name_is_refused(label: Any) -> None:
    with pytest.raises(DataError, match="expected a class's number or name"):
        open_test(Pairs([0, label, 1]))


def test_a_sample_that_cannot_be_given_is_a_broken_picture() -> None:
    class Holed(Pairs):
        def __getitem__(self, index: int) -> Any:
            return (None, 1) if index == 2 else super().__getitem__(index)

    source = open_test(Holed([0, 1, 1, 0]))[1]
    with pytest.raises(OSError, match="Holed/2 is a NoneType, expected a PIL picture"):
        source.read(2)
    (batch,) = eval_loader(source, preprocess=Preprocess(image_size=(8, 8)))
    assert (batch.broken.tolist(), batch.indices.tolist()) == ([2], [0, 1, 3])
    assert [entry["name"] for entry in check({"": source}).broken] == ["Holed/2"]


def picture_rows(datasets: Any, labels: list[int], pictures: list[Any] | None = None) -> Any:
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["x", "y"])})
    plain = [{"bytes": b"%d" % k, "path": None} for k in range(len(labels))]
    return datasets.Dataset.from_dict({"image": pictures or plain, "label": labels}, features=features)


def test_a_hugging_face_set_in_memory_is_read_as_one_on_disk(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    kept = datasets.DatasetDict({"train": picture_rows(datasets, [0, 1, 1]), "test": picture_rows(datasets, [1, 0])})
    kept.save_to_disk(str(tmp_path / "kept"))
    for splits in (open_splits(kept), open_splits(tmp_path / "kept")):
        assert labels_of(splits.train) == ["x", "y", "y"]
        assert [splits.test.read(i) for i in range(2)] == [b"0", b"1"]
        assert pickle.loads(pickle.dumps(splits.train)).read(2) == b"2"
    assert labels_of(open_test(picture_rows(datasets, [1, 0]).with_format("numpy"))[1]) == ["y", "x"]


def test_val_split_divides_the_training_part_whatever_comes_first(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    parts = {"unsupervised": picture_rows(datasets, [0] * 4), "train": picture_rows(datasets, [0, 1] * 5)}
    datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "kept"))
    for data in (tmp_path / "kept", datasets.DatasetDict(parts)):
        splits = open_splits(data, val_split=0.2)
        assert (len(splits.train), len(splits.test)) == (8, 2)
    other = datasets.DatasetDict({"a": parts["train"], "b": parts["train"]})
    with pytest.raises(DataError, match="has the parts a, b; --val-split divides a part train, or a whole"):
        open_splits(other, val_split=0.2)


def test_a_row_without_a_picture_is_a_broken_picture() -> None:
    datasets = pytest.importorskip("datasets")
    source = open_test(
        picture_rows(datasets, [0, 1, 0], [{"bytes": b"0", "path": None}, None, {"bytes": b"", "path": None}])
    )[1]
    with pytest.raises(OSError, match="Dataset/row 1 holds no picture"):
        source.read(1)
    report = check({"": source})
    assert [entry["name"] for entry in report.broken] == ["Dataset/row 0", "Dataset/row 1", "Dataset/row 2"]
    assert open_parts(picture_rows(datasets, [0, 1]))[""].read(1) == b"1"


def test_rows_without_a_label_are_counted_in_the_error() -> None:
    datasets = pytest.importorskip("datasets")
    with pytest.raises(DataError, match=r"has 2 rows without a label \(none, or -1\)"):
        open_test(picture_rows(datasets, [0, -1, None]))
