"""data/layout.py: what lies where means the same in a folder, a zip file and a tar file."""

import io
import shutil
import tarfile
import unicodedata
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from hybridvit.data.opening import open_parts, open_splits, open_test
from hybridvit.data.source import Source
from hybridvit.data.unlabelled import open_unlabelled
from hybridvit.errors import DataError

Files = Mapping[str, bytes]
Write = Callable[[Path, Files], Path]


def write_folder(root: Path, files: Files) -> Path:
    for name, data in files.items():
        path = root / "folder" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root / "folder"


def write_zip(root: Path, files: Files) -> Path:
    with zipfile.ZipFile(root / "files.zip", "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return root / "files.zip"


def write_windows_zip(root: Path, files: Files) -> Path:
    return write_zip(root, {name.replace("/", "\\"): data for name, data in files.items()})


def write_tar(root: Path, files: Files) -> Path:
    with tarfile.open(root / "files.tar", "w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return root / "files.tar"


def write_tar_of_here(root: Path, files: Files) -> Path:
    """As `tar cf x.tar .` does."""
    with tarfile.open(root / "files.tar", "w") as archive:
        archive.add(write_folder(root, files), ".")
    shutil.rmtree(root / "folder")
    return root / "files.tar"


CONTAINERS = {
    "folder": write_folder,
    "zip": write_zip,
    "zip of Windows": write_windows_zip,
    "tar": write_tar,
    "tar of .": write_tar_of_here,
}
every_container = pytest.mark.parametrize("write", CONTAINERS.values(), ids=CONTAINERS.keys())


def of(*names: str) -> dict[str, bytes]:
    return {name: name.encode() for name in names}


def taken(source: Source) -> list[tuple[str, bytes]]:
    return [(source.class_names[source.target(i)], source.read(i)) for i in range(len(source))]


@every_container
def test_classes_are_the_folders_at_the_top_whatever_lies_below_them(write: Write, tmp_path: Path) -> None:
    names = ["a/0.jpg", "a/more/deep/1.png", "b/0.PNG", "b/scan.000.png", "b/scan.001.png"]
    source = open_test(write(tmp_path, of(*names)))[1]
    assert source.class_names == ("a", "b")
    assert sorted(taken(source)) == sorted((name[0], name.encode()) for name in names)
    assert source.counts.to_dict() == {"seen": 5, "taken": 5, "passed_over": {}}


@every_container
@pytest.mark.parametrize("wrapper", ["", "ds/", "some/where/"])
def test_parts_are_told_apart_also_below_folders_that_hold_everything(
    write: Write, wrapper: str, tmp_path: Path
) -> None:
    names = [
        f"{wrapper}{part}/{label}/{k}.jpg"
        for part, n in (("train", 3), ("test", 1))
        for label in "ab"
        for k in range(n)
    ]
    splits = open_splits(write(tmp_path, of(*names)))
    assert (len(splits.train), len(splits.test)) == (6, 2)
    assert {data.decode().split("/")[-3] for _, data in taken(splits.test)} == {"test"}
    assert {label: data.decode().split("/")[-2] for label, data in taken(splits.train)} == {"a": "a", "b": "b"}


@every_container
def test_what_is_no_picture_is_passed_over_and_counted(write: Write, tmp_path: Path) -> None:
    hidden = ["a/.x.jpg", ".ipynb_checkpoints/x.jpg", "__MACOSX/a/._0.jpg", "a/@eaDir/0.jpg", ".thumbnails/1.png"]
    others = ["a/notes.txt", "b/more/list.json", "readme"]
    files = of("a/0.jpg", "b/0.jfif", "b/1.jpe", *hidden, *others, "a/x.heic", "b/y.HEIC", "loose.png")
    source = open_test(write(tmp_path, files))[1]
    assert sorted(data.decode() for _, data in taken(source)) == ["a/0.jpg", "b/0.jfif", "b/1.jpe"]
    assert source.counts.passed_over == {
        "hidden": 5,
        "no picture (.txt)": 1,
        "no picture (.json)": 1,
        "no picture": 1,
        "of a format that is not read (.heic)": 2,
        "beside the class folders": 1,
    }
    assert source.counts.seen == 14
    assert "3 pictures of 14 seen; passed over: " in str(source.counts)


@every_container
def test_what_lies_beside_the_parts_is_counted_with_the_first(write: Write, tmp_path: Path) -> None:
    parts = open_parts(write(tmp_path, of("train/a/0.jpg", "val/a/0.jpg", "extra/a/0.jpg", "readme.md")))
    assert parts["train"].counts.passed_over == {"beside the parts": 1, "no picture (.md)": 1}
    assert parts["val"].counts.passed_over == {}


@every_container
@pytest.mark.parametrize(
    "names", ["Train Test", "Training Testing", "TRAIN VAL", "eval training", "dev train_set", "train2017 val2017"]
)
def test_folders_that_are_nearly_parts_are_no_classes(write: Write, names: str, tmp_path: Path) -> None:
    path = write(tmp_path, of(*(f"{part}/{label}/0.jpg" for part in names.split() for label in "ab")))
    for options in ({}, {"val_split": 0.5}):
        with pytest.raises(DataError, match=f"{', '.join(sorted(names.split()))}: they look like the parts"):
            open_splits(path, **options)


@every_container
def test_a_test_part_that_is_nearly_called_so_is_named(write: Write, tmp_path: Path) -> None:
    path = write(tmp_path, of(*(f"{part}/{label}/0.jpg" for part in ("train", "Validation") for label in "ab")))
    with pytest.raises(DataError, match="Is Validation meant"):
        open_splits(path)


@every_container
@pytest.mark.parametrize("opened", [open_splits, open_test])
def test_a_data_set_of_other_parts_than_are_needed_says_what_to_do(
    write: Write, opened: Callable[[Path], object], tmp_path: Path
) -> None:
    """Training and evaluating need the same: a part that nobody learns from."""
    for number, (parts, advice) in enumerate(
        (
            (("train",), r"has the part train\. .*--val-split 0\.2 holds out a fifth"),
            (("train", "test", "val"), r"has the parts train, test, val\. .*Name the one that you mean with --data"),
        )
    ):
        root = tmp_path / str(number)
        root.mkdir()
        path = write(root, of(*(f"{part}/{label}/0.jpg" for part in parts for label in "ab")))
        with pytest.raises(DataError, match=advice):
            opened(path)


@every_container
def test_a_class_may_be_called_like_a_part_among_others(write: Write, tmp_path: Path) -> None:
    source = open_test(write(tmp_path, of("dev/0.jpg", "eval/0.jpg", "car/0.jpg")))[1]
    assert source.class_names == ("car", "dev", "eval")


@every_container
def test_a_folder_of_images_is_no_class(write: Write, tmp_path: Path) -> None:
    path = write(tmp_path, of("train/images/0.jpg", "train/labels/0.txt", "val/images/0.jpg"))
    with pytest.raises(DataError, match="has the folder images, labels where class folders are expected"):
        open_splits(path)


@every_container
def test_a_class_without_a_readable_picture_is_named_with_what_it_holds(write: Write, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"without pictures: b\. .*; found 2 of a format that is not read \(\.heic\)"):
        open_test(write(tmp_path, of("a/0.jpg", "b/0.heic", "b/1.heic")))


@every_container
def test_two_unicode_forms_of_a_name_are_one_class(write: Write, tmp_path: Path) -> None:
    composed, apart = (unicodedata.normalize(form, "é") for form in ("NFC", "NFD"))
    files = of(f"train/{apart}/0.jpg", "train/b/0.jpg", f"test/{composed}/0.jpg", "test/b/0.jpg")
    splits = open_splits(write(tmp_path, files))
    assert splits.train.class_names == splits.test.class_names == ("b", apart)
    other = tmp_path / "other"
    other.mkdir()
    source = open_test(write(other, of(f"{apart}/0.jpg", f"{composed}/1.jpg", "b/0.jpg")))[1]
    assert source.class_names == ("b", composed)
    assert source.counts.notes == (f"{composed} is written in several Unicode forms, taken as one class",)


@every_container
def test_pictures_without_labels_are_found_at_any_depth_and_counted(write: Write, tmp_path: Path) -> None:
    found = open_unlabelled(
        [write(tmp_path, of("scan.000.png", "x/scan.001.png", "train/a/b/2.jpg", ".x.png", "n.md"))]
    )
    assert sorted(found.read(i) for i in range(len(found))) == [b"scan.000.png", b"train/a/b/2.jpg", b"x/scan.001.png"]
    assert found.counts.to_dict() == {"seen": 5, "taken": 3, "passed_over": {"hidden": 1, "no picture (.md)": 1}}


every_archive = pytest.mark.parametrize(
    "write", [write_zip, write_windows_zip, write_tar], ids=["zip", "zip of Windows", "tar"]
)


@every_archive
def test_dots_and_slashes_before_an_archives_paths_mean_nothing(write: Write, tmp_path: Path) -> None:
    source = open_test(write(tmp_path, of("././a/0.jpg", "a//1.jpg", "/b/0.jpg", "./b/c/../1.jpg")))[1]
    assert [source.class_names[source.target(i)] for i in range(len(source))] == ["a", "a", "b", "b"]
    assert sorted(source.read(i) for i in range(4)) == sorted(
        of("././a/0.jpg", "a//1.jpg", "/b/0.jpg", "./b/c/../1.jpg").values()
    )
    assert source.counts.passed_over == {}


@every_archive
def test_members_that_lead_out_of_an_archive_are_passed_over_and_counted(write: Write, tmp_path: Path) -> None:
    path = write(tmp_path, of("a/0.jpg", "b/0.jpg", "../a/1.jpg", "b/../../1.jpg"))
    reason = {"whose path leads out of the archive (..)": 2}
    source = open_test(path)[1]
    assert sorted(taken(source)) == [("a", b"a/0.jpg"), ("b", b"b/0.jpg")]
    assert source.counts.passed_over == open_unlabelled([path]).counts.passed_over == reason


@every_archive
@pytest.mark.parametrize("opening", [open_test, lambda path: open_unlabelled([path])])
def test_an_archive_of_which_nothing_is_left_says_why(
    write: Write, opening: Callable[[Path], object], tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"passed over: 2 whose path leads out of the archive \(\.\.\)"):
        opening(write(tmp_path, of("../a/0.jpg", "../b/0.jpg")))
