"""What a recipe says about classification alone: augmentation, mixing and distillation."""

from dataclasses import dataclass
from typing import Annotated, Literal

from hybridvit.config.recipe import Recipe
from hybridvit.config.section import (
    Count,
    NonNegative,
    Positive,
    Range,
    Section,
    Share,
    ShareBelowOne,
    require,
)

Angle = Annotated[float, Range(0, 180)]
"""In degrees."""


@dataclass(frozen=True, kw_only=True)
class AugmentSection(Section):
    """Per-image augmentation, by timm.data.create_transform. The defaults change nothing but the crop."""

    crop_mode: Literal["rrc", "rkrc", "rkrr"] = "rrc"
    """rrc: random resized crop (Inception); rkrc, rkrr: resize keeping the ratio, then centre or random crop."""
    crop_scale: tuple[Positive, Positive] = (0.08, 1.0)
    crop_ratio: tuple[Positive, Positive] = (0.75, 1.3333333333333333)
    interpolation: Literal["bicubic", "bilinear", "nearest", "random"] = "bicubic"
    hflip: Share = 0.0
    vflip: Share = 0.0
    rotate: Angle = 0.0
    """Largest rotation in degrees, before the crop."""
    translate: Share = 0.0
    """Largest shift as a share of the side."""
    zoom: tuple[Positive, Positive] = (1.0, 1.0)
    shear: Angle = 0.0
    """Largest shear in degrees."""
    color_jitter: NonNegative = 0.0
    """Brightness, contrast, saturation. As in timm and DeiT, auto_augment switches it off (unless it names 3a)."""
    auto_augment: str | None = None
    """timm's notation, for example rand-m9-mstd0.5-inc1."""
    erasing: Share = 0.0
    """Probability of random erasing."""
    erasing_mode: Literal["const", "rand", "pixel"] = "pixel"
    erasing_count: Count = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("crop_scale", "crop_ratio", "zoom"):
            low, high = getattr(self, name)
            require(low <= high, f"{name} goes from the smaller to the larger, found {[low, high]}")


@dataclass(frozen=True, kw_only=True)
class MixSection(Section):
    """Mixing of whole batches and the labels that follow from it, by timm.data.Mixup."""

    mixup: NonNegative = 0.0
    """Alpha of the beta distribution; 0 is off."""
    cutmix: NonNegative = 0.0
    prob: Share = 1.0
    switch_prob: Share = 0.5
    """Probability of cutmix where both are on."""
    mode: Literal["batch", "pair", "elem"] = "batch"
    smoothing: ShareBelowOne = 0.0


@dataclass(frozen=True, kw_only=True)
class DistillSection(Section):
    """Learn from a teacher's answers, too (Hinton et al., arXiv 1503.02531; hard: Touvron et al., arXiv 2012.12877)."""

    teacher: str | None = None
    """A checkpoint file, or timm: and the name of a pretrained model of the same classes."""
    kind: Literal["soft", "hard"] = "soft"
    alpha: Share = 0.5
    """The teacher's share of the loss."""
    temperature: Positive = 3.0


@dataclass(frozen=True, kw_only=True)
class ClassificationRecipe(Recipe):
    augment: AugmentSection = AugmentSection()
    mix: MixSection = MixSection()
    distill: DistillSection = DistillSection()
