"""data/readers/tar.py: what a tar file may hold, and the list of members that is kept beside it."""

import io
import os
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from hybridvit.data.opening import open_test
from hybridvit.errors import DataError


def shard(path: Path, members: Sequence[tuple[str, bytes]], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


PLAIN = [("0.jpg", b"zero"), ("0.cls", b"1\n"), ("1.cls", b"0"), ("1.PNG", b"one"), ("2.txt", b"no picture")]


def test_label_and_picture_belong_together_in_any_order(tmp_path: Path) -> None:
    source = open_test(shard(tmp_path / "a.tar", PLAIN))[1]
    assert [(source.read(i), source.labels[i]) for i in range(len(source))] == [(b"zero", 1), (b"one", 0)]


def test_the_list_of_members_is_made_once_and_again_when_a_shard_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = shard(tmp_path / "a.tar", PLAIN)
    first = open_test(path)[1]
    with monkeypatch.context() as patch:
        patch.setattr(tarfile, "open", lambda *_, **__: pytest.fail("the shard was listed again"))
        second = open_test(path)[1]
    assert [second.name(i) for i in range(2)] == [first.name(i) for i in range(2)]
    assert [second.read(i) for i in range(2)] == [first.read(i) for i in range(2)]
    assert second.labels == first.labels
    shard(path, [*PLAIN, ("3.jpg", b"three"), ("3.cls", b"1")])
    os.utime(path, ns=(1, 1))
    assert len(open_test(path)[1]) == 3


def test_a_damaged_index_or_a_read_only_folder_does_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = shard(tmp_path / "a.tar", PLAIN)
    (tmp_path / ".a.index.json").write_text('{"format": 1')

    def refuse(*_: object) -> None:
        raise PermissionError("read-only")

    monkeypatch.setattr("hybridvit.data.readers.tar.replacing", refuse)
    assert len(open_test(path)[1]) == 2


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("0.jpg", b"zero")], r"has no class folders.*such as 0\.jpg\. Expected .*, or KEY\.cls beside KEY\.jpg"),
        ([("0.jpg", b"zero"), ("0.json", b"[1]")], r"0\.json is not a JSON object"),
        ([("0.txt", b"zero")], "no pictures"),
    ],
)
def test_samples_without_label_or_picture_are_refused(
    tmp_path: Path, members: list[tuple[str, bytes]], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        open_test(shard(tmp_path / "a.tar", members))[1]


def test_a_compressed_or_cut_shard_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="uncompressed tar"):
        open_test(shard(tmp_path / "a.tar", PLAIN, mode="w:gz"))[1]
    (tmp_path / "b.tar").write_bytes(b"not a tar file" * 100)
    with pytest.raises(DataError, match="uncompressed tar"):
        open_test(tmp_path / "b.tar")[1]


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    """A link in an archive could point at any file of the machine."""
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        link = tarfile.TarInfo("a/x.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    with pytest.raises(DataError, match="no pictures"):
        open_test(tmp_path / "a.tar")[1]


def test_a_label_may_lie_anywhere_in_the_file_and_a_key_may_hold_dots(tmp_path: Path) -> None:
    members = [("x/a.000.jpg", b"0"), ("x/a.001.jpg", b"1"), ("y/b.v2.png", b"2"), ("x/a.001.cls", b"one")]
    members += [("x/a.000.cls", b"nought"), ("y/b.json", b'{"label": "two"}'), ("about.json", b"{}")]
    source = open_test(shard(tmp_path / "a.tar", members))[1]
    found = {source.read(i): source.class_names[source.target(i)] for i in range(len(source))}
    assert found == {b"0": "nought", b"1": "one", b"2": "two"}
    assert source.counts.to_dict() == {"seen": 4, "taken": 3, "passed_over": {"no picture (.json)": 1}}


def test_a_mask_beside_a_picture_is_passed_over_and_counted(tmp_path: Path) -> None:
    members = [("0.seg.png", b"mask"), ("0.jpg", b"zero"), ("0.cls", b"0"), ("1.jpg", b"one"), ("1.cls", b"1")]
    source = open_test(shard(tmp_path / "a.tar", members))[1]
    assert [source.read(i) for i in range(len(source))] == [b"zero", b"one"]
    assert source.counts.passed_over == {"further files of a sample": 1}


def test_one_label_for_several_pictures_is_refused(tmp_path: Path) -> None:
    members = [("0.left.jpg", b"l"), ("0.right.jpg", b"r"), ("0.cls", b"0")]
    with pytest.raises(DataError, match=r"0\.cls labels several pictures: 0\.left\.jpg, 0\.right\.jpg"):
        open_test(shard(tmp_path / "a.tar", members))


def test_labels_for_some_pictures_only_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"1\.jpg has no label, others have"):
        open_test(shard(tmp_path / "a.tar", [("0.jpg", b"0"), ("0.cls", b"0"), ("1.jpg", b"1")]))


def test_a_hard_link_is_the_file_it_links_to_and_of_two_of_one_name_the_last_counts(tmp_path: Path) -> None:
    path = shard(tmp_path / "a.tar", [("a/0.jpg", b"old"), ("b/0.jpg", b"b")])
    with tarfile.open(path, "a") as archive:
        link = tarfile.TarInfo("b/1.jpg")
        link.type, link.linkname = tarfile.LNKTYPE, "b/0.jpg"
        archive.addfile(link)
        again = tarfile.TarInfo("a/0.jpg")
        again.size = 3
        archive.addfile(again, io.BytesIO(b"new"))
    source = open_test(path)[1]
    assert [source.read(i) for i in range(len(source))] == [b"new", b"b", b"b"]
