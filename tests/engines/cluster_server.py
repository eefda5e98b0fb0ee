"""A fake Kubernetes API on the loopback, asked by its real client; a pod's container is one of `room.py`."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import re
import select
import socket
import struct
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.engines.room import IMAGE, Room

Told = dict[str, Any]
GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class ClusterServer(ThreadingHTTPServer):
    """The API. `admit` may alter a pod on its way in; `node_ready` is what its one node says; `vanishes` ignores
    finalizers; `refuse` answers a path with 500."""

    daemon_threads = True

    def __init__(self, place: Path) -> None:
        self.pods: dict[str, Told] = {}
        self.rooms: dict[str, Room] = {}
        self.classes = ["gvisor"]
        self.admit: Callable[[Told], None] = lambda pod: None
        self.tell: Callable[[Told], None] = lambda pod: None
        self.node_ready = "True"
        self.vanishes = False
        self.refuse = re.compile("$^")
        super().__init__(("127.0.0.1", 0), Handler)
        self.config = place / "kubeconfig"
        name, address = "fake", f"http://127.0.0.1:{self.server_address[1]}"
        self.config.write_text(json.dumps({
            "apiVersion": "v1", "kind": "Config", "current-context": name,
            "clusters": [{"name": name, "cluster": {"server": address}}], "users": [{"name": name, "user": {}}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        }))  # fmt: skip  # one configuration
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self) -> None:
        """End it and its containers."""
        self.shutdown()
        self.server_close()
        for room in self.rooms.values():
            room.close()


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server: ClusterServer

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""

    def handle_one_request(self) -> None:
        with contextlib.suppress(OSError):
            super().handle_one_request()

    def answer(self, told: Told, status: int = 200) -> None:
        """An answer in JSON."""
        data = json.dumps(told).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(data)

    def fail(self, status: int, why: str) -> None:
        """An answer that says no."""
        self.answer({"kind": "Status", "apiVersion": "v1", "code": status, "message": why}, status)

    def serve(self) -> None:
        """Find out what is asked."""
        parts = urlsplit(self.path)
        query = {name: value[0] for name, value in parse_qs(parts.query).items()}
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else {}
        if self.server.refuse.search(f"{self.command} {parts.path}"):
            return self.fail(500, "the cluster is in trouble")
        words = parts.path.strip("/").split("/")
        if words == ["version"]:
            names = ("buildDate", "compiler", "gitCommit", "gitTreeState", "goVersion", "major", "minor", "platform")
            return self.answer(dict.fromkeys(names, "") | {"gitVersion": "fake"})
        if "runtimeclasses" in words:
            known = words[-1] in self.server.classes
            return self.answer({"metadata": {"name": words[-1]}, "handler": "runsc"}) if known else self.fail(404, "no")
        if "nodes" in words:
            return self.answer({"metadata": {"name": words[-1]}, "status": {
                "conditions": [{"type": "Ready", "status": self.server.node_ready}]}})  # fmt: skip  # one answer
        return self.on_pods(words[words.index("pods") + 1 :], body, query)

    do_GET = do_POST = do_DELETE = do_PATCH = serve  # noqa: N815 - the names of the library

    def on_pods(self, words: list[str], body: Told, query: dict[str, str]) -> None:
        """What is asked of pods."""
        if not words and self.command == "POST":
            return self.create(body)
        if not words:
            label = query.get("labelSelector", "=").split("=")
            found = [self.told(name) for name, pod in self.server.pods.items()
                     if pod["metadata"]["labels"].get(label[0]) == label[1]]  # fmt: skip  # one list
            return self.answer({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": found})
        if words[0] not in self.server.pods:
            return self.fail(404, f"pods {words[0]} not found")
        if words[1:] == ["attach"]:
            return self.attach(self.server.rooms[words[0]])
        pod = self.server.pods[words[0]]
        told = self.told(words[0])
        if self.command == "DELETE":
            pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
            if self.server.vanishes:  # the API forgets it, and nobody has looked at what it ran
                del self.server.pods[words[0]]
            elif self.server.node_ready == "True":
                self.server.rooms[words[0]].kill()
            self.forget(words[0])
        elif self.command == "PATCH":
            pod["metadata"].pop("finalizers", None)
            self.forget(words[0])
        return self.answer(told)

    def forget(self, name: str) -> None:
        """As the API does it: a deleted pod without finalizers is no more."""
        pod = self.server.pods.get(name)
        if pod and pod["metadata"].get("deletionTimestamp") and not pod["metadata"].get("finalizers"):
            del self.server.pods[name]

    def create(self, pod: Told) -> None:
        """Admit a pod and start it."""
        self.server.admit(pod)
        spec = pod["spec"]
        spec |= {"nodeName": "node-1", "schedulerName": "default-scheduler", "serviceAccountName": "default"}
        box = spec["containers"][0]
        sizes = {
            volume["name"]: int(volume["emptyDir"]["sizeLimit"]) for volume in spec["volumes"] if "emptyDir" in volume
        }
        folders = {mount["mountPath"]: sizes[mount["name"]] for mount in box["volumeMounts"] if mount["name"] in sizes}
        room = Room(box["command"], spec["securityContext"]["runAsUser"], folders)
        room.start()
        self.server.pods[pod["metadata"]["name"]] = pod
        self.server.rooms[pod["metadata"]["name"]] = room
        self.answer(pod, 201)

    def told(self, name: str) -> Told:
        """A pod as the API tells of it."""
        pod, room = json.loads(json.dumps(self.server.pods[name])), self.server.rooms[name]
        state: Told = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
        if not room.running:
            state = {"terminated": {"exitCode": 2, "reason": "Error"}}
        row = {"name": "subject", "state": state, "restartCount": 0, "imageID": IMAGE, "image": IMAGE, "ready": True}
        pod["status"] = {"phase": "Running" if room.running else "Failed", "containerStatuses": [row]}
        self.server.tell(pod)
        return pod

    def attach(self, room: Room) -> None:
        """Speak as a web socket, each message with its channel first."""
        key = self.headers["Sec-WebSocket-Key"]
        accept = base64.b64encode(hashlib.sha1((key + GUID).encode()).digest()).decode()
        self.wfile.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Protocol: v4.channel.k8s.io\r\nSec-WebSocket-Accept: " + accept.encode() + b"\r\n\r\n"
        )
        self.close_connection = True
        link: socket.socket = self.connection
        sources = {fd: channel for fd, channel in ((room.stdout, 1), (room.stderr, 2)) if fd >= 0}
        with contextlib.suppress(OSError, ValueError):
            while sources:
                ready = select.select([*sources, link], [], [], 1)[0]
                for fd in [fd for fd in ready if fd in sources]:
                    data = os.read(fd, 16384)
                    if data:
                        _send(link, bytes([sources[fd]]) + data)
                    else:
                        del sources[fd]
                if link in ready:
                    data = _receive(link)
                    if data is None:
                        break
                    if data[:1] == b"\0":
                        _write(room.stdin, data[1:])
        room.shut_stdin()


def _send(link: socket.socket, data: bytes) -> None:
    """One message."""
    size = bytes([len(data)]) if len(data) < 126 else b"\x7e" + struct.pack(">H", len(data))
    link.sendall(b"\x82" + size + data)


def _exactly(link: socket.socket, count: int) -> bytes:
    """So many bytes."""
    found = b""
    while len(found) < count:
        more = link.recv(count - len(found))
        if not more:
            raise OSError("the client has gone")
        found += more
    return found


def _receive(link: socket.socket) -> bytes | None:
    """One message; None when the client closes."""
    head = _exactly(link, 2)
    length = head[1] & 0x7F
    if length >= 126:
        length = int.from_bytes(_exactly(link, 2 if length == 126 else 8), "big")
    mask = _exactly(link, 4)
    data = _exactly(link, length)
    return None if head[0] & 0xF == 8 else bytes(byte ^ mask[at % 4] for at, byte in enumerate(data))


def _write(fd: int, data: bytes) -> None:
    """Write all of it."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
