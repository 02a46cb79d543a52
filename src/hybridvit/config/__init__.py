"""What a run is told: preprocessing and training recipes as dataclasses, read from strict YAML with dotted overrides.

Importing this room never imports torch. Each task's own sections stand in a file of its name.
"""

from hybridvit.config.classification import AugmentSection, ClassificationRecipe, DistillSection, MixSection
from hybridvit.config.detection import DetectionAugmentSection, DetectionRecipe
from hybridvit.config.loading import RECIPE_TYPES, RECIPES, list_recipes, load_recipe, recipe_from_dict
from hybridvit.config.multilabel import MultilabelRecipe
from hybridvit.config.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from hybridvit.config.recipe import (
    About,
    BatchNormSection,
    DataSection,
    EmaSection,
    ModelSection,
    OptimizerSection,
    Recipe,
    RunSection,
    ScheduleSection,
)
from hybridvit.config.segmentation import SegmentationRecipe

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "RECIPES",
    "RECIPE_TYPES",
    "About",
    "AugmentSection",
    "BatchNormSection",
    "ClassificationRecipe",
    "DataSection",
    "DetectionAugmentSection",
    "DetectionRecipe",
    "DistillSection",
    "EmaSection",
    "MixSection",
    "ModelSection",
    "MultilabelRecipe",
    "OptimizerSection",
    "Preprocess",
    "Recipe",
    "RunSection",
    "ScheduleSection",
    "SegmentationRecipe",
    "list_recipes",
    "load_recipe",
    "recipe_from_dict",
]
