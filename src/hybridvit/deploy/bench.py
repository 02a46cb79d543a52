"""Speed, measured so that it can be compared: models on one engine take turns in one process, and each round gives one ratio.

Engines come one after the other: the threads of some go on spinning for a while, at the cost of whoever is next. On a machine
that is not idle the ratio within a round holds where the time does not. The times are medians, with the spread of the middle
half.
"""

import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from hybridvit.deploy import memory
from hybridvit.deploy.steps import Step, count_gmacs, create, own_size, published_top1, random_images, step
from hybridvit.errors import ConfigError
from hybridvit.kernels.convolution import linear
from hybridvit.output import Table


@dataclass(frozen=True, kw_only=True)
class Timing:
    """One model on one engine."""

    model: str
    engine: str
    image_size: tuple[int, int]
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
    peak_mib: float | None
    """Largest memory of weights and one batch, in a process of its own; None where not asked for or not to be had."""
    top1: float | None
    """Published, in percent."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def bench(
    names: Sequence[str],
    *,
    engine_names: Sequence[str] = ("eager",),
    batch_size: int = 1,
    image_size: tuple[int, int] | None = None,
    train: bool = False,
    rounds: int = 10,
    with_memory: bool = False,
    clock: Callable[[], float] = time.perf_counter,
    on_ready: Callable[[str, str], None] = lambda *_: None,
) -> list[Timing]:
    """Time every model on every engine, with random weights; ratios refer to the first model on the same engine.

    Names of our catalogue are built by us, others by timm. Those run eager where ours run fused. Without an `image_size` each
    model takes pictures of the size that its published accuracy is for.

    Raises: ConfigError for an unknown name, or an engine that cannot train.
    """
    if rounds < 2 or batch_size < 1:
        raise ConfigError(f"bench takes at least 2 rounds and batches of at least 1; found {rounds} and {batch_size}.")
    if train and tuple(engine_names) != ("eager",):
        raise ConfigError("Training is timed on the eager engine only.")
    sizes = {name: image_size or own_size(name) for name in names}
    gmacs = {name: count_gmacs(create(name, sizes[name]), sizes[name]) for name in names}
    timings = []
    for engine_name in engine_names:
        steps: dict[str, Step] = {}
        for name in names:
            images = random_images(batch_size, sizes[name])
            steps[name] = step(create(name, sizes[name]), images, engine_name=engine_name, train=train)
            steps[name]()
            on_ready(name, engine_name)
        seconds, peak = _take_turns(steps, rounds, clock)
        del steps
        for name, times in seconds.items():
            lower, middle, upper = statistics.quantiles(times, n=4, method="inclusive")
            work = gmacs[name] * batch_size * (3 if train else 1)
            timings.append(
                Timing(
                    model=name,
                    engine=engine_name,
                    image_size=sizes[name],
                    gmacs=round(gmacs[name], 3),
                    milliseconds=1000 * middle,
                    spread=(1000 * lower, 1000 * upper),
                    ratio=statistics.median(one / other for one, other in zip(times, seconds[names[0]], strict=True)),
                    peak_share=work / min(times) / peak,
                    peak_mib=memory.peak_mib(
                        name, engine_name=engine_name, batch_size=batch_size, image_size=sizes[name], train=train
                    )
                    if with_memory
                    else None,
                    top1=published_top1(name),
                )
            )
    return timings


def table(timings: Sequence[Timing], *, batch_size: int) -> Table:
    """What `run` gave, for people."""
    header = ["model", "engine", "pixels", "GMACs", "ms", "middle half", "ratio", "pictures/s", "share %", "MiB"]
    rows = [
        [
            timing.model,
            timing.engine,
            f"{timing.image_size[0]}",
            f"{timing.gmacs:.2f}",
            f"{timing.milliseconds:.1f}",
            f"{timing.spread[0]:.1f} to {timing.spread[1]:.1f}",
            f"{timing.ratio:.2f}",
            f"{1000 * batch_size / timing.milliseconds:.1f}",
            f"{100 * timing.peak_share:.0f}",
            "" if timing.peak_mib is None else f"{timing.peak_mib:.0f}",
        ]
        for timing in timings
    ]
    return Table(header, rows)


def _take_turns(
    steps: dict[str, Step], rounds: int, clock: Callable[[], float]
) -> tuple[dict[str, list[float]], float]:
    """Seconds of every round, and 10^9 multiply-accumulates per second of a large matrix product, before and after."""
    product = _matrix_product()
    product_seconds = [_time(product, clock) for _ in range(rounds)]
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, one_step in steps.items():
            seconds[name].append(_time(one_step, clock))
    product_seconds += [_time(product, clock) for _ in range(rounds)]
    return seconds, PRODUCT_GMACS / min(product_seconds)


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


def _time(one_step: Step, clock: Callable[[], float]) -> float:
    start = clock()
    one_step()
    return clock() - start


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
