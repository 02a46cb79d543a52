"""Damage weights files of every format in every way and see that each is refused with one clear line, or opens.

    python benchmarks/fuzz_weights.py [--files 3000] [--seed 0] [--formats keras ...]

Files are opened by a worker process. Counted as failures: a worker that dies, an error that is no CheckpointError or does not
name the file, a file that takes longer than TIME_LIMIT, a worker that grows beyond MEMORY_LIMIT.
"""

import argparse
import json
import multiprocessing
import random
import resource
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

TIME_LIMIT = 60.0  # seconds for one file; generous, as other work may hold the processor
MEMORY_LIMIT = 600  # MiB above what a worker has after its first, undamaged files
FORMATS = ("torch-zip", "torch-legacy", "paddle", "safetensors", "keras", "mindspore")


def make_seeds(folder: Path) -> dict[str, Path]:
    """One undamaged file of each format, of small models."""
    import torch

    from hybridvit.models import catalog
    from hybridvit.weights import containers, mapping
    from hybridvit.weights.tables import SOURCES

    torch.manual_seed(0)
    sources = {"paddle": "paddleclas", "safetensors": "transformers", "keras": "kecam", "mindspore": "huawei"}
    seeds = {}
    for format in FORMATS:
        source = SOURCES[sources.get(format, "microsoft")]
        model = catalog.create(f"{source.family}_nano")
        for key, tensor in model.state_dict().items():
            if "running_var" in key:
                tensor.uniform_(0.5, 1.5)  # or every file would be called untrained
        theirs = mapping.to_theirs(source, model.state_dict(), model.config.heads)
        state = {source.spell(key, ""): tensor.detach() for key, tensor in theirs.items()}
        seeds[format] = folder / f"seed.{format}"
        if format.startswith("torch"):
            tree = {"epoch": 3, "state_dict": state, "optimizer": {"lr": 0.1}, "args": argparse.Namespace(lr=0.1)}
            torch.save(tree, seeds[format], _use_new_zipfile_serialization=format == "torch-zip")
        else:
            containers.write(seeds[format], format, state)
    return seeds


# ---- damage -----------------------------------------------------------------------------------------------------------------


def _flip_bits(data: bytearray, rng: random.Random, start: int, end: int) -> None:
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        data[rng.randrange(start, end)] ^= 1 << rng.randrange(8)


def flip_anywhere(data: bytearray, rng: random.Random) -> None:
    _flip_bits(data, rng, 0, len(data))


def flip_near_start(data: bytearray, rng: random.Random) -> None:
    _flip_bits(data, rng, 0, min(len(data), rng.choice((16, 256, 8192, 65536))))


def flip_near_end(data: bytearray, rng: random.Random) -> None:
    _flip_bits(data, rng, max(0, len(data) - rng.choice((64, 4096, 65536))), len(data))


def truncate(data: bytearray, rng: random.Random) -> None:
    del data[rng.choice((rng.randrange(len(data)), rng.randrange(min(len(data), 4096)))) :]


def overwrite(data: bytearray, rng: random.Random) -> None:
    """A run of one value, as unwritten blocks of a disk are."""
    start = rng.randrange(len(data))
    length = min(rng.choice((4, 64, 4096)), len(data) - start)
    data[start : start + length] = bytes([rng.choice((0, 0x7F, 0xFF))]) * length


def big_number(data: bytearray, rng: random.Random) -> None:
    """A length field that claims the impossible."""
    width = rng.choice((4, 8))
    start = rng.randrange(max(1, min(len(data), rng.choice((64, 8192, len(data)))) - width))
    value = rng.choice((2 ** (8 * width) - 1, 2 ** (8 * width - 1) - 1, 2**31, 10**9))
    data[start : start + width] = (value % 2 ** (8 * width)).to_bytes(width, "little")


def insert(data: bytearray, rng: random.Random) -> None:
    start = rng.randrange(min(len(data), rng.choice((64, 8192, len(data)))))
    data[start:start] = rng.randbytes(rng.choice((1, 4, 100)))


def delete(data: bytearray, rng: random.Random) -> None:
    start = rng.randrange(min(len(data), rng.choice((64, 8192, len(data)))))
    del data[start : start + rng.choice((1, 4, 100))]


def splice(data: bytearray, rng: random.Random) -> None:
    """One part of the file over another."""
    length = rng.choice((8, 256, 8192))
    source, target = (rng.randrange(max(1, len(data) - length)) for _ in range(2))
    data[target : target + length] = data[source : source + length]


def pickle_opcodes(data: bytearray, rng: random.Random) -> None:
    """Opcodes of pickle, where there is a pickle."""
    opcodes = "().0125FGIJKLMNPQRSTUVXabcdeghijlopqrstu}]\x80\x81\x8c\x93\x95"
    for _ in range(rng.choice((1, 3, 10))):
        data[rng.randrange(min(len(data), 20_000))] = ord(rng.choice(opcodes))


DAMAGE: tuple[Callable[[bytearray, random.Random], None], ...] = (
    flip_anywhere,
    flip_near_start,
    flip_near_end,
    truncate,
    overwrite,
    big_number,
    insert,
    delete,
    splice,
    pickle_opcodes,
)


def damaged(seed: bytes, number: int) -> tuple[bytes, str]:
    """File `number` made from `seed`, and what was done to it."""
    rng = random.Random(number)
    data = bytearray(seed)
    done = [rng.choice(DAMAGE) for _ in range(rng.choice((1, 1, 2, 3)))]
    for change in done:
        if len(data) > 16:
            change(data, rng)
    return bytes(data), "+".join(change.__name__ for change in done)


# ---- opening ----------------------------------------------------------------------------------------------------------------


def outcome(path: Path) -> str:
    """Open a file as `hybridvit inspect` does; say how that went."""
    from hybridvit.errors import CheckpointError
    from hybridvit.weights.load import inspect

    try:
        report = inspect(path, arithmetic="authors")
    except CheckpointError as error:
        first_line = str(error).partition("\n")[0]
        return "refused" if str(path) in first_line else f"unclear message: {error}"
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    return "tensors do not fit" if report.problems else "warned" if report.warnings else "opened"


def worker(requests: Connection) -> None:
    while True:
        path = requests.recv()
        if path is None:
            return
        result = outcome(Path(path))
        requests.send((result, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024))


class Worker:
    """A process that opens files for us."""

    def __init__(self, seeds: dict[str, Path]) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=worker, args=(theirs,), daemon=True)
        self.process.start()
        for seed in seeds.values():
            result, self.base = self.open(seed, limit=300)
            assert result in ("opened", "warned"), f"undamaged {seed}: {result}"

    def open(self, path: Path, limit: float = TIME_LIMIT) -> tuple[str, int]:
        self.pipe.send(str(path))
        deadline = time.monotonic() + limit
        while time.monotonic() < deadline:
            if self.pipe.poll(0.05):
                return self.pipe.recv()
            if not self.process.is_alive():
                return f"CRASH, exit code {self.process.exitcode}", 0
        return "HANG", 0

    def close(self) -> None:
        self.process.kill()
        self.process.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=FORMATS)
    args = parser.parse_args()
    counts: dict[str, Counter[str]] = {format: Counter() for format in args.formats}
    failures, slowest, growth = [], 0.0, 0
    started = time.time()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        seeds = make_seeds(folder)
        contents = {format: path.read_bytes() for format, path in seeds.items()}
        helper = Worker(seeds)
        for number in range(args.files):
            format = args.formats[number % len(args.formats)]
            data, done = damaged(contents[format], args.seed * 1_000_000 + number)
            path = folder / "damaged"
            path.write_bytes(data)
            before = time.monotonic()
            result, memory = helper.open(path)
            slowest = max(slowest, time.monotonic() - before)
            growth = max(growth, memory - helper.base)
            if result not in ("refused", "opened", "warned", "tensors do not fit") or growth > MEMORY_LIMIT:
                failures.append({"number": number, "format": format, "damage": done, "result": result, "MiB": memory})
                print(failures[-1], flush=True)
                helper.close()
                helper = Worker(seeds)
                growth = min(growth, MEMORY_LIMIT)
            counts[format][result if len(result) < 30 else "failed"] += 1
        helper.close()
    print(
        json.dumps(
            {
                "files": args.files,
                "seed": args.seed,
                "outcomes": {format: dict(counter) for format, counter in counts.items()},
                "failures": failures,
                "slowest_s": round(slowest, 2),
                "largest_growth_MiB": growth,
                "minutes": round((time.time() - started) / 60, 1),
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
