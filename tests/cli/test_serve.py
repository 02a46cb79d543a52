"""hybridvit serve: the command itself; what it serves is tested in tests/serve."""

import json
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hybridvit.cli.main import main


def test_the_command_serves_checkpoints_on_a_free_port_until_it_is_stopped(weights: Path, tmp_path: Path) -> None:
    picture = tmp_path / "noise.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(picture)
    command = [sys.executable, "-m", "hybridvit", "serve", str(weights), "--port", "0", "--device", "cpu"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        address = server.stdout.readline().split()[0]
        assert address.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(f"{address}/api/predict", picture.read_bytes(), timeout=60) as reply:
            answer = json.load(reply)
        server.terminate()
    assert answer["model"] == "model"
    assert {guess["label"] for guess in answer["top"]} == {"a", "b", "c"}


def test_a_port_that_is_taken_is_said(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", str(weights), "--port", str(port), "--device", "cpu"]) == 2
    assert f"Cannot listen on port {port} of 127.0.0.1" in capsys.readouterr().err


def test_without_the_extra_the_command_names_it(
    weights: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert main(["serve", str(weights)]) == 2
    assert "pip install 'hybridvit[web]'" in capsys.readouterr().err


@pytest.mark.parametrize(("host", "address"), [("::1", "http://[::1]:8123"), ("localhost", "http://localhost:8123")])
def test_the_address_of_ipv6_has_brackets(
    weights: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], host: str, address: str
) -> None:
    class Listener:
        def __enter__(self) -> "Listener":
            return self

        def __exit__(self, *_: object) -> None: ...

        def getsockname(self) -> tuple[str, int]:
            return host, 8123

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("socket.create_server", lambda *_, **__: Listener())
    monkeypatch.setattr("uvicorn.Server.run", lambda *_, **__: None)
    assert main(["serve", str(weights), "--host", host, "--device", "cpu"]) == 0
    assert capsys.readouterr().out.split()[0] == address
    assert signal.getsignal(signal.SIGTERM) == before
