"""data/readers/folder.py: class folders, and what is said when they are not as they should be."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from torchvision.datasets import ImageFolder

from hybridvit.data.opening import open_splits
from hybridvit.data.readers.folder import read_folder
from hybridvit.errors import DataError

MakePictures = Callable[..., Path]


def test_pictures_and_labels_are_those_of_torchvisions_image_folder(make_pictures: MakePictures) -> None:
    root = make_pictures(classes=("b", "A", "ä", "10", "9")) / "train"
    (root / "b" / "deeper").mkdir()
    shutil.copy(root / "b" / "000.png", root / "b" / "deeper" / "x.PNG")
    ours, theirs = read_folder(root), ImageFolder(str(root))
    assert list(ours.class_names) == theirs.classes
    assert sorted((ours.name(i), ours.labels[i]) for i in range(len(ours))) == sorted(theirs.samples)


def test_test_may_be_called_val(make_pictures: MakePictures) -> None:
    root = make_pictures()
    (root / "test").rename(root / "val")
    splits = open_splits(root)
    assert len(splits.train) == 36
    assert len(splits.test) == 18


def test_hidden_files_and_other_endings_are_left_out(make_pictures: MakePictures) -> None:
    root = make_pictures() / "train"
    (root / ".ipynb_checkpoints").mkdir()
    (root / "a" / ".hidden.png").write_bytes(b"")
    (root / "a" / "notes.txt").write_text("no picture")
    assert len(read_folder(root)) == 36


def test_an_empty_class_is_named_with_the_way_out(make_pictures: MakePictures) -> None:
    root = make_pictures()
    (root / "train" / "empty").mkdir()
    with pytest.raises(DataError, match=r"train has class folders without pictures: empty\. Remove these folders"):
        open_splits(root)


def test_differing_classes_are_listed_from_both_sides(make_pictures: MakePictures) -> None:
    root = make_pictures()
    (root / "test" / "c").rename(root / "test" / "d")
    with pytest.raises(DataError, match=r"the classes of its parts differ.*only in train: c; only in the other: d"):
        open_splits(root)


def test_no_pictures_at_all_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "train" / "a").mkdir(parents=True)
    (tmp_path / "test" / "a").mkdir(parents=True)
    with pytest.raises(DataError, match="holds no pictures"):
        open_splits(tmp_path)


def test_pictures_outside_class_folders_are_explained(make_pictures: MakePictures) -> None:
    with pytest.raises(DataError, match=r"no class folders: found loose pictures such as 000\.png"):
        read_folder(make_pictures() / "train" / "a")


def test_a_missing_split_is_explained(make_pictures: MakePictures, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere does not exist"):
        open_splits(tmp_path / "nowhere")
    root = make_pictures()
    (root / "test").rename(root / "other")
    with pytest.raises(DataError, match=r"has the parts train\. Expected train, and exactly one of test"):
        open_splits(root)


def test_two_test_folders_are_refused(make_pictures: MakePictures) -> None:
    root = make_pictures()
    shutil.copytree(root / "test", root / "val")
    with pytest.raises(DataError, match="has the parts train, test, val"):
        open_splits(root)


def test_a_single_class_is_refused(make_pictures: MakePictures) -> None:
    with pytest.raises(DataError, match=r"has one class \(a\)"):
        open_splits(make_pictures(classes=("a",)))
