"""Part of a source: a share held out for evaluating."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePath

from PIL.Image import Image

from hybridvit.data.source import Counts, Source, Splits, Target
from hybridvit.errors import DataError


class Subset(Source):
    """Some pictures of a source, in the given order."""

    def __init__(self, source: Source, indices: Sequence[int]) -> None:
        self.source = source
        self.indices = indices
        self.class_names = source.class_names
        self.labels: Sequence[int] = [source.labels[i] for i in indices]
        self.counts = Counts(len(indices))

    def __len__(self) -> int:
        return len(self.indices)

    def name(self, index: int) -> str:
        return self.source.name(self.indices[index])

    def read(self, index: int) -> bytes | Image:
        return self.source.read(self.indices[index])

    def target(self, index: int) -> Target:
        return self.source.target(self.indices[index])


def hold_out(source: Source, share: float) -> Splits:
    """Set aside `share` of every class, by the hash of the pictures' file names.

    The same pictures are held out on every machine and wherever the folder lies; a picture that is added moves few
    others. A class with one picture keeps it for training; any other gives at least one and keeps at least one.

    Raises: DataError when share is not between 0 and 1, or nothing would be held out.
    """
    if not 0 < share < 1:
        raise DataError(f"--val-split is a share between 0 and 1, found {share:g}.")
    by_class: dict[int, list[int]] = {}
    for index, label in enumerate(source.labels):
        by_class.setdefault(label, []).append(index)
    held: set[int] = set()
    for indices in by_class.values():
        if len(indices) > 1:
            count = min(max(round(share * len(indices)), 1), len(indices) - 1)
            held |= set(sorted(indices, key=lambda i: (_hash(PurePath(source.name(i)).name), i))[:count])
    if not held:
        raise DataError(
            f"Every class has a single picture ({source.name(0)} ...): none can be held out for evaluating."
        )
    train = Subset(source, [i for i in range(len(source)) if i not in held])
    train.counts = replace(source.counts, taken=len(train))  # what was passed over is told once
    return Splits(train=train, test=Subset(source, sorted(held)))


def _hash(name: str) -> bytes:
    return hashlib.blake2b(name.encode("utf-8", errors="surrogateescape"), digest_size=8).digest()
