"""What a recipe says about multi-label classification alone."""

from dataclasses import dataclass, field

from hybridvit.config.classification import AugmentSection
from hybridvit.config.recipe import Recipe
from hybridvit.config.section import ShareBelowOne


@dataclass(frozen=True, kw_only=True)
class MultilabelRecipe(Recipe):
    task: str = "multilabel"
    augment: AugmentSection = field(default_factory=AugmentSection)
    smoothing: ShareBelowOne = 0.0
    """As timm's BinaryCrossEntropy: this share of the targets is spread evenly over the classes."""
