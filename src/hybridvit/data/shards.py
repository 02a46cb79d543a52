"""Pictures in tar shards of the webdataset layout, read by number.

Members with the same name up to the first dot are one sample: KEY.jpg with KEY.cls (the label) or KEY.json
({"label": ...}); without either, the picture's folder is its class. The shards' members are listed once and the list is
kept beside them. From then on a picture is one seek and one read, so samples keep their addresses: ranks and workers
share the shards as they share a folder, and runs resume exactly. The shards must lie on a disk, not behind a pipe.
"""

import json
import tarfile
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from hybridvit.data.folder import EXTENSIONS
from hybridvit.data.labels import number_labels, read_class_names
from hybridvit.data.source import Source
from hybridvit.errors import DataError
from hybridvit.files import replacing

INDEX_FILE = ".{name}.index.json"
FORMAT = 1


class Member(NamedTuple):
    """Where a picture lies: shard number, bytes from its beginning, length in bytes; its name and label in words."""

    shard: int
    offset: int
    size: int
    name: str
    label: str


class ShardSource(Source):
    """Pictures in tar files, by number."""

    def __init__(
        self, paths: Sequence[Path], class_names: Sequence[str], members: Sequence[Member], labels: Sequence[int]
    ) -> None:
        self.paths = paths
        self.class_names = tuple(class_names)
        self.members = members
        self.labels = labels

    def __len__(self) -> int:
        return len(self.members)

    def name(self, index: int) -> str:
        return f"{self.paths[self.members[index].shard]}/{self.members[index].name}"

    def read(self, index: int) -> bytes:
        member = self.members[index]
        with self.paths[member.shard].open("rb") as file:
            file.seek(member.offset)
            return file.read(member.size)


def read_shards(paths: Sequence[Path], *, class_names: Sequence[str] | None = None) -> ShardSource:
    """List the samples of tar files, in the files' order.

    Class names come from the caller, from classes.txt beside the shards, or from the labels.

    Raises:
        DataError: a shard is damaged or compressed, a sample has no label, or there are no pictures.
    """
    folder = paths[0].parent
    index_path = folder / INDEX_FILE.format(name=paths[0].stem)
    state = [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in paths]
    members = _load_index(index_path, state)
    if members is None:
        members = [member for number, path in enumerate(paths) for member in _list_members(path, number)]
        _keep_index(index_path, state, members)
    if not members:
        raise DataError(f"{paths[0]}{' ...' if len(paths) > 1 else ''}: no pictures ({', '.join(EXTENSIONS)}) inside.")
    class_names, labels = number_labels(
        [member.label for member in members], class_names or read_class_names(folder), source=str(paths[0])
    )
    return ShardSource(paths, class_names, members, labels)


def list_pictures_in(path: Path) -> list[Member]:
    """All pictures of one tar file, labelled or not. Raises: DataError when it is damaged, compressed or holds none."""
    try:
        with tarfile.open(path, "r:") as archive:
            found = [
                Member(0, info.offset_data, info.size, info.name, "")
                for info in archive
                if info.isreg() and info.name.lower().endswith(EXTENSIONS) and not _is_hidden(info.name)
            ]
    except (tarfile.TarError, OSError, EOFError) as error:
        raise _unreadable(path, error) from error
    if not found:
        raise DataError(f"{path}: no pictures ({', '.join(EXTENSIONS)}) inside.")
    return found


def _list_members(path: Path, number: int) -> Iterator[Member]:
    try:
        with tarfile.open(path, "r:") as archive:  # the colon: uncompressed only, or offsets would mean nothing
            files = (info for info in archive if info.isreg() and not _is_hidden(info.name))
            for key, group in groupby(files, key=lambda info: _key(info.name)):
                sample = list(group)
                pictures = [info for info in sample if info.name.lower().endswith(EXTENSIONS)]
                if pictures:
                    label = _label(archive, sample, key, path)
                    for info in pictures[:1]:
                        yield Member(number, info.offset_data, info.size, info.name, label)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(
        f"{path} cannot be read as an uncompressed tar file: {error}. "
        "Unpack .tar.gz first: pictures are compressed already."
    )


def _is_hidden(name: str) -> bool:
    return name.rpartition("/")[2].startswith(".")


def _key(name: str) -> str:
    folder, slash, file = name.rpartition("/")
    return folder + slash + file.partition(".")[0]


def _label(archive: tarfile.TarFile, sample: Sequence[tarfile.TarInfo], key: str, path: Path) -> str:
    by_extension = {info.name.rpartition("/")[2].partition(".")[2].lower(): info for info in sample}

    def text(extension: str) -> str:
        file = archive.extractfile(by_extension[extension])
        assert file is not None  # regular files only
        return file.read().decode("utf-8", errors="replace").strip()

    label: Any = None
    if "cls" in by_extension:
        label = text("cls")
    elif "json" in by_extension:
        try:
            label = json.loads(text("json")).get("label")
        except (ValueError, AttributeError):
            raise DataError(f"{path}: {key}.json is not a JSON object.") from None
    else:
        label = key.rpartition("/")[0].rpartition("/")[2]
    if label in (None, ""):
        raise DataError(f'{path}: {key} has no label. Expected {key}.cls, {key}.json with "label", or a class folder.')
    return str(label)


def _load_index(path: Path, state: Sequence[Sequence[Any]]) -> list[Member] | None:
    """The kept list, if it is of these very files."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["format"] == FORMAT and kept["shards"] == state:
            return [Member(*values) for values in kept["members"]]
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def _keep_index(path: Path, state: Sequence[Sequence[Any]], members: Sequence[Member]) -> None:
    try:
        with replacing(path) as temporary:
            temporary.write_text(json.dumps({"format": FORMAT, "shards": state, "members": members}), encoding="utf-8")
    except OSError:
        pass  # a read-only folder: the list is made anew each time
