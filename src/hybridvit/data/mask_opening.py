"""What --data names, opened for segmentation: the parts to learn from and to be evaluated on, after a look at their masks."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hybridvit.data.detection.opening import TESTS, find_boxes, open_box_parts
from hybridvit.data.mask_check import Pairs, refuse_wrong_masks
from hybridvit.data.mask_folders import has_masks, read_masks
from hybridvit.data.mask_objects import PaintedObjects
from hybridvit.data.source import Source, Splits
from hybridvit.data.split import hold_out
from hybridvit.errors import DataError


def open_mask_parts(path: str | Path) -> dict[str, Pairs]:
    """Every part there is, by name; "" where the data set is one whole. Masks come before outlines of objects, if there are both.

    Raises: DataError as read_masks and open_box_parts.
    """
    if not has_masks(Path(path)) and find_boxes(Path(path)):
        return {name: PaintedObjects(source) for name, source in open_box_parts(path).items()}
    return dict(read_masks(path))


def open_mask_splits(
    path: str | Path, *, root: Path | None = None, columns: Sequence[str] = (), val_split: float = 0.0
) -> Splits:
    """The parts to train on and to be evaluated on, after a look at their masks; with val_split, a whole is divided.

    Raises: DataError as read_masks, where a part is missing, and where masks would teach something wrong.
    """
    _refuse_options(root, columns)
    parts = open_mask_parts(path)
    tests = [name for name in parts if name in TESTS]
    if val_split:
        if tests:
            raise DataError(f"{path} has its own {tests[0]} part; --val-split is for data sets without one.")
        refuse_wrong_masks(parts)
        return hold_out(next(iter(parts.values())), val_split)
    if "train" not in parts or not tests:
        raise DataError(
            f"{path} has {_parts(parts)}. Training takes a part train and one of val, test. Use --val-split 0.2 to hold out a "
            "fifth of the pictures of a data set in one piece."
        )
    chosen = {name: parts[name] for name in ("train", tests[0])}  # ADE20K's and COCO's test parts have no masks
    refuse_wrong_masks(chosen)
    return Splits(train=chosen["train"], test=chosen[tests[0]])


def open_mask_test(
    path: str | Path, *, root: Path | None = None, columns: Sequence[str] = (), val_split: float = 0.0
) -> tuple[str, Source]:
    """The part to be evaluated on, with its name. Raises: DataError as open_mask_splits."""
    _refuse_options(root, columns)
    if val_split:
        return f"{path} (the {val_split:g} held out)", open_mask_splits(path, val_split=val_split).test
    parts = open_mask_parts(path)
    name = next((name for name in (*TESTS, "") if name in parts), None)
    if name is None:
        raise DataError(f"{path} has {_parts(parts)}, and none to be evaluated on: val, test.")
    refuse_wrong_masks({name: parts[name]})
    return f"{path}/{name}" if name else str(path), parts[name]


def _refuse_options(root: Path | None, columns: Sequence[str]) -> None:
    if root is not None or columns:
        raise DataError("--root and --columns are for list files; masks are found by the names of their pictures.")


def _parts(parts: Mapping[str, Any]) -> str:
    return f"the parts {', '.join(parts)}" if list(parts) != [""] else "no parts"
