"""Pictures of several handwritten digits, with boxes and masks, composed from scikit-learn's real ones.

For the demonstrations of detection and segmentation: training scenes from the training digits, test scenes from the test digits
(largely other hands), of varying size, colour, contrast, overlap and clutter. A scene follows from its seed and number alone:
a training set is as long as one likes, and no two scenes of it are alike.

Arrays: N objects, H rows, W columns.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from hybridvit.data.digits import NUM_TRAIN, load
from hybridvit.data.objects import Objects, coco_annotations, encode
from hybridvit.data.readers.files import NO_LABEL
from hybridvit.data.source import Counts, Source
from hybridvit.errors import DataError
from hybridvit.files import replacing

CLASS_NAMES = tuple("0123456789")
COCO_NAME = "_annotations.coco.json"
RECIPE_NAME = "scenes.json"
MOST_SCENES = 100_000_000
SIDE = 64
DIGIT_SIDES = (18, 36)
MOST_DIGITS = 3
"""On a scene of 64 x 64 pixels; on others, as many per area."""
LEAST_CONTRAST = 0.3
MOST_COVERED = 0.2
"""Share of the smaller one of two digits' squares."""

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Scene:
    picture_HW3: Bytes
    masks_NHW: Bytes
    """What is to be seen of each digit: 0 or 1."""
    labels_N: NDArray[np.int64]

    def boxes(self) -> NDArray[np.float64]:
        """Left, top, right, bottom of what is to be seen. Shape: (N, 4)."""
        boxes = []
        for mask_HW in self.masks_NHW:
            rows, columns = np.flatnonzero(mask_HW.any(axis=1)), np.flatnonzero(mask_HW.any(axis=0))
            boxes.append((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
        return np.array(boxes, dtype=np.float64)

    def classes(self) -> Bytes:
        """Of each pixel: 0 for the background, else the digit + 1. Shape: (H, W)."""
        classes_HW = np.zeros(self.masks_NHW.shape[1:], dtype=np.uint8)
        for mask_HW, label in zip(self.masks_NHW, self.labels_N, strict=True):
            classes_HW[mask_HW > 0] = label + 1
        return classes_HW

    def objects(self) -> Objects:
        return Objects(
            size=(self.masks_NHW.shape[1], self.masks_NHW.shape[2]),
            boxes_N4=torch.from_numpy(self.boxes()),
            labels_N=torch.from_numpy(self.labels_N),
            crowd_N=torch.zeros(len(self.labels_N), dtype=torch.bool),
            areas_N=torch.from_numpy(self.masks_NHW.sum(axis=(1, 2)).astype(np.float64)),
            outlines=encode(self.masks_NHW),
        )


class DigitScenes(Source):
    """`count` scenes of `side` x `side` pixels, made when they are asked for.

    Raises: DataError when scikit-learn is not installed.
    """

    class_names = CLASS_NAMES

    def __init__(self, part: str, *, count: int, seed: int = 0, side: int = SIDE) -> None:
        strokes_NHW, labels_N = load()
        half = slice(NUM_TRAIN) if part == "train" else slice(NUM_TRAIN, None)
        self.strokes_NHW, self.labels_N = strokes_NHW[half], labels_N[half]
        self.part, self.count, self.seed, self.side = part, count, seed, side
        self.labels = [NO_LABEL] * count
        self.counts = Counts(count)
        self._last: tuple[int, Scene] | None = None

    def __len__(self) -> int:
        return self.count

    def name(self, index: int) -> str:
        return f"{self.part}/{index:05}.png"

    def scene(self, index: int) -> Scene:
        if not 0 <= index < self.count:
            raise IndexError(f"scene {index} of {self.count}")
        last = self._last
        if last is None or last[0] != index:  # a picture and its target are asked for one after the other
            draws = np.random.default_rng([self.seed, self.part == "train", index])
            last = self._last = index, compose(self.strokes_NHW, self.labels_N, draws, side=self.side)
        return last[1]

    def read(self, index: int) -> Image.Image:
        return Image.fromarray(self.scene(index).picture_HW3)

    def target(self, index: int) -> Any:
        return self.scene(index).objects()


def write_scene_recipe(root: str | Path, part: str, *, count: int, seed: int = 0) -> None:
    """Write ROOT/PART/scenes.json: a part of any number of scenes, composed when they are read. Raises: DataError."""
    file = Path(root) / part / RECIPE_NAME
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"digits": "train", "count": count, "seed": seed}), encoding="utf-8")
    except OSError as error:
        raise DataError(f"{file} cannot be written: {error}") from error


def read_scene_recipe(file: Path) -> dict[str, Any]:
    """What DigitScenes takes. Raises: DataError when it is no such file."""
    try:
        said = json.loads(file.read_bytes())
        part, count, seed = str(said["digits"]), int(said["count"]), int(said["seed"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file} does not say digits (train or test), count and seed of scenes: {error}.") from error
    if part not in ("train", "test") or not 0 < count <= MOST_SCENES:
        raise DataError(f"{file}: digits must be train or test, and count between 1 and {MOST_SCENES}.")
    return {"part": part, "count": count, "seed": seed}


def write_scenes(root: str | Path, part: str, scenes: DigitScenes) -> None:
    """Write ROOT/PART/NUMBER.png and ROOT/PART/_annotations.coco.json, with boxes and outlines. Raises: DataError."""
    folder = Path(root) / part
    annotations: list[dict[str, Any]] = []
    images = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for index in range(len(scenes)):
            scene, name = scenes.scene(index), f"{index:05}.png"
            Image.fromarray(scene.picture_HW3).save(folder / name)
            images.append({"id": index + 1, "file_name": name, "height": scenes.side, "width": scenes.side})
            annotations += coco_annotations(scene.objects(), image_id=index + 1, first_id=len(annotations) + 1)
        categories = [{"id": number, "name": name} for number, name in enumerate(CLASS_NAMES)]
        contents = {"images": images, "annotations": annotations, "categories": categories}
        with replacing(folder / COCO_NAME) as temporary:
            temporary.write_text(json.dumps(contents))
    except OSError as error:
        raise DataError(f"{folder} cannot be written: {error}") from error


def compose(strokes_NHW: Bytes, labels_N: NDArray[np.int64], draws: np.random.Generator, *, side: int = SIDE) -> Scene:
    """A background with a slope and strokes of no meaning, digits upon it, noise over all."""
    ground = draws.random(3)
    picture_HW3 = _background(ground, draws, side)
    most = max(1, round(MOST_DIGITS * (side / SIDE) ** 2))
    squares: list[tuple[int, int, int]] = []
    masks: list[NDArray[np.bool_]] = []
    labels: list[np.int64] = []
    for _ in range(draws.integers(1, most + 1)):
        length = int(draws.integers(DIGIT_SIDES[0], min(DIGIT_SIDES[1], side) + 1))
        square = _free_square(length, squares, draws, side)
        if square is None:
            continue
        squares.append(square)
        number = int(draws.integers(len(labels_N)))
        left, top, _ = square
        drawn = Image.fromarray(strokes_NHW[number]).resize((length, length), Image.Resampling.BICUBIC)
        cover_HW = np.zeros((side, side))
        cover_HW[top : top + length, left : left + length] = np.asarray(drawn) / 255
        picture_HW3 += (_colour_on(ground, draws) - picture_HW3) * cover_HW[..., None]
        mask_HW = cover_HW > 0.4
        for earlier in masks:
            earlier &= ~mask_HW
        masks.append(mask_HW)
        labels.append(labels_N[number])
    seen = [i for i, mask_HW in enumerate(masks) if mask_HW.any()]
    picture_HW3 += draws.normal(scale=draws.uniform(0.01, 0.08), size=picture_HW3.shape)
    return Scene(
        (picture_HW3.clip(0, 1) * 255).round().astype(np.uint8),
        np.stack([masks[i] for i in seen]).astype(np.uint8),
        np.array([labels[i] for i in seen], dtype=np.int64),
    )


def _background(ground: NDArray[np.float64], draws: np.random.Generator, side: int) -> NDArray[np.float64]:
    slope = np.linspace(-0.5, 0.5, side)
    shade_HW = slope[:, None] * draws.normal(scale=0.15) + slope * draws.normal(scale=0.15)
    strokes = Image.new("L", (side, side))
    pen = ImageDraw.Draw(strokes)
    for _ in range(draws.integers(0, 4)):
        ends = draws.integers(0, side, size=4).tolist()
        pen.line(ends, fill=int(draws.integers(60, 200)), width=int(draws.integers(1, 3)))
    clutter_HW = np.asarray(strokes) / 255
    picture_HW3 = np.broadcast_to(ground, (side, side, 3)) + shade_HW[..., None]
    return picture_HW3 + (draws.random(3) - picture_HW3) * clutter_HW[..., None]


def _colour_on(ground: NDArray[np.float64], draws: np.random.Generator) -> NDArray[np.float64]:
    """A colour that is brighter or darker than the ground by LEAST_CONTRAST."""
    while True:
        colour = draws.random(3)
        if abs(float(colour.mean() - ground.mean())) >= LEAST_CONTRAST:
            return colour


def _free_square(
    length: int, taken: Sequence[tuple[int, int, int]], draws: np.random.Generator, side: int
) -> tuple[int, int, int] | None:
    """Left, top and length of a place that covers little of the others; None where ten draws find none."""
    for _ in range(10):
        left, top = (int(place) for place in draws.integers(0, side - length + 1, size=2))
        covered = [
            max(0, min(left + length, x + other) - max(left, x))
            * max(0, min(top + length, y + other) - max(top, y))
            / min(length, other) ** 2
            for x, y, other in taken
        ]
        if max(covered, default=0.0) <= MOST_COVERED:
            return left, top, length
    return None
