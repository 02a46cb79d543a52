"""serve/uploads.py: what clients send by habit, by mistake and in malice."""

import base64
import gzip
import json
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from hybridvit.models import catalog
from hybridvit.serve.app import Limits
from hybridvit.weights import checkpoint

Ask = Callable[..., tuple[int, Any]]


def form(*files: bytes, fields: tuple[str, ...] = ()) -> bytes:
    parts = [b'Content-Disposition: form-data; name="%s"\r\n\r\nx' % name.encode() for name in fields]
    parts += [
        b'Content-Disposition: form-data; name="file"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n' + file
        for file in files
    ]
    return b"".join(b"--cut\r\n" + part + b"\r\n" for part in parts) + b"--cut--\r\n"


MULTIPART = {"Content-Type": "multipart/form-data; boundary=cut"}


def test_a_form_with_one_file_is_the_picture_itself(address: str, ask: Ask, picture_file: Path) -> None:
    data = picture_file.read_bytes()
    plain = ask(f"{address}/api/predict", data)
    assert plain[0] == 200
    assert ask(f"{address}/api/predict", form(data, fields=("note",)), **MULTIPART) == plain
    assert ask(f"{address}/api/explain", form(data), **MULTIPART)[0] == 200


@pytest.mark.parametrize(
    ("body", "headers", "what"),
    [
        (b"", {}, "the body is empty"),
        (gzip.compress(b"picture", mtime=0), {}, "the body is compressed with gzip"),
        (
            gzip.compress(b"picture", mtime=0),
            {"Content-Encoding": "gzip"},
            "the body is compressed (Content-Encoding: gzip)",
        ),
        (json.dumps({"image": "abc"}).encode(), {"Content-Type": "application/json"}, "the body is JSON"),
        (json.dumps([1, 2]).encode(), {}, "the body is JSON"),
        (base64.b64encode(bytes(range(256))), {}, "the body is text in base64"),
        (b"data:image/png;base64,iVBORw0KGgo=", {}, "the body is text in base64"),
        (
            b"file=cat.jpg",
            {"Content-Type": "application/x-www-form-urlencoded"},
            "the body is the text fields of a form",
        ),
        (form(fields=("image",)), MULTIPART, "the form has 0 files (its fields: image)"),
        (form(b"a", b"b"), MULTIPART, "the form has 2 files (its fields: file, file)"),
        (b"--cut\r\n", {"Content-Type": "multipart/form-data"}, "the body is no form, as its header says"),
        (b"nonsense", MULTIPART, "the body is no form, as its header says"),
        (form(b""), MULTIPART, "the body is empty"),
    ],
)
def test_what_is_no_picture_is_one_sentence_that_says_what_came_and_what_to_send(
    address: str, ask: Ask, body: bytes, headers: dict[str, str], what: str
) -> None:
    status, answer = ask(f"{address}/api/predict", body, **headers)
    assert (status, answer["error"]) == (422, "DataError")
    assert answer["reason"].startswith(f"The upload cannot be read as a picture: {what}")
    assert answer["reason"].endswith("(curl -F file=@picture.jpg ADDRESS).")
    assert "\n" not in answer["reason"]


def open_request(address: str, length: int, begin: bytes, path: str = "/api/predict") -> socket.socket:
    """A request whose body has begun."""
    host, _, port = address.removeprefix("http://").rpartition(":")
    connection = socket.create_connection((host, int(port)), timeout=30)
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n"
    connection.sendall(head.encode() + begin)
    return connection


def answer_of(connection: socket.socket) -> tuple[int, Any]:
    data = b""
    while b"\r\n\r\n" not in data or not data.endswith(b"}"):
        part = connection.recv(65536)
        if not part:
            break
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


@pytest.fixture(scope="module")
def tight(serving: Any, models: dict[str, nn.Module]) -> Iterator[str]:
    """A server that holds little and waits a moment only."""
    limits = Limits(max_held=200_000, max_bytes=150_000, max_seconds=1.5, max_waiting=2)
    with serving({"cvt": models["cvt"]}, limits) as address:
        yield address


def test_uploads_that_are_being_received_are_bounded_together(tight: str, ask: Ask, picture_file: Path) -> None:
    with open_request(tight, 150_000, bytes(140_000)), open_request(tight, 150_000, bytes(40_000)):
        time.sleep(0.3)
        status, answer = ask(f"{tight}/api/predict", bytes(100_000))
        assert (status, answer["error"]) == (503, "BusyError")
        assert "bytes of uploads already. Try again" in answer["reason"]
    time.sleep(0.3)
    assert ask(f"{tight}/api/predict", picture_file.read_bytes())[0] == 200


def test_an_upload_that_never_ends_is_told_so(tight: str, ask: Ask, picture_file: Path) -> None:
    with open_request(tight, 1000, bytes(10)) as connection:
        status, answer = answer_of(connection)
    assert (status, answer["error"]) == (408, "TooSlowError")
    assert answer["reason"].startswith("After 1.5 seconds 10 bytes had come and no end")
    assert ask(f"{tight}/api/predict", picture_file.read_bytes())[0] == 200


def test_explaining_counts_among_those_that_wait(
    tight: str, ask: Ask, picture_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_end = threading.Event()
    monkeypatch.setattr("hybridvit.serve.app.explain_picture", lambda *_, **__: may_end.wait(20) and 1 / 0)
    data, answers = picture_file.read_bytes(), []
    threads = [threading.Thread(target=lambda: answers.append(ask(f"{tight}/api/explain", data)[0])) for _ in range(2)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    statuses = [ask(f"{tight}/api/{what}", data) for what in ("explain", "predict")]
    may_end.set()
    for thread in threads:
        thread.join()
    assert [(status, answer["error"]) for status, answer in statuses] == [(503, "BusyError")] * 2
    assert answers == [500, 500]


@pytest.fixture
def process(tmp_path: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The command itself, with what it writes to the error stream."""
    checkpoint.save(catalog.create("cvt_nano", num_classes=3), tmp_path / "one.safetensors")
    command = [sys.executable, "-m", "hybridvit", "serve", str(tmp_path / "one.safetensors"), "--port", "0"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([*command, "--device", "cpu"], text=True, **pipes) as server:
        assert server.stdout is not None
        yield server.stdout.readline().split()[0], server
        server.kill()


def test_clients_that_go_away_leave_no_traceback_and_sigterm_ends_cleanly_with_requests_answered(
    process: tuple[str, subprocess.Popen[str]], picture_file: Path
) -> None:
    address, server = process
    data = picture_file.read_bytes()
    for length, part, path in (
        (10**6, b"x", "/api/predict"),
        (len(data), data, "/api/explain"),
        (10**9, data, "/nowhere"),
    ):
        open_request(address, length, part, path).close()
    with urllib.request.urlopen(f"{address}/api/predict", data, timeout=60) as reply:
        assert reply.status == 200
    asked = [open_request(address, len(data), data, "/api/explain?method=occlusion") for _ in range(3)]
    half = open_request(address, len(data), data[:-1])
    time.sleep(0.3)
    server.terminate()
    half.sendall(data[-1:])
    for connection in (*asked, half):
        with connection:
            assert answer_of(connection)[0] == 200
    assert server.wait(30) == 0
    assert server.stderr is not None
    assert server.stderr.read() == ""
