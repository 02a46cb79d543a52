"""What --data names, opened: class folders, list files, zip files, tar shards or a Hugging Face data set.

A data set has parts (train; test, val or validation) or is one whole. Parts are found as

    DIR/train/        and DIR/test/           each of class folders or of tar shards
    DIR/train.zip     and DIR/val.zip         or one FILE.zip with train/ and val/ in it
    DIR/train.txt     and DIR/val.txt         list files; .csv, .tsv and .lst, too
    DIR/train-00.tar  and DIR/val-00.tar      tar shards, any number of them
    DIR/dataset_dict.json                     saved by the Hugging Face library
"""

import re
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from hybridvit.data.archive import ZipSource, read_member, read_zip
from hybridvit.data.folder import TEST_FOLDERS, find_test_folder, read_folder, read_splits
from hybridvit.data.huggingface import is_saved_dataset, read_saved_dataset
from hybridvit.data.listfile import SUFFIXES, read_list
from hybridvit.data.shards import read_shards
from hybridvit.data.source import Source, Splits
from hybridvit.data.split import hold_out
from hybridvit.errors import DataError

PARTS = ("train", *TEST_FOLDERS)
WHOLE = ""
ROW = re.compile(r"row (\d+)")
"""The last part of a picture's name in a Hugging Face data set."""

Opener = Callable[[Sequence[str] | None], Source]
"""Opens one part; gets the class names of the training part, for kinds that do not bring their own."""


def open_splits(path: str | Path, *, root: Path | None = None, val_split: float = 0.0) -> Splits:
    """Open a data set to train on. With val_split, a whole is divided, and a training part without a test part, too.

    Raises:
        DataError: nothing there that can be read, a part is missing, the classes differ, or there are fewer than two.
    """
    path = Path(path)
    is_tree = (path / "train").is_dir() and not any((path / "train").glob("*.tar")) and not is_saved_dataset(path)
    if is_tree and not val_split:
        return read_splits(path)
    openers = _find(path, root)
    tests = [name for name in TEST_FOLDERS if name in openers]
    if val_split:
        if tests:
            raise DataError(f"{path} has its own {tests[0]} part; --val-split is for data sets without one.")
        return _checked(hold_out(next(iter(openers.values()))(None), val_split), path)
    if "train" not in openers or len(tests) != 1:
        found = f"the parts {', '.join(openers)}" if WHOLE not in openers else "one whole"
        raise DataError(
            f"{path} is {found}. Training takes a part train and one of {', '.join(TEST_FOLDERS)}. "
            "Use --val-split 0.2 to hold out a fifth of the pictures of a data set in one piece."
        )
    train = openers["train"](None)
    return _checked(Splits(train=train, test=openers[tests[0]](train.class_names)), path)


def open_test(path: str | Path, *, root: Path | None = None, val_split: float = 0.0) -> tuple[str, Source]:
    """The part to be judged on, with its name: test or val, the share that was held out, or the whole.

    Raises: DataError as open_splits.
    """
    path = Path(path)
    if val_split:
        return f"{path} (the {val_split:g} held out)", open_splits(path, root=root, val_split=val_split).test
    if path.is_dir() and any((path / name).is_dir() for name in PARTS) and not is_saved_dataset(path):
        folder = find_test_folder(path)
        return str(folder), _open_folder(folder)(None)
    openers = _find(path, root)
    if WHOLE in openers:
        return str(path), openers[WHOLE](None)
    tests = [name for name in TEST_FOLDERS if name in openers]
    if len(tests) != 1:
        raise DataError(
            f"{path} has the parts {', '.join(openers)}; expected exactly one of {', '.join(TEST_FOLDERS)}."
        )
    train_names = openers["train"](None).class_names if "train" in openers else None
    return f"{path}/{tests[0]}", openers[tests[0]](train_names)


def open_parts(path: str | Path, *, root: Path | None = None) -> dict[str, Source]:
    """Every part there is, by name; "" where the data set is one whole. Raises: DataError as open_splits."""
    parts: dict[str, Source] = {}
    class_names: Sequence[str] | None = None
    for name, opener in _find(Path(path), root).items():
        parts[name] = opener(class_names)
        if class_names is not None and tuple(parts[name].class_names) != tuple(class_names):
            raise _other_classes(Path(path), class_names, parts[name].class_names)
        class_names = parts[name].class_names
    return parts


def read_named(name: str) -> bytes:
    """The bytes of a picture by the name its source gave it, also inside a zip, a tar file or a saved data set.

    Raises: OSError when there is no such picture any more.
    """
    path = Path(name)
    row = ROW.fullmatch(path.name)
    if row and is_saved_dataset(path.parent):
        return _read_row(path.parent, int(row[1]))
    archive = next((parent for parent in path.parents if parent.is_file()), None)
    if archive is None:
        return path.read_bytes()
    member = path.relative_to(archive).as_posix()
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as zipped:
                return read_member(zipped, member)
        with tarfile.open(archive, "r:") as shard:
            file = shard.extractfile(member)
            return file.read() if file else b""
    except (KeyError, tarfile.TarError) as error:
        raise OSError(f"{name}: {error}") from error


def _read_row(folder: Path, row: int) -> bytes:
    try:
        return read_saved_dataset(folder, labelled=False)[WHOLE].read(row)
    except (DataError, IndexError) as error:
        raise OSError(f"{folder}, row {row}: {error}") from error


def _find(path: Path, root: Path | None) -> dict[str, Opener]:
    """How to open each part of what lies at `path`; a whole has the name "". Nothing is opened yet, but archives."""
    if not path.exists():
        raise DataError(f"{path} does not exist.")
    if path.is_file():
        return _find_in_file(path, root)
    if is_saved_dataset(path):
        return {name: _as_opened(source) for name, source in read_saved_dataset(path).items()}
    folders = {name: _open_folder(path / name) for name in PARTS if (path / name).is_dir()}
    if folders:
        return folders
    lists = [path / f"{part}{suffix}" for part in PARTS for suffix in SUFFIXES]
    lists = [file for file in lists if file.is_file()]
    if lists:
        return {file.stem: partial(_open_list, file, root) for file in lists}
    zips = {part: path / f"{part}.zip" for part in PARTS if (path / f"{part}.zip").is_file()}
    if zips:
        return {part: _as_opened(_single(read_zip(file), file)) for part, file in zips.items()}
    shards = sorted(path.glob("*.tar"))
    if shards:
        by_part = {part: [shard for shard in shards if _first_word(shard) == part] for part in PARTS}
        found: dict[str, Opener] = {part: partial(_open_shards, some) for part, some in by_part.items() if some}
        return found or {WHOLE: partial(_open_shards, shards)}
    return {WHOLE: _open_folder(path)}


def _find_in_file(path: Path, root: Path | None) -> dict[str, Opener]:
    suffix = path.suffix.lower()
    if suffix in SUFFIXES:
        return {WHOLE: partial(_open_list, path, root)}
    if suffix == ".tar":
        return {WHOLE: partial(_open_shards, [path])}
    if suffix == ".zip":
        return {name: _as_opened(source) for name, source in read_zip(path).items()}
    raise DataError(f"{path} is neither a folder nor a list ({', '.join(SUFFIXES)}), a .zip or a .tar file.")


def _first_word(path: Path) -> str:
    return re.split("[^a-z]", path.name, maxsplit=1)[0]


def _open_folder(folder: Path) -> Opener:
    shards = sorted(folder.glob("*.tar"))
    return partial(_open_shards, shards) if shards else lambda _: read_folder(folder)


def _open_shards(paths: Sequence[Path], class_names: Sequence[str] | None) -> Source:
    return read_shards(paths, class_names=class_names)


def _open_list(path: Path, root: Path | None, class_names: Sequence[str] | None) -> Source:
    return read_list(path, root=root, class_names=class_names)


def _as_opened(source: Source) -> Opener:
    return lambda _: source


def _single(parts: dict[str, ZipSource], path: Path) -> Source:
    if list(parts) != [WHOLE]:
        raise DataError(f"{path} has parts of its own ({', '.join(parts)}); name it itself with --data.")
    return parts[WHOLE]


def _checked(splits: Splits, path: Path) -> Splits:
    train, test = splits.train.class_names, splits.test.class_names
    if tuple(train) != tuple(test):
        raise _other_classes(path, train, test)
    if len(train) < 2:
        raise DataError(f"{path} has one class ({', '.join(train)}); telling classes apart takes two.")
    return splits


def _other_classes(path: Path, one: Sequence[str], other: Sequence[str]) -> DataError:
    odd = ", ".join(sorted(set(one) ^ set(other))[:5])
    return DataError(f"{path}: the classes of its parts differ ({odd or 'in their order'}). Give all parts the same.")
