"""hybridvit serve: a page to try models in the browser, and a JSON endpoint."""

import argparse
import socket
from pathlib import Path

HELP = (
    "Serve one or more checkpoints: a page to drop pictures on, and JSON at /api/predict and /api/explain, described by "
    "/openapi.json. Only this computer is answered unless --host says otherwise."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoints", metavar="CHECKPOINT", nargs="+", type=Path, help="several can be compared")
    parser.add_argument("--port", type=int, default=8000, help="default: 8000; 0 takes a free one")
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on; 0.0.0.0 lets the whole network in, without a password",
    )
    parser.add_argument("--max-megabytes", metavar="N", type=float, default=20, help="of one upload (default: 20)")
    parser.add_argument("--max-megapixels", metavar="N", type=float, default=40, help="of one picture (default: 40)")
    parser.add_argument("--batch", metavar="N", type=int, default=32, help="most pictures at a time (default: 32)")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, mps (default: the best there is)")


def run(args: argparse.Namespace) -> int:
    from hybridvit.errors import ConfigError
    from hybridvit.runtime import pick_device
    from hybridvit.weights import checkpoint

    try:
        import uvicorn

        from hybridvit.serve.app import Limits, create_app
    except ImportError as error:
        raise ConfigError(f"The server needs {error.name}: pip install 'hybridvit[web]'") from error

    device = pick_device(args.device)
    models = {}
    for path in args.checkpoints:
        name = path.stem if path.stem not in models else str(path)
        models[name] = checkpoint.load(path, device=device)
    limits = Limits(
        max_bytes=int(args.max_megabytes * 1e6),
        max_pixels=int(args.max_megapixels * 1e6),
        max_batch=args.batch,
        hosts=Limits().hosts if args.host in ("127.0.0.1", "localhost", "::1") else None,
    )
    try:
        listener = socket.create_server(
            (args.host, args.port), family=socket.AF_INET6 if ":" in args.host else socket.AF_INET
        )
    except OSError as error:
        raise ConfigError(
            f"Cannot listen on port {args.port} of {args.host}: {error.strerror}. Try --port 0."
        ) from error
    with listener:
        print(f"http://{args.host}:{listener.getsockname()[1]}  (Ctrl-C ends it)", flush=True)
        uvicorn.Server(uvicorn.Config(create_app(models, limits), log_level="warning")).run(sockets=[listener])
    return 0
