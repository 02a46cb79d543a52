"""data/opening.py: one data set, whatever it is kept in."""

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from hybridvit.config import AugmentSection, Preprocess
from hybridvit.data.loader import train_loader
from hybridvit.data.opening import open_splits, open_test
from hybridvit.data.sampler import TrainSampler
from hybridvit.data.source import Source
from hybridvit.data.transforms import KeepingTarget, train_transform
from hybridvit.errors import DataError
from kinds import KINDS, as_folder, as_shards, as_zip

MakePictures = Callable[..., Path]


def contents(source: Source) -> list[tuple[str, bytes]]:
    return sorted((source.class_names[source.labels[i]], source.read(i)) for i in range(len(source)))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_the_same_pictures_and_labels(kind: str, make_pictures: MakePictures, tmp_path: Path) -> None:
    if kind == "Hugging Face":
        pytest.importorskip("datasets")
    plain = make_pictures(train=4, test=3)
    expected = open_splits(plain)
    found = open_splits(KINDS[kind](plain, tmp_path / "kept"))
    assert found.train.class_names == found.test.class_names == ("a", "b", "c")
    assert contents(found.train) == contents(expected.train)
    assert contents(found.test) == contents(expected.test)
    test = open_test(KINDS[kind](plain, tmp_path / "again"))[1]
    assert contents(test) == contents(expected.test)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_travels_to_worker_processes(kind: str, make_pictures: MakePictures, tmp_path: Path) -> None:
    if kind == "Hugging Face":
        pytest.importorskip("datasets")
    source = open_splits(KINDS[kind](make_pictures(train=4, test=1), tmp_path / "kept")).train
    source.read(0)  # what is open in this process must not be shared
    copy = pickle.loads(pickle.dumps(source))
    assert contents(copy) == contents(source)
    sampler = TrainSampler(12, global_batch=4, device_batch=4, epochs=2, seed=0)
    transform = KeepingTarget(train_transform(Preprocess(image_size=(8, 8)), AugmentSection()))
    alone = list(train_loader(source, sampler, transform=transform))
    shared = list(train_loader(source, sampler, workers=2, transform=transform))
    assert [(b.images.tolist(), b.targets) for b in alone] == [(b.images.tolist(), b.targets) for b in shared]
    assert not any(len(batch.broken) for batch in alone)


def test_one_folder_is_divided_by_val_split(make_pictures: MakePictures) -> None:
    whole = make_pictures(train=10, test=0) / "train"
    splits = open_splits(whole, val_split=0.2)
    assert (len(splits.train), len(splits.test)) == (24, 6)
    name, test = open_test(whole, val_split=0.2)
    assert contents(test) == contents(splits.test)
    assert "held out" in name


def test_a_training_part_without_a_test_part_is_divided_too(make_pictures: MakePictures) -> None:
    root = make_pictures(train=4)
    shutil.rmtree(root / "test")
    assert len(open_splits(root, val_split=0.25).test) == 3


def test_val_split_beside_a_test_part_is_refused(make_pictures: MakePictures) -> None:
    with pytest.raises(DataError, match="has its own test part"):
        open_splits(make_pictures(), val_split=0.2)


def test_one_whole_without_val_split_is_told_of_it(make_pictures: MakePictures, tmp_path: Path) -> None:
    whole = make_pictures() / "train"
    with pytest.raises(DataError, match=r"is one whole.*Use --val-split 0\.2"):
        open_splits(whole)
    assert len(open_test(as_zip(whole, tmp_path / "whole"))[1]) == 36


def test_parts_with_other_classes_are_refused(make_pictures: MakePictures, tmp_path: Path) -> None:
    plain = make_pictures(train=2, test=2)
    (plain / "test" / "c").rename(plain / "test" / "d")
    with pytest.raises(DataError, match="the classes of its parts differ"):
        open_splits(as_zip(plain, tmp_path / "kept"))
    with pytest.raises(DataError, match="label d is not among the 3 classes"):
        open_splits(as_shards(plain, tmp_path / "shards"))


def test_a_test_part_may_lack_a_class_where_labels_say_so(make_pictures: MakePictures, tmp_path: Path) -> None:
    plain = make_pictures(train=2, test=2)
    shutil.rmtree(plain / "test" / "b")
    splits = open_splits(as_shards(plain, tmp_path / "shards"))
    assert splits.test.class_names == ("a", "b", "c")
    assert sorted(splits.test.labels) == [0, 0, 2, 2]


def test_what_is_no_data_set_is_refused(tmp_path: Path, make_pictures: MakePictures) -> None:
    (tmp_path / "film.mp4").touch()
    with pytest.raises(DataError, match=r"film\.mp4 is neither a folder nor a list"):
        open_splits(tmp_path / "film.mp4")
    with pytest.raises(DataError, match="none does not exist"):
        open_test(tmp_path / "none")
    (tmp_path / "bad.zip").write_bytes(b"PK no zip")
    with pytest.raises(DataError, match=r"bad\.zip cannot be read as a zip"):
        open_splits(tmp_path / "bad.zip")
    one = as_folder(make_pictures(classes=("only",)) / "train", tmp_path / "one")
    with pytest.raises(DataError, match=r"has one class \(only\)"):
        open_splits(one, val_split=0.5)


def test_a_damaged_member_of_a_zip_is_an_unreadable_picture(make_pictures: MakePictures, tmp_path: Path) -> None:
    path = as_zip(make_pictures(train=2, test=1), tmp_path / "kept")
    data = bytearray(path.read_bytes())
    at = data.find(b"wrapper/train/a/000.png") + 100
    data[at : at + 60] = bytes(60)
    path.write_bytes(data)
    source = open_splits(path).train
    broken = next(i for i in range(len(source)) if source.name(i).endswith("train/a/000.png"))
    with pytest.raises(OSError, match=r"000\.png"):
        source.read(broken)


def test_a_hugging_face_column_may_be_called_image(make_pictures: MakePictures, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    picture = make_pictures(train=1, test=1) / "test" / "a" / "000.png"
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["x", "y"])})
    rows = {"image": [{"bytes": None, "path": str(picture)}, {"bytes": b"there", "path": None}], "label": [1, 0]}
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(str(tmp_path / "kept"))
    assert contents(open_test(tmp_path / "kept")[1]) == [("x", b"there"), ("y", picture.read_bytes())]
