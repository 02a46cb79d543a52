"""What a run is told: preprocessing and training recipes as dataclasses, read from strict YAML with dotted overrides.

Importing this file never imports torch.
"""

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from hybridvit.errors import ConfigError
from hybridvit.typed import from_dict, known_keys, parse_yaml, plain

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
RECIPES = Path(__file__).parent / "recipes"


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """How a picture becomes the tensor a model expects, in timm's vocabulary. It travels with the weights."""

    image_size: tuple[int, int]
    """Height and width in pixels."""
    crop_pct: float = 0.875
    """The picture is resized to image_size / crop_pct before the crop."""
    crop_mode: Literal["center", "squash", "border"] = "center"
    """center: resize the short side, crop; squash: resize both sides, no crop; border: fit the long side, pad."""
    interpolation: Literal["bicubic", "bilinear", "nearest"] = "bicubic"
    mean: tuple[float, ...] = IMAGENET_MEAN
    """One value per channel; its length (1 or 3) decides between grey and RGB."""
    std: tuple[float, ...] = IMAGENET_STD

    def __post_init__(self) -> None:
        _require(min(self.image_size) > 0, f"image_size must be positive, found {self.image_size}")
        _require(0 < self.crop_pct <= 1, f"crop_pct must lie in (0, 1], found {self.crop_pct}")
        _require(len(self.mean) == len(self.std), f"mean has {len(self.mean)} values, std {len(self.std)}")
        _require(all(s > 0 for s in self.std), f"std must be positive, found {self.std}")

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


@dataclass(frozen=True, kw_only=True)
class About:
    """A recipe's header: what it claims and on whose word."""

    title: str
    source: str
    """Where the values come from; where sources disagree, both values stand here."""
    command: str
    cost: str
    """Expected device hours or minutes, and on what."""
    status: str
    """published, reproduced here, or not reproduced."""


@dataclass(frozen=True, kw_only=True)
class ModelSection:
    name: str
    """A name of `hybridvit models`."""
    drop_rate: float | None = None
    """Dropout, where the family has it; none keeps the architecture's own value."""
    drop_path_rate: float = 0.0
    drop_path_warmup_epochs: int = 0
    """Epochs over which the drop path rates grow from 0."""
    grad_checkpointing: bool = False
    """Recompute activations in the backward pass: about a third more time, far less memory."""
    freeze: tuple[str, ...] = ()
    """Shell patterns of parameter names that stay as they are, for example stages.0.*; their norms are not updated."""
    args: dict[str, Any] = field(default_factory=dict)
    """Further fields of the architecture's configuration."""

    def __post_init__(self) -> None:
        _require(0 <= self.drop_path_rate < 1, f"drop_path_rate must lie in [0, 1), found {self.drop_path_rate}")


@dataclass(frozen=True, kw_only=True)
class DataSection:
    repeats: int = 1
    """Repeated augmentation: how often a picture is drawn, differently augmented, before the next one."""
    broken_limit: float = 0.01
    """Share of the training pictures that may be unreadable before the run stops."""
    max_pixels: int = 80_000_000
    """Larger pictures are refused from their header, before decoding."""
    val_split: float = 0.0
    """Share of every class that is held out for judging, for data sets without a test part; 0: the set has its own."""

    def __post_init__(self) -> None:
        _require(self.repeats >= 1, f"repeats must be at least 1, found {self.repeats}")
        _require(0 <= self.broken_limit <= 1, f"broken_limit is a share between 0 and 1, found {self.broken_limit}")
        _require(0 <= self.val_split < 1, f"val_split is a share below 1, found {self.val_split}")


@dataclass(frozen=True, kw_only=True)
class AugmentSection:
    """Per-image augmentation, by timm.data.create_transform. The defaults change nothing but the crop."""

    crop_mode: Literal["rrc", "rkrc", "rkrr"] = "rrc"
    """rrc: random resized crop (Inception); rkrc, rkrr: resize keeping the ratio, then centre or random crop."""
    crop_scale: tuple[float, float] = (0.08, 1.0)
    crop_ratio: tuple[float, float] = (0.75, 1.3333333333333333)
    interpolation: Literal["bicubic", "bilinear", "nearest", "random"] = "bicubic"
    hflip: float = 0.0
    vflip: float = 0.0
    rotate: float = 0.0
    """Largest rotation in degrees, before the crop."""
    translate: float = 0.0
    """Largest shift as a share of the side."""
    zoom: tuple[float, float] = (1.0, 1.0)
    shear: float = 0.0
    """Largest shear in degrees."""
    color_jitter: float = 0.0
    """Brightness, contrast, saturation. As in timm and DeiT, auto_augment switches it off (unless it names 3a)."""
    auto_augment: str | None = None
    """timm's notation, for example rand-m9-mstd0.5-inc1."""
    erasing: float = 0.0
    """Probability of random erasing."""
    erasing_mode: Literal["const", "rand", "pixel"] = "pixel"
    erasing_count: int = 1

    def __post_init__(self) -> None:
        for name in ("hflip", "vflip", "erasing"):
            _require(0 <= getattr(self, name) <= 1, f"{name} is a probability, found {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class MixSection:
    """Mixing of whole batches and the labels that follow from it, by timm.data.Mixup."""

    mixup: float = 0.0
    """Alpha of the beta distribution; 0 is off."""
    cutmix: float = 0.0
    prob: float = 1.0
    switch_prob: float = 0.5
    """Probability of cutmix where both are on."""
    mode: Literal["batch", "pair", "elem"] = "batch"
    smoothing: float = 0.0

    def __post_init__(self) -> None:
        _require(self.mixup >= 0 and self.cutmix >= 0, "mixup and cutmix are alphas: at least 0")
        _require(0 <= self.smoothing < 1, f"smoothing must lie in [0, 1), found {self.smoothing}")


@dataclass(frozen=True, kw_only=True)
class OptimizerSection:
    name: str = "adamw"
    """Any name of timm.optim.list_optimizers()."""
    lr: float
    """The peak learning rate at this recipe's global_batch. Nothing rescales it."""
    weight_decay: float = 0.0
    momentum: float = 0.9
    """For SGD and its kin; Adam's is betas."""
    betas: tuple[float, float] | None = None
    eps: float | None = None
    clip_norm: float | None = None
    """Largest global norm of the gradient."""
    layer_decay: float | None = None
    """Each layer below the head learns at this share of the one above."""
    decay_all: bool = False
    """Decay biases and norms too, which are spared otherwise."""
    skip_limit: int = 20
    """Steps with a loss or gradient that is not finite are skipped; after this many the run stops."""

    def __post_init__(self) -> None:
        _require(self.lr > 0, f"lr must be positive, found {self.lr}")
        _require(self.weight_decay >= 0, f"weight_decay must be at least 0, found {self.weight_decay}")
        _require(self.clip_norm is None or self.clip_norm > 0, f"clip_norm must be positive, found {self.clip_norm}")


@dataclass(frozen=True, kw_only=True)
class ScheduleSection:
    name: Literal["cosine", "step", "multistep", "poly", "constant"] = "cosine"
    epochs: int
    """Including warm-up, without cool-down."""
    warmup_epochs: int = 0
    warmup_lr: float = 0.0
    """Learning rate of the first step of the warm-up."""
    min_lr: float = 0.0
    cooldown_epochs: int = 0
    """Further epochs at min_lr."""
    per_step: bool = True
    """Change the learning rate at every step; otherwise at every epoch, as timm 0.3 did."""
    decay_epochs: int = 30
    """For step: epochs between two drops."""
    milestones: tuple[int, ...] = ()
    """For multistep: the epochs of the drops."""
    decay_rate: float = 0.1

    def __post_init__(self) -> None:
        _require(self.epochs >= 1, f"epochs must be at least 1, found {self.epochs}")
        _require(
            0 <= self.warmup_epochs < self.epochs or self.warmup_epochs == 0,
            f"warmup_epochs ({self.warmup_epochs}) must be fewer than epochs ({self.epochs})",
        )


@dataclass(frozen=True, kw_only=True)
class EmaSection:
    """Moving average of the weights; when on, it is what is evaluated and exported."""

    decay: float = 0.0
    """0 is off."""
    warmup: bool = False
    """Let the decay grow with the number of steps, so that short runs forget their start."""

    def __post_init__(self) -> None:
        _require(0 <= self.decay < 1, f"decay must lie in [0, 1), found {self.decay}")


@dataclass(frozen=True, kw_only=True)
class BatchNormSection:
    sync: bool = False
    """Share the statistics of a batch among devices (CUDA only)."""
    precise_batches: int = 0
    """After training, measure the statistics anew over so many global batches (Wu and Johnson, arXiv 2105.07576)."""


@dataclass(frozen=True, kw_only=True)
class DistillSection:
    """Learn from a teacher's answers, too (Hinton et al., arXiv 1503.02531; hard: Touvron et al., arXiv 2012.12877)."""

    teacher: str | None = None
    """A checkpoint file, or timm: and the name of a pretrained model of the same classes."""
    kind: Literal["soft", "hard"] = "soft"
    alpha: float = 0.5
    """The teacher's share of the loss."""
    temperature: float = 3.0

    def __post_init__(self) -> None:
        _require(0 <= self.alpha <= 1, f"alpha is a share between 0 and 1, found {self.alpha}")
        _require(self.temperature > 0, f"temperature must be positive, found {self.temperature}")


@dataclass(frozen=True, kw_only=True)
class RunSection:
    """How the run is carried out. No field changes what is computed (compile, fsdp: beyond rounding); a resumed run may
    differ in all."""

    workers: int = 2
    """Processes that decode and augment."""
    eval_epochs: int = 1
    """Evaluate every so many epochs, and after the last."""
    log_steps: int = 50
    """Write a line of metrics every so many steps."""
    save_minutes: float = 10.0
    """Save the state at least this often; it is also saved after every evaluation."""
    compile: bool = False
    """Compile the model with torch.compile, once drop path has warmed up."""
    fsdp: bool = False
    """Split weights, gradients and optimizer over the processes (FSDP2), for models too large for each to hold whole."""
    track: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = ()
    """Where the metrics go, too. wandb stays offline unless WANDB_MODE says otherwise."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides a training run's result, and how it is carried out."""

    about: About
    seed: int = 0
    global_batch: int
    """Pictures per optimizer step, over all devices and accumulated passes."""
    device_batch: int | None = None
    """Pictures per forward pass on one device; none: global_batch divided by the devices. The rest is accumulated."""
    precision: Literal["float32", "bfloat16", "float16", "float64"] = "float32"
    """float16 scales the loss; the weights stay float32 (float64 in float64)."""
    model: ModelSection
    preprocess: Preprocess
    data: DataSection = DataSection()
    augment: AugmentSection = AugmentSection()
    mix: MixSection = MixSection()
    optimizer: OptimizerSection
    schedule: ScheduleSection
    ema: EmaSection = EmaSection()
    batchnorm: BatchNormSection = BatchNormSection()
    distill: DistillSection = DistillSection()
    run: RunSection = RunSection()

    def __post_init__(self) -> None:
        _require(self.global_batch >= 1, f"global_batch must be at least 1, found {self.global_batch}")
        if self.device_batch is not None:
            _require(
                self.device_batch >= 1 and self.global_batch % self.device_batch == 0,
                f"global_batch ({self.global_batch}) must be a multiple of device_batch ({self.device_batch})",
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, dicts, numbers and strings, for YAML and JSON."""
        return plain(dataclasses.asdict(self))

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.to_dict(), sort_keys=False, width=110, allow_unicode=True)


def recipe_names() -> list[str]:
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
        near = difflib.get_close_matches(str(name_or_path), recipe_names(), n=1, cutoff=0.0)
        raise ConfigError(
            f"{name_or_path} is neither a recipe nor a file; the nearest recipe is {near[0]}. "
            "`hybridvit recipes` lists them all."
        )
    values = parse_yaml(path.read_text(encoding="utf-8"), source=str(path))
    source = path.name + (" with --set" if overrides else "")
    if isinstance(values, dict):
        for override in overrides:
            _apply_override(values, override)
    return from_dict(Recipe, values, source=source)


def _apply_override(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    known = known_keys(Recipe)
    if not equals:
        raise ConfigError(f"--set {override}: expected KEY=VALUE, for example optimizer.lr=1e-3")
    if key not in known and not key.startswith("model.args."):
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)
        raise ConfigError(f"--set {override}: {key} is unknown; the nearest known is {near[0]}")
    *parents, last = key.split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
    values[last] = parse_yaml(text, source=f"--set {override}")
