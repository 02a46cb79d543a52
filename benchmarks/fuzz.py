"""Damage pictures, lists, archives, recipes and HTTP requests in every way and see that each is refused in words, or works.

    python benchmarks/fuzz.py [--pictures 5000] [--uploads 5000] [--sets 2000] [--requests 2000] [--seed 0]

Pictures go through decode, uploads are the same pictures sent to `hybridvit serve`.

Cases run in a worker process of their own, which may take 2 GB of memory beyond what it begins with, write no file outside its
folder, read none but what it was given and Python's own, start no program and reach no host: it is killed by the kernel, or the
case is a failure. Failures, too: an error that is none of hybridvit's, more than 5 seconds of the processor for one case, an
answer of 500. fuzz_weights.py does the same to weights files. Prints JSON.
"""

import argparse
import contextlib
import io
import json
import multiprocessing
import os
import random
import resource
import socket
import sys
import tarfile
import tempfile
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from fuzz_weights import damaged

SECONDS = 5.0
WALL = 120.0  # when other work holds the processor, seconds of the clock say little
GIGABYTES = 2
MAX_PIXELS = 4_000_000
FORBIDDEN = (
    "subprocess.",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "pickle.find_class",
)
OURS = tuple(
    os.path.realpath(place)
    for place in (
        sys.prefix,
        sys.base_prefix,
        Path(__file__).parents[1] / "src",
        "/proc",
        "/sys",
        "/usr",
        "/lib",
        "/etc",
        "/dev",
    )
)

# ---- seeds ------------------------------------------------------------------------------------------------------------------


def pictures() -> dict[str, bytes]:
    """A picture in every format that Pillow writes and opens, in every mode that the format takes."""
    import numpy as np
    from PIL import Image

    Image.init()
    noise = np.random.default_rng(0).integers(0, 255, (30, 41, 3), dtype=np.uint8)
    found = {}
    for format in sorted(Image.OPEN.keys() & Image.SAVE.keys()):
        for mode in ("RGB", "RGBA", "L", "P", "I;16", "F", "1", "CMYK"):
            picture = Image.fromarray(noise).convert("L" if mode == "I;16" else mode)
            picture = picture.convert("I;16") if mode == "I;16" else picture
            buffer = io.BytesIO()
            try:
                picture.save(buffer, format)
            except Exception:  # the format has no such mode
                continue
            found[f"{format} {mode}"] = buffer.getvalue()
    return found


def sets(data: bytes) -> dict[str, bytes]:
    """Data sets in one file, and recipes, by the name of the file; some are hostile from the start."""
    from hybridvit.config import list_recipes

    names = [f"{part}/{label}/{number}.png" for part in ("train", "val") for label in "ab" for number in range(2)]
    hostile = [
        "../secret.png",
        "/etc/passwd",
        "a/../../secret.png",
        "a\\..\\..\\secret.png",
        "a/\udce9.png",
        "a/" + "x" * 300,
    ]
    found = {}
    for kind, members in (("plain", names), ("hostile", names + hostile)):
        lines = [f"{name} {k % 2}" for k, name in enumerate(members)]
        found[f"{kind}.txt"] = "\n".join(lines).encode("utf-8", "surrogateescape")
        found[f"{kind}.csv"] = ("path,label\n" + "\n".join(lines).replace(" ", ",")).encode("utf-8", "surrogateescape")
        found[f"{kind}.tsv"] = "\n".join(lines).replace(" ", "\t").encode("utf-16", "surrogatepass")
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as zipped:
            for name in members:
                zipped.writestr(name.encode("utf-8", "replace").decode(), data if kind == "plain" else bytes(10**6))
        found[f"{kind}.zip"] = buffer.getvalue()
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for name in members:
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
            if kind == "hostile":
                link = tarfile.TarInfo("train/a/link.png")
                link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
                tar.addfile(link)
        found[f"{kind}.tar"] = buffer.getvalue()
    import hybridvit

    recipes = Path(hybridvit.__file__).parent / "recipes"
    for name in list_recipes()[:6]:
        found[f"{name}.yaml"] = next(recipes.rglob(f"{name}.yaml")).read_bytes()
    bomb = "a0: &a0 [x]\n" + "".join(f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]\n" for k in range(1, 9))
    found["bomb.yaml"] = bomb.encode()
    found["python.yaml"] = b"model: !!python/object/apply:os.system ['touch outside']\n"
    return found


def post(path: str, body: bytes, *headers: str) -> bytes:
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: localhost",
        "Connection: close",
        f"Content-Length: {len(body)}",
        *headers,
    ]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def requests(data: bytes) -> dict[str, bytes]:
    form = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n' + data + b"\r\n--x--\r\n"

    chunked = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (data[:100], data[100:])) + b"0\r\n\r\n"
    head = b"POST /api/predict HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    odd = "/api/explain?method=gradcam&stage=%00&x=nan&y=1e999&head=-1&top=99999999999&label=%F0%9F%92%A9&model[]=a"
    return {
        "predict": post("/api/predict?top=3", data),
        "explain": post("/api/explain?method=attention&stage=1&block=0&head=0&x=5&y=5", data),
        "form": post("/api/predict", form, "Content-Type: multipart/form-data; boundary=x"),
        "fields": post("/api/predict", b"a=b&" * 999, "Content-Type: application/x-www-form-urlencoded"),
        "json": post("/api/predict", b'{"a": [' * 999, "Content-Type: application/json"),
        "gzip": post("/api/predict", data, "Content-Encoding: gzip"),
        "chunked": head + chunked,
        "odd query": post(odd, data),
        "long header": post("/api/predict", data, "X: " + "y" * 10**5),
        "no length": b"POST /api/predict HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" + data,
        "host": post("/api/predict", data).replace(b"localhost", b"evil.example"),
        "models": b"GET /api/models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    }


# ---- cases, in the worker ---------------------------------------------------------------------------------------------------


def try_picture(path: Path) -> str:
    from hybridvit.config import Preprocess
    from hybridvit.data.decode import decode
    from hybridvit.data.transforms import eval_transform

    picture = decode(path.read_bytes(), name=str(path), max_pixels=MAX_PIXELS)
    eval_transform(Preprocess(image_size=(64, 64)))(picture)
    return "works"


def try_set(path: Path) -> str:
    from hybridvit.config import load_recipe
    from hybridvit.data.decode import decode
    from hybridvit.data.opening import open_parts
    from hybridvit.errors import DataError

    if path.suffix == ".yaml":
        load_recipe(str(path))
        return "works"
    outcome = "works"
    for source in open_parts(path).values():
        for index in range(min(len(source), 50)):
            try:
                decode(source.read(index), name=source.name(index), max_pixels=MAX_PIXELS)
            except (DataError, OSError):
                outcome = "some pictures refused"
    return outcome


class Server:
    """hybridvit serve in this process, which is sent what a file holds: as it is, or as a picture."""

    def __init__(self) -> None:
        import torch
        import uvicorn

        from hybridvit.models import catalog
        from hybridvit.serve.app import Limits, create_app

        torch.manual_seed(0)
        limits = Limits(max_bytes=10**6, max_pixels=MAX_PIXELS, max_seconds=0.5)
        app = create_app({"one": catalog.create("cvt_nano", num_classes=3, dims=(8,), depths=(1,), heads=(1,))}, limits)
        listener = socket.create_server(("127.0.0.1", 0))
        self.address = listener.getsockname()
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical"))
        threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True).start()

    def upload(self, path: Path) -> str:
        return self.send(post("/api/predict", path.read_bytes()))

    def request(self, path: Path) -> str:
        return self.send(path.read_bytes())

    def send(self, data: bytes) -> str:
        answer = b""
        with socket.create_connection(self.address, timeout=1) as connection:
            try:
                connection.sendall(data)
                while part := connection.recv(65536):
                    answer += part
            except ConnectionError:
                pass  # the server has heard enough
            except TimeoutError:
                if not answer:
                    return "waits for the rest of the header"
        if not answer:
            return "connection closed without an answer"
        status = int(answer[9:12])
        return f"status {status}" if status == 200 or 400 <= status < 500 or status == 503 else f"FAILED with {status}"


def worker(pipe: Connection, kind: str, folder: Path) -> None:
    """Run the cases whose paths come through the pipe."""
    run: Callable[[Path], str]
    if kind in ("uploads", "requests"):
        server = Server()
        run = server.upload if kind == "uploads" else server.request
    else:
        run = {"pictures": try_picture, "sets": try_set}[kind]
    from hybridvit.errors import HybridVitError

    violations: list[str] = []
    inside = os.path.realpath(folder)

    def watch(event: str, args: tuple[Any, ...]) -> None:
        if event.startswith(FORBIDDEN) or (
            event in ("socket.connect", "socket.getaddrinfo") and "127.0.0.1" not in str(args)
        ):
            violations.append(f"{event} {args!r}"[:300])
        elif event == "open" and isinstance(args[0], str | bytes):
            place = os.path.realpath(os.fsdecode(args[0]))
            writes = args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if not place.startswith(inside) and (writes or not place.startswith(OURS) or place == "/etc/passwd"):
                violations.append(f"open {place} {args[1]!r}")

    undamaged = pipe.recv()
    for path in undamaged:  # imports, caches
        with contextlib.suppress(HybridVitError, OSError):
            run(Path(path))
    status = Path("/proc/self/status").read_text()
    used = int(status.partition("VmData:")[2].split()[0]) * 1024
    limit = used + GIGABYTES * 2**30
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    pipe.send("ready")
    sys.addaudithook(watch)
    while (path := pipe.recv()) is not None:
        began = time.process_time()
        try:
            outcome = run(Path(path))
        except HybridVitError as error:
            outcome = (
                "refused" if 0 < len(str(error)) < 5000 else f"FAILED with a message of {len(str(error))} characters"
            )
        except BaseException as error:
            outcome = f"FAILED with {type(error).__name__}: {str(error)[:300]}"
        if violations:
            outcome = f"FAILED, {violations[0]}"
            violations.clear()
        seconds = time.process_time() - began
        if seconds > SECONDS:
            outcome = f"FAILED, {seconds:.1f} s; it would have been: {outcome}"
        pipe.send((outcome, seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024))


class Worker:
    def __init__(self, kind: str, folder: Path, seeds: list[Path]) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=worker, args=(theirs, kind, folder), daemon=True)
        self.process.start()
        self.pipe.send([str(seed) for seed in seeds])
        assert self.pipe.poll(300), "the worker does not begin"
        assert self.pipe.recv() == "ready"

    def run(self, path: Path) -> tuple[str, float, int]:
        self.pipe.send(str(path))
        deadline = time.monotonic() + WALL
        while time.monotonic() < deadline:
            if self.pipe.poll(0.05):
                return self.pipe.recv()
            if not self.process.is_alive():
                return f"FAILED: the process ended with {self.process.exitcode}", 0.0, 0
        return "FAILED: it hangs", WALL, 0

    def close(self) -> None:
        self.process.kill()
        self.process.join()


# ---- the whole --------------------------------------------------------------------------------------------------------------


def cases(seeds: dict[str, bytes], count: int, seed: int) -> Iterator[tuple[int, str, bytes, str]]:
    """Every seed as it is, then damaged ones."""
    names = list(seeds)
    for number in range(count):
        name = names[number % len(names)]
        if number < len(names):
            yield number, name, seeds[name], "nothing"
        else:
            yield number, name, *damaged(seeds[name], seed * 1_000_000 + number)


def fuzz(kind: str, seeds: dict[str, bytes], count: int, seed: int) -> dict[str, Any]:
    outcomes: Counter[str] = Counter()
    failures: list[dict[str, Any]] = []
    slowest, growth, began = 0.0, 0, time.time()
    with tempfile.TemporaryDirectory() as temporary:
        (Path(temporary) / "secret.png").write_bytes(b"nobody may read this")
        folder = Path(temporary) / "given"
        folder.mkdir()
        undamaged = [folder / f"seed-{number}{Path(name).suffix}" for number, name in enumerate(seeds)]
        for path, data in zip(undamaged, seeds.values(), strict=True):
            path.write_bytes(data)
        helper = Worker(kind, folder, undamaged)
        for number, name, data, done in cases(seeds, count, seed):
            path = folder / f"case{Path(name).suffix}" if kind == "sets" else folder / "case"
            path.write_bytes(data)
            outcome, seconds, memory = helper.run(path)
            slowest, growth = max(slowest, seconds), max(growth, memory)
            if outcome.startswith("FAILED"):
                failures.append({"number": number, "seed": name, "damage": done, "outcome": outcome, "MiB": memory})
                print(failures[-1], file=sys.stderr, flush=True)
                if not helper.process.is_alive() or "hangs" in outcome:
                    helper.close()
                    helper = Worker(kind, folder, undamaged)
            outcomes["failed" if outcome.startswith("FAILED") else outcome] += 1
        helper.close()
    return {
        "cases": count,
        "seeds": len(seeds),
        "outcomes": dict(outcomes.most_common()),
        "failures": failures,
        "slowest_cpu_s": round(slowest, 2),
        "largest_growth_MiB": growth,
        "minutes": round((time.time() - began) / 60, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for kind, count in (("pictures", 5000), ("uploads", 5000), ("sets", 2000), ("requests", 2000)):
        parser.add_argument(f"--{kind}", type=int, default=count)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    random.seed(args.seed)
    images = pictures()
    seeds = {
        "pictures": images,
        "uploads": images,
        "sets": sets(images["PNG RGB"]),
        "requests": requests(images["PNG RGB"]),
    }
    found = {
        kind: fuzz(kind, some, getattr(args, kind), args.seed) for kind, some in seeds.items() if getattr(args, kind)
    }
    print(json.dumps({"seed": args.seed, **found}, indent=2))
    sys.exit(any(result["failures"] for result in found.values()))


if __name__ == "__main__":
    main()
