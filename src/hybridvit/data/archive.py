"""Pictures in a zip file of class folders, read without unpacking it."""

import os
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from hybridvit.data.folder import EXTENSIONS, TEST_FOLDERS
from hybridvit.data.source import Source
from hybridvit.errors import DataError

MAX_BYTES = 1 << 30
"""Of one picture, unpacked: more than any within the limit of pixels, less than a bomb."""


class ZipSource(Source):
    """Pictures in a zip file. Each process opens the file for itself: a shared one would share its position."""

    def __init__(self, path: Path, class_names: Sequence[str], members: Sequence[str], labels: Sequence[int]) -> None:
        self.path = path
        self.class_names = tuple(class_names)
        self.members = members
        self.labels = labels
        self._opened: tuple[int, zipfile.ZipFile] | None = None

    def __len__(self) -> int:
        return len(self.members)

    def name(self, index: int) -> str:
        return f"{self.path}/{self.members[index]}"

    def read(self, index: int) -> bytes:
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = os.getpid(), zipfile.ZipFile(self.path)
        return read_member(self._opened[1], self.members[index])

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_opened": None}


def read_member(archive: zipfile.ZipFile, member: str) -> bytes:
    """Raises: OSError when it is too large, damaged, encrypted or packed in a way that Python does not know."""
    try:
        info = archive.getinfo(member)
        if info.file_size > MAX_BYTES:
            raise OSError(f"{archive.filename}/{member} unpacks to {info.file_size} bytes, the limit is {MAX_BYTES}.")
        return archive.read(info)
    except (zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, EOFError) as error:
        raise OSError(f"{archive.filename}/{member}: {error}") from error


def list_members(path: Path) -> list[str]:
    """All pictures in a zip file, sorted. Raises: DataError when it cannot be read or holds none."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = sorted(name for name in archive.namelist() if _is_picture(name))
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} cannot be read as a zip file: {error}.") from error
    if not members:
        raise DataError(f"{path} holds no pictures ({', '.join(EXTENSIONS)}).")
    return members


def read_zip(path: str | Path) -> dict[str, ZipSource]:
    """The archive's parts by name: train, test, val ..., or only "" where class folders stand at the top.

    A folder that holds everything else is looked through.

    Raises:
        DataError: no zip file, or no class folders with pictures in it.
    """
    path = Path(path)
    members = list_members(path)
    parts = [PurePosixPath(member).parts for member in members]
    depth = 0
    while len({names[depth] for names in parts}) == 1 and min(map(len, parts)) > depth + 2:
        depth += 1
    tops = {names[depth] for names in parts}
    if "train" in tops:
        split = {
            part: [i for i, names in enumerate(parts) if names[depth] == part] for part in ("train", *TEST_FOLDERS)
        }
        return {
            part: _by_class(path, [(members[i], parts[i][depth + 1 :]) for i in which])
            for part, which in split.items()
            if which
        }
    return {"": _by_class(path, [(member, names[depth:]) for member, names in zip(members, parts, strict=True)])}


def _by_class(path: Path, members: Sequence[tuple[str, tuple[str, ...]]]) -> ZipSource:
    loose = [member for member, names in members if len(names) < 2]
    if loose:
        raise DataError(f"{path} has pictures outside class folders, such as {loose[0]}. Expected CLASS/PICTURE.jpg.")
    class_names = sorted({names[0] for _, names in members})
    place = {name: k for k, name in enumerate(class_names)}
    return ZipSource(path, class_names, [m for m, _ in members], [place[names[0]] for _, names in members])


def _is_picture(name: str) -> bool:
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))
    return name.lower().endswith(EXTENSIONS) and not hidden
