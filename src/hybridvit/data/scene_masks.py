"""The scenes of digits for segmentation: which pixels are which digit."""

from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torchvision.tv_tensors import Mask

from hybridvit.data.masks import colour_map, palette_picture
from hybridvit.data.scenes import CLASS_NAMES, DigitScenes
from hybridvit.errors import DataError


class MaskScenes(DigitScenes):
    """`count` scenes; class 0 is the background, class k + 1 the digit k."""

    class_names = ("background", *CLASS_NAMES)

    def target(self, index: int) -> Any:
        return Mask(torch.from_numpy(self.scene(index).classes()))


def write_mask_scenes(root: str | Path, scenes: MaskScenes, part: str) -> Path:
    """Write ROOT/images/PART/NUMBER.png, ROOT/masks/PART/NUMBER.png and classes.txt; return ROOT. Raises: DataError."""
    root = Path(root)
    colours = colour_map(len(scenes.class_names))
    try:
        for folder in ("images", "masks"):
            (root / folder / part).mkdir(parents=True, exist_ok=True)
        for index in range(len(scenes)):
            scene = scenes.scene(index)
            name = f"{index:05}.png"
            Image.fromarray(scene.picture_HW3).save(root / "images" / part / name)
            palette_picture(scene.classes(), colours).save(root / "masks" / part / name)
        (root / "classes.txt").write_text("\n".join(scenes.class_names) + "\n", encoding="utf-8")
    except OSError as error:
        raise DataError(f"{root} cannot be written: {error}") from error
    return root
