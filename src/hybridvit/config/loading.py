"""Recipes by name or file, with dotted overrides. A task adds a row to RECIPE_TYPES."""

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hybridvit.config.classification import ClassificationRecipe
from hybridvit.config.detection import DetectionRecipe
from hybridvit.config.multilabel import MultilabelRecipe
from hybridvit.config.recipe import Recipe
from hybridvit.config.segmentation import SegmentationRecipe
from hybridvit.errors import ConfigError
from hybridvit.typed import from_dict, known_keys, parse_yaml, read_yaml

RECIPES = Path(__file__).parents[1] / "recipes"
RECIPE_TYPES: dict[str, type[Recipe]] = {
    "classification": ClassificationRecipe,
    "detection": DetectionRecipe,
    "multilabel": MultilabelRecipe,
    "segmentation": SegmentationRecipe,
}
"""By task; hybridvit.tasks has a module of the same name."""


def list_recipes() -> list[str]:
    """Names of the recipes that come with the package."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def load_recipe(name_or_path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe by name or path and apply overrides such as "optimizer.lr=1e-3".

    Raises:
        ConfigError: no such recipe, or any mistake in it or in an override.
    """
    path = RECIPES / f"{name_or_path}.yaml"
    if not path.is_file():
        path = Path(name_or_path)
    if not path.is_file():
        near = difflib.get_close_matches(str(name_or_path), list_recipes(), n=1, cutoff=0.0)
        raise ConfigError(
            f"{name_or_path} is neither a recipe nor a file; the nearest recipe is {near[0]}. "
            "`hybridvit recipes` lists them all."
        )
    values = read_yaml(path)
    source = path.name + (" with --set" if overrides else "")
    for override in overrides:
        _apply_override(values, override, source=path.name)
    return recipe_from_dict(values, source=source)


def recipe_from_dict(values: Mapping[str, Any], *, source: str) -> Recipe:
    """What Recipe.to_dict gave; fields that are missing, in files of older versions, take their defaults.

    Raises: ConfigError with every mistake.
    """
    return from_dict(_recipe_type(values, source), values, source=source)


def _recipe_type(values: Any, source: str) -> type[Recipe]:
    task = values.get("task", "classification") if isinstance(values, Mapping) else "classification"
    if not isinstance(task, str) or task not in RECIPE_TYPES:
        raise ConfigError(f"{source}: task must be one of {', '.join(RECIPE_TYPES)}, found {task!r}.")
    return RECIPE_TYPES[task]


def _apply_override(values: Any, override: str, *, source: str) -> None:
    key, equals, text = override.partition("=")
    known = known_keys(_recipe_type(values, source))
    if not equals:
        raise ConfigError(f"--set {override}: expected KEY=VALUE, for example optimizer.lr=1e-3")
    if key not in known and not key.startswith("model.args."):
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)
        raise ConfigError(f"--set {override}: {key} is unknown; the nearest known is {near[0]}")
    *parents, last = key.split(".")
    for parent in ["", *parents]:
        values = values.setdefault(parent, {}) if parent else values
        if not isinstance(values, dict):
            raise ConfigError(f"{source}: {parent or 'the file'}: expected settings (key: value), found {values!r}")
    values[last] = parse_yaml(text, source=f"--set {override}")
