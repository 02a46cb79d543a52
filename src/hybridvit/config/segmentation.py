"""What a recipe says about semantic segmentation alone: how pictures are resized and cropped with their masks, and the loss."""

from dataclasses import dataclass

from hybridvit.config.recipe import Recipe
from hybridvit.config.section import Count, NonNegative, Positive, Section, Share, ShareAboveZero, require


@dataclass(frozen=True, kw_only=True)
class SegmentationAugmentSection(Section):
    """Pictures are resized, keeping their ratio, and cropped to preprocess.image_size; what is missing is padded and ignored."""

    short_side: Count = 512
    """To this the short side is resized, times a factor of ratio_range ..."""
    long_side: Count = 2048
    """... but the long side to no more than this, times the factor."""
    ratio_range: tuple[Positive, Positive] = (0.5, 2.0)
    cat_max_ratio: ShareAboveZero = 0.75
    """A crop in which one class has this share of the labelled pixels, or more, is drawn again, up to 10 times; 1: no crop is."""
    hflip: Share = 0.5
    vflip: Share = 0.0
    photometric_distortion: bool = True
    """Brightness, contrast, saturation and hue, each changed in half of the pictures."""

    def __post_init__(self) -> None:
        super().__post_init__()
        low, high = self.ratio_range
        require(low <= high, f"ratio_range goes from the smaller to the larger, found {[low, high]}")
        require(
            self.short_side <= self.long_side,
            f"short_side ({self.short_side}) must be no more than long_side ({self.long_side})",
        )


@dataclass(frozen=True, kw_only=True)
class SegmentationLossSection(Section):
    """Losses are added up, each times its weight; 0 leaves it out. Pixels of no class are in none of them."""

    cross_entropy: NonNegative = 1.0
    dice: NonNegative = 0.0
    """1 - Dice of each class that the batch has, over all its pixels; for classes of few pixels."""
    lovasz: NonNegative = 0.0
    """What 1 - mIoU becomes when it is made convex (Berman et al., arXiv 1705.08790)."""
    class_weights: tuple[Positive, ...] = ()
    """Of each class in cross-entropy, in their order; none: 1."""
    auxiliary: NonNegative = 0.4
    """Share of the auxiliary head's loss, where the model has one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.cross_entropy + self.dice + self.lovasz > 0,
            "one of cross_entropy, dice and lovasz must be more than 0",
        )


@dataclass(frozen=True, kw_only=True)
class SegmentationRecipe(Recipe):
    task: str = "segmentation"
    augment: SegmentationAugmentSection = SegmentationAugmentSection()
    loss: SegmentationLossSection = SegmentationLossSection()
