"""data/check.py: each kind of fault is planted, found, and found nowhere else."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from hybridvit.data.check import DataReport, Look, check
from hybridvit.data.digits import write_digits
from hybridvit.data.duplicates import fingerprint, near_groups
from hybridvit.data.imagenet import descriptions, order_problem, synsets
from hybridvit.data.opening import open_parts
from hybridvit.data.readers.files import FileSource
from hybridvit.data.readers.folder import Folder, read_folder


def scene(seed: int) -> Image.Image:
    """A smooth picture that no other seed gives, 120 x 90."""
    noise = np.random.default_rng(seed).integers(0, 256, size=(6, 8, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((120, 90), Image.Resampling.BICUBIC)


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    for part, count in (("train", 8), ("test", 4)):
        for number, name in enumerate(("cat", "dog")):
            (tmp_path / "set" / part / name).mkdir(parents=True)
            for i in range(count):
                path = tmp_path / "set" / part / name / f"{i}.png"
                scene(1000 * (part == "test") + 100 * number + i).save(path)
    return tmp_path / "set"


def checked(root: Path, **options: int) -> DataReport:
    return check(open_parts(root), **options)


def short(names: Sequence[str]) -> list[str]:
    return sorted("/".join(Path(name).parts[-3:]) for name in names)


def test_a_clean_set_has_no_findings(clean: Path) -> None:
    report = checked(clean)
    assert (report.problems, report.notices, report.duplicates, report.broken, report.tiny) == ([], [], [], [], [])
    assert report.counts == {"train": [8, 8], "test": [4, 4]}
    assert report.sizes["width"] == [120, 120, 120]


def test_worker_processes_find_the_same_in_the_same_order(clean: Path) -> None:
    (clean / "train" / "cat" / "3.png").write_bytes(b"no picture")
    done: list[int] = []
    alone, shared = checked(clean), check(open_parts(clean), workers=2, on_progress=done.append)
    assert alone.to_dict() == shared.to_dict()
    assert done[-1] == 24


def test_broken_pictures_are_named_and_a_problem(clean: Path) -> None:
    path = clean / "train" / "cat" / "3.png"
    path.write_bytes(path.read_bytes()[:100])
    report = checked(clean)
    assert short([entry["name"] for entry in report.broken]) == ["train/cat/3.png"]
    assert report.problems == ["1 pictures cannot be read."]


def test_a_picture_in_training_and_test_is_a_problem(clean: Path) -> None:
    shutil.copy(clean / "train" / "cat" / "1.png", clean / "test" / "cat" / "copy.png")
    report = checked(clean)
    (group,) = report.duplicates
    assert (group.kind, group.across_parts, group.across_labels) == ("exact", True, False)
    assert short(group.names) == ["test/cat/copy.png", "train/cat/1.png"]
    assert any("in more than one part" in text for text in report.problems)


def test_a_picture_under_two_labels_is_a_problem(clean: Path) -> None:
    shutil.copy(clean / "train" / "cat" / "1.png", clean / "train" / "dog" / "copy.png")
    report = checked(clean)
    assert report.duplicates[0].across_labels
    assert report.problems == ["1 pictures, byte for byte the same, have more than one label."]


@pytest.mark.parametrize(
    "change",
    [
        lambda picture: picture.resize((60, 45), Image.Resampling.BICUBIC),
        lambda picture: picture.resize((240, 180), Image.Resampling.BICUBIC),
        lambda picture: picture.point(lambda value: min(255, int(value * 1.03))),
        lambda picture: picture.filter(ImageFilter.GaussianBlur(1)),
    ],
    ids=["smaller", "larger", "brighter", "blurred"],
)
def test_a_changed_copy_is_near(clean: Path, change: Callable[[Image.Image], Image.Image]) -> None:
    change(scene(2)).save(clean / "train" / "cat" / "again.jpg", quality=70)
    (group,) = checked(clean).duplicates
    assert (group.kind, short(group.names)) == ("near", ["train/cat/2.png", "train/cat/again.jpg"])


def test_equal_and_near_copies_of_many_pictures_are_grouped(clean: Path) -> None:
    for copy in range(3):
        shutil.copy(clean / "train" / "cat" / "0.png", clean / "train" / "cat" / f"copy{copy}.png")
    scene(0).save(clean / "train" / "cat" / "near.jpg")
    kinds = {group.kind: len(group.names) for group in checked(clean).duplicates}
    assert kinds == {"exact": 4, "near": 2}


def test_tiny_pictures_and_uneven_classes_are_notices_only(clean: Path) -> None:
    scene(77).resize((120, 20)).save(clean / "train" / "dog" / "flat.png")
    for i in range(1, 8):
        (clean / "train" / "cat" / f"{i}.png").unlink()
    for i in range(3):
        scene(500 + i).save(clean / "train" / "dog" / f"more{i}.png")
    report = checked(clean)
    assert short(report.tiny) == ["train/dog/flat.png"]
    assert checked(clean, min_side=10).tiny == []
    assert report.problems == []
    assert any("has 12 pictures, the smallest 1" in text for text in report.notices)


def test_a_planted_wrong_label_among_digits_is_found(tmp_path: Path) -> None:
    train = write_digits(tmp_path / "digits") / "train"
    for digit in "1234589":
        shutil.rmtree(train / digit)
    before = {s.name for s in check({"": read_folder(train)}).suspicious}
    moved = [sorted((train / "0").iterdir())[5], sorted((train / "6").iterdir())[3]]
    wrong = [path.rename(train / "7" / f"moved_{path.name}") for path in moved]
    report = check({"": read_folder(train)})
    assert report.thumbnail_accuracy is not None
    assert report.thumbnail_accuracy > 90
    found = {s.name: s.looks_like for s in report.suspicious}
    assert [found[str(path)] for path in wrong] == ["0", "6"]
    assert len(found.keys() - before - set(map(str, wrong))) <= 2
    assert len(before) <= 5


def test_labels_are_not_doubted_where_thumbnails_tell_nothing(clean: Path) -> None:
    report = checked(clean)
    assert report.thumbnail_accuracy is not None
    assert report.suspicious == []


def test_the_order_of_imagenets_classes_is_known_by_synset_word_or_number() -> None:
    assert order_problem(synsets()) is None
    assert order_problem([text.partition(",")[0] for text in descriptions()]) is None
    assert order_problem([str(k) for k in range(1000)]) is None
    assert order_problem([f"thing {k}" for k in range(1000)]) is None
    by_word = sorted(str(k) for k in range(1000))
    problem = order_problem(by_word)
    assert problem is not None
    assert "class 2 is 10, ImageNet's is 2" in problem
    turned = order_problem([*synsets()[1:], synsets()[0]])
    assert turned is not None
    assert turned.startswith("1000 of the 1,000 classes")
    swapped = list(descriptions())
    swapped[7], swapped[8] = swapped[8], swapped[7]
    assert "2 of the 1,000 classes" in str(order_problem(swapped))


def test_a_thousand_numbered_folders_in_the_wrong_order_are_a_problem(tmp_path: Path) -> None:
    scene(0).save(tmp_path / "x.png")
    source = FileSource(Folder(tmp_path), ["x.png"], class_names=sorted(map(str, range(1000))), labels=[0])
    (problem,) = check({"": source}).problems
    assert "not where ImageNet's models have them" in problem


@pytest.mark.parametrize("kind", ["scenes", "flat", "alike"])
def test_bands_find_the_near_copies_that_comparing_all_finds(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    shapes = {"scenes": ((6, 8, 3), 0), "flat": ((1, 1, 3), 0), "alike": ((2, 2, 3), 250)}
    shape, least = shapes[kind]
    looks = []
    for number in range(300):
        noise = rng.integers(least, 256, size=shape, dtype=np.uint8)
        picture = Image.fromarray(noise).resize((40, 30), Image.Resampling.BICUBIC)
        small = np.asarray(picture.resize((8, 8), Image.Resampling.BOX))
        looks.append(Look("", str(number), 0, digest=b"%d" % number, hash=fingerprint(picture), thumbnail=small))
    found = near_groups(looks)
    monkeypatch.setattr("hybridvit.data.duplicates.ALL_AT_ONCE", 1)
    monkeypatch.setattr("hybridvit.data.duplicates.BLOCK", 7)
    assert near_groups(looks) == found
    near = [
        (one.name, other.name)
        for k, one in enumerate(looks)
        for other in looks[k + 1 :]
        if np.unpackbits(one.hash ^ other.hash).sum() <= 7
        and np.abs(one.thumbnail.astype(int) - other.thumbnail).mean() <= 8
    ]
    group = {name: k for k, each in enumerate(found) for name in each.names}
    assert all(group[one] == group[other] for one, other in near)
    assert {name for pair in near for name in pair} == group.keys()


def test_what_was_passed_over_is_a_notice_and_a_format_that_is_not_read_a_problem(clean: Path) -> None:
    for name in ("train/cat/x.heic", "train/cat/notes.txt", "train/loose.png", "test/.hidden.png"):
        (clean / name).write_bytes(b"")
    report = checked(clean)
    assert report.problems == ["1 passed over in train: of a format that is not read (.heic)."]
    assert report.notices == [
        "1 passed over in train: no picture (.txt).",
        "1 passed over in train: beside the class folders.",
        "1 passed over in test: hidden.",
    ]
    assert report.files["train"]["seen"] == 19
