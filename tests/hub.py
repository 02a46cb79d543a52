"""A hub on this machine, that speaks as much of the Hugging Face hub's protocol as pushing and pulling need."""

import base64
import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Hub:
    url: str = ""
    token: str = "hf_of_the_owner"
    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    """OWNER/NAME -> file -> its bytes."""
    private: set[str] = field(default_factory=set)
    gated: set[str] = field(default_factory=set)
    objects: dict[str, bytes] = field(default_factory=dict)
    """What was uploaded, by its sha256."""
    asked: list[str] = field(default_factory=list)


@contextlib.contextmanager
def serve_hub() -> Iterator[Hub]:
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def body(self) -> bytes:
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))

        def answer(self, status: int, content: Any = b"", **headers: str) -> None:
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(data)), **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def is_owner(self) -> bool:
            return self.headers.get("Authorization") == f"Bearer {hub.token}"

        def do_POST(self) -> None:
            hub.asked.append(f"POST {self.path}")
            body = self.body()
            if self.path == "/api/validate-yaml":
                return self.answer(200, {"errors": [], "warnings": []})
            if not self.is_owner():
                return self.answer(401, {"error": "Invalid credentials"})
            parts = self.path.strip("/").split("/")
            if self.path == "/api/repos/create":
                asked = json.loads(body)
                name = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else asked["name"]
                hub.repositories.setdefault(name, {})
                is_private = asked.get("private") or asked.get("visibility") == "private"
                hub.private |= {name} if is_private else set()
                return self.answer(200, {"url": f"{hub.url}/{name}", "name": name, "id": name})
            if "preupload" in parts:
                files = [
                    {"path": each["path"], "uploadMode": "lfs" if each["path"].endswith("safetensors") else "regular"}
                    for each in json.loads(body)["files"]
                ]
                return self.answer(200, {"files": [each | {"shouldIgnore": False} for each in files]})
            if self.path.endswith("/info/lfs/objects/batch"):
                objects = [
                    {**each, "actions": {"upload": {"href": f"{hub.url}/upload/{each['oid']}", "header": {}}}}
                    for each in json.loads(body)["objects"]
                ]
                return self.answer(200, {"transfer": "basic", "objects": objects})
            if "commit" in parts:
                files = hub.repositories[f"{parts[2]}/{parts[3]}"]
                for line in map(json.loads, body.decode().splitlines()):
                    value = line["value"]
                    if line["key"] == "file":
                        files[value["path"]] = base64.b64decode(value["content"])
                    elif line["key"] == "lfsFile":
                        files[value["path"]] = hub.objects[value["oid"]]
                commit = {
                    "commitOid": "1" * 40,
                    "commitUrl": f"{hub.url}/{parts[2]}/{parts[3]}/commit/{'1' * 40}",
                    "pullRequestUrl": None,
                }
                return self.answer(200, {"success": True, "hookOutput": "", **commit})
            return self.answer(404)

        def do_PUT(self) -> None:
            body = self.body()
            digest = hashlib.sha256(body).hexdigest()
            hub.objects[digest] = body
            self.answer(200 if self.path.endswith(digest) else 400)

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            hub.asked.append(f"{self.command} {self.path}")
            repository, _, rest = self.path.removeprefix("/api/models").strip("/").partition("/resolve/")
            if repository in hub.gated and not self.is_owner():
                return self.answer(403, {"error": "gated"}, X_Error_Code="GatedRepo", X_Error_Message="ask for access")
            if repository not in hub.repositories or (repository in hub.private and not self.is_owner()):
                return self.answer(401, {"error": "none"}, X_Error_Code="RepoNotFound", X_Error_Message="not found")
            content = hub.repositories[repository].get(rest.partition("/")[2])
            if content is None:
                return self.answer(404, {}, X_Error_Code="EntryNotFound")
            return self.answer(200, content, ETag=f'"{hashlib.sha256(content).hexdigest()}"', X_Repo_Commit="1" * 40)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
