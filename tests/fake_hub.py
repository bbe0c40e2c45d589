"""A small Hub on a local port: the four addresses that the Hub's client uses, and its faults."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

LARGE_SUFFIX = ".safetensors"  # these have a sha256, as files in large storage
STORAGE = "/storage/"


@dataclass
class FakeHub:
    """One repository at one commit, and what goes wrong with it.

    cuts: name to the bytes after which each answer for that file breaks off. refusals: name to
    (status, error code) of a file, or '' for the repository itself. corrupt: names of files that
    arrive changed. can_resume: whether ranges are honoured. has_storage: large files come from
    another host, which must not be sent the token.
    """

    repo: str
    commit: str
    folder: Path
    card: dict[str, Any] = field(default_factory=dict)
    cuts: dict[str, list[int]] = field(default_factory=dict)
    refusals: dict[str, tuple[int, str]] = field(default_factory=dict)
    corrupt: set[str] = field(default_factory=set)
    can_resume: bool = True
    has_storage: bool = False
    token: str | None = None
    endpoint: str = ""
    sent: Counter[str] = field(default_factory=Counter)  # bytes of each file
    asked: list[str] = field(default_factory=list)  # names of files, in order

    def names(self) -> list[str]:
        files = (path for path in self.folder.rglob("*") if path.is_file())
        return sorted(path.relative_to(self.folder).as_posix() for path in files)

    def facts(self, name: str) -> dict[str, Any]:
        content = (self.folder / name).read_bytes()
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        facts: dict[str, Any] = {"size": len(content), "blob": blob, "etag": blob}
        if name.endswith(LARGE_SUFFIX):
            facts["sha256"] = facts["etag"] = hashlib.sha256(content).hexdigest()
        return facts

    def info(self) -> dict[str, Any]:
        siblings: list[dict[str, Any]] = []
        for name in self.names():
            facts = self.facts(name)
            sibling = {"rfilename": name, "size": facts["size"], "blobId": facts["blob"]}
            if "sha256" in facts:
                sibling["lfs"] = {
                    "sha256": facts["sha256"],
                    "size": facts["size"],
                    "pointerSize": 130,
                }
            siblings.append(sibling)
        return {"id": self.repo, "sha": self.commit, "siblings": siblings, "cardData": self.card}

    def tree(self) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = []
        for name in self.names():
            facts = self.facts(name)
            entry = {"type": "file", "path": name, "size": facts["size"], "oid": facts["blob"]}
            if "sha256" in facts:
                entry["lfs"] = {
                    "oid": facts["sha256"],
                    "size": facts["size"],
                    "pointerSize": 130,
                }
            entries.append(entry)
        return entries


@contextmanager
def serving(hub: FakeHub) -> Iterator[FakeHub]:
    """The Hub at `hub.endpoint` until the end of the block."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(hub: FakeHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

        def do_HEAD(self) -> None:
            self._answer(has_body=False)

        def do_GET(self) -> None:
            self._answer(has_body=True)

        def _answer(self, has_body: bool) -> None:
            path = unquote(urlsplit(self.path).path)
            if path.startswith(STORAGE):
                self._send_stored(path.removeprefix(STORAGE), has_body)
                return
            api = f"/api/models/{hub.repo}"
            if not path.startswith((api, f"/{hub.repo}/resolve/")):
                self._refuse(404, "RepoNotFound")
            elif "" in hub.refusals:
                self._refuse(*hub.refusals[""])
            elif hub.token and self.headers.get("Authorization") != f"Bearer {hub.token}":
                self._refuse(401, "GatedRepo")
            elif path.startswith(api):
                self._describe(path.removeprefix(api))
            else:
                revision, _, name = path.removeprefix(f"/{hub.repo}/resolve/").partition("/")
                self._send_file(revision, name, has_body)

        def _describe(self, rest: str) -> None:
            kind, _, revision = rest.strip("/").partition("/")
            if revision not in ("", "main", hub.commit):
                self._refuse(404, "RevisionNotFound")
                return
            document = hub.tree() if kind == "tree" else hub.info()
            body = json.dumps(document).encode()
            self._head(200, {"Content-Type": "application/json"}, len(body))
            self.wfile.write(body)

        def _send_file(self, revision: str, name: str, has_body: bool) -> None:
            if name in hub.refusals:
                self._refuse(*hub.refusals[name])
                return
            if revision not in ("main", hub.commit) or name not in hub.names():
                self._refuse(404, "EntryNotFound")
                return
            facts = hub.facts(name)
            headers = {"X-Repo-Commit": hub.commit, "ETag": f'"{facts["etag"]}"'}
            headers["X-Linked-Size"] = str(facts["size"])
            if hub.has_storage and name.endswith(LARGE_SUFFIX):
                port = urlsplit(hub.endpoint).port
                headers["X-Linked-Etag"] = headers["ETag"]
                headers["Location"] = f"http://localhost:{port}{STORAGE}{name}"
                self._head(302, headers, 0)
                return
            self._send_content(name, headers, has_body)

        def _send_stored(self, name: str, has_body: bool) -> None:
            if "Authorization" in self.headers:
                self._refuse(400, "")
            else:
                self._send_content(name, {}, has_body)

        def _send_content(self, name: str, headers: dict[str, str], has_body: bool) -> None:
            content = (hub.folder / name).read_bytes()
            if name in hub.corrupt:
                content = content[:-1] + bytes([content[-1] ^ 1])
            wanted = self.headers.get("Range")
            start = int(wanted.split("=")[1].split("-")[0]) if wanted and hub.can_resume else 0
            if start:
                headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            self._head(206 if start else 200, headers, len(content) - start)
            if has_body:
                hub.asked.append(name)
                self._send(name, content[start:])

        def _send(self, name: str, content: bytes) -> None:
            cuts = hub.cuts.get(name)
            if cuts:
                content = content[: cuts.pop(0)]
                self.close_connection = True
            self.wfile.write(content)
            hub.sent[name] += len(content)

        def _refuse(self, status: int, code: str) -> None:
            self._head(status, {"X-Error-Code": code}, 0)

        def _head(self, status: int, headers: dict[str, str], length: int) -> None:
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(length))
            self.end_headers()

    return Handler
