"""config.py and typed.py: recipes and preprocessing from strict YAML."""

import dataclasses
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import yaml

from hybridvit.config import RECIPE_TYPES, RECIPES, Preprocess, Recipe, list_recipes, load_recipe, recipe_from_dict
from hybridvit.config.section import ranges
from hybridvit.errors import ConfigError
from hybridvit.typed import from_dict, parse_yaml


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.parametrize("text", ["1e-3", "1E-3", "+1e-3", "0.001", "1.0e-3", ".1e-2"])
def test_scientific_notation_is_a_number(text: str) -> None:
    assert load_recipe("digits", [f"optimizer.lr={text}"]).optimizer.lr == 1e-3


def test_a_whole_number_serves_where_a_number_is_asked_but_not_the_reverse() -> None:
    assert load_recipe("digits", ["optimizer.lr=1"]).optimizer.lr == 1.0
    with pytest.raises(ConfigError, match=r"global_batch: expected a whole number, found 3\.5"):
        load_recipe("digits", ["global_batch=3.5"])


def test_true_is_no_number() -> None:
    with pytest.raises(ConfigError, match="global_batch: expected a whole number, found True"):
        load_recipe("digits", ["global_batch=true"])


def test_one_number_gives_a_square_image() -> None:
    assert load_recipe("digits", ["preprocess.image_size=48"]).preprocess.image_size == (48, 48)
    assert load_recipe("digits", ["preprocess.image_size=[48, 64]"]).preprocess.image_size == (48, 64)


def test_an_unknown_override_is_refused_with_the_nearest_known_one() -> None:
    with pytest.raises(ConfigError, match=r"optimizer\.rl is unknown; the nearest known is optimizer\.lr"):
        load_recipe("digits", ["optimizer.rl=1e-3"])


def test_an_override_without_a_value_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"expected KEY=VALUE, for example optimizer\.lr=1e-3"):
        load_recipe("digits", ["optimizer.lr"])


def test_all_mistakes_of_a_file_are_reported_at_once(tmp_path: Path) -> None:
    values = load_recipe("digits").to_dict()
    values["optimizer"]["lrr"] = values["optimizer"].pop("lr")
    values["mix"]["mode"] = "batches"
    values["schedule"]["epochs"] = 0
    path = write(tmp_path / "mine.yaml", yaml.safe_dump(values))
    with pytest.raises(ConfigError) as error:
        load_recipe(path)
    message = str(error.value)
    assert "mine.yaml has 4 mistakes" in message
    assert "optimizer.lrr: unknown; the nearest known is optimizer.lr" in message
    assert "optimizer.lr: missing" in message
    assert "mix.mode: expected one of batch, pair, elem, found 'batches'" in message
    assert "schedule.epochs must be at least 1, found 0" in message


def test_a_key_given_twice_is_refused_with_its_line() -> None:
    with pytest.raises(ConfigError, match=r"x\.yaml: line 2: given twice: b"):
        parse_yaml("a:\n  b: 1\n  b: 2\n", source="x.yaml")


def test_broken_yaml_names_the_file() -> None:
    with pytest.raises(ConfigError, match=r"x\.yaml is not valid YAML.*line 1"):
        parse_yaml("a: [1", source="x.yaml")


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected settings"):
        load_recipe(write(tmp_path / "empty.yaml", ""))


def test_an_unknown_recipe_is_refused_with_the_nearest_known_one() -> None:
    with pytest.raises(ConfigError, match="the nearest recipe is digits"):
        load_recipe("digit")


def test_accumulation_must_divide_the_global_batch() -> None:
    with pytest.raises(ConfigError, match=r"global_batch \(32\) must be a multiple of device_batch \(48\)"):
        load_recipe("digits", ["device_batch=48"])


@pytest.mark.parametrize("name", list_recipes())
def test_every_recipe_is_valid_and_survives_a_round_trip(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    assert load_recipe(write(tmp_path / "copy.yaml", recipe.to_yaml())) == recipe


def test_model_args_take_any_key() -> None:
    assert load_recipe("digits", ["model.args.qkv_bias=false"]).model.args["qkv_bias"] is False


def number_fields(cls: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and types of all fields that hold numbers, nested ones too."""
    for name, hint in get_type_hints(cls, include_extras=True).items():
        if dataclasses.is_dataclass(hint):
            yield from number_fields(hint, f"{prefix}{name}.")
        elif {int, float} & set(plain_types(get_type_hints(cls)[name])):
            yield prefix + name, hint


def plain_types(hint: Any) -> list[Any]:
    return [hint] + [found for argument in get_args(hint) for found in plain_types(argument)]


FIELDS = [(task, key, hint) for task, cls in RECIPE_TYPES.items() for key, hint in number_fields(cls)]


@pytest.mark.parametrize(("task", "key", "hint"), FIELDS, ids=[f"{task}-{key}" for task, key, _ in FIELDS])
def test_every_number_of_a_recipe_has_a_range_and_refuses_what_lies_outside(task: str, key: str, hint: Any) -> None:
    (allowed, *_) = ranges(hint)
    is_int = int in plain_types(hint) or "int" in str(hint)
    bad = [allowed.low - 1] if math.isfinite(allowed.low) else []
    bad += [allowed.high + 1] if math.isfinite(allowed.high) and allowed.high < 2**60 else []
    bad += [allowed.low] if allowed.open_low else []
    bad += [allowed.high] if allowed.open_high else []
    bad = [int(value) for value in bad] if is_int else [*bad, math.nan, math.inf]
    assert bad
    for value in bad:
        values: Any = load_recipe(next(name for name in list_recipes() if load_recipe(name).task == task)).to_dict()
        section = values
        *parents, last = key.split(".")
        for parent in parents:
            section = section[parent]
        is_tuple = "tuple" in str(hint)
        section[last] = [value] * (len(section[last] or [0, 0]) or 1) if is_tuple else value
        with pytest.raises(ConfigError, match=key.replace(".", r"\.")):
            recipe_from_dict(values, source="x")


@pytest.mark.parametrize("section", ["ema", "model", "optimizer", "run"])
@pytest.mark.parametrize("value", [None, 3, "text", []])
def test_a_section_that_is_none_is_refused_with_or_without_an_override(
    section: str, value: Any, tmp_path: Path
) -> None:
    values = load_recipe("digits").to_dict() | {section: value}
    path = write(tmp_path / "mine.yaml", yaml.safe_dump(values))
    key = {"ema": "decay", "model": "drop_rate", "optimizer": "lr", "run": "workers"}[section]
    for overrides in ([], [f"{section}.{key}=1"]):
        with pytest.raises(ConfigError, match=rf"mine\.yaml.*(\n.*)?{section}: expected settings"):
            load_recipe(path, overrides)


def test_an_unknown_task_is_refused_with_those_there_are(tmp_path: Path) -> None:
    for task in ("clasification", 3, ["x"], None):
        path = write(tmp_path / "mine.yaml", yaml.safe_dump(load_recipe("digits").to_dict() | {"task": task}))
        with pytest.raises(ConfigError, match="task must be one of classification"):
            load_recipe(path)


def test_preprocess_goes_to_timms_words_and_back() -> None:
    preprocess = Preprocess(image_size=(192, 256), crop_pct=1.0, crop_mode="squash", mean=(0.5,), std=(0.25,))
    cfg = preprocess.to_pretrained_cfg()
    assert cfg["input_size"] == (1, 192, 256)
    assert Preprocess.from_pretrained_cfg({**cfg, "url": "elsewhere", "num_classes": 3}) == preprocess


def test_preprocess_without_a_size_is_refused() -> None:
    with pytest.raises(ConfigError, match="input_size must be"):
        Preprocess.from_pretrained_cfg({"crop_pct": 0.9})


def test_a_missing_section_is_named() -> None:
    with pytest.raises(ConfigError, match="optimizer: missing"):
        from_dict(Recipe, {"global_batch": 1}, source="x")


def test_reading_recipes_does_not_import_torch() -> None:
    code = "import sys, hybridvit.config as c; c.load_recipe('digits'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_recipe_that_is_not_utf8_is_one_sentence_and_a_mark_at_its_start_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "it.yaml").write_bytes("\ufeffseed: 1\n".encode("utf-16"))
    with pytest.raises(ConfigError, match=r"it\.yaml cannot be read: it is not UTF-8; save it as such\."):
        load_recipe(tmp_path / "it.yaml")
    text = (RECIPES / "digits.yaml").read_text(encoding="utf-8")
    (tmp_path / "it.yaml").write_text("\ufeff" + text, encoding="utf-8")
    assert load_recipe(tmp_path / "it.yaml") == load_recipe("digits")
