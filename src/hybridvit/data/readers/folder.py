"""Pictures in a folder."""

import os
import stat
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from hybridvit.data.layout import Entry, arrange, pictures
from hybridvit.data.readers.files import FileSource
from hybridvit.data.source import Counts
from hybridvit.errors import DataError
from hybridvit.output import printable

LINKED = "folders that link to where they lie"
CLASS_DEPTH = 2
"""Folders down to here are classes, or hold them: each lists what is linked for itself."""


class Folder:
    """Files below a folder, by their paths."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def name(self, place: str) -> str:
        return str(self.root / place)

    def read(self, place: str) -> bytes:
        path = self.root / place
        if not stat.S_ISREG(path.stat().st_mode):
            raise OSError(f"{path} is no regular file")
        return path.read_bytes()


def read_folder(
    root: str | Path, *, class_names: Sequence[str] | None = None, beside: Counts | None = None
) -> FileSource:
    """The pictures below ROOT/CLASS/, at any depth, in the same order on every machine.

    Classes are sorted by name, as torchvision's ImageFolder sorts them; `class_names` say only how to spell them. `beside`
    is added to the counts.

    Raises:
        DataError: the folder is missing, holds no class folders or no pictures, or a class is empty.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root} is not a folder.")
    entries, loops = walk(root)
    beside = Counts.total([loops, beside or Counts()])
    found = arrange(entries, where=printable(str(root)), class_names=class_names, beside=beside)
    return FileSource(
        Folder(root), found.places, class_names=found.class_names, labels=found.labels, counts=found.counts
    )


def find_pictures(folder: Path) -> list[str]:
    """The paths of all pictures below a folder, from there; none where there is no such folder."""
    return pictures(walk(folder)[0])[0] if folder.is_dir() else []


def walk(root: Path, *, skip: Collection[str] = ()) -> tuple[list[Entry], Counts]:
    """All files and folders below `root`, links followed, sorted; and how many links lead back to where they lie.

    skip: names of folders at the top.

    A folder is listed once on each way down to a class, and once below it, by however many links it is reached.

    Raises: DataError when a folder cannot be listed.
    """
    loops = 0

    def below(folder: str, prefix: str, seen: set[tuple[int, int]], depth: int) -> Iterator[Entry]:
        nonlocal loops
        try:
            with os.scandir(folder) as listed:
                found = sorted(listed, key=lambda entry: entry.name)
        except OSError as error:
            raise DataError(f"{printable(folder)} cannot be listed: {error.strerror}.") from error
        folders = []
        for entry in found:
            if entry.is_dir():
                folders += [entry] if depth or entry.name not in skip else []
            elif entry.is_file() or entry.is_symlink():  # a link to nothing is a picture that cannot be read
                yield Entry(prefix + entry.name, prefix + entry.name)
            else:
                yield Entry(prefix + entry.name, None, reason="no regular file")  # reading a pipe would wait for ever
        for entry in folders:
            status = entry.stat()
            identity = status.st_dev, status.st_ino
            if identity in seen:
                loops += 1
                continue
            here = seen if depth >= CLASS_DEPTH else set(seen)
            here.add(identity)
            yield Entry(f"{prefix}{entry.name}/", None)
            yield from below(entry.path, f"{prefix}{entry.name}/", here, depth + 1)

    status = root.stat()
    entries = list(below(str(root), "", {(status.st_dev, status.st_ino)}, 0))
    return entries, Counts(0, {LINKED: loops} if loops else {})
