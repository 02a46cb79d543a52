"""Batches of tensors from sources of pictures."""

import math
import signal
from collections.abc import Sequence
from types import FrameType
from typing import Any, NamedTuple

import torch
from PIL.Image import Image
from torch.utils.data import DataLoader, Dataset, get_worker_info

from hybridvit.config import AugmentSection, Preprocess
from hybridvit.data.decode import MAX_PIXELS, decode
from hybridvit.data.sampler import Address, TrainSampler
from hybridvit.data.source import Source
from hybridvit.data.transforms import Transform, eval_transform, train_transform
from hybridvit.errors import DataError
from hybridvit.runtime import generators_kept, seed_for, seed_generators

MAX_REPLACEMENTS = 100


class TrainBatch(NamedTuple):
    """Shape: images (B, C, H, W) uint8, channels last; labels, indices (B,).

    broken: numbers of the pictures that could not be read and were replaced, any length.
    """

    images: torch.Tensor
    labels: torch.Tensor
    indices: torch.Tensor
    broken: torch.Tensor


class EvalBatch(NamedTuple):
    """Shape: images (B, C, H, W), normalised; labels, indices (B,). broken: numbers of unreadable pictures, any length.

    A broken picture is in `broken` only: B may be smaller than the batch size, even 0.
    """

    images: torch.Tensor
    labels: torch.Tensor
    indices: torch.Tensor
    broken: torch.Tensor


class TrainSet(Dataset[TrainBatch]):
    """Batches of augmented pictures by their addresses. A broken picture is replaced by the next one that can be read."""

    def __init__(
        self, source: Source, transform: Transform, *, image_shape: tuple[int, int, int], max_pixels: int
    ) -> None:
        self.source = source
        self.transform = transform
        self.image_shape = image_shape
        self.max_pixels = max_pixels

    def __getitem__(self, addresses: Sequence[Address]) -> TrainBatch:
        channels, height, width = self.image_shape
        images = _empty_bytes((len(addresses), height, width, channels)).permute(0, 3, 1, 2)
        indices: list[int] = []
        broken: list[int] = []
        with generators_kept():
            for image, address in zip(images, addresses, strict=True):
                picture, index = self._read(address.picture, broken)
                seed_generators(seed_for(*address))
                image.copy_(self.transform(picture))
                indices.append(index)
        labels = [self.source.labels[index] for index in indices]
        return TrainBatch(images, torch.tensor(labels), torch.tensor(indices), torch.tensor(broken, dtype=torch.int64))

    def _read(self, index: int, broken: list[int]) -> tuple[Image, int]:
        """The picture, or the next that can be read, with its number; the numbers of the others are added to `broken`."""
        for _ in range(MAX_REPLACEMENTS + 1):
            name = self.source.name(index)
            try:
                data = self.source.read(index)
                return decode(data, name=name, channels=self.image_shape[0], max_pixels=self.max_pixels), index
            except (DataError, OSError):
                broken.append(index)
                index = (index + 1) % len(self.source)
        raise DataError(f"{name} and the {MAX_REPLACEMENTS} pictures before it cannot be read. Check the data set.")


def _empty_bytes(shape: tuple[int, ...]) -> torch.Tensor:
    """In a worker process, memory that the trainer sees, too: as torch's own collation does, it saves a copy."""
    if get_worker_info() is None:
        return torch.empty(shape, dtype=torch.uint8)
    storage: Any = torch.UntypedStorage._new_shared(math.prod(shape))
    return torch.empty(0, dtype=torch.uint8).set_(storage).view(shape)


class EvalSet(Dataset[tuple[torch.Tensor | None, int, int]]):
    """Pictures by number, None where broken."""

    def __init__(self, source: Source, transform: Transform, *, channels: int, max_pixels: int) -> None:
        self.source = source
        self.transform = transform
        self.channels = channels
        self.max_pixels = max_pixels

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> tuple[torch.Tensor | None, int, int]:
        label = self.source.labels[index]
        try:
            data = self.source.read(index)
            picture = decode(data, name=self.source.name(index), channels=self.channels, max_pixels=self.max_pixels)
        except (DataError, OSError):
            return None, label, index
        return self.transform(picture), label, index


def train_loader(
    source: Source,
    sampler: TrainSampler,
    *,
    preprocess: Preprocess,
    augment: AugmentSection,
    max_pixels: int = MAX_PIXELS,
    workers: int = 0,
    pin_memory: bool = False,
) -> DataLoader[Any]:
    """TrainBatch by TrainBatch. One iterator serves the whole run: workers go on through the ends of epochs."""
    shape = (preprocess.in_chans, *preprocess.image_size)
    dataset = TrainSet(source, train_transform(preprocess, augment), image_shape=shape, max_pixels=max_pixels)
    return DataLoader(
        dataset,
        sampler=sampler,
        batch_size=None,  # a sample is a batch: see TrainSet
        num_workers=workers,
        pin_memory=pin_memory,
        worker_init_fn=_start_worker,
    )


def eval_loader(
    source: Source,
    *,
    preprocess: Preprocess,
    transform: Transform | None = None,
    batch_size: int = 64,
    max_pixels: int = MAX_PIXELS,
    workers: int = 0,
    pin_memory: bool = False,
    rank: int = 0,
    world: int = 1,
) -> DataLoader[Any]:
    """EvalBatch by EvalBatch: every picture once, in order; each of several ranks takes every world-th.

    `transform` replaces the one that belongs to the weights, for several views of a picture.
    """
    transform = transform or eval_transform(preprocess)
    dataset = EvalSet(source, transform, channels=preprocess.in_chans, max_pixels=max_pixels)
    mine = range(rank, len(source), world)
    return DataLoader(
        dataset,
        batch_sampler=[list(mine[i : i + batch_size]) for i in range(0, len(mine), batch_size)],
        num_workers=workers,
        collate_fn=_EvalCollate((preprocess.in_chans, *preprocess.image_size)),
        pin_memory=pin_memory,
        worker_init_fn=_start_worker,
    )


def normalize(images: torch.Tensor, preprocess: Preprocess, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """uint8 pictures to what the model expects, on their device. Shape: (B, C, H, W) -> same, channels last.

    Works on rows of width x channels, which is several times faster on a CPU than broadcasting over three channels.
    """
    mean = torch.tensor(preprocess.mean, dtype=dtype).repeat(images.shape[3]).to(images.device)
    std = torch.tensor(preprocess.std, dtype=dtype).repeat(images.shape[3]).to(images.device)
    rows = images.permute(0, 2, 3, 1).flatten(2).to(dtype)
    rows = rows.sub_(mean * 255).div_(std * 255)
    return rows.unflatten(2, (-1, images.shape[1])).permute(0, 3, 1, 2)


class _EvalCollate:
    """A class, so that it can be sent to worker processes with the shape of an empty batch."""

    def __init__(self, image_shape: tuple[int, int, int]) -> None:
        self.image_shape = image_shape

    def __call__(self, samples: Sequence[tuple[torch.Tensor | None, int, int]]) -> EvalBatch:
        good = [(image, label, index) for image, label, index in samples if image is not None]
        return EvalBatch(
            torch.stack([image for image, _, _ in good]) if good else torch.empty(0, *self.image_shape),
            torch.tensor([label for _, label, _ in good], dtype=torch.int64),
            torch.tensor([index for _, _, index in good], dtype=torch.int64),
            torch.tensor([index for image, _, index in samples if image is None], dtype=torch.int64),
        )


def _start_worker(_: int) -> None:
    """Ctrl-C and a cluster's SIGTERM reach every process; only the trainer answers them, then ends its workers.

    A second SIGTERM ends a worker all the same: so the trainer gets rid of one that waits for a worker that died.
    """

    def let_the_next_end_it(_: int, __: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, let_the_next_end_it)
