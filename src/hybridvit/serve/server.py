"""Checkpoints behind an address, until Ctrl-C or SIGTERM."""

import signal
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import uvicorn
from torch import nn

from hybridvit.errors import ConfigError
from hybridvit.runtime import pick_device
from hybridvit.serve.app import Limits, create_app
from hybridvit.weights.load import load

MOST_CONNECTIONS = 1000
SECONDS_TO_END = 30
"""After SIGTERM or Ctrl-C: for requests that were taken, before connections are cut."""
OURSELVES = ("127.0.0.1", "localhost", "::1")


def run_server(
    files: Sequence[str | Path],
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    device: str = "auto",
    limits: Limits | None = None,
    on_ready: Callable[[str], None] = print,
) -> None:
    """Serve checkpoints until the process is told to end; requests that were taken are answered first.

    Args:
        port: 0 takes a free one.
        limits: its hosts are replaced: any name may address a server that other computers reach.
        on_ready: called with the address.

    Raises: CheckpointError, and ConfigError when nobody can listen there.
    """
    models: dict[str, nn.Module] = {}
    for path in map(Path, files):
        models[path.stem if path.stem not in models else str(path)] = load(path, device=pick_device(device))
    limits = limits or Limits()
    if host not in OURSELVES:
        limits = replace(limits, hosts=None)
    try:
        listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise ConfigError(f"Cannot listen on port {port} of {host}: {error.strerror}. Try --port 0.") from error
    with listener:
        on_ready(f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}")
        config = uvicorn.Config(
            create_app(models, limits),
            log_level="warning",
            limit_concurrency=MOST_CONNECTIONS,
            timeout_graceful_shutdown=SECONDS_TO_END,
        )
        # uvicorn answers what it has taken, then raises the signal again: that would end us as if we had been killed.
        may_set = threading.current_thread() is threading.main_thread()
        before = signal.signal(signal.SIGTERM, signal.SIG_IGN) if may_set else None
        try:
            uvicorn.Server(config).run(sockets=[listener])
        finally:
            if may_set:
                signal.signal(signal.SIGTERM, before)
