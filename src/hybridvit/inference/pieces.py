"""A job cut into pieces: a tar shard, or so many pictures of a listing. The same paths give the same pieces, on every machine."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hybridvit.data.source import Source
from hybridvit.data.unlabelled import open_shard, open_unlabelled, parts_of, shards
from hybridvit.errors import ConfigError, DataError
from hybridvit.output import printable

PIECE_SIZE = 1000


@dataclass(frozen=True)
class Piece:
    """Pictures whose rows are one file. It travels to other processes; a shard is listed by whoever computes it."""

    number: int
    pictures: Path | Source

    @property
    def file(self) -> str:
        return f"part-{self.number:06d}.parquet"

    def open(self) -> Source:
        """Raises: DataError when a shard cannot be listed."""
        return open_shard(self.pictures) if isinstance(self.pictures, Path) else self.pictures


@dataclass(frozen=True)
class Listing:
    """All pieces of a job, and what tells them from another job's."""

    pieces: list[Piece]
    sha256: str
    """Of the shards' paths and sizes, and the names of all other pictures, in their order."""
    first: str
    last: str
    """Names of pictures or shards, for people who look for the difference."""

    def to_dict(self) -> dict[str, Any]:
        return {"sha256": self.sha256, "pieces": len(self.pieces), "first": self.first, "last": self.last}

    def share(self, k: int, n: int) -> list[Piece]:
        """Every n-th piece, from the k-th on; k counts from 1. Raises: ConfigError."""
        if not 1 <= k <= n:
            raise ConfigError(f"Share {k}/{n}: expected K/N with K from 1 to N.")
        return self.pieces[k - 1 :: n]


def list_pieces(
    paths: Sequence[str | Path],
    *,
    size: int = PIECE_SIZE,
    root: Path | None = None,
    columns: Sequence[str] = (),
) -> Listing:
    """Each tar file is a piece; of everything else, `size` pictures are one, in the order in which they are listed.

    Raises: DataError for what does not exist, cannot be read, or holds no pictures.
    """
    parts: list[Path | Source] = []
    known, first, last = hashlib.sha256(), "", ""
    for path in shards(paths):
        if path.suffix.lower() == ".tar" and path.is_file():
            parts.append(path)
            last = printable(str(path))
            first = first or last
            known.update(f"{last}\0{path.stat().st_size}\0".encode())
            continue
        source = open_unlabelled([path], root=root, columns=columns)
        for index in range(len(source)):
            last = source.name(index)
            first = first or last
            known.update(f"{last}\0".encode())
        parts += [part for each in source.sources for part in parts_of(each, size)]
    if not parts:
        raise DataError("No picture was named.")
    return Listing([Piece(number, part) for number, part in enumerate(parts)], known.hexdigest(), first, last)
