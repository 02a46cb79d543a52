"""ImageNet's further test sets: ReaL labels, V2, -A, -R and -C.

V2 has folders called 0 to 999, -A and -R have 200 of the 1,000 synsets, and -C has one tree of synsets per corruption
and severity. All meet a model with ImageNet's 1,000 logits; with 200 classes, only their logits are compared.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hybridvit.data.imagenet import NUM_CLASSES, in_imagenets_order, synsets
from hybridvit.errors import DataError
from hybridvit.evaluation.logits import Result

SEVERITIES = (1, 2, 3, 4, 5)
ALEXNET_ERRORS = {
    "gaussian_noise": 88.6428,
    "shot_noise": 89.4468,
    "impulse_noise": 92.2640,
    "defocus_blur": 81.9880,
    "glass_blur": 82.6268,
    "motion_blur": 78.5948,
    "zoom_blur": 79.8360,
    "snow": 86.6816,
    "frost": 82.6572,
    "fog": 81.9324,
    "brightness": 56.4592,
    "contrast": 85.3204,
    "elastic_transform": 64.6056,
    "pixelate": 71.7840,
    "jpeg_compression": 60.6500,
}
"""Percent, mean over the severities (Hendrycks and Dietterich, arXiv 1903.12261, and its repository)."""
GROUPS = ("", "noise", "blur", "weather", "digital")
"""Folders that the published archives put above the corruptions, or none."""
VALIDATION_NAME = re.compile(r"ILSVRC2012_val_(\d{8})")


def knows_imagenet(label_names: Sequence[str] | None, num_classes: int) -> bool:
    """The model's logits are ImageNet's classes in their usual order, as far as its names tell."""
    return num_classes == NUM_CLASSES and (label_names is None or in_imagenets_order(label_names))


def imagenet_labels(class_names: Sequence[str]) -> list[int] | None:
    """Where classes called by synset, or 0 to 999, stand among ImageNet's; None when they are called otherwise."""
    if set(class_names) == {str(k) for k in range(NUM_CLASSES)}:
        return [int(name) for name in class_names]
    place = {name: k for k, name in enumerate(synsets())}
    return [place[name] for name in class_names] if all(name in place for name in class_names) else None


def restrict(result: Result, classes: Sequence[int]) -> Result:
    """The answers among some classes only, renumbered in the given order. Every label must be one of them."""
    place = np.full(len(result.class_names), -1)
    place[list(classes)] = np.arange(len(classes))
    return replace(
        result,
        logits=result.logits[:, list(classes)],
        labels=place[result.labels],
        class_names=tuple(result.class_names[k] for k in classes),
    )


@dataclass(frozen=True)
class RealAccuracy:
    """Top-1 in percent against the reassessed labels, over the pictures that have any."""

    top1: float
    images: int


def read_real(path: str | Path) -> list[list[int]]:
    """real.json of google-research/reassessed-imagenet: a list of labels per validation picture, which may be empty.

    Raises: DataError when the file is missing or is something else.
    """
    path = Path(path)
    try:
        lists = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as JSON: {error}.") from error
    if not isinstance(lists, list) or not all(_is_label_list(item) for item in lists):
        raise DataError(f"{path} is not a list of lists of labels from 0 to 999, as real.json is.")
    return lists


def real_accuracy(result: Result, labels: Sequence[Sequence[int]]) -> RealAccuracy:
    """An answer is right when it is one of the picture's labels (Beyer et al., arXiv 2006.07159).

    Pictures are found by their name, ILSVRC2012_val_00000001.JPEG being the first.

    Raises: DataError when the logits are not ImageNet's or the names are others.
    """
    if not knows_imagenet(result.class_names, len(result.class_names)):
        raise DataError("ReaL labels are ImageNet's 1,000 classes; these logits are of other classes.")
    answers = result.logits.argmax(axis=1)
    right = images = 0
    for path, answer in zip(result.paths, answers, strict=True):
        match = VALIDATION_NAME.search(path)
        if match is None or not 1 <= int(match[1]) <= len(labels):
            raise DataError(
                f"{path} has no ReaL label: expected ILSVRC2012_val_00000001 to {len(labels):08d} as its name."
            )
        real = labels[int(match[1]) - 1]
        images += bool(real)
        right += int(answer) in real
    if not images:
        raise DataError("None of these pictures has a ReaL label.")
    return RealAccuracy(100 * right / images, images)


def corruption_folders(root: Path) -> dict[str, dict[int, Path]]:
    """ImageNet-C's tree ROOT/CORRUPTION/SEVERITY/CLASS, or ROOT/blur/CORRUPTION/... as unpacked; empty for others.

    Raises: DataError when a corruption lacks a severity.
    """
    found = {}
    for name in ALEXNET_ERRORS:
        place = next((path for group in GROUPS if (path := root / group / name).is_dir()), None)
        if place is not None:
            folders = {severity: place / str(severity) for severity in SEVERITIES}
            missing = [folder for folder in folders.values() if not folder.is_dir()]
            if missing:
                raise DataError(f"{missing[0]} is missing: every corruption has the severities 1 to 5.")
            found[name] = folders
    return found


@dataclass(frozen=True)
class Corruption:
    """Errors in percent. `relative` is the sum over the severities against AlexNet's."""

    name: str
    errors: tuple[float, ...]
    relative: float


def corruption_errors(errors: Mapping[str, Sequence[float]]) -> list[Corruption]:
    """From the top-1 errors in percent at severities 1 to 5, by corruption."""
    return [
        Corruption(name, tuple(values), 100 * float(np.mean(values)) / ALEXNET_ERRORS[name])
        for name, values in errors.items()
    ]


def mean_corruption_error(corruptions: Sequence[Corruption]) -> float:
    """mCE in percent: AlexNet has 100, lower is better. The published figure is over all 15 corruptions."""
    return float(np.mean([corruption.relative for corruption in corruptions]))


def _is_label_list(item: Any) -> bool:
    return isinstance(item, list) and all(isinstance(label, int) and 0 <= label < NUM_CLASSES for label in item)
