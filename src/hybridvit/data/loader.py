"""Batches of tensors from sources of pictures. What a task does to a picture comes as functions; none is known here."""

import math
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

import torch
from PIL.Image import Image
from torch.utils.data import DataLoader, Dataset, get_worker_info

from hybridvit.config import Preprocess
from hybridvit.data.decode import MAX_PIXELS, decode
from hybridvit.data.sampler import Address, TrainSampler
from hybridvit.data.source import Source, Target
from hybridvit.data.transforms import WithoutFrame, eval_transform
from hybridvit.errors import DataError
from hybridvit.kernels.private import shared_storage
from hybridvit.runtime import generators_kept, seed_for, seed_generators

MAX_REPLACEMENTS = 100

Frame = Any
"""What an EvalTransform did to a picture, as far as predictions need it to come back to the picture's own pixels."""
TrainTransform = Callable[[Image, Target], tuple[torch.Tensor, Target]]
"""Picture and target move together. The tensor is uint8 (C, H, W), normalised later on the device.
Draws come from the global generators, which the loader seeds by the picture's address."""
EvalTransform = Callable[[Image], tuple[torch.Tensor, Frame]]
"""The tensor is normalised float (C, H, W), or (V, C, H, W) for several views."""
Empty = Callable[[tuple[int, ...]], torch.Tensor]
"""Makes a tensor to write to, of uint8 in training, of float32 in evaluation, where the trainer sees it, too."""


class Collate(Protocol):
    def __call__(self, images: Sequence[torch.Tensor], *, empty: Empty) -> torch.Tensor:
        """Images as one batch (B, C, H, W), channels last in memory: stacked, or padded at the right and bottom."""


class TrainBatch(NamedTuple):
    """Shape: images (B, C, H, W) uint8, channels last; targets B; indices (B,).

    broken: numbers of the pictures that could not be read and were replaced, any length.
    """

    images: torch.Tensor
    targets: list[Target]
    indices: torch.Tensor
    broken: torch.Tensor


class EvalBatch(NamedTuple):
    """Shape: images (B, C, H, W) or (B, V, C, H, W), normalised; targets, frames B; indices (B,).

    broken: numbers of unreadable pictures, any length. They are nowhere else: B may be smaller than the batch size, even 0.
    """

    images: torch.Tensor
    targets: list[Target]
    frames: list[Frame]
    indices: torch.Tensor
    broken: torch.Tensor


class TrainSet(Dataset[TrainBatch]):
    """Batches of augmented pictures by their addresses. A broken picture is replaced by the next one that can be read."""

    def __init__(
        self, source: Source, transform: TrainTransform, collate: Collate, *, channels: int, max_pixels: int
    ) -> None:
        self.source = source
        self.transform = transform
        self.collate = collate
        self.channels = channels
        self.max_pixels = max_pixels

    def __getitem__(self, addresses: Sequence[Address]) -> TrainBatch:
        images: list[torch.Tensor] = []
        targets: list[Target] = []
        indices: list[int] = []
        broken: list[int] = []
        with generators_kept():
            for address in addresses:
                picture, index = self._read(address.picture, broken)
                seed_generators(seed_for(*address))
                image, target = self.transform(picture, self.source.target(index))
                images.append(image)
                targets.append(target)
                indices.append(index)
        batch = self.collate(images, empty=partial(_empty, dtype=torch.uint8))
        return TrainBatch(batch, targets, torch.tensor(indices), torch.tensor(broken, dtype=torch.int64))

    def _read(self, index: int, broken: list[int]) -> tuple[Image, int]:
        """The picture, or the next that can be read, with its number; the numbers of the others are added to `broken`."""
        for _ in range(MAX_REPLACEMENTS + 1):
            name = self.source.name(index)
            try:
                data = self.source.read(index)
                return decode(data, name=name, channels=self.channels, max_pixels=self.max_pixels), index
            except (DataError, OSError):
                broken.append(index)
                index = (index + 1) % len(self.source)
        raise DataError(f"{name} and the {MAX_REPLACEMENTS} pictures before it cannot be read. Check the data set.")


def stack(images: Sequence[torch.Tensor], *, empty: Empty) -> torch.Tensor:
    """The Collate of images of one size."""
    *views, channels, height, width = images[0].shape
    batch = empty((len(images), *views, height, width, channels)).movedim(-1, -3)
    for place, image in zip(batch, images, strict=True):
        place.copy_(image)
    return batch


def _empty(shape: tuple[int, ...], *, dtype: torch.dtype) -> torch.Tensor:
    """In a worker process, memory that the trainer sees, too: as torch's own collation does, it saves a copy."""
    if get_worker_info() is None:
        return torch.empty(shape, dtype=dtype)
    return torch.empty(0, dtype=dtype).set_(shared_storage(math.prod(shape) * dtype.itemsize)).view(shape)


Sample = tuple[torch.Tensor | None, Target, Frame, int]
"""Image (None where broken), target, frame, number."""


class EvalSet(Dataset[Sample]):
    """Pictures by number."""

    def __init__(self, source: Source, transform: EvalTransform, *, channels: int, max_pixels: int) -> None:
        self.source = source
        self.transform = transform
        self.channels = channels
        self.max_pixels = max_pixels

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Sample:
        try:
            data = self.source.read(index)
            picture = decode(data, name=self.source.name(index), channels=self.channels, max_pixels=self.max_pixels)
        except (DataError, OSError):
            return None, None, None, index
        image, frame = self.transform(picture)
        return image, self.source.target(index), frame, index


def train_loader(
    source: Source,
    sampler: TrainSampler,
    *,
    transform: TrainTransform,
    collate: Collate = stack,
    channels: int = 3,
    max_pixels: int = MAX_PIXELS,
    workers: int = 0,
    pin_memory: bool = False,
) -> DataLoader[Any]:
    """TrainBatch by TrainBatch. One iterator serves the whole run: workers go on through the ends of epochs."""
    return DataLoader(
        TrainSet(source, transform, collate, channels=channels, max_pixels=max_pixels),
        sampler=sampler,
        batch_size=None,  # a sample is a batch: see TrainSet
        num_workers=_allowed(workers),
        pin_memory=pin_memory,
        worker_init_fn=_start_worker,
    )


def eval_loader(
    source: Source,
    *,
    preprocess: Preprocess,
    transform: EvalTransform | None = None,
    collate: Collate = stack,
    batch_size: int = 64,
    max_pixels: int = MAX_PIXELS,
    workers: int = 0,
    pin_memory: bool = False,
    rank: int = 0,
    world: int = 1,
) -> DataLoader[Any]:
    """EvalBatch by EvalBatch: every picture once, in order; each of several ranks takes every world-th.

    `transform` replaces the usual one of classification, for other tasks and for several views of a picture.
    """
    transform = transform or WithoutFrame(eval_transform(preprocess))
    dataset = EvalSet(source, transform, channels=preprocess.in_chans, max_pixels=max_pixels)
    mine = range(rank, len(source), world)
    return DataLoader(
        dataset,
        batch_sampler=[list(mine[i : i + batch_size]) for i in range(0, len(mine), batch_size)],
        num_workers=_allowed(workers),
        collate_fn=partial(_eval_batch, collate=collate),
        pin_memory=pin_memory,
        worker_init_fn=_start_worker,
    )


def _allowed(workers: int) -> int:
    """None in a daemonic process, as another framework's worker may be: it may not start processes."""
    return 0 if multiprocessing.current_process().daemon else workers


def normalize(images: torch.Tensor, preprocess: Preprocess, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """uint8 pictures to what the model expects, on their device. Shape: (B, C, H, W) -> same, channels last.

    Works on rows of width x channels, which is several times faster on a CPU than broadcasting over three channels.
    """
    mean = torch.tensor(preprocess.mean, dtype=dtype).repeat(images.shape[3]).to(images.device)
    std = torch.tensor(preprocess.std, dtype=dtype).repeat(images.shape[3]).to(images.device)
    rows = images.permute(0, 2, 3, 1).flatten(2).to(dtype)
    rows = rows.sub_(mean * 255).div_(std * 255)
    return rows.unflatten(2, (-1, images.shape[1])).permute(0, 3, 1, 2)


def _eval_batch(samples: Sequence[Sample], *, collate: Collate) -> EvalBatch:
    good = [(image, target, frame, index) for image, target, frame, index in samples if image is not None]
    images = [image for image, *_ in good]
    return EvalBatch(
        collate(images, empty=partial(_empty, dtype=torch.float32)) if images else torch.empty(0),
        [target for _, target, _, _ in good],
        [frame for _, _, frame, _ in good],
        torch.tensor([index for *_, index in good], dtype=torch.int64),
        torch.tensor([index for image, *_, index in samples if image is None], dtype=torch.int64),
    )


def _start_worker(_: int) -> None:
    """Ctrl-C and a cluster's SIGTERM reach every process; only the trainer answers them, then ends its workers.

    A worker ends at the trainer's own SIGTERM and at no other's: also where it waits for a worker that died, and also when the
    trainer leaves with an error, and Python, which sends one SIGTERM to each, waits for all of them.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":  # elsewhere nothing tells who sent a signal, and torch's handler stays
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_at_the_trainers_word, daemon=True).start()


def _end_at_the_trainers_word() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)
