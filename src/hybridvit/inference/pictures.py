"""What users call pictures, as a source: paths, folders, archives, bytes, Pillow's pictures, arrays, tensors; one or many."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from hybridvit.data.source import Counts, Source
from hybridvit.data.unlabelled import open_unlabelled
from hybridvit.errors import DataError

Picture = str | Path | bytes | Image.Image | np.ndarray | torch.Tensor
Pictures = Picture | Sequence[Picture] | Source


class InMemory(Source):
    """Pictures that somebody holds; they are called by their place."""

    def __init__(self, pictures: Sequence[bytes | Image.Image], names: Sequence[str]) -> None:
        self.pictures = pictures
        self.names = names
        self.class_names = ()
        self.labels: Sequence[int] = [-1] * len(pictures)
        self.counts = Counts(len(pictures))

    def __len__(self) -> int:
        return len(self.pictures)

    def name(self, index: int) -> str:
        return self.names[index]

    def read(self, index: int) -> bytes | Image.Image:
        return self.pictures[index]


def open_pictures(pictures: Pictures, *, root: Path | None = None) -> Source:
    """Raises: DataError for what does not exist, holds no picture, or is none: an array's numbers must be 0 to 255, of uint8."""
    if hasattr(pictures, "read") and hasattr(pictures, "name"):
        return pictures  # type: ignore[return-value]
    many: Any = [pictures] if isinstance(pictures, str | Path | bytes | Image.Image) else pictures
    if isinstance(many, np.ndarray | torch.Tensor) and many.ndim < 4:
        many = [many]
    many = list(many)
    if many and all(isinstance(one, str | Path) for one in many):
        return open_unlabelled(many, root=root)
    names = [str(one) if isinstance(one, str | Path) else f"picture {number}" for number, one in enumerate(many)]
    return InMemory([as_read(one, name=name) for one, name in zip(many, names, strict=True)], names)


def as_read(picture: Picture, *, name: str) -> bytes | Image.Image:
    """A picture as data.decode takes it. Shape: arrays (H, W) or (H, W, C), tensors (H, W) or (C, H, W). Raises: DataError."""
    if isinstance(picture, str | Path):
        try:
            return Path(picture).read_bytes()
        except OSError as error:
            raise DataError(f"{picture} cannot be read: {error.strerror or error}.") from error
    if isinstance(picture, bytes | bytearray | memoryview):
        return bytes(picture)
    if isinstance(picture, torch.Tensor):
        picture = picture.detach().cpu().numpy()
        picture = np.moveaxis(picture, 0, -1) if picture.ndim == 3 else picture
    if not isinstance(picture, np.ndarray):
        if isinstance(picture, Image.Image):
            return picture
        raise DataError(
            f"{name} is a {type(picture).__name__}; expected a path, bytes, a PIL picture, an array or a tensor."
        )
    channels = picture.shape[2] if picture.ndim == 3 else 1 if picture.ndim == 2 else 0
    if picture.dtype != np.uint8 or channels not in (1, 3, 4) or not picture.size:
        raise DataError(
            f"{name} is of {picture.dtype} and shape {picture.shape}. Expected uint8, 0 to 255, as array (rows, columns, "
            "channels) or tensor (channels, rows, columns), of 1, 3 or 4 channels: preprocessing is done here."
        )
    return Image.fromarray(np.ascontiguousarray(picture[..., 0] if picture.ndim == 3 and channels == 1 else picture))
