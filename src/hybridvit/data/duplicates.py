"""Pictures that come more than once: byte for byte, or resized, compressed again or slightly changed.

Near duplicates are found by a difference hash: of the grey picture at 9 x 9 pixels, 64 bits say where it grows brighter
to the right and 64 where it grows brighter downwards. Two pictures are near when at most 7 of the 128 bits differ and
their 8 x 8 thumbnails differ by at most 8 of 255 on average. Crops, mirror images and turned pictures are not found.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from PIL import Image

NEAR_BITS = 7
NEAR_VALUES = 8.0
BANDS = 8
"""With at most 7 different bits, at least one of 8 bands of 16 bits is the same."""


class Seen(Protocol):
    @property
    def part(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def label(self) -> int: ...
    @property
    def digest(self) -> bytes: ...
    @property
    def hash(self) -> np.ndarray: ...
    @property
    def thumbnail(self) -> np.ndarray: ...


@dataclass(frozen=True)
class Group:
    """Copies of one picture."""

    kind: Literal["exact", "near"]
    names: tuple[str, ...]
    across_parts: bool
    """Some are in training and some in test."""
    across_labels: bool


def fingerprint(picture: Image.Image) -> np.ndarray:
    """The difference hash. Shape: (16,) uint8."""
    grey = np.asarray(picture.convert("L").resize((9, 9), Image.Resampling.BOX), dtype=np.int16)
    bits = np.concatenate([(grey[:8, 1:] > grey[:8, :-1]).ravel(), (grey[1:, :8] > grey[:-1, :8]).ravel()])
    return np.packbits(bits)


def exact_groups(looks: Sequence[Seen]) -> list[Group]:
    """Pictures whose files are the same."""
    by_digest: dict[bytes, list[int]] = defaultdict(list)
    for index, look in enumerate(looks):
        by_digest[look.digest].append(index)
    return [_group("exact", looks, indices) for indices in by_digest.values() if len(indices) > 1]


def near_groups(looks: Sequence[Seen]) -> list[Group]:
    """Pictures that look the same but whose files differ. Exact copies are represented by their first."""
    firsts = list({look.digest: index for index, look in reversed(list(enumerate(looks)))}.values())
    if len(firsts) < 2:
        return []
    hashes = np.stack([looks[i].hash for i in firsts])
    thumbnails = np.stack([looks[i].thumbnail for i in firsts]).astype(np.int16)
    parent = list(range(len(firsts)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for i, others in _same_band(hashes):
        bits = np.unpackbits(hashes[others] ^ hashes[i], axis=1).sum(axis=1)
        for j in others[bits <= NEAR_BITS]:
            if np.abs(thumbnails[i] - thumbnails[j]).mean() <= NEAR_VALUES:
                parent[root(int(j))] = root(i)
    groups: dict[int, list[int]] = defaultdict(list)
    for i in range(len(firsts)):
        groups[root(i)].append(firsts[i])
    return [_group("near", looks, sorted(indices)) for indices in groups.values() if len(indices) > 1]


def _same_band(hashes: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Every picture, with the later ones that share a band with it. Shape: (N, 16) uint8."""
    bands = hashes.view(np.uint16)
    for band in range(BANDS):
        order = np.argsort(bands[:, band], kind="stable")
        starts = np.flatnonzero(np.diff(bands[order, band].astype(np.int32), prepend=-1))
        for same in np.split(order, starts[1:]):
            for k in range(len(same) - 1):
                yield int(same[k]), same[k + 1 :]


def _group(kind: Literal["exact", "near"], looks: Sequence[Seen], indices: Sequence[int]) -> Group:
    some = [looks[i] for i in indices]
    return Group(
        kind=kind,
        names=tuple(look.name for look in some),
        across_parts=len({look.part for look in some}) > 1,
        across_labels=len({look.label for look in some}) > 1,
    )
