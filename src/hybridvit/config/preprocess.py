"""How a picture becomes the tensor that a model expects."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from hybridvit.config.section import Count, Number, Positive, Section, ShareAboveZero, require
from hybridvit.errors import ConfigError
from hybridvit.typed import from_dict

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
MAX_SIDE = 8192
"""Of a picture that a model is shown, before its crop."""


@dataclass(frozen=True, kw_only=True)
class Preprocess(Section):
    """How a picture becomes the tensor a model expects, in timm's vocabulary. It travels with the weights."""

    image_size: tuple[Count, Count]
    """Height and width in pixels."""
    crop_pct: ShareAboveZero = 0.875
    """The picture is resized to image_size / crop_pct before the crop."""
    crop_mode: Literal["center", "squash", "border"] = "center"
    """center: resize the short side, crop; squash: resize both sides, no crop; border: fit the long side, pad."""
    interpolation: Literal["bicubic", "bilinear", "nearest"] = "bicubic"
    mean: tuple[Number, ...] = IMAGENET_MEAN
    """One value per channel: one for grey, three for RGB."""
    std: tuple[Positive, ...] = IMAGENET_STD

    def __post_init__(self) -> None:
        super().__post_init__()
        require(len(self.mean) == len(self.std), f"mean has {len(self.mean)} values, std {len(self.std)}")
        require(
            max(self.image_size) / self.crop_pct <= MAX_SIDE,
            f"image_size / crop_pct must be at most {MAX_SIDE}, found {self.image_size} / {self.crop_pct}",
        )

    @property
    def in_chans(self) -> int:
        return len(self.mean)

    @classmethod
    def from_pretrained_cfg(cls, cfg: Mapping[str, Any]) -> "Preprocess":
        """Read timm's pretrained_cfg. Raises ConfigError when input_size is missing or malformed."""
        size = cfg.get("input_size")
        if not size or len(size) != 3:
            raise ConfigError(f"pretrained_cfg: input_size must be (channels, height, width), found {size!r}")
        known = {f.name for f in dataclasses.fields(cls)} & cfg.keys()
        return from_dict(cls, {key: cfg[key] for key in known} | {"image_size": size[1:]}, source="pretrained_cfg")

    def to_pretrained_cfg(self) -> dict[str, Any]:
        values = dataclasses.asdict(self)
        return {"input_size": (self.in_chans, *values.pop("image_size")), **values}
