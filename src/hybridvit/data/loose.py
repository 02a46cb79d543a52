"""Pictures without labels, named one by one or by folder."""

from collections.abc import Sequence
from pathlib import Path

from hybridvit.data.folder import EXTENSIONS, find_pictures
from hybridvit.errors import DataError

NO_LABEL = -1


class LooseSource:
    """Pictures at any paths. Their labels say that there is none."""

    def __init__(self, paths: Sequence[Path], class_names: Sequence[str]) -> None:
        self.paths = paths
        self.class_names = tuple(class_names)
        self.labels: Sequence[int] = [NO_LABEL] * len(paths)

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, index: int) -> str:
        return str(self.paths[index])

    def read(self, index: int) -> bytes:
        return self.paths[index].read_bytes()


def list_pictures(paths: Sequence[str | Path]) -> list[Path]:
    """Files as they are named, whatever their suffix; of a folder, all pictures in it at any depth.

    Raises: DataError for a path that does not exist and for a folder without pictures.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if not path.exists():
            raise DataError(f"{path} does not exist.")
        inside = [path / name for name in find_pictures(path)] if path.is_dir() else [path]
        if not inside:
            raise DataError(f"{path} holds no pictures ({', '.join(EXTENSIONS)}).")
        found += inside
    return found
