"""data/readers/folder.py: class folders, and what is said when they are not as they should be."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from torchvision.datasets import ImageFolder

from hybridvit.data.check import check
from hybridvit.data.opening import open_splits
from hybridvit.data.readers.folder import read_folder
from hybridvit.data.readers.lists import read_list
from hybridvit.data.unlabelled import list_pictures
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
    with pytest.raises(DataError, match=r"no class folders: found pictures outside class folders such as 000\.png"):
        read_folder(make_pictures() / "train" / "a")


def test_a_missing_split_is_explained(make_pictures: MakePictures, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere does not exist"):
        open_splits(tmp_path / "nowhere")
    root = make_pictures()
    (root / "test").rename(root / "other")
    with pytest.raises(DataError, match=r"has the part train\. Expected train, and exactly one of test"):
        open_splits(root)


def test_two_test_folders_are_refused(make_pictures: MakePictures) -> None:
    root = make_pictures()
    shutil.copytree(root / "test", root / "val")
    with pytest.raises(DataError, match="has the parts train, test, val"):
        open_splits(root)


def test_a_single_class_is_refused(make_pictures: MakePictures) -> None:
    with pytest.raises(DataError, match=r"has one class \(a\)"):
        open_splits(make_pictures(classes=("a",)))


def test_links_to_folders_above_are_counted_and_followed_once(make_pictures: MakePictures) -> None:
    root = make_pictures(train=3) / "train"
    (root / "a" / "up").symlink_to(root, target_is_directory=True)
    (root / "b" / "here").symlink_to(root / "b", target_is_directory=True)
    (root / "c" / "there").symlink_to(root / "a", target_is_directory=True)  # a's pictures, and no way on from there
    source = read_folder(root)
    assert [source.labels.count(k) for k in range(3)] == [3, 3, 6]
    assert source.counts.passed_over == {"folders that link to where they lie": 3}
    assert len(list_pictures([root])) == 12


def test_many_links_to_one_another_end_soon(tmp_path: Path) -> None:
    for k in range(12):
        (tmp_path / "data" / "a" / f"{k}").mkdir(parents=True)
        (tmp_path / "data" / "a" / f"{k}" / "0.png").touch()
        for other in range(12):
            (tmp_path / "data" / "a" / f"{k}" / f"to{other}").symlink_to(tmp_path / "data" / "a" / f"{other}")
    source = read_folder(tmp_path / "data")
    assert len(source) == 12**2


def test_names_that_are_no_utf_8_are_read_and_told_as_utf_8(make_pictures: MakePictures) -> None:
    root = make_pictures(train=2) / "train"
    (root / "a").rename(os.fsdecode(bytes(root) + b"/caf\xe9"))
    (root / "b" / "000.png").rename(os.fsdecode(bytes(root) + b"/b/\xff.png"))
    source = read_folder(root)
    assert source.class_names == ("b", "c", "caf\\udce9")
    names = [source.name(i) for i in range(len(source))]
    assert json.loads(json.dumps(names, ensure_ascii=False).encode("utf-8")) == names
    assert all(source.read(i).startswith(b"\x89PNG") for i in range(len(source)))
    report = check({"": source})
    assert report.broken == []


def test_a_pipe_is_no_picture_and_stops_nobody(make_pictures: MakePictures) -> None:
    root = make_pictures(train=2) / "train"
    os.mkfifo(root / "a" / "pipe.png")
    assert read_folder(root).counts.passed_over == {"no regular file": 1}
    (root / "list.txt").write_text("a/pipe.png 0\nb/000.png 1")
    with pytest.raises(OSError, match="is no regular file"):
        read_list(root / "list.txt").read(0)
