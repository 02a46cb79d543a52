"""hybridvit serve: a page to try models in the browser, and a JSON endpoint."""

import argparse
from pathlib import Path

from hybridvit.cli.options import add, chosen
from hybridvit.errors import ConfigError

HELP = """Serve one or more checkpoints: a page to drop pictures on, and JSON at /api/predict and /api/explain,
described by /openapi.json. Only this computer is answered unless --host says otherwise."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add(parser, "checkpoints", metavar="CHECKPOINT", nargs="+", type=Path, help="several can be compared")
    add(parser, "--port")
    add(parser, "--host", default="127.0.0.1", help="0.0.0.0 lets the whole network in, without a password")
    add(parser, "--max-megabytes", "--max-megapixels")
    add(parser, "--batch", default=32, help="most pictures at a time")
    add(parser, "--device")


def run(args: argparse.Namespace) -> int:
    try:
        import uvicorn  # noqa: F401  what most often lacks is named

        from hybridvit.serve.server import Limits, run_server
    except ImportError as error:
        raise ConfigError(f"The server needs {error.name}: pip install 'hybridvit[web]'") from error
    size, pixels = int(args.max_megabytes * 1e6), int(args.max_megapixels * 1e6)
    run_server(
        args.checkpoints,
        limits=Limits(max_bytes=size, max_pixels=pixels, max_batch=args.batch_size),
        on_ready=lambda address: print(f"{address}  (Ctrl-C ends it)", flush=True),
        **chosen(args, "host", "port", "device"),
    )
    return 0
