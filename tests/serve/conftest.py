"""A server in this process, on a free port."""

import json
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import uvicorn
from torch import nn

from hybridvit.config import Preprocess
from hybridvit.models import catalog
from hybridvit.serve.app import Limits, create_app

Serve = Callable[..., AbstractContextManager[str]]


def small_model(name: str) -> nn.Module:
    torch.manual_seed(0)
    model: Any = catalog.create(name, num_classes=3).eval()
    model.label_names = ["ant", "bee", "<b>cat</b>"]
    model.preprocess = Preprocess(image_size=(64, 64), crop_pct=0.875)
    return model


@contextmanager
def serve(models: dict[str, nn.Module], limits: Limits | None = None) -> Iterator[str]:
    """The address of a server."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(create_app(models, limits), log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="session")
def serving() -> Serve:
    """serving(models, limits): the address of a server, while the block lasts."""
    return serve


@pytest.fixture(scope="session")
def models() -> dict[str, nn.Module]:
    return {"cvt": small_model("cvt_nano"), "cmt": small_model("cmt_nano")}


@pytest.fixture(scope="session")
def address(models: dict[str, nn.Module]) -> Iterator[str]:
    with serve(models) as address:
        yield address


@pytest.fixture(scope="session")
def ask() -> Callable[..., tuple[int, Any]]:
    """ask(url, body=None, **headers): status and decoded JSON."""

    def send(url: str, body: bytes | None = None, **headers: str) -> tuple[int, Any]:
        request = urllib.request.Request(url, body, {"Content-Type": "image/png", **headers})
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                return reply.status, json.loads(reply.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())

    return send


@pytest.fixture
def picture_file(tmp_path: Path) -> Path:
    """A photograph-like picture: a bright disc on a gradient, 200 x 150 pixels."""
    import numpy as np
    from PIL import Image

    y, x = np.mgrid[:150, :200]
    disc = ((x - 130) ** 2 + (y - 60) ** 2 < 900)[..., None]
    pixels = np.stack((x, y, 255 - x), axis=-1) * 0.8 * ~disc + disc * np.array([255, 230, 80])
    Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "disc.png")
    return tmp_path / "disc.png"
