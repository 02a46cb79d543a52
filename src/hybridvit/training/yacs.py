"""Recipes of the original repositories, read into ours: microsoft/CvT's and PaddleViT's yacs files.

Their training code, not only their file, decides what a key does: learning rates are multiplied, epochs never reached,
augmentation switched off by a key elsewhere. What the code does is imported; what a file says without effect, and what
we have no word for, is listed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hybridvit.config import Recipe, recipe_from_dict
from hybridvit.errors import ConfigError
from hybridvit.typed import flat, parse_yaml, read_yaml

SIZES: dict[tuple[Any, ...], str] = {
    ((64, 192, 384), (1, 2, 10), (1, 3, 6)): "cvt_13",
    ((64, 192, 384), (1, 4, 16), (1, 3, 6)): "cvt_21",
    ((192, 768, 1024), (2, 2, 20), (3, 12, 16)): "cvt_w24",
}
INTERPOLATIONS = {0: "nearest", 2: "bilinear", 3: "bicubic"}  # Pillow's numbers

# What the code takes where the file is silent: lib/config/default.py, image_classification/CvT/config.py. PaddleViT's code
# changed while its files stayed; what is read here is its version of commit 2a268c6.
MICROSOFT_DEFAULTS: dict[str, Any] = {
    "AMP.ENABLED": False,
    "LOSS.LABEL_SMOOTHING": 0.0,
    "INPUT.MEAN": [0.485, 0.456, 0.406],
    "INPUT.STD": [0.229, 0.224, 0.225],
    "DATASET.SAMPLER": "default",
    "AUG.SCALE": [0.08, 1.0],
    "AUG.RATIO": [0.75, 4 / 3],
    "AUG.COLOR_JITTER": [0.4, 0.4, 0.4, 0.1, 0.0],
    "AUG.MIXUP": 0.0,
    "AUG.MIXCUT": 0.0,
    "AUG.MIXUP_SWITCH_PROB": 0.5,
    "AUG.MIXUP_MODE": "batch",
    "AUG.INTERPOLATION": 2,
    "AUG.TIMM_AUG.USE_LOADER": False,
    "AUG.TIMM_AUG.USE_TRANSFORM": False,
    "TRAIN.SCALE_LR": True,
    "TRAIN.LR": 0.001,
    "TRAIN.OPTIMIZER": "sgd",
    "TRAIN.MOMENTUM": 0.9,
    "TRAIN.NESTEROV": True,
    "TRAIN.WD": 0.0001,
    "TRAIN.WITHOUT_WD_LIST": [],
    "TRAIN.END_EPOCH": 100,
    "TRAIN.IMAGE_SIZE": [224, 224],
    "TRAIN.BATCH_SIZE_PER_GPU": 32,
    "TRAIN.CLIP_GRAD_NORM": 0.0,
    "TRAIN.LR_SCHEDULER.METHOD": "timm",
    "TEST.CENTER_CROP": True,
    "TEST.INTERPOLATION": 2,
}
PADDLEVIT_DEFAULTS: dict[str, Any] = {
    "AMP": False,
    "SEED": 0,
    "DATA.BATCH_SIZE": 8,
    "DATA.IMAGE_SIZE": 256,
    "DATA.CROP_PCT": 0.94,
    "DATA.IMAGENET_MEAN": [0.485, 0.456, 0.406],
    "DATA.IMAGENET_STD": [0.229, 0.224, 0.225],
    "MODEL.DIM_EMBED": [64, 192, 384],
    "MODEL.DEPTH": [1, 2, 10],
    "MODEL.NUM_HEADS": [1, 3, 6],
    "MODEL.DROP_PATH_RATE": [0.0, 0.0, 0.1],
    "TRAIN.NUM_EPOCHS": 300,
    "TRAIN.WARMUP_EPOCHS": 3,
    "TRAIN.WEIGHT_DECAY": 0.01,
    "TRAIN.BASE_LR": 0.002,
    "TRAIN.WARMUP_START_LR": 0.0002,
    "TRAIN.END_LR": 0.0002,
    "TRAIN.GRAD_CLIP": None,
    "TRAIN.ACCUM_ITER": 1,
    "TRAIN.LINEAR_SCALED_LR": None,
    "TRAIN.LR_SCHEDULER.NAME": "warmupcosine",
    "TRAIN.OPTIMIZER.NAME": "AdamW",
    "TRAIN.OPTIMIZER.EPS": 1e-8,
    "TRAIN.OPTIMIZER.BETAS": [0.9, 0.999],
    "TRAIN.OPTIMIZER.MOMENTUM": 0.9,
    "TRAIN.MIXUP_ALPHA": 0.8,
    "TRAIN.CUTMIX_ALPHA": 1.0,
    "TRAIN.MIXUP_PROB": 1.0,
    "TRAIN.MIXUP_SWITCH_PROB": 0.5,
    "TRAIN.MIXUP_MODE": "batch",
    "TRAIN.SMOOTHING": 0.1,
    "TRAIN.COLOR_JITTER": 0.4,
    "TRAIN.AUTO_AUGMENT": True,
    "TRAIN.RAND_AUGMENT": False,
    "TRAIN.RAND_AUGMENT_LAYERS": 2,
    "TRAIN.RAND_AUGMENT_MAGNITUDE": 9,
    "TRAIN.RANDOM_ERASE_PROB": 0.25,
    "TRAIN.RANDOM_ERASE_MODE": "pixel",
    "TRAIN.RANDOM_ERASE_COUNT": 1,
}
# Keys that say where and how to run, which the command line or the `run` section says here.
NOT_RECIPE = (
    "BASE", "NAME", "DATA_DIR", "OUTPUT_DIR", "WORKERS", "PRINT_FREQ", "PIN_MEMORY", "VERBOSE", "GPUS", "RANK", "TAG", "SAVE",
    "DIST_BACKEND", "MULTIPROCESSING_DISTRIBUTED", "MODEL_SUMMARY", "CUDNN.", "DEBUG.", "DATASET.", "TEST.", "SAVE_FREQ",
    "REPORT_FREQ", "VALIDATE_FREQ", "EVAL", "NGPUS", "LOCAL_RANK", "DATA.DATA_PATH", "DATA.DATASET", "DATA.NUM_WORKERS",
    "DATA.BATCH_SIZE_EVAL", "MODEL.NAME", "MODEL.TYPE", "MODEL.NUM_CLASSES", "MODEL.PRETRAINED", "MODEL.RESUME",
    "MODEL.INIT_WEIGHTS", "TRAIN.AUTO_RESUME", "TRAIN.CHECKPOINT", "TRAIN.SAVE_ALL_MODELS", "TRAIN.EVAL_BEGIN_EPOCH",
    "TRAIN.LAST_EPOCH", "TRAIN.BEGIN_EPOCH", "TRAIN.SHUFFLE", "TRAIN.DETECT_ANOMALY",
)  # fmt: skip
# What every CvT is built with, here as there.
FIXED_SPEC: dict[str, Any] = {
    "NUM_STAGES": 3,
    "PATCH_SIZE": [7, 3, 3],
    "PATCH_STRIDE": [4, 2, 2],
    "PATCH_PADDING": [2, 1, 1],
    "MLP_RATIO": [4.0] * 3,
    "ATTN_DROP_RATE": [0.0] * 3,
    "DROP_RATE": [0.0] * 3,
    "QKV_BIAS": [True] * 3,
    "CLS_TOKEN": [False, False, True],
    "POS_EMBED": [False] * 3,
    "QKV_PROJ_METHOD": ["dw_bn"] * 3,
    "KERNEL_QKV": [3] * 3,
    "PADDING_KV": [1] * 3,
    "STRIDE_KV": [2] * 3,
    "PADDING_Q": [1] * 3,
    "STRIDE_Q": [1] * 3,
    "INIT": "trunc_norm",
}


@dataclass
class Imported:
    recipe: Recipe
    origin: str
    """microsoft/CvT or PaddleViT."""
    without_effect: list[str]
    """Keys of the file that the original code does not act upon, and why."""
    no_equivalent: list[str]
    """Keys that our recipes have no word for."""


class _Keys:
    """A flat yacs tree that remembers which of its keys were asked for."""

    def __init__(self, values: dict[str, Any], defaults: Mapping[str, Any]) -> None:
        self.given = values
        self.values = {**defaults, **values}
        self.used: set[str] = set()
        self.without_effect: list[str] = []

    def __call__(self, key: str, default: Any = None) -> Any:
        self.used.add(key)
        return self.values.get(key, default)

    def ineffective(self, prefix: str, why: str) -> None:
        keys = [key for key in self.given if key.startswith(prefix) and key not in self.used]
        self.used.update(keys)
        self.without_effect += [f"{key}: {why}" for key in keys]

    def left_over(self) -> list[str]:
        return [key for key in self.given if key not in self.used and not key.startswith(NOT_RECIPE)]


def import_yacs(path: Path, overrides: Sequence[str] = (), *, gpus: int = 8) -> Imported:
    """Read a file with its command-line overrides (KEY VALUE KEY VALUE ...), as a run on `gpus` devices.

    Raises:
        ConfigError: the file or an override cannot be read, or belongs to neither repository.
    """
    values = _read(path)
    if len(overrides) % 2:
        raise ConfigError(f"Overrides come in pairs, KEY VALUE; found {' '.join(overrides)}.")
    for key, text in zip(overrides[::2], overrides[1::2], strict=True):
        if "." not in key and key not in values and key not in PADDLEVIT_DEFAULTS:
            raise ConfigError(f"{key} is no key of {path.name}; expected one such as TRAIN.LR.")
        values[key] = parse_yaml(text, source=f"override {key}")
    words = {key.split(".")[-1] for key in values if key.startswith("TRAIN.")}
    if any(key.startswith("MODEL.SPEC.") for key in values) or "BATCH_SIZE_PER_GPU" in words:
        convert: Callable[[_Keys, int], dict[str, Any]] = _from_microsoft
        origin, keys = "microsoft/CvT", _Keys(values, MICROSOFT_DEFAULTS)
    elif any(key.startswith("DATA.") for key in values) or "MODEL.DIM_EMBED" in values:
        convert, origin, keys = _from_paddlevit, "PaddleViT", _Keys(values, PADDLEVIT_DEFAULTS)
    else:
        raise ConfigError(
            f"{path} is a recipe of neither microsoft/CvT (MODEL.SPEC, TRAIN.BATCH_SIZE_PER_GPU) nor PaddleViT (DATA, "
            "MODEL.DIM_EMBED)."
        )
    recipe = convert(keys, gpus)
    recipe["about"] = {
        "title": f"{path.stem}, imported",
        "source": f"{origin}, {path.name}"
        + (f" with {' '.join(overrides)}" if overrides else "")
        + f", on {gpus} devices",
        "command": f"torchrun --nproc-per-node {gpus} -m hybridvit train {path.stem}.yaml --data IMAGENET",
        "cost": "not measured",
        "status": "not reproduced here",
    }
    return Imported(
        recipe=recipe_from_dict(recipe, source=f"{path.name}, as imported,"),
        origin=origin,
        without_effect=keys.without_effect,
        no_equivalent=keys.left_over(),
    )


def _from_microsoft(keys: _Keys, gpus: int) -> dict[str, Any]:
    per_device, epochs = keys("TRAIN.BATCH_SIZE_PER_GPU"), keys("TRAIN.END_EPOCH")
    size = keys("TRAIN.IMAGE_SIZE")
    crop = keys("TEST.CENTER_CROP")
    optimizer = {"sgd": "sgd" if keys("TRAIN.NESTEROV") else "momentum"}.get(
        keys("TRAIN.OPTIMIZER"), keys("TRAIN.OPTIMIZER").lower()
    )
    if keys("TRAIN.LR_SCHEDULER.METHOD") != "timm":
        raise ConfigError(
            f"TRAIN.LR_SCHEDULER.METHOD {keys('TRAIN.LR_SCHEDULER.METHOD')}: only timm's can be imported."
        )
    argument = "TRAIN.LR_SCHEDULER.ARGS."
    schedule = {
        "name": keys(argument + "sched", "cosine"),
        "epochs": epochs,
        "warmup_epochs": keys(argument + "warmup_epochs", 0),
        "warmup_lr": keys(argument + "warmup_lr", 0.0),
        "min_lr": keys(argument + "min_lr", 0.0),
        "decay_rate": keys(argument + "decay_rate", 0.1),
        "per_step": False,
    }
    keys.ineffective(argument + "cooldown_epochs", "the loop ends at TRAIN.END_EPOCH")
    keys.ineffective(argument + "epochs", "replaced by TRAIN.END_EPOCH")
    keys.ineffective("AUG.MIXUP_PROB", "set to 1 whenever mixup or cutmix is on")
    return {
        "global_batch": per_device * gpus,
        "device_batch": per_device,
        "precision": "float16" if keys("AMP.ENABLED") else "float32",
        "model": _model(keys, "MODEL.SPEC."),
        "preprocess": {
            "image_size": [size[1], size[0]],
            "crop_pct": 0.875 if crop else 1.0,
            "crop_mode": "center" if crop else "squash",
            "interpolation": INTERPOLATIONS[keys("TEST.INTERPOLATION")],
            "mean": keys("INPUT.MEAN"),
            "std": keys("INPUT.STD"),
        },
        "data": {"repeats": _microsoft_repeats(keys, gpus)},
        "augment": _microsoft_augment(keys),
        "mix": {
            "mixup": keys("AUG.MIXUP"),
            "cutmix": keys("AUG.MIXCUT"),
            "switch_prob": keys("AUG.MIXUP_SWITCH_PROB"),
            "mode": keys("AUG.MIXUP_MODE"),
            "smoothing": keys("LOSS.LABEL_SMOOTHING"),
        },
        "optimizer": {
            "name": optimizer,
            "lr": keys("TRAIN.LR") * (gpus if keys("TRAIN.SCALE_LR") else 1),
            "weight_decay": keys("TRAIN.WD"),
            "momentum": keys("TRAIN.MOMENTUM"),
            "clip_norm": keys("TRAIN.CLIP_GRAD_NORM") or None,
            "decay_all": not keys("TRAIN.WITHOUT_WD_LIST"),
        },
        "schedule": schedule,
    }


def _microsoft_repeats(keys: _Keys, gpus: int) -> int:
    if keys.values["AUG.TIMM_AUG.USE_LOADER"]:
        keys.ineffective("DATASET.SAMPLER", "timm's loader, AUG.TIMM_AUG.USE_LOADER, brings its own")
        return 1
    return 3 if keys("DATASET.SAMPLER") == "repeated_aug" and gpus > 1 else 1


def _microsoft_augment(keys: _Keys) -> dict[str, Any]:
    timm = "AUG.TIMM_AUG."
    augment = {"crop_scale": keys("AUG.SCALE"), "crop_ratio": keys("AUG.RATIO")}
    if keys(timm + "USE_LOADER") or keys(timm + "USE_TRANSFORM"):
        keys.ineffective("AUG.COLOR_JITTER", "TIMM_AUG has its own")
        keys.ineffective("AUG.INTERPOLATION", "TIMM_AUG has its own")
        keys.ineffective(timm + "RE_SPLIT", "there are no augmentation splits")
        return augment | {
            "interpolation": keys(timm + "INTERPOLATION", "bicubic"),
            "hflip": keys(timm + "HFLIP", 0.5),
            "vflip": keys(timm + "VFLIP", 0.0),
            "color_jitter": keys(timm + "COLOR_JITTER", 0.0),
            "auto_augment": keys(timm + "AUTO_AUGMENT") or None,
            "erasing": keys(timm + "RE_PROB", 0.0),
            "erasing_mode": keys(timm + "RE_MODE", "const"),
            "erasing_count": keys(timm + "RE_COUNT", 1),
        }
    keys.ineffective(timm, "USE_LOADER and USE_TRANSFORM are off, and with them all of TIMM_AUG")
    if not keys.values["AUG.COLOR_JITTER"][-1]:
        keys.ineffective("AUG.COLOR_JITTER", "its probability, the last value, is 0")
    return augment | {"interpolation": INTERPOLATIONS[keys("AUG.INTERPOLATION")], "hflip": 0.5}


def _from_paddlevit(keys: _Keys, gpus: int) -> dict[str, Any]:
    per_device, passes = keys("DATA.BATCH_SIZE"), keys("TRAIN.ACCUM_ITER")
    unit = keys("TRAIN.LINEAR_SCALED_LR")
    scale = per_device * gpus * passes / unit if unit else 1.0
    schedule = {"warmupcosine": "cosine", "cosine": "cosine"}.get(keys("TRAIN.LR_SCHEDULER.NAME"))
    if schedule is None:
        raise ConfigError(f"TRAIN.LR_SCHEDULER.NAME {keys('TRAIN.LR_SCHEDULER.NAME')}: only warmupcosine and cosine.")
    warm = keys("TRAIN.LR_SCHEDULER.NAME") == "warmupcosine"
    if not warm:
        keys.ineffective("TRAIN.WARMUP", "the schedule is a plain cosine")
    keys.ineffective("TRAIN.LR_SCHEDULER.", "for other schedules only")
    keys.ineffective("AUG.", "the code reads TRAIN's augmentation instead")
    keys.ineffective("TRAIN.MODEL_EMA", "this version of the code keeps no average")
    adam = keys("TRAIN.OPTIMIZER.NAME") == "AdamW"
    size = keys("DATA.IMAGE_SIZE")
    optimizer = {
        "name": "adamw" if adam else "momentum",
        "lr": keys("TRAIN.BASE_LR") * scale,
        "weight_decay": keys("TRAIN.WEIGHT_DECAY"),
        "momentum": keys("TRAIN.OPTIMIZER.MOMENTUM"),
        "betas": keys("TRAIN.OPTIMIZER.BETAS") if adam else None,
        "eps": keys("TRAIN.OPTIMIZER.EPS") if adam else None,
        "clip_norm": keys("TRAIN.GRAD_CLIP") or None,
        "decay_all": True,  # its exclusions name Swin's parameters, none of CvT's
    }
    return {
        "seed": keys("SEED"),
        "global_batch": per_device * gpus * passes,
        "device_batch": per_device,
        "precision": "float16" if keys("AMP") else "float32",
        "model": _model(keys, "MODEL."),
        "preprocess": {
            "image_size": size,
            "crop_pct": keys("DATA.CROP_PCT"),
            "crop_mode": "squash" if size == 384 else "center",  # its code asks for this very size
            "mean": keys("DATA.IMAGENET_MEAN"),
            "std": keys("DATA.IMAGENET_STD"),
        },
        "augment": {
            "crop_scale": [0.05, 1.0],
            "color_jitter": keys("TRAIN.COLOR_JITTER"),
            "auto_augment": _paddlevit_policy(keys),
            "erasing": keys("TRAIN.RANDOM_ERASE_PROB"),
            "erasing_mode": keys("TRAIN.RANDOM_ERASE_MODE"),
            "erasing_count": keys("TRAIN.RANDOM_ERASE_COUNT"),
        },
        "mix": {
            "mixup": keys("TRAIN.MIXUP_ALPHA"),
            "cutmix": keys("TRAIN.CUTMIX_ALPHA"),
            "prob": keys("TRAIN.MIXUP_PROB"),
            "switch_prob": keys("TRAIN.MIXUP_SWITCH_PROB"),
            "mode": keys("TRAIN.MIXUP_MODE"),
            "smoothing": keys("TRAIN.SMOOTHING"),
        },
        "optimizer": optimizer,
        "schedule": {
            "name": schedule,
            "epochs": keys("TRAIN.NUM_EPOCHS"),
            "warmup_epochs": keys("TRAIN.WARMUP_EPOCHS") if warm else 0,
            "warmup_lr": keys("TRAIN.WARMUP_START_LR") * scale if warm else 0.0,
            "min_lr": keys("TRAIN.END_LR") * scale,
            "per_step": False,
        },
    }


def _paddlevit_policy(keys: _Keys) -> str | None:
    auto = keys("TRAIN.AUTO_AUGMENT")
    if auto:
        keys.ineffective("TRAIN.RAND_AUGMENT", "TRAIN.AUTO_AUGMENT comes first")
        keys.ineffective("TRAIN.COLOR_JITTER", "TRAIN.AUTO_AUGMENT comes first")
        return "original"  # AutoAugment of the paper, whatever the comment beside the default says
    if keys("TRAIN.RAND_AUGMENT"):
        return f"rand-m{keys('TRAIN.RAND_AUGMENT_MAGNITUDE')}-n{keys('TRAIN.RAND_AUGMENT_LAYERS')}-p1"
    return None


def _model(keys: _Keys, prefix: str) -> dict[str, Any]:
    shape = tuple(tuple(keys(prefix + name, ())) for name in ("DIM_EMBED", "DEPTH", "NUM_HEADS"))
    rates = keys(prefix + "DROP_PATH_RATE", [0.0])
    if any(rates[:-1]):
        keys.used.discard(prefix + "DROP_PATH_RATE")  # ours drops in the last stage only
    for name, value in FIXED_SPEC.items():
        if keys.values.get(prefix + name) == value:
            keys.used.add(prefix + name)
    args = {} if shape in SIZES else {"dims": list(shape[0]), "depths": list(shape[1]), "heads": list(shape[2])}
    return {"name": SIZES.get(shape, "cvt_13"), "drop_path_rate": rates[-1], "args": args}


def _read(path: Path, read_by: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Every key of the file and of its BASE files, flat."""
    if path.resolve() in read_by:
        raise ConfigError(f"{path} names itself as its BASE, by way of {read_by[-1]}.")
    tree, values = read_yaml(path), dict[str, Any]()
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} holds no settings.")
    bases = tree.pop("BASE", None) or []
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        raise ConfigError(f"{path}: BASE is {bases!r}; expected a list of files.")
    for base in filter(None, bases):
        values |= _read(path.parent / base, (*read_by, path.resolve()))
    return values | flat(tree)
