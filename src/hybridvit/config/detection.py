"""What a recipe says about detection alone: how pictures are resized, cut and flipped with their boxes."""

from dataclasses import dataclass

from hybridvit.config.recipe import Recipe
from hybridvit.config.section import Count, Section, Share, require


@dataclass(frozen=True, kw_only=True)
class DetectionAugmentSection(Section):
    """Pictures keep their ratio. In evaluation preprocess.image_size says how large they are: the short side, and the most of
    the long one."""

    short_sides: tuple[Count, ...] = (800,)
    """One of these is drawn for the short side ..."""
    long_side: Count = 1333
    """... but the long one is no longer than this."""
    hflip: Share = 0.5
    crop: Share = 0.0
    """How often a window is cut first, of 384 to 600 pixels a side of a short side of 400, 500 or 600, as in DETR and Swin."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(len(self.short_sides) > 0, "short_sides needs one size at least")
        require(
            max(self.short_sides) <= self.long_side,
            f"short_sides ({max(self.short_sides)}) must be no more than long_side ({self.long_side})",
        )


@dataclass(frozen=True, kw_only=True)
class DetectionRecipe(Recipe):
    task: str = "detection"
    augment: DetectionAugmentSection = DetectionAugmentSection()
