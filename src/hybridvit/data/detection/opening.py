"""Which of the layouts a folder of pictures with boxes has; it finds itself.

DIR/train/_annotations.coco.json      and DIR/valid (or val, validation, test): COCO beside the pictures
DIR/annotations/instances_train*.json and ..._val*.json, pictures in DIR/train*, DIR/images/train* or DIR/images: COCO
DIR/data.yaml                         YOLO
DIR/Annotations/*.xml                 Pascal VOC, parts in DIR/ImageSets/Main/train.txt and val.txt
DIR/train/*.xml                       VOC beside the pictures
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from hybridvit.data.detection.coco import read_coco
from hybridvit.data.detection.raw import RawPictures
from hybridvit.data.detection.source import DetectionSource
from hybridvit.data.detection.voc import read_voc
from hybridvit.data.detection.yolo import read_yolo, settings_of
from hybridvit.errors import DataError

TRAIN = "train"
TESTS = ("val", "valid", "validation", "test")
"""To be judged on, the first that there is: sets that have both keep test for the end."""
COCO_NAME = "_annotations.coco.json"
YOLO_NAME = "data.yaml"

Read = Callable[[], RawPictures]


def find_boxes(root: Path) -> dict[str, Callable[[Sequence[str] | None], DetectionSource]]:
    """How to open each part, train first; empty where the folder holds no such layout. Nothing is read yet."""
    for find in (_coco_beside, _coco_apart, _yolo, _voc, _voc_beside):
        parts = find(root)
        if parts:
            return {part: partial(_open, read) for part, read in parts.items()}
    return {}


def _open(read: Read, class_names: Sequence[str] | None) -> DetectionSource:
    return DetectionSource(read(), class_names)


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
    return parts or {"": partial(read_voc, folder, sorted(folder.glob("*.xml")), pictures)}


def _voc_beside(root: Path) -> dict[str, Read]:
    return {
        part: partial(read_voc, root / part, sorted((root / part).glob("*.xml")), root / part)
        for part in (TRAIN, *TESTS)
        if any((root / part).glob("*.xml"))
    }
