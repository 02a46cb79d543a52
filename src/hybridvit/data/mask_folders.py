"""Pictures with masks, found in the layouts of ADE20K, Cityscapes, Pascal VOC and COCO-Stuff, and in folders of one's own.

    DIR/images/PART/NAME.jpg  DIR/masks/PART/NAME.png       or labels, annotations; PART: training, validation (ADE20K),
                                                            train, val, test, train2017, val2017; or no parts
    DIR/PART/images/NAME.jpg  DIR/PART/masks/NAME.png
    DIR/PART/NAME.jpg         DIR/stuffthingmaps/PART/NAME.png                                             COCO-Stuff
    DIR/leftImg8bit/PART/     DIR/gtFine/PART/NAME_gtFine_labelTrainIds.png                                Cityscapes
    DIR/JPEGImages/           DIR/SegmentationClass/        DIR/ImageSets/Segmentation/PART.txt            Pascal VOC

Masks may end in _mask or _labelTrainIds behind the picture's name. What their values mean says the layout, classes.txt (a name on
each line), ADE20K's objectInfo150.txt, COCO-Stuff's labels.txt, or

    masks.yaml:  classes: {background: "#000000", cat: "#ff0000"}     or a list of names; colours are drawn with
                 reduce_zero_label: true                              0 is no class, 1 the first; ADE20K's layout means it, too
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torchvision.tv_tensors import Mask

from hybridvit.data.labels import read_class_names
from hybridvit.data.masks import Classes, Colour, check_pair, colour_map, diagnosis, present, read_values, to_classes
from hybridvit.data.readers.folder import find_pictures
from hybridvit.data.source import Counts, Source
from hybridvit.errors import DataError, some
from hybridvit.typed import parse_yaml

PARTS = ("training", "validation", "train", "val", "test", "train2017", "val2017", "valid")
PART_NAMES = {"training": "train", "train2017": "train", "validation": "val", "val2017": "val", "valid": "val"}
MASK_FOLDERS = ("masks", "labels", "annotations")
ENDINGS = (".png", ".tif", ".tiff", ".bmp", ".pgm", ".gif", ".jpg", ".jpeg", ".webp")
SUFFIXES = ("", "_mask", "_labelTrainIds")
SCANNED = 2000
"""Most masks to find the number of classes in, where nothing names them."""

CITYSCAPES: dict[str, Colour] = {
    "road": (128, 64, 128),
    "sidewalk": (244, 35, 232),
    "building": (70, 70, 70),
    "wall": (102, 102, 156),
    "fence": (190, 153, 153),
    "pole": (153, 153, 153),
    "traffic light": (250, 170, 30),
    "traffic sign": (220, 220, 0),
    "vegetation": (107, 142, 35),
    "terrain": (152, 251, 152),
    "sky": (70, 130, 180),
    "person": (220, 20, 60),
    "rider": (255, 0, 0),
    "car": (0, 0, 142),
    "truck": (0, 0, 70),
    "bus": (0, 60, 100),
    "train": (0, 80, 100),
    "motorcycle": (0, 0, 230),
    "bicycle": (119, 11, 32),
}
VOC = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)


class MaskSource(Source):
    """Pictures by number, each with a class for every pixel. `pairs`: picture and mask."""

    def __init__(self, pairs: Sequence[tuple[Path, Path]], classes: Classes) -> None:
        self.pairs, self.classes = pairs, classes
        self.class_names = classes.names
        self.counts = Counts(len(pairs))
        self.labels = [0] * len(pairs)  # a picture has no one class: a share to be held out is balanced over nothing

    def __len__(self) -> int:
        return len(self.pairs)

    def name(self, index: int) -> str:
        return str(self.pairs[index][0])

    def read(self, index: int) -> bytes:
        return self.pairs[index][0].read_bytes()

    def mask_name(self, index: int) -> str:
        return str(self.pairs[index][1])

    def values(self, index: int) -> np.ndarray:
        """The mask's values as its file holds them, seen to fit the picture. Shape: (H, W). Raises: DataError, OSError."""
        picture, mask = self.pairs[index]
        values_HW = read_values(mask.read_bytes(), name=str(mask))
        check_pair(picture, mask, values_HW)
        return values_HW

    def target(self, index: int) -> Mask:
        """Numbers of classes, or classes.ignore. Shape: (H, W) of the upright picture. Raises: DataError, OSError."""
        return Mask(torch.from_numpy(to_classes(self.values(index), self.classes, name=self.mask_name(index))))


def has_masks(root: Path) -> bool:
    """Whether mask pictures lie where one of these layouts has them."""
    folders = [root / name for name in ("gtFine", "SegmentationClass", "stuffthingmaps")]
    for at in (root, *(root / part for part in PARTS)):
        folders += [at / masks for masks in MASK_FOLDERS if (at / "images").is_dir()]
    return any(path.suffix.lower() in ENDINGS for folder in folders for path in folder.rglob("*"))


def read_masks(root: str | Path) -> dict[str, MaskSource]:
    """Every part that there is, by name (train, val, test); "" where the data set is one whole.

    Raises: DataError where no layout fits, a picture lacks its mask or a mask its picture, or the classes cannot be known.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root} is not a folder.")
    known: Classes | None = None
    if (root / "leftImg8bit").is_dir():
        found, known = dict(_cityscapes(root)), Classes(tuple(CITYSCAPES), tuple(CITYSCAPES.values()))
    elif (root / "SegmentationClass").is_dir():
        found, known = dict(_voc(root)), Classes(VOC, colour_map(len(VOC)))
    else:
        found = dict(_folders(root))
    if not found:
        raise DataError(
            f"{root} holds no pictures with masks. Expected {root}/images/train/NAME.jpg with {root}/masks/train/NAME.png (or "
            "labels, annotations), or the layout of ADE20K, Cityscapes, Pascal VOC or COCO-Stuff."
        )
    reduces = (root / "annotations" / "training").is_dir()  # ADE20K, and what is laid out like it
    classes = _classes(root, known, [pair for pairs in found.values() for pair in pairs], reduce_zero_label=reduces)
    return {PART_NAMES.get(part, part): MaskSource(pairs, classes) for part, pairs in found.items()}


def _cityscapes(root: Path) -> Iterator[tuple[str, list[tuple[Path, Path]]]]:
    """Without the test part, whose masks are not published."""
    for part in ("train", "val"):
        names = list(find_pictures(root / "leftImg8bit" / part))
        pairs = [
            (root / "leftImg8bit" / part / name, root / "gtFine" / part / _of_city(name, "_gtFine_labelTrainIds.png"))
            for name in names
        ]
        missing = [mask for _, mask in pairs if not mask.is_file()]
        if missing:
            raise DataError(
                f"{len(missing)} of {len(pairs)} pictures of {root / 'leftImg8bit' / part} have no mask, first {missing[0]}. "
                "Cityscapes' own script createTrainIdLabelImgs writes the labelTrainIds from the polygons."
            )
        if pairs:
            yield part, pairs


def _of_city(name: str, ending: str) -> str:
    return re.sub(r"_leftImg8bit\.\w+$", "", name) + ending


def _voc(root: Path) -> Iterator[tuple[str, list[tuple[Path, Path]]]]:
    lists = root / "ImageSets" / "Segmentation"
    for part in ("train", "val", "test"):
        if (lists / f"{part}.txt").is_file():
            names = (lists / f"{part}.txt").read_text(encoding="utf-8").split()
            pairs = [(root / "JPEGImages" / f"{n}.jpg", root / "SegmentationClass" / f"{n}.png") for n in names]
            missing = [path for pair in pairs for path in pair if not path.is_file()]
            if missing:
                raise DataError(f"{lists / part}.txt names {len(missing)} files that are missing, first {missing[0]}.")
            yield part, pairs


def _folders(root: Path) -> Iterator[tuple[str, list[tuple[Path, Path]]]]:
    for part in ("", *PARTS):
        for masks in MASK_FOLDERS:
            for pictures_at, masks_at in (
                (root / "images" / part, root / masks / part),
                (root / part / "images", root / part / masks),
            ):
                has_parts = not part and any((pictures_at / each).is_dir() for each in PARTS)
                if pictures_at.is_dir() and masks_at.is_dir() and not has_parts:
                    yield part, _pairs(pictures_at, masks_at)
                    break
        if part and (root / part).is_dir() and (root / "stuffthingmaps" / part).is_dir():
            yield part, _pairs(root / part, root / "stuffthingmaps" / part)


def _pairs(pictures_at: Path, masks_at: Path) -> list[tuple[Path, Path]]:
    """Each picture with the mask of its name, below whatever folders."""
    masks = {str(Path(name).with_suffix("")): name for name in find_pictures(masks_at)}
    pairs, without = [], []
    for name in find_pictures(pictures_at):
        stem = str(Path(name).with_suffix(""))
        mask = next((masks.pop(stem + suffix) for suffix in SUFFIXES if stem + suffix in masks), None)
        without += [name] if mask is None else []
        pairs += [] if mask is None else [(pictures_at / name, masks_at / mask)]
    if without:
        raise DataError(
            f"{len(without)} of {len(without) + len(pairs)} pictures of {pictures_at} have no mask in {masks_at}: "
            f"{some(without)}. A mask has its picture's name and ends in .png; leave out pictures without one."
        )
    if masks:
        raise DataError(
            f"{len(masks)} masks of {masks_at} have no picture in {pictures_at}: {some(list(masks.values()))}. "
            "Bring the pictures, or leave out the masks."
        )
    if not pairs:
        raise DataError(f"{pictures_at} holds no pictures.")
    return pairs


def _classes(
    root: Path, known: Classes | None, pairs: Sequence[tuple[Path, Path]], *, reduce_zero_label: bool
) -> Classes:
    said = _read_yaml(root / "masks.yaml")
    reduce_zero_label = said.get("reduce_zero_label", reduce_zero_label)
    named = said.get("classes") or read_class_names(root) or _ade20k_names(root) or _coco_stuff_names(root)
    if named is None and known is not None:
        return replace(known, reduce_zero_label=reduce_zero_label)
    if named is None:
        named = _counted(pairs, root, reduce_zero_label=reduce_zero_label)
    names = tuple(str(name) for name in named)
    if len(names) < 2:
        raise DataError(
            f"{root} has one class ({', '.join(names)}); telling classes apart takes two, the background among them."
        )
    colours = colour_map(len(names))
    if isinstance(named, dict):
        colours = tuple(_colour(text, source=f"{root / 'masks.yaml'}: {name}") for name, text in named.items())
    elif (painted := _painted(pairs[0][1], len(names), reduce_zero_label)) is not None:
        colours = painted
    return Classes(names, colours, reduce_zero_label)


def _read_yaml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    said = parse_yaml(path.read_text(encoding="utf-8"), source=str(path))
    kinds = {"classes": (list, dict), "reduce_zero_label": (bool,)}
    if not isinstance(said, dict) or not said.keys() <= kinds.keys():
        raise DataError(f"{path}: expected the keys {' and '.join(kinds)}, found {said!r}.")
    for key, value in said.items():
        if not isinstance(value, kinds[key]):
            raise DataError(f"{path}: {key}: expected {' or '.join(k.__name__ for k in kinds[key])}, found {value!r}.")
    return said


def _ade20k_names(root: Path) -> tuple[str, ...] | None:
    """The first word of each class of objectInfo150.txt, whose columns are Idx, Ratio, Train, Val and Name."""
    path = root / "objectInfo150.txt"
    if not path.is_file():
        return None
    rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()[1:] if line.strip()]
    return tuple(re.split("[,;]", row[-1] if len(row) == 5 else row[4])[0].strip() for row in rows)


def _coco_stuff_names(root: Path) -> tuple[str, ...] | None:
    """labels.txt counts from 1, with 0 for no class; the files hold one less."""
    path = root / "labels.txt"
    if not path.is_file():
        return None
    rows = [line.partition(":") for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if [number.strip() for number, _, _ in rows] != [str(i) for i in range(len(rows))]:
        raise DataError(
            f"{path}: expected lines of NUMBER: NAME that count from 0, as COCO-Stuff's. Or write classes.txt."
        )
    return tuple(name.strip() for _, _, name in rows[1:])


def _counted(pairs: Sequence[tuple[Path, Path]], root: Path, *, reduce_zero_label: bool) -> list[str]:
    """Names for as many classes as the masks hold. Every mask is read."""
    how = f"Name the classes, in order, in {root / 'classes.txt'}."
    if len(pairs) > SCANNED:
        raise DataError(f"{root} does not say what the values of its {len(pairs)} masks mean. {how}")
    found: set[int] = set()
    for _, mask in pairs:
        found |= set(present(read_values(mask.read_bytes(), name=str(mask))))
    problem = diagnosis(sorted(found), Classes(("", ""), ()))
    if problem:
        raise DataError(f"{root}: {problem}")
    first, values = int(reduce_zero_label), found - {255}
    missing = sorted(set(range(first, max(values, default=0) + 1)) - values)
    if missing:
        raise DataError(
            f"{root}: its masks hold values up to {max(values)}, but never {missing[0]}"
            f"{f' nor {len(missing) - 1} others' if len(missing) > 1 else ''}; nothing says how many classes there are. {how}"
        )
    return [str(value) for value in range(first, max(values, default=0) + 1)]


def _painted(mask: Path, count: int, reduce_zero_label: bool) -> tuple[Colour, ...] | None:
    """The colours of a palette mask, where it has as many as there are classes, and not only greys."""
    try:
        with Image.open(mask) as picture:
            flat = picture.getpalette("RGB") if picture.mode == "P" else None
    except OSError:  # whoever reads it will say so
        return None
    first = int(reduce_zero_label)
    if flat is None or len(flat) < 3 * (first + count):
        return None
    colours = [tuple(flat[3 * k : 3 * k + 3]) for k in range(first, first + count)]
    is_telling = len(set(colours)) == count and any(len(set(colour)) > 1 for colour in colours)
    return tuple(colours) if is_telling else None  # type: ignore[arg-type]


def _colour(text: Any, *, source: str) -> Colour:
    found = re.fullmatch("#([0-9a-fA-F]{2})([0-9a-fA-F]{2})([0-9a-fA-F]{2})", str(text))
    if not found:
        raise DataError(f'{source}: expected a colour as "#ff0000", found {text!r}.')
    return int(found[1], 16), int(found[2], 16), int(found[3], 16)
