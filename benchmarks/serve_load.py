"""Load on `hybridvit serve`: many clients, one picture each time, against the same server asked by one client; and malice.

    python benchmarks/serve_load.py [--model cvt_nano] [--requests 1000] [--clients 16] [--max-batch 32]
    python benchmarks/serve_load.py --malice --requests 5000 --clients 64

Each client is a thread that keeps its connection and sends the next request when it has the answer. The server is another
process. Prints a Markdown table. With --max-batch 1 no batches form, which shows what they are worth.

With --malice two models are served, and clients mix KINDS by a seeded draw: a request is lost when its client waited and no
answer with a status and, where it is refused, a reason came. At the end SIGTERM is sent while requests are under way.
"""

import argparse
import http.client
import io
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

import hybridvit

KINDS = {
    "predict": 66,
    "predict on the second model": 4,
    "explain": 5,
    "slow sender": 8,
    "oversize": 3,
    "no picture": 4,
    "half a body, then gone": 5,
    "gone before the answer": 5,
}
"""What clients do, and how often of 100 times. A slow sender takes two seconds for its body."""


def picture(pixels: int) -> bytes:
    noise = np.random.default_rng(0).integers(0, 255, (pixels // 8, pixels // 8, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).resize((pixels, pixels), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


@contextmanager
def served(paths: list[Path], *words: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    command = [sys.executable, "-m", "hybridvit", "serve", *map(str, paths), "--port", "0", "--device", "cpu", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield server, int(server.stdout.readline().split()[0].rpartition(":")[2])
        server.terminate()


# ---- load -------------------------------------------------------------------------------------------------------------------


def ask(port: int, body: bytes, count: int, latencies_ms: list[float], failures: list[str]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    for _ in range(count):
        start = time.perf_counter()
        connection.request("POST", "/api/predict", body)
        reply = connection.getresponse()
        answer = reply.read()
        latencies_ms.append(1000 * (time.perf_counter() - start))
        if reply.status != 200 or len(json.loads(answer)["top"]) != 5:
            failures.append(answer.decode())
    connection.close()


def measure(port: int, body: bytes, *, requests: int, clients: int) -> str:
    latencies_ms: list[float] = []
    failures: list[str] = []
    share = [requests // clients + (k < requests % clients) for k in range(clients)]
    threads = [threading.Thread(target=ask, args=(port, body, n, latencies_ms, failures)) for n in share]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - start
    p50, p95, p99 = np.percentile(latencies_ms, [50, 95, 99])
    return (
        f"{clients} | {len(latencies_ms)} | {requests - len(latencies_ms) + len(failures)} | {len(latencies_ms) / seconds:.1f} | "
        f"{p50:.0f} | {p95:.0f} | {p99:.0f}"
    )


def load(args: argparse.Namespace, path: Path, body: bytes) -> None:
    with served([path], "--batch", str(args.max_batch)) as (_, port):
        measure(port, body, requests=20, clients=2)  # warm up
        print(f"{args.model}, JPEG of {len(body)} bytes, batches of at most {args.max_batch}\n")
        print(
            "clients | answered | lost | pictures/s | p50 ms | p95 ms | p99 ms\n--- | --- | --- | --- | --- | --- | ---"
        )
        for clients, requests in ((1, args.requests // 5), (args.clients, args.requests), (1, args.requests // 5)):
            print(measure(port, body, requests=requests, clients=clients), flush=True)


# ---- malice -----------------------------------------------------------------------------------------------------------------


class Record:
    """What became of requests, by kind."""

    def __init__(self) -> None:
        self.outcomes: dict[str, Counter[str]] = defaultdict(Counter)
        self.latencies_ms: dict[str, list[float]] = defaultdict(list)
        self.lost: list[str] = []


def act(port: int, kind: str, body: bytes, max_bytes: int, record: Record) -> None:
    """One request of its kind, on a connection of its own."""
    path = {"explain": "/api/explain", "predict on the second model": "/api/predict?model=two"}.get(
        kind, "/api/predict"
    )
    body = {"oversize": bytes(max_bytes + 1), "no picture": b"{}"}.get(kind, body)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    start = time.perf_counter()
    try:
        connection.putrequest("POST", path)
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders()
        if kind == "half a body, then gone":
            connection.send(body[: len(body) // 2])
            record.outcomes[kind]["gone"] += 1
            return
        pieces = 5 if kind == "slow sender" else 1
        size = -(-len(body) // pieces)
        for piece in range(pieces):
            connection.send(body[piece * size : (piece + 1) * size])
            time.sleep(0.5 if piece < pieces - 1 else 0)
        if kind == "gone before the answer":
            record.outcomes[kind]["gone"] += 1
            return
        reply = connection.getresponse()
        answer = json.loads(reply.read())
        if reply.status != 200 and not answer["reason"]:
            raise ValueError(f"status {reply.status} without a reason")
        record.outcomes[kind][str(reply.status)] += 1
        if reply.status == 200:
            record.latencies_ms[kind].append(1000 * (time.perf_counter() - start))
    except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
        record.outcomes[kind]["lost"] += 1
        record.lost.append(f"{kind}: {type(error).__name__}: {error}")
    finally:
        connection.close()


def malice(args: argparse.Namespace, path: Path, body: bytes) -> None:
    second = path.with_name("two.safetensors")
    hybridvit.save(hybridvit.load(path), second)
    draws = random.Random(args.seed).choices(list(KINDS), list(KINDS.values()), k=args.requests)
    queue, record, lock = iter(draws), Record(), threading.Lock()

    def client() -> None:
        while True:
            with lock:
                kind = next(queue, None)
            if kind is None:
                return
            act(port, kind, body, 1_000_000, record)

    def all_at_once(target: object, count: int) -> None:
        threads = [threading.Thread(target=target) for _ in range(count)]  # type: ignore[arg-type]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    with served([path, second], "--batch", str(args.max_batch), "--max-megabytes", "1") as (server, port):
        measure(port, body, requests=20, clients=2)  # warm up
        began = time.perf_counter()
        all_at_once(client, args.clients)
        seconds = time.perf_counter() - began
        status = Path(f"/proc/{server.pid}/status").read_text()
        peak_mib = int(status.partition("VmHWM:")[2].split()[0]) // 1024
        last = Record()
        threads = [
            threading.Thread(target=act, args=(port, kind, body, 1_000_000, last))
            for kind in ("predict", "explain") * (args.clients // 2)
        ]
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        server.terminate()
        for thread in threads:
            thread.join()
        code = server.wait(60)
    print(
        f"{args.model} twice, JPEG of {len(body)} bytes, {args.clients} clients, {args.requests} requests in {seconds:.0f} s\n"
    )
    print("kind | requests | outcomes | p50 ms | p99 ms\n--- | --- | --- | --- | ---")
    for kind in KINDS:
        outcomes, times = record.outcomes[kind], record.latencies_ms[kind]
        p50, p99 = (f"{value:.0f}" for value in np.percentile(times, [50, 99])) if times else ("", "")
        words = ", ".join(f"{outcome}: {count}" for outcome, count in sorted(outcomes.items()))
        print(f"{kind} | {sum(outcomes.values())} | {words} | {p50} | {p99}")
    print(f"\nLost without a reason: {len(record.lost)}. Peak memory of the server: {peak_mib} MiB.")
    print(
        f"SIGTERM with {len(threads)} requests under way: {dict(sum(last.outcomes.values(), Counter()))}, exit code {code}."
    )
    print(*record.lost[:10], *last.lost[:10], sep="\n")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="cvt_nano")
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--max-batch", type=int, default=32)
    parser.add_argument("--malice", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        model = hybridvit.create_model(args.model, num_classes=10)
        hybridvit.save(model, path)
        (malice if args.malice else load)(args, path, picture(max(model.pretrained_cfg["input_size"]) * 2))


if __name__ == "__main__":
    main()
