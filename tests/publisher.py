"""A publisher on 127.0.0.1: a web server and a Hugging Face hub in one, with the faults of real ones."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import torch

import foreign

HUB_PATH = "/microsoft/cvt-13/resolve/main/pytorch_model.bin"


@dataclass
class Publisher:
    """What is served, and how badly."""

    files: dict[str, bytes] = field(default_factory=dict)
    """Path -> contents."""
    breaks: list[int] = field(default_factory=list)
    """The next answers end after so many bytes, as a broken connection does."""
    status_after_break: int = 200
    status: int = 200
    """What every request is answered with, unless 200."""
    sha256: str = ""
    """What the hub says of its files; "" for the truth."""
    ranges: list[str] = field(default_factory=list)
    """The Range header of each GET, or ""."""
    url: str = ""


@contextmanager
def publish(files: dict[str, bytes]) -> Iterator[Publisher]:
    publisher = Publisher(files)

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(send=False)

        def do_GET(self) -> None:
            if self.path in publisher.files:
                publisher.ranges.append(self.headers.get("Range", ""))
            self.answer(send=True)

        def answer(self, *, send: bool) -> None:
            contents = publisher.files.get(self.path)
            if contents is None or publisher.status != 200:
                self.send_error(publisher.status if publisher.status != 200 else 404)
                return
            start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
            if start > 0 and start >= len(contents):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(contents)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(contents) - start))
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(contents) - 1}/{len(contents)}")
            if "/resolve/" in self.path:
                self.send_header("X-Repo-Commit", "0" * 40)
                self.send_header("ETag", f'"{publisher.sha256 or hashlib.sha256(contents).hexdigest()}"')
            self.end_headers()
            if send:
                end = None
                if publisher.breaks:
                    end = start + publisher.breaks.pop(0)
                    publisher.status = publisher.status_after_break
                self.wfile.write(contents[start:end])
            self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    publisher.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield publisher
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def hub_file(folder: Path) -> Path:
    """microsoft/cvt-13's pytorch_model.bin: flat, in transformers' names."""
    path = folder / "pytorch_model.bin"
    torch.save(foreign.tensors(foreign.load("transformers")[1]), path)
    return path
