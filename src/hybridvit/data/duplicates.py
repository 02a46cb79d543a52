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
ALL_AT_ONCE = 1 << 16
"""Pictures; more are compared within their bands only."""
BLOCK = 512


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
    firsts = sorted({look.digest: index for index, look in reversed(list(enumerate(looks)))}.values())
    if len(firsts) < 2:
        return []
    hashes = np.stack([looks[i].hash for i in firsts])
    thumbnails = np.stack([looks[i].thumbnail.ravel() for i in firsts]).astype(np.int16)
    number = np.arange(len(firsts))
    """Of the group that each belongs to: that of its first picture."""
    for together in [number.copy()] if len(firsts) <= ALL_AT_ONCE else _same_band(hashes):
        _join(number, together, hashes, thumbnails)
    order = np.argsort(number, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(number[order])) + 1)
    return [_group("near", looks, [firsts[i] for i in group]) for group in groups if len(group) > 1]


def _join(number: np.ndarray, together: np.ndarray, hashes: np.ndarray, thumbnails: np.ndarray) -> None:
    """Compare some pictures with one another; give near ones, and all of their groups, one number.

    Whole blocks are compared by a matrix product of +1 and -1, and only pictures of different groups further: so neither many
    pictures nor many copies take long. Shape: number (N,), together (M,), hashes (N, 16), thumbnails (N, 192).
    """
    signs = np.unpackbits(hashes[together], axis=1).astype(np.float32) * 2 - 1
    means = thumbnails[together].mean(axis=1)
    for start in range(0, len(together), BLOCK):
        rows = slice(start, start + BLOCK)
        near = signs[rows] @ signs[start:].T >= signs.shape[1] - 2 * NEAR_BITS
        near &= np.abs(means[rows, None] - means[start:]) <= NEAR_VALUES + 1e-9  # no more than of the values
        near &= number[together[rows], None] != number[together[start:]]
        for row in np.flatnonzero(near.any(axis=1)):
            one = together[start + row]
            others = together[start + np.flatnonzero(near[row])]
            others = others[number[others] != number[one]]
            values = np.abs(thumbnails[others] - thumbnails[one]).mean(axis=1)
            joined = np.unique(number[[one, *others[values <= NEAR_VALUES]]])
            if len(joined) > 1:
                number[np.isin(number, joined)] = joined[0]


def _same_band(hashes: np.ndarray) -> Iterator[np.ndarray]:
    """The pictures that share a band, band by band and value by value. Shape: (N, 16) uint8."""
    bands = hashes.view(np.uint16)
    for band in range(BANDS):
        order = np.argsort(bands[:, band], kind="stable")
        same = np.split(order, np.flatnonzero(np.diff(bands[order, band])) + 1)
        yield from (group for group in same if len(group) > 1)


def _group(kind: Literal["exact", "near"], looks: Sequence[Seen], indices: Sequence[int]) -> Group:
    some = [looks[i] for i in indices]
    return Group(
        kind=kind,
        names=tuple(look.name for look in some),
        across_parts=len({look.part for look in some}) > 1,
        across_labels=len({look.label for look in some}) > 1,
    )
