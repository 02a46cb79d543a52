"""Where and how tensors are computed: device, precision, seeds, and the processes of a job."""

import contextlib
import hashlib
import os
import platform
import random
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import version
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist

from hybridvit.errors import ConfigError

T = TypeVar("T")

DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float64": torch.float64,
}


def pick_device(name: str = "auto") -> torch.device:
    """ "auto", "cpu", "cuda", "cuda:1", "mps". Raises ConfigError when torch cannot use it."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device {name} cannot be used: {str(error).splitlines()[0]}") from None
    return device


def environment(device: torch.device) -> dict[str, str]:
    """What a figure depends on beside the code: versions and machine."""
    names = {"cuda": lambda: torch.cuda.get_device_name(device), "mps": platform.machine}
    found = {name: version(name) for name in ("hybridvit", "torch", "torchvision", "timm", "numpy", "pillow")}
    return {
        "device": names.get(device.type, lambda: f"{platform.machine()}, {os.cpu_count()} cores")(),
        "python": platform.python_version(),
        "system": platform.platform(),
        **found,
    }


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[None]:
    """Mixed precision for bfloat16 and float16; nothing for float32 and float64."""
    if precision in ("bfloat16", "float16"):
        return torch.autocast(device.type, DTYPES[precision])
    return contextlib.nullcontext()


def weights_dtype(precision: str) -> torch.dtype:
    """Of weights and normalised pictures: float64 where asked for, else float32, which autocast lowers where that is safe."""
    return torch.float64 if precision == "float64" else torch.float32


@contextlib.contextmanager
def in_eval_mode(model: torch.nn.Module) -> Iterator[None]:
    """Afterwards every part has the mode that it had."""
    training = [module for module in model.modules() if module.training]
    if training:
        model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def seed_for(*numbers: int) -> int:
    """One 63-bit seed from several numbers: the same on every machine, unrelated for neighbours."""
    digest = hashlib.blake2b(struct.pack(f"<{len(numbers)}q", *numbers), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def seed_generators(seed: int) -> None:
    """Seed the CPU generators of random, numpy and torch: timm and torchvision draw from all three."""
    random.seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)  # noqa: NPY002  timm draws from numpy's legacy generator
    torch.default_generator.manual_seed(seed)


@contextlib.contextmanager
def generators_kept() -> Iterator[None]:
    """Give the CPU generators of random, numpy and torch back as they were. Takes as long as seeding them ten times."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        torch.set_rng_state(states[2])


@dataclass(frozen=True)
class Ranks:
    """This process's place among those of the job. A job of one process needs no process group."""

    rank: int = 0
    world: int = 1

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def sum(self, values: list[torch.Tensor]) -> list[float]:
        """Scalars added up over all ranks, as numbers. Waits for the device once."""
        dtype = torch.float32 if values[0].device.type == "mps" else torch.float64  # mps has no float64
        total = torch.stack([value.detach().to(dtype) for value in values])
        if self.world > 1:
            dist.all_reduce(total)
        return total.tolist()

    def gather(self, value: T) -> list[T]:
        """Every rank's value, on every rank."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        dist.all_gather_object(values, value)
        return values

    def copy_from_first(self, tensors: Iterable[torch.Tensor]) -> None:
        """Overwrite these tensors with those of rank 0."""
        if self.world > 1:
            for tensor in tensors:
                dist.broadcast(tensor, src=0)

    def wait(self) -> None:
        if self.world > 1:
            dist.barrier()


ALONE = Ranks()


@contextlib.contextmanager
def joined_ranks(device: torch.device) -> Iterator[Ranks]:
    """Meet the other processes that torchrun, or Slurm with srun, started; a lone process is rank 0 of 1. A process group that
    is there already is taken as it is.

    torchrun sets RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT. srun sets SLURM_PROCID and SLURM_STEP_NUM_TASKS; the job
    script exports the other two (examples/slurm.sh).

    Raises: ConfigError when the address of the first process is missing.
    """
    if dist.is_initialized():  # by another framework, which also ends the group
        yield Ranks(dist.get_rank(), dist.get_world_size())
        return
    rank = int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", 0)))
    world = int(os.environ.get("WORLD_SIZE", os.environ.get("SLURM_STEP_NUM_TASKS", 1)))
    if world == 1:
        yield ALONE
        return
    if "MASTER_ADDR" not in os.environ or "MASTER_PORT" not in os.environ:
        raise ConfigError(
            f"This is process {rank} of {world}, but MASTER_ADDR and MASTER_PORT, where they meet, are not set. "
            "Start with torchrun, or export both in the Slurm script as examples/slurm.sh does."
        )
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, rank=rank, world_size=world, timeout=timedelta(minutes=10))
    try:
        yield Ranks(rank, world)
    finally:
        dist.destroy_process_group()


def local_device(name: str = "auto") -> torch.device:
    """pick_device, but each process of a machine takes its own GPU."""
    device = pick_device(name)
    local_rank = os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID"))
    if device.type == "cuda" and device.index is None and local_rank is not None:
        device = pick_device(f"cuda:{local_rank}")
        torch.cuda.set_device(device)
    return device
