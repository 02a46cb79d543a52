"""What every training recipe says, whatever the task."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

import yaml

from hybridvit.config.preprocess import Preprocess
from hybridvit.config.section import (
    Count,
    CountFromZero,
    NonNegative,
    Positive,
    Section,
    Seed,
    Share,
    ShareAboveZero,
    ShareBelowOne,
    require,
)
from hybridvit.typed import plain


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
class ModelSection(Section):
    name: str
    """A name of `hybridvit models`."""
    drop_rate: ShareBelowOne | None = None
    """Dropout, where the family has it; none keeps the architecture's own value."""
    drop_path_rate: ShareBelowOne = 0.0
    drop_path_warmup_epochs: CountFromZero = 0
    """Epochs over which the drop path rates grow from 0."""
    grad_checkpointing: bool = False
    """Recompute activations in the backward pass: about a third more time, far less memory."""
    freeze: tuple[str, ...] = ()
    """Shell patterns of parameter names that stay as they are, for example stages.0.*; their norms are not updated."""
    args: dict[str, Any] = field(default_factory=dict)
    """Further fields of the architecture's configuration."""


@dataclass(frozen=True, kw_only=True)
class DataSection(Section):
    repeats: Count = 1
    """Repeated augmentation: how often a picture is drawn, differently augmented, before the next one."""
    broken_limit: Share = 0.01
    """Share of the training pictures that may be unreadable before the run stops."""
    max_pixels: Count = 80_000_000
    """Larger pictures are refused from their header, before decoding."""
    val_split: ShareBelowOne = 0.0
    """Share of every class that is held out for evaluating, for data sets without a test part; 0: the set has its own."""


@dataclass(frozen=True, kw_only=True)
class OptimizerSection(Section):
    name: str = "adamw"
    """Any name of timm.optim.list_optimizers()."""
    lr: Positive
    """The peak learning rate at this recipe's global_batch. Nothing rescales it."""
    weight_decay: NonNegative = 0.0
    momentum: ShareBelowOne = 0.9
    """For SGD and its kin; Adam's is betas."""
    betas: tuple[ShareBelowOne, ShareBelowOne] | None = None
    eps: NonNegative | None = None
    clip_norm: Positive | None = None
    """Largest global norm of the gradient."""
    layer_decay: ShareAboveZero | None = None
    """Each layer below the head learns at this share of the one above."""
    decay_all: bool = False
    """Decay biases and norms too, which are spared otherwise."""
    skip_limit: CountFromZero = 20
    """Steps with a loss or gradient that is not finite are skipped; after this many the run stops."""


@dataclass(frozen=True, kw_only=True)
class ScheduleSection(Section):
    name: Literal["cosine", "step", "multistep", "poly", "constant"] = "cosine"
    epochs: Count
    """Including warm-up, without cool-down."""
    warmup_epochs: CountFromZero = 0
    warmup_lr: NonNegative = 0.0
    """Learning rate of the first step of the warm-up."""
    warmup_steps: CountFromZero = 0
    """Instead of epochs, where these are long: a linear rise over so many optimizer steps."""
    min_lr: NonNegative = 0.0
    cooldown_epochs: CountFromZero = 0
    """Further epochs at min_lr."""
    per_step: bool = True
    """Change the learning rate at every step; otherwise at every epoch, as timm 0.3 did."""
    decay_epochs: Count = 30
    """For step: epochs between two drops."""
    milestones: tuple[Count, ...] = ()
    """For multistep: the epochs of the drops."""
    decay_rate: Positive = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            0 <= self.warmup_epochs < self.epochs or self.warmup_epochs == 0,
            f"warmup_epochs ({self.warmup_epochs}) must be fewer than epochs ({self.epochs})",
        )
        require(
            not (self.warmup_epochs and self.warmup_steps),
            f"warmup_epochs ({self.warmup_epochs}) and warmup_steps ({self.warmup_steps}): give one of the two",
        )


@dataclass(frozen=True, kw_only=True)
class EmaSection(Section):
    """Moving average of the weights; when on, it is what is evaluated and exported."""

    decay: ShareBelowOne = 0.0
    """0 is off."""
    warmup: bool = False
    """Let the decay grow with the number of steps, so that short runs lose their start."""


@dataclass(frozen=True, kw_only=True)
class BatchNormSection(Section):
    sync: bool = False
    """Share the statistics of a batch among devices (CUDA only)."""
    precise_batches: CountFromZero = 0
    """After training, measure the statistics anew over so many global batches (Wu and Johnson, arXiv 2105.07576)."""


@dataclass(frozen=True, kw_only=True)
class RunSection(Section):
    """How the run is carried out. No field changes what is computed (compile, fsdp: beyond rounding); a resumed run may
    differ in all."""

    workers: CountFromZero = 2
    """Processes that decode and augment."""
    eval_epochs: Count = 1
    """Evaluate every so many epochs, and after the last."""
    log_steps: Count = 50
    """Write a line of metrics every so many steps."""
    save_minutes: NonNegative = 10.0
    """Save the state at least this often; it is also saved after every evaluation."""
    compile: bool = False
    """Compile the model with torch.compile, once drop path has warmed up."""
    fsdp: bool = False
    """Split weights, gradients and optimizer over the processes (FSDP2), for models too large for each to hold whole."""
    track: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = ()
    """Where the metrics go, too. wandb stays offline unless WANDB_MODE says otherwise."""


@dataclass(frozen=True, kw_only=True)
class Recipe(Section):
    """Everything that decides a training run's result, and how it is carried out. Tasks add sections of their own."""

    about: About
    task: str = "classification"
    """What is learnt; it decides which further sections there are."""
    seed: Seed = 0
    global_batch: Count
    """Pictures per optimizer step, over all devices and accumulated passes."""
    device_batch: Count | None = None
    """Pictures per forward pass on one device; none: global_batch divided by the devices. The rest is accumulated."""
    precision: Literal["float32", "bfloat16", "float16", "float64"] = "float32"
    """float16 scales the loss; the weights stay float32 (float64 in float64)."""
    model: ModelSection
    preprocess: Preprocess
    data: DataSection = DataSection()
    optimizer: OptimizerSection
    schedule: ScheduleSection
    ema: EmaSection = EmaSection()
    batchnorm: BatchNormSection = BatchNormSection()
    run: RunSection = RunSection()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.device_batch is not None:
            require(
                self.global_batch % self.device_batch == 0,
                f"global_batch ({self.global_batch}) must be a multiple of device_batch ({self.device_batch})",
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, dicts, numbers and strings, for YAML and JSON."""
        return plain(dataclasses.asdict(self))

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.to_dict(), sort_keys=False, width=110, allow_unicode=True)
