"""Pieces computed by the actors of a Ray cluster. Needs the extra `ray`.

Ray Data hands out pieces and starts actors again that died; what is done is seen by the files, as everywhere, so that a piece is
handed out twice without being computed twice. Every machine must see the pictures and the output under the same paths.
"""

import logging
import os
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
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
        done = self.worker(pickle.loads(row["piece"]))  # the driver's own bytes
        return {"number": done.number, "pictures": done.pictures, "broken": done.broken, "error": done.error}


def on_ray(*, actors: int = 1, gpus_per_actor: float = 0) -> Launcher:
    """A Launcher for `actors` processes, on the cluster of RAY_ADDRESS or, without one, on this machine.

    Each takes a CPU, and one for each of its processes that decode (`workers`).

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
            logging.getLogger("ray.data").setLevel(logging.ERROR)  # progress is told here
        cpus = 1 + worker.options.workers
        try:
            check(ray.cluster_resources(), actors=actors, cpus=cpus, gpus=gpus_per_actor)
            ray.data.DataContext.get_current().enable_progress_bars = False
            options = replace(worker.options, out=worker.options.out.absolute())
            blocks = min(len(pieces), MOST_BLOCKS)
            rows = [{"piece": pickle.dumps(piece)} for piece in pieces]
            done = ray.data.from_items(rows, override_num_blocks=blocks).map(
                Actor,  # type: ignore[arg-type]
                fn_constructor_args=(options, str(Path.cwd())),
                compute=ray.data.ActorPoolStrategy(size=actors),
                num_cpus=cpus,
                num_gpus=gpus_per_actor,
            )
            for row in done.iter_rows():
                yield Done(**row)
        finally:
            if own:
                ray.shutdown()

    return launch


def check(cluster: Mapping[str, float], *, actors: int, cpus: int, gpus: float) -> None:
    """Whether a cluster has room for actors of so many CPUs and GPUs each. Ray needs a CPU beside them, or it waits for ever.

    Raises: ConfigError with the arithmetic.
    """
    of = {kind: cluster.get(kind, 0) for kind in ("CPU", "GPU")}
    if actors * cpus >= of["CPU"]:
        most = max((int(of["CPU"]) - 1) // cpus, 0)
        raise ConfigError(
            f"{actors} actors x {cpus} CPUs = {actors * cpus}, and the cluster has {of['CPU']:g}: one must be left to Ray, which "
            f"would wait for ever. Take at most {most} actors (of a CPU, and one for each of --workers), or a larger cluster."
        )
    if actors * gpus > of["GPU"]:
        raise ConfigError(f"{actors} actors x {gpus:g} GPUs = {actors * gpus:g}, and the cluster has {of['GPU']:g}.")
