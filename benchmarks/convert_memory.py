"""Claim: converting a file of 277 M parameters (cvt_w24) takes less than 2.5 times its size in memory.

    python benchmarks/convert_memory.py [--formats torch safetensors paddle]

Writes the file with random weights, converts it by the command line in a process of its own, and prints that process's largest
resident memory (mapped files count) against the file's size, as JSON.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SOURCES = {"torch": "microsoft", "safetensors": "transformers", "paddle": "paddleclas"}


def write_file(format: str, path: Path) -> None:
    import torch

    from hybridvit.models import catalog
    from hybridvit.weights import containers, mapping
    from hybridvit.weights.tables import SOURCES as TABLES

    with torch.device("meta"):
        model = catalog.create("cvt_w24")
    torch.manual_seed(0)
    state = {
        key: torch.rand(tensor.shape) if tensor.is_floating_point() else torch.zeros(tensor.shape, dtype=tensor.dtype)
        for key, tensor in model.state_dict().items()
    }
    containers.write(path, format, mapping.to_theirs(TABLES[SOURCES[format]], state, model.config.heads))


def largest_memory(command: list[str]) -> tuple[int, float]:
    """Run a command. Returns its largest resident memory in bytes, and seconds."""
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, command
    return usage.ru_maxrss * 1024, time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--formats", nargs="+", choices=SOURCES, default=list(SOURCES))
    parser.add_argument("--write", nargs=2, metavar=("FORMAT", "FILE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.write:
        write_file(args.write[0], Path(args.write[1]))
        return
    hybridvit = [sys.executable, "-c", "import sys; from hybridvit.cli.main import main; sys.exit(main())"]
    empty, _ = largest_memory([sys.executable, "-c", "import hybridvit.weights.convert"])
    results = {"imports_alone_MiB": empty >> 20}
    for format in args.formats:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "weights"
            subprocess.run([sys.executable, __file__, "--write", format, str(file)], check=True)
            memory, seconds = largest_memory([*hybridvit, "convert", str(file), f"{folder}/out.safetensors"])
            results[format] = {
                "file_MiB": file.stat().st_size >> 20,
                "peak_MiB": memory >> 20,
                "peak_over_file": round(memory / file.stat().st_size, 2),
                "seconds": round(seconds, 1),
            }
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
