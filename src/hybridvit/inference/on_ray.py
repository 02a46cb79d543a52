"""Pieces computed by the actors of a Ray cluster. Needs the extra `ray`.

Ray Data hands out pieces and starts actors again that died; what is done is seen by the files, as everywhere, so that a piece is
handed out twice without being computed twice. Every machine must see the pictures and the output under the same paths.
"""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hybridvit.errors import ConfigError
from hybridvit.inference.clock import Done
from hybridvit.inference.job import Launcher, Options, Worker
from hybridvit.inference.pieces import Piece

MOST_BLOCKS = 10_000
"""In which Ray hands out pieces; a block of several is told of as one."""


class Actor:
    """A worker in a process of Ray's."""

    def __init__(self, options: Options, folder: str) -> None:
        os.chdir(folder)  # paths of pictures may start there
        self.worker = Worker(options)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        done = self.worker(row["item"])
        return {"number": done.number, "pictures": done.pictures, "broken": done.broken, "error": done.error}


def on_ray(*, actors: int = 1, gpus_per_actor: float = 0) -> Launcher:
    """A Launcher for `actors` processes of one CPU each, on the cluster of RAY_ADDRESS or, without one, on this machine.

    Raises: ConfigError without Ray; and when it launches, where the cluster is too small.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ConfigError("--on ray takes Ray: pip install 'hybridvit[ray]'") from error

    def launch(worker: Worker, pieces: Sequence[Piece], on_batch: Callable[[int, int], None]) -> Iterator[Done]:
        own = not ray.is_initialized()
        if own:
            ray.init(log_to_driver=False, logging_level=logging.ERROR)
        try:
            _check(ray.cluster_resources(), actors, gpus_per_actor)
            ray.data.DataContext.get_current().enable_progress_bars = False
            options = replace(worker.options, out=worker.options.out.absolute())
            blocks = min(len(pieces), MOST_BLOCKS)
            done = ray.data.from_items([{"item": piece} for piece in pieces], override_num_blocks=blocks).map(
                Actor,  # type: ignore[arg-type]
                fn_constructor_args=(options, str(Path.cwd())),
                compute=ray.data.ActorPoolStrategy(size=actors),
                num_cpus=1,
                num_gpus=gpus_per_actor,
            )
            for row in done.iter_rows():
                yield Done(**row)
        finally:
            if own:
                ray.shutdown()

    return launch


def _check(cluster: dict[str, float], actors: int, gpus_per_actor: float) -> None:
    """Raises: ConfigError with the arithmetic. Ray reads with CPUs of its own: with none left to it, it waits for ever."""
    cpus, gpus = cluster.get("CPU", 0), cluster.get("GPU", 0)
    if actors >= cpus:
        raise ConfigError(
            f"{actors} actors x 1 CPU = {actors}, and the cluster has {cpus:g}: one must be left to Ray, which would wait for "
            f"ever. Take at most {max(int(cpus) - 1, 0)} actors here."
        )
    if actors * gpus_per_actor > gpus:
        raise ConfigError(
            f"{actors} actors x {gpus_per_actor:g} GPUs = {actors * gpus_per_actor:g}, and the cluster has {gpus:g}."
        )
