"""Which of the layouts a folder of pictures with boxes has; it finds itself.

DIR/train/_annotations.coco.json      and DIR/valid (or val, validation, test): COCO beside the pictures
DIR/annotations/instances_train*.json and ..._val*.json, pictures in DIR/train*, DIR/images/train* or DIR/images: COCO
DIR/data.yaml                         YOLO
DIR/Annotations/*.xml                 Pascal VOC, parts in DIR/ImageSets/Main/train.txt and val.txt
DIR/train/*.xml                       VOC beside the pictures
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from hybridvit.data.detection.coco import read_coco
from hybridvit.data.detection.raw import RawPictures
from hybridvit.data.detection.source import DetectionSource
from hybridvit.data.detection.voc import read_voc
from hybridvit.data.detection.yolo import read_yolo, settings_of
from hybridvit.data.scenes import COCO_NAME, RECIPE_NAME, DigitScenes, read_scene_recipe
from hybridvit.data.source import Source, Splits
from hybridvit.data.split import hold_out
from hybridvit.errors import DataError

TRAIN = "train"
WHOLE = ""
TESTS = ("val", "valid", "validation", "test")
"""To be evaluated on, the first that there is: sets that have both keep test for the end."""
YOLO_NAME = "data.yaml"

Read = Callable[[], RawPictures]
Opener = Callable[[Sequence[str] | None], Source]
"""Opens a part; gets the class names of the training part."""


def open_box_splits(
    path: str | Path, *, root: Path | None = None, columns: Sequence[str] = (), val_split: float = 0.0
) -> Splits:
    """The parts to train on and to be evaluated on; with val_split, a data set in one piece is divided.

    Raises: DataError where there is no known layout, a part is missing, or annotations are refused.
    """
    parts = _parts(path, root, columns)
    tests = [name for name in TESTS if name in parts]
    if val_split:
        if tests:
            raise DataError(f"{path} has its own {tests[0]} part; --val-split is for data sets without one.")
        return hold_out(next(iter(parts.values()))(None), val_split)
    if TRAIN not in parts or not tests:
        raise DataError(
            f"{path} has {_named(parts)}. Training takes a part train and one of {', '.join(TESTS)}. Use --val-split 0.2 to hold "
            "out a fifth of the pictures of a data set in one piece."
        )
    train = parts[TRAIN](None)
    return Splits(train=train, test=parts[tests[0]](train.class_names))


def open_box_test(
    path: str | Path, *, root: Path | None = None, columns: Sequence[str] = (), val_split: float = 0.0
) -> tuple[str, Source]:
    """The part to be evaluated on, with its name. Raises: DataError as open_box_splits."""
    if val_split:
        return f"{path} (the {val_split:g} held out)", open_box_splits(
            path, root=root, columns=columns, val_split=val_split
        ).test
    parts = _parts(path, root, columns)
    name = next((name for name in (*TESTS, WHOLE) if name in parts), None)
    if name is None:
        raise DataError(f"{path} has {_named(parts)}, and none to be evaluated on: {', '.join(TESTS)}.")
    train_names = parts[TRAIN](None).class_names if TRAIN in parts else None
    return f"{path}/{name}" if name else str(path), parts[name](train_names)


def open_box_parts(path: str | Path) -> dict[str, Source]:
    """Every part there is, by name. Raises: DataError as open_box_splits."""
    opened: dict[str, Source] = {}
    class_names: Sequence[str] | None = None
    for name, opener in _parts(path, None, ()).items():
        opened[name] = opener(class_names)
        class_names = class_names or opened[name].class_names
    return opened


def _parts(path: str | Path, root: Path | None, columns: Sequence[str]) -> dict[str, Opener]:
    if root is not None or columns:
        raise DataError(
            "--root and --columns are for lists and tables; pictures with boxes are found by their annotation files."
        )
    parts = find_boxes(Path(path))
    if not parts:
        raise DataError(
            f"{path} has no boxes in a layout that is known: train/{COCO_NAME}, annotations/instances_train.json, {YOLO_NAME}, "
            "Annotations/*.xml or train/*.xml (docs/detect.md)."
        )
    return parts


def _named(parts: Mapping[str, Any]) -> str:
    return f"the parts {', '.join(parts)}" if list(parts) != [WHOLE] else "no parts"


def find_boxes(root: Path) -> dict[str, Opener]:
    """How to open each part, train first; empty where the folder holds no such layout. Nothing is read yet."""
    for find in (_coco_beside, _coco_apart, _yolo, _voc, _voc_beside):
        parts: dict[str, Opener] = {part: partial(_open, read) for part, read in find(root).items()}
        if (root / TRAIN / RECIPE_NAME).is_file():
            parts = {TRAIN: partial(_compose, root / TRAIN / RECIPE_NAME), **parts}
        if parts:
            return parts
    return {}


def _open(read: Read, class_names: Sequence[str] | None) -> Source:
    return DetectionSource(read(), class_names)


def _compose(file: Path, class_names: Sequence[str] | None) -> Source:
    return DigitScenes(**read_scene_recipe(file))


def _coco_beside(root: Path) -> dict[str, Read]:
    return {
        part: partial(read_coco, root / part / COCO_NAME, root / part)
        for part in (TRAIN, *TESTS)
        if (root / part / COCO_NAME).is_file()
    }


def _coco_apart(root: Path) -> dict[str, Read]:
    parts: dict[str, Read] = {}
    for part in (TRAIN, *TESTS):
        files = sorted((root / "annotations").glob(f"instances_{part}*.json"))
        if len(files) > 1:
            raise DataError(f"{root / 'annotations'} has several files for {part}: {', '.join(f.name for f in files)}.")
        if files:
            named = files[0].stem.removeprefix("instances_")
            folders = (
                root / named,
                root / "images" / named,
                root / part,
                root / "images" / part,
                root / "images",
                root,
            )
            parts[part] = partial(read_coco, files[0], next(folder for folder in folders if folder.is_dir()))
    return parts


def _yolo(root: Path) -> dict[str, Read]:
    file = next((path for path in (root / YOLO_NAME, root / "data.yml") if path.is_file()), None)
    if file is None:
        return {}
    settings = settings_of(file)
    return {part: partial(read_yolo, file, part) for part in (TRAIN, *TESTS) if settings.get(part)}


def _voc(root: Path) -> dict[str, Read]:
    folder = root / "Annotations"
    if not any(folder.glob("*.xml")):
        return {}
    pictures = next((path for path in (root / "JPEGImages", root / "images") if path.is_dir()), root)
    parts: dict[str, Read] = {}
    for part in (TRAIN, *TESTS):
        lines = root / "ImageSets" / "Main" / f"{part}.txt"
        if lines.is_file():
            stems = [line.split()[0] for line in lines.read_text(encoding="utf-8").splitlines() if line.strip()]
            parts[part] = partial(read_voc, lines, [folder / f"{stem}.xml" for stem in stems], pictures)
    return parts or {WHOLE: partial(read_voc, folder, sorted(folder.glob("*.xml")), pictures)}


def _voc_beside(root: Path) -> dict[str, Read]:
    return {
        part: partial(read_voc, root / part, sorted((root / part).glob("*.xml")), root / part)
        for part in (TRAIN, *TESTS)
        if any((root / part).glob("*.xml"))
    }
