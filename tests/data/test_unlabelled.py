"""data/unlabelled.py: pictures by name, by folder and from archives, without labels."""

import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from hybridvit.data.readers import zip as zips
from hybridvit.data.unlabelled import list_pictures, open_unlabelled
from hybridvit.errors import DataError
from kinds import KINDS

MakePictures = Callable[..., Path]


def test_folders_give_their_pictures_at_any_depth_and_files_stand_as_named(tmp_path: Path) -> None:
    for name in ("b/deep/2.JPG", "b/1.png", "b/.hidden.png", "b/notes.txt", "odd.name"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    expected = [tmp_path / "odd.name", tmp_path / "b" / "1.png", tmp_path / "b" / "deep" / "2.JPG"]
    assert list_pictures([tmp_path / "odd.name", tmp_path / "b"]) == expected
    found = open_unlabelled([tmp_path / "odd.name", tmp_path / "b"], ["x", "y"])
    assert [found.name(i) for i in range(3)] == [str(path) for path in expected]
    assert [found.read(i) for i in range(3)] == [b"odd.name", b"b/1.png", b"b/deep/2.JPG"]
    assert (len(found), found.labels, found.class_names) == (3, [-1, -1, -1], ("x", "y"))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_data_set_gives_all_its_pictures(kind: str, make_pictures: MakePictures, tmp_path: Path) -> None:
    if kind == "Hugging Face":
        pytest.importorskip("datasets")
    plain = make_pictures(train=2, test=1)
    found = open_unlabelled([KINDS[kind](plain, tmp_path / "kept")])
    contents = [found.read(i) for i in range(len(found))]
    assert sorted(contents) == sorted(path.read_bytes() for path in plain.rglob("*.png"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.jpg\nmy cat.jpg\n", ["a.jpg", "my cat.jpg"]),
        ("a.jpg 0\nmy cat.jpg sea lion\n", ["a.jpg", "my cat.jpg"]),
        ('path\n"a, b.jpg"\nc.jpg, cat', ["a, b.jpg", "c.jpg"]),
    ],
)
def test_lists_need_no_labels(tmp_path: Path, text: str, expected: list[str]) -> None:
    (tmp_path / "list.txt").write_text(text)
    for name in expected:
        (tmp_path / name).write_bytes(name.encode())
    found = open_unlabelled([tmp_path / "list.txt"])
    assert [found.read(i).decode() for i in range(len(found))] == expected


def test_a_list_stays_below_its_root(tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    (tmp_path / "a.jpg").write_bytes(b"above")
    for path in ("../a.jpg", str(tmp_path / "a.jpg")):
        (tmp_path / "lists" / "list.txt").write_text(path)
        with pytest.raises(DataError, match=r"list\.txt, line 1: .* lies outside .* --root"):
            open_unlabelled([tmp_path / "lists" / "list.txt"])
    (tmp_path / "lists" / "list.txt").write_text("a.jpg")
    assert open_unlabelled([tmp_path / "lists" / "list.txt"], root=tmp_path).read(0) == b"above"


def test_archives_need_neither_class_folders_nor_labels(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "pictures.zip", "w") as zipped:
        for name in ("top.jpg", "deep/er/one.png", "__MACOSX/._top.jpg", "notes.md"):
            zipped.writestr(name, name)
    with tarfile.open(tmp_path / "pictures.tar", "w") as shard:
        for name in ("one.jpg", "two.jpg", ".three.jpg", "notes.md"):
            info = tarfile.TarInfo(name)
            info.size = len(name)
            shard.addfile(info, io.BytesIO(name.encode()))
    found = open_unlabelled([tmp_path])
    assert [found.read(i).decode() for i in range(len(found))] == ["one.jpg", "two.jpg", "deep/er/one.png", "top.jpg"]


def test_a_data_set_with_secret_labels_can_be_read_without_them(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["x", "y"])})
    rows = {"image": [{"bytes": b"one", "path": None}, {"bytes": b"two", "path": None}], "label": [-1, -1]}
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(str(tmp_path / "kept"))
    found = open_unlabelled([tmp_path / "kept"])
    assert [found.read(i) for i in range(2)] == [b"one", b"two"]


def test_a_picture_that_unpacks_beyond_measure_is_left_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zips, "MAX_BYTES", 1000)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("bomb.jpg", bytes(1001))
    with pytest.raises(OSError, match=r"bomb\.jpg unpacks to 1001 bytes, the limit is 1000"):
        open_unlabelled([tmp_path / "bomb.zip"]).read(0)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.png", None, "does not exist"),
        ("broken.zip", b"no zip", "cannot be read as a zip file"),
        ("packed.tar", b"no tar", "cannot be read as an uncompressed tar file"),
        ("empty.txt", b"# nothing", "names no pictures"),
    ],
)
def test_what_cannot_be_opened_is_an_error(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=f"{name}.*{message}"):
        open_unlabelled([tmp_path / name])


def test_a_folder_without_pictures_is_an_error(tmp_path: Path) -> None:
    for opener in (list_pictures, open_unlabelled):
        with pytest.raises(DataError, match="holds no pictures"):
            opener([tmp_path])
