"""Load on `hybridvit serve`: many clients, one picture each time, against the same server asked by one client.

    python benchmarks/serve_load.py [--model cvt_nano] [--requests 1000] [--clients 16] [--max-batch 32]

Each client is a thread that keeps its connection and sends the next request when it has the answer. The server is another
process. Prints a Markdown table. With --max-batch 1 no batches form, which shows what they are worth.
"""

import argparse
import http.client
import io
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from PIL import Image

import hybridvit


def picture(pixels: int) -> bytes:
    noise = np.random.default_rng(0).integers(0, 255, (pixels // 8, pixels // 8, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).resize((pixels, pixels), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


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


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="cvt_nano")
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--max-batch", type=int, default=32)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        model = hybridvit.create_model(args.model, num_classes=10)
        hybridvit.save(model, path)
        body = picture(max(model.pretrained_cfg["input_size"]) * 2)
        command = [sys.executable, "-m", "hybridvit", "serve", str(path), "--port", "0", "--device", "cpu"]
        with subprocess.Popen([*command, "--batch", str(args.max_batch)], stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            port = int(server.stdout.readline().split()[0].rpartition(":")[2])
            measure(port, body, requests=20, clients=2)  # warm up
            print(f"{args.model}, JPEG of {len(body)} bytes, batches of at most {args.max_batch}\n")
            print(
                "clients | answered | lost | pictures/s | p50 ms | p95 ms | p99 ms\n--- | --- | --- | --- | --- | --- | ---"
            )
            for clients, requests in ((1, args.requests // 5), (args.clients, args.requests), (1, args.requests // 5)):
                print(measure(port, body, requests=requests, clients=clients), flush=True)
            server.terminate()


if __name__ == "__main__":
    main()
