"""Pictures in class folders: DIR/train/CLASS/*.jpg and DIR/test/CLASS/*.jpg (or val)."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from hybridvit.data.source import Source, Splits
from hybridvit.errors import DataError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".jp2")
TEST_FOLDERS = ("test", "val", "validation")


class FolderSource(Source):
    """Pictures below one folder per class. Classes are sorted by name, as torchvision's ImageFolder sorts them."""

    def __init__(self, root: Path, class_names: Sequence[str], paths: Sequence[str], labels: Sequence[int]) -> None:
        self.root = root
        self.class_names = tuple(class_names)
        self.paths = paths
        self.labels = labels

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, index: int) -> str:
        return str(self.root / self.paths[index])

    def read(self, index: int) -> bytes:
        return (self.root / self.paths[index]).read_bytes()


def read_folder(root: str | Path) -> FolderSource:
    """List the pictures below ROOT/CLASS/, at any depth.

    Raises:
        DataError: the folder is missing, holds no class folders or no pictures, or a class is empty.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root} is not a folder.")
    class_names = sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not _hidden(entry.name))
    if not class_names:
        loose = next(find_pictures(root), None)
        found = f"found loose pictures such as {loose}" if loose else "it is empty"
        raise DataError(f"{root} has no class folders: {found}. Expected {root}/CLASS/PICTURE.jpg.")
    paths: list[str] = []
    labels: list[int] = []
    empty: list[str] = []
    for label, class_name in enumerate(class_names):
        found_paths = [os.path.join(class_name, path) for path in find_pictures(root / class_name)]
        if not found_paths:
            empty.append(class_name)
        paths += found_paths
        labels += [label] * len(found_paths)
    if not paths:
        raise DataError(f"{root} holds no pictures ({', '.join(EXTENSIONS)}) in its {len(class_names)} class folders.")
    if empty:
        raise DataError(
            f"{root} has class folders without pictures: {_some(empty)}. Remove these folders, or fill them; "
            f"pictures end in {', '.join(EXTENSIONS)}."
        )
    return FolderSource(root, class_names, paths, labels)


def read_splits(root: str | Path) -> Splits:
    """Read ROOT/train and ROOT/test (or val, validation).

    Raises:
        DataError: as read_folder; or a split is missing, the classes differ, or there are fewer than two.
    """
    root = Path(root)
    if not (root / "train").is_dir():
        state = "has no folder train" if root.is_dir() else "does not exist"
        raise DataError(f"{root} {state}. Expected {root}/train/CLASS/PICTURE.jpg and {root}/test/CLASS/PICTURE.jpg.")
    train, test = read_folder(root / "train"), read_folder(find_test_folder(root))
    differences = []
    for one, other in ((train, test), (test, train)):
        missing = sorted(set(one.class_names) - set(other.class_names))
        if missing:
            differences.append(f"only in {one.root.name}: {_some(missing)}")
    if differences:
        raise DataError(
            f"{root}: the classes of train and {test.root.name} differ ({'; '.join(differences)}). "
            "Give both the same class folders."
        )
    if len(train.class_names) < 2:
        raise DataError(f"{train.root} has one class ({train.class_names[0]}); telling classes apart takes two.")
    return Splits(train, test)


def find_test_folder(root: Path) -> Path:
    """ROOT/test, ROOT/val or ROOT/validation. Raises DataError when there is none, or more than one."""
    found = [root / name for name in TEST_FOLDERS if (root / name).is_dir()]
    if len(found) != 1:
        state = f"has {' and '.join(path.name for path in found)}" if found else "has no folder test or val"
        raise DataError(f"{root} {state}. Expected exactly one of {', '.join(TEST_FOLDERS)} beside train.")
    return found[0]


def find_pictures(folder: Path) -> Iterator[str]:
    """Paths relative to `folder`, in the same order on every machine."""
    for parent, folders, files in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not _hidden(name))
        for name in sorted(files):
            if name.lower().endswith(EXTENSIONS) and not _hidden(name):
                yield os.path.relpath(os.path.join(parent, name), folder)


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _some(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
