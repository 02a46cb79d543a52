"""Which picture is drawn when, and with which augmentation: a pure function of (seed, epoch, position, picture).

A sample's address seeds its augmentation, and the sequence of addresses depends on nothing but the recipe. So a run
can stop after any step and go on with any number of workers, bit for bit. A global batch is cut into chunks of
device_batch; chunks are dealt to the ranks, so the same chunks are computed whatever the number of devices.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from torch.utils.data import Sampler

from hybridvit.errors import DataError
from hybridvit.runtime import seed_for


class Address(NamedTuple):
    """One draw of one picture."""

    seed: int
    epoch: int
    position: int
    """Place in the epoch's order."""
    picture: int
    """Number of the picture in its source."""


def epoch_order(num_images: int, *, seed: int, epoch: int, repeats: int = 1) -> np.ndarray:
    """A permutation; with repeats, as many draws, but each picture of its beginning comes `repeats` times in a row.

    Repeated augmentation after Hoffer et al., arXiv 1901.09335: an epoch sees num_images / repeats different pictures.
    """
    order = np.random.default_rng(seed_for(seed, epoch)).permutation(num_images)
    return np.repeat(order, repeats)[:num_images]


class TrainSampler(Sampler[list[Address]]):
    """Yields one list of addresses per chunk, for every remaining step of the run.

    The chunks of a step are strided, so that the repeats of a picture fall into different chunks if there are several.

    Raises:
        DataError: an epoch would have no full batch.
    """

    def __init__(
        self,
        num_images: int,
        *,
        global_batch: int,
        device_batch: int,
        epochs: int,
        seed: int,
        repeats: int = 1,
        first_step: int = 0,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if num_images < global_batch:
            raise DataError(
                f"{num_images} training pictures do not fill one batch of {global_batch}. "
                f"Add pictures, or use --set global_batch={num_images}."
            )
        self.num_images = num_images
        self.global_batch = global_batch
        self.chunks = global_batch // device_batch
        self.epochs = epochs
        self.seed = seed
        self.repeats = repeats
        self.first_step = first_step
        self.rank = rank
        self.world = world

    @property
    def steps_per_epoch(self) -> int:
        """The last, incomplete batch of an epoch is left out; another epoch's order brings its pictures."""
        return self.num_images // self.global_batch

    def __len__(self) -> int:
        return (self.steps_per_epoch * self.epochs - self.first_step) * self.chunks // self.world

    def __iter__(self) -> Iterator[list[Address]]:
        first_epoch, first_batch = divmod(self.first_step, self.steps_per_epoch)
        for epoch in range(first_epoch, self.epochs):
            order = epoch_order(self.num_images, seed=self.seed, epoch=epoch, repeats=self.repeats)
            for batch in range(first_batch if epoch == first_epoch else 0, self.steps_per_epoch):
                positions = range(batch * self.global_batch, (batch + 1) * self.global_batch)
                for chunk in range(self.rank, self.chunks, self.world):
                    yield [Address(self.seed, epoch, p, int(order[p])) for p in positions[chunk :: self.chunks]]
