"""Where and how tensors are computed: device, precision, seeds."""

import contextlib
import hashlib
import random
import struct
from collections.abc import Iterator

import numpy as np
import torch

from hybridvit.errors import ConfigError

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


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[None]:
    """Mixed precision for bfloat16 and float16; nothing for float32 and float64."""
    if precision in ("bfloat16", "float16"):
        return torch.autocast(device.type, DTYPES[precision])
    return contextlib.nullcontext()


def seed_for(*numbers: int) -> int:
    """One 63-bit seed from several numbers: the same on every machine, unrelated for neighbours."""
    digest = hashlib.blake2b(struct.pack(f"<{len(numbers)}q", *numbers), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the CPU generators of random, numpy and torch, and give them back as they were."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
