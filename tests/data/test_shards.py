"""data/shards.py: what a shard may hold, and the list of members that is kept beside it."""

import io
import os
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from hybridvit.data.shards import read_shards
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
    source = read_shards([shard(tmp_path / "a.tar", PLAIN)])
    assert [(source.read(i), source.labels[i]) for i in range(len(source))] == [(b"zero", 1), (b"one", 0)]


def test_the_list_of_members_is_made_once_and_again_when_a_shard_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = shard(tmp_path / "a.tar", PLAIN)
    first = read_shards([path])
    with monkeypatch.context() as patch:
        patch.setattr(tarfile, "open", lambda *_, **__: pytest.fail("the shard was listed again"))
        second = read_shards([path])
    assert (second.members, second.labels) == (first.members, first.labels)
    shard(path, [*PLAIN, ("3.jpg", b"three"), ("3.cls", b"1")])
    os.utime(path, ns=(1, 1))
    assert len(read_shards([path])) == 3


def test_a_damaged_index_or_a_read_only_folder_does_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = shard(tmp_path / "a.tar", PLAIN)
    (tmp_path / ".a.index.json").write_text('{"format": 1')

    def refuse(*_: object) -> None:
        raise PermissionError("read-only")

    monkeypatch.setattr("hybridvit.data.shards.replacing", refuse)
    assert len(read_shards([path])) == 2


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("0.jpg", b"zero")], r"0 has no label\. Expected 0\.cls"),
        ([("0.jpg", b"zero"), ("0.json", b"[1]")], r"0\.json is not a JSON object"),
        ([("0.txt", b"zero")], "no pictures"),
    ],
)
def test_samples_without_label_or_picture_are_refused(
    tmp_path: Path, members: list[tuple[str, bytes]], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        read_shards([shard(tmp_path / "a.tar", members)])


def test_a_compressed_or_cut_shard_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="uncompressed tar"):
        read_shards([shard(tmp_path / "a.tar", PLAIN, mode="w:gz")])
    (tmp_path / "b.tar").write_bytes(b"not a tar file" * 100)
    with pytest.raises(DataError, match="uncompressed tar"):
        read_shards([tmp_path / "b.tar"])


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    """A link in an archive could point at any file of the machine."""
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        link = tarfile.TarInfo("a/x.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    with pytest.raises(DataError, match="no pictures"):
        read_shards([tmp_path / "a.tar"])
