"""Pictures by the million: pieces in, one Parquet file each out, and the same command again goes on where the last one stopped.

Which pieces are done is seen by which files are there: a file has its final name only once it is whole. Nothing else is kept,
so any number of processes, on any number of machines that share the folder, may be killed at any moment.
"""

import hashlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from hybridvit.data.decode import MAX_PIXELS
from hybridvit.deploy.engines import Engine
from hybridvit.errors import ConfigError, DataError
from hybridvit.evaluation.table import to_frame
from hybridvit.files import digest
from hybridvit.inference import manifest, parquet
from hybridvit.inference.clock import Clock, Done, Progress
from hybridvit.inference.pieces import PIECE_SIZE, Piece, list_pieces
from hybridvit.inference.predictor import Give, Predictor
from hybridvit.runtime import environment


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a worker computes a piece. It travels to other processes."""

    model: nn.Module | str | Path
    out: Path
    give: Give = "predictions"
    top_k: int = 3
    engine: str = "eager"
    device: str | torch.device = "auto"
    batch_size: int = 64
    workers: int = 0


@dataclass(frozen=True)
class Written:
    """What a job has left in its folder, and what this process did of it."""

    out: Path
    pieces: int
    of: int
    """Pieces of the whole job."""
    pictures: int
    broken: int
    """Of this process's pictures, how many rows say an error."""
    failed: tuple[str, ...]
    """Shards that could not be listed: nothing is written of them, and the next time they are tried again."""
    counts: dict[str, int] | None
    """Pictures and broken ones of the whole job, once it is complete."""

    @property
    def complete(self) -> bool:
        return self.counts is not None

    def to_frame(self) -> Any:
        """All rows that are there, as a pandas.DataFrame. Raises: ConfigError without pandas."""
        rows = [row for path in _pieces_in(self.out) for row in parquet.require().parquet.read_table(path).to_pylist()]
        return to_frame(rows)

    def __str__(self) -> str:
        lines = [f"{self.out}: {self.pieces} of {self.of} pieces; {self.pictures} pictures now, {self.broken} broken"]
        if self.counts:
            lines.append("complete: {pictures} pictures, {broken} broken".format(**self.counts))
        return "\n".join([*lines, *(f"not listed, and not written: {error}" for error in self.failed)])


class Worker:
    """Computes pieces and writes their files; its model is loaded once."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.predictor = Predictor(
            options.model,
            top_k=options.top_k,
            give=options.give,
            engine=options.engine,
            device=options.device,
            batch_size=options.batch_size,
        )

    def __call__(self, piece: Piece, on_batch: Callable[[int, int], None] = lambda done, total: None) -> Done:
        """Raises: DataError when the file cannot be written."""
        path = self.options.out / piece.file
        if path.exists():  # by another process, or by a worker that was killed before it could say so
            note = parquet.read_note(path)
            return Done(piece.number, note["pictures"], note["broken"])
        try:
            source = piece.open()
        except DataError as error:
            return Done(piece.number, error=str(error))
        stream = self.predictor.stream(
            source, batch_size=self.options.batch_size, workers=self.options.workers, on_batch=on_batch
        )
        rows = list(stream) if len(source) else []
        done = Done(piece.number, len(rows), sum(not row.ok for row in rows))
        give, fields = self.options.give, self.predictor.task.row_fields
        parquet.write_rows(
            path, rows, give=give, fields=fields, note={"pictures": done.pictures, "broken": done.broken}
        )
        return done


class Launcher(Protocol):
    def __call__(self, worker: Worker, pieces: Sequence[Piece], on_batch: Callable[[int, int], None]) -> Iterator[Done]:
        """Compute the pieces, by this worker or by others with its options, and tell of each when it is done.

        on_batch: told how many pictures of a piece are done, and of how many, where that can be known.
        """


def here(worker: Worker, pieces: Sequence[Piece], on_batch: Callable[[int, int], None]) -> Iterator[Done]:
    """The Launcher of this process."""
    return (worker(piece, on_batch) for piece in pieces)


def write_pieces(
    model: nn.Module | str | Path,
    pictures: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    piece_size: int = PIECE_SIZE,
    share: tuple[int, int] = (1, 1),
    root: Path | None = None,
    columns: Sequence[str] = (),
    launcher: Launcher = here,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    **options: Any,
) -> Written:
    """Rows of any number of pictures, a Parquet file per piece; pieces that are there already are passed over.

    Args:
        pictures: paths, as `predict` takes them. A tar file is a piece; of all others, `piece_size` pictures are.
        share: (k, n) computes every n-th piece from the k-th on, for n processes that know nothing of each other.
        launcher: who computes: this process, or `on_ray.on_ray(...)`.
        options: of Options.

    Raises: DataError where there is no picture, when the folder holds another job, or cannot be written; CheckpointError,
        ConfigError for the model. A picture that cannot be read is a row with `ok` false and the reason.
    """
    parquet.require()
    out = Path(out)
    paths = [pictures] if isinstance(pictures, str | Path) else list(pictures)
    if not all(isinstance(path, str | Path) for path in paths):
        raise DataError(
            "Pieces are made of paths: files, folders, lists or archives. What is in memory has no name to go on by."
        )
    listing = list_pieces(paths, size=piece_size, root=root, columns=columns)
    mine = listing.share(*share)
    worker = Worker(Options(model=model, out=out, **options))
    manifest.claim(out, _describe(worker) | {"listing": listing.to_dict() | {"piece_size": piece_size}})
    there = {path.name for path in _pieces_in(out)}
    todo = [piece for piece in mine if piece.file not in there]
    clock = Clock(len(mine), len(mine) - len(todo), on_progress)
    results = list(clock.watch(launcher(worker, todo, clock.batch))) if todo else []
    there = {path.name for path in _pieces_in(out)}
    files = [out / piece.file for piece in listing.pieces if piece.file in there]
    counts = _count(files) if len(files) == len(listing.pieces) else None
    if counts:
        manifest.complete(out, counts)
        shutil.rmtree(out / manifest.UNFINISHED, ignore_errors=True)
    return Written(
        out,
        len(files),
        len(listing.pieces),
        sum(done.pictures for done in results),
        sum(done.broken for done in results),
        tuple(done.error for done in results if done.error),
        counts,
    )


def _describe(worker: Worker) -> dict[str, Any]:
    """The manifest but for its listing."""
    options, predictor = worker.options, worker.predictor
    return {
        "format": {"version": 1},
        "model": {
            "sha256": _fingerprint(options, predictor),
            "task": predictor.task.name,
            "preprocessing": asdict(predictor.preprocess),
            "classes": list(predictor.class_names),
        },
        "options": {
            "give": options.give,
            "top_k": options.top_k if options.give == "predictions" else None,
            "engine": options.engine,
            "max_pixels": MAX_PIXELS,
        },
        "versions": environment(torch.device("cpu")),
        "counts": None,
    }


def _fingerprint(options: Options, predictor: Predictor) -> str:
    """Of a file, its sha256; of a model in memory or of several files, that of its tensors. Raises: ConfigError."""
    if not isinstance(options.model, nn.Module):
        path = Path(options.model)
        beside = [path.with_suffix(".bin")] if path.suffix == ".xml" else []  # OpenVINO's weights
        if path.is_file():
            return " ".join(map(digest, [path, *beside]))
    if isinstance(predictor.network, Engine):
        raise ConfigError("An opened export does not tell its weights: give its file.")
    known = hashlib.sha256()
    for name, tensor in predictor.network.state_dict().items():
        known.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\0".encode())
        known.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return known.hexdigest()


def _pieces_in(folder: Path) -> list[Path]:
    return sorted(folder.glob("part-*.parquet"))


def _count(files: Sequence[Path]) -> dict[str, int]:
    notes = [parquet.read_note(path) for path in files]
    return {key: sum(note[key] for note in notes) for key in ("pictures", "broken")}
