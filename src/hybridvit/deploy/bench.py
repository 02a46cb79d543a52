"""Speed, measured so that it can be compared: all models take turns in one process, and each round gives one ratio.

On a machine that is not idle the ratio within a round holds where the time does not. The times are medians, with the spread of
the middle half.
"""

import platform
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from hybridvit.deploy import engines
from hybridvit.deploy.kernels import linear
from hybridvit.errors import ConfigError
from hybridvit.models import catalog


@dataclass(frozen=True, kw_only=True)
class Timing:
    """One model on one engine."""

    model: str
    engine: str
    gmacs: float
    """10^9 multiply-accumulates per picture: convolutions, linear layers, attention's products."""
    milliseconds: float
    """Median per batch; with training, of forward, backward and an SGD step."""
    spread: tuple[float, float]
    """First and third quartile."""
    ratio: float
    """Median over the rounds of the time divided by the first model's in the same round."""
    peak_share: float
    """Achieved share of the multiply-accumulates per second of a large matrix product, measured in the same rounds."""
    top1: float | None
    """Published, in percent."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


Step = Callable[[], None]


def run(
    names: Sequence[str],
    *,
    engine_names: Sequence[str] = ("eager",),
    batch_size: int = 1,
    image_size: tuple[int, int] = (224, 224),
    train: bool = False,
    rounds: int = 10,
    clock: Callable[[], float] = time.perf_counter,
    on_ready: Callable[[str, str], None] = lambda *_: None,
) -> list[Timing]:
    """Time every model on every engine, with random weights; ratios refer to the first model on the same engine.

    Names of our catalogue are built by us, others by timm; those run eager where ours run fused, and on no other engine.

    Raises: ConfigError for an unknown name, or an engine that cannot train.
    """
    if train and tuple(engine_names) != ("eager",):
        raise ConfigError("Training is timed on the eager engine only.")
    images = torch.randn(batch_size, 3, *image_size).contiguous(memory_format=torch.channels_last)
    steps: dict[tuple[str, str], Step] = {}
    gmacs: dict[str, float] = {}
    for name in names:
        model = _create(name, image_size).to(memory_format=torch.channels_last)
        gmacs[name] = count_gmacs(model.eval(), image_size)
        for engine_name in engine_names:
            steps[name, engine_name] = _train_step(model, images) if train else _step(engine_name, model, images)
            steps[name, engine_name]()
            on_ready(name, engine_name)
    product = _matrix_product()
    seconds: dict[tuple[str, str], list[float]] = {key: [] for key in steps}
    product_seconds = []
    for _ in range(rounds):
        product_seconds.append(_time(product, clock))
        for key, step in steps.items():
            seconds[key].append(_time(step, clock))
    peak = PRODUCT_GMACS / min(product_seconds)
    timings = []
    for (name, engine_name), times in seconds.items():
        first = seconds[names[0], engine_name]
        lower, middle, upper = statistics.quantiles(times, n=4, method="inclusive")
        work = gmacs[name] * batch_size * (3 if train else 1)
        timings.append(
            Timing(
                model=name,
                engine=engine_name,
                gmacs=round(gmacs[name], 3),
                milliseconds=1000 * middle,
                spread=(1000 * lower, 1000 * upper),
                ratio=statistics.median(one / other for one, other in zip(times, first, strict=True)),
                peak_share=work / min(times) / peak,
                top1=published_top1(name),
            )
        )
    return timings


def count_gmacs(model: nn.Module, image_size: tuple[int, int]) -> float:
    """10^9 multiply-accumulates for one picture. (PyTorch counts two operations for each.)"""
    channels = getattr(model, "in_chans", 3)
    with FlopCounterMode(display=False) as counter:  # with gradients: its hooks stumble over parameters without
        model(torch.randn(1, channels, *image_size))
    return counter.get_total_flops() / 2e9


def published_top1(name: str) -> float | None:
    """ImageNet-1k top-1 in percent, at the size it was published for."""
    return catalog.ARCHITECTURES[name].top1 if name in catalog.ARCHITECTURES else TIMM_TOP1.get(name)


TIMM_TOP1 = {
    # As the papers state them for training on ImageNet-1k alone at 224 pixels.
    "resnet50": 76.1,
    "swin_tiny_patch4_window7_224": 81.3,
    "convnext_tiny": 82.1,
    "pvt_v2_b2": 82.0,
    "coat_lite_small": 81.9,
    "efficientnet_b4": 82.9,
}

PRODUCT_SIDE = 1024
PRODUCT_GMACS = PRODUCT_SIDE**3 / 1e9


def _matrix_product() -> Step:
    """A large product by the fastest library here: a 1x1 convolution on packed weights, which oneDNN computes."""
    x = torch.randn(1, PRODUCT_SIDE, 1, PRODUCT_SIDE).contiguous(memory_format=torch.channels_last)
    product = linear(torch.randn(PRODUCT_SIDE, PRODUCT_SIDE), None)
    product(x)
    return lambda: _discard(product(x))


def _discard(_: Tensor) -> None:
    pass


def _create(name: str, image_size: tuple[int, int]) -> nn.Module:
    if name in catalog.ARCHITECTURES:
        return catalog.create(name, img_size=image_size)
    try:
        return timm.create_model(name)
    except RuntimeError as error:
        raise ConfigError(f"Neither hybridvit nor timm knows {name!r} ({error}).") from None


def _step(engine_name: str, model: nn.Module, images: Tensor) -> Step:
    if hasattr(model, "architecture"):
        size = (images.shape[2], images.shape[3])
        engine = engines.build(engine_name, model, image_size=size, batch_size=len(images))
    elif engine_name in ("eager", "fused"):  # nothing of ours to fuse
        engine = model
    else:
        raise ConfigError(f"The engine {engine_name} is for our models only: leave the others out with --against none.")

    def step() -> None:
        with torch.inference_mode():
            engine(images)

    return step


def _train_step(model: nn.Module, images: Tensor) -> Step:
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)
    labels = torch.zeros(len(images), dtype=torch.int64)

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()

    return step


def _time(step: Step, clock: Callable[[], float]) -> float:
    start = clock()
    step()
    return clock() - start


def train_peak_mib(name: str, *, batch_size: int, image_size: tuple[int, int]) -> float:
    """What a training step adds to this process's largest memory, in MiB. To be called in a process of its own."""
    model = _create(name, image_size).to(memory_format=torch.channels_last)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    _train_step(model, torch.randn(batch_size, 3, *image_size).contiguous(memory_format=torch.channels_last))()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "cpu": _cpu_name(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "date": time.strftime("%Y-%m-%d"),
    }


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.partition(":")[2].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()
