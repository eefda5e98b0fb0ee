"""A fake docker daemon on a Unix socket, asked by docker's real client; its containers are those of `room.py`."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import socket
import socketserver
import struct
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.engines.room import DIGEST, IMAGE, Room

Told = dict[str, Any]


class DockerServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """The daemon. `change` may alter every inspection; `refuse` answers a path with 500; `runtimes` is what it has."""

    daemon_threads = True

    def __init__(self, place: Path) -> None:
        self.address = str(place / "d.sock")
        self.rooms: dict[str, Room] = {}
        self.runtimes = ["runc"]
        self.change: Callable[[Told], None] = lambda told: None
        self.names = [IMAGE]
        self.refuse = re.compile("$^")
        self.says_gone = False
        self.asked: list[str] = []
        super().__init__(self.address, Handler)
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
    server: DockerServer

    def address_string(self) -> str:
        return "local"

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""

    def answer(self, told: object, status: int = 200) -> None:
        """An answer in JSON, or none."""
        data = json.dumps(told).encode() if told is not None else b""
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(data)

    def handle_one_request(self) -> None:
        with contextlib.suppress(OSError):
            super().handle_one_request()

    def serve(self) -> None:
        """Find out what is asked."""
        parts = urlsplit(self.path)
        path = re.sub(r"^/v[0-9.]+", "", parts.path)
        query = {name: value[0] for name, value in parse_qs(parts.query).items()}
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else {}
        self.server.asked.append(f"{self.command} {path}")
        if self.server.refuse.search(f"{self.command} {path}"):
            return self.answer({"message": "the engine is in trouble"}, 500)
        words = path.strip("/").split("/")
        if words[0] == "images":
            return self.answer({"Id": "sha256:" + "cd" * 32, "RepoDigests": self.server.names})
        if words[0] != "containers":
            return self.answer(self.about(path))
        if words[1] == "create":
            return self.create(body, query)
        if words[1] == "json":
            return self.list(query)
        return self.on(words, query)

    do_GET = do_POST = do_DELETE = serve  # noqa: N815 - the names of the library

    def about(self, path: str) -> Told:
        """What the daemon says of itself."""
        if path == "/info":
            return {"Runtimes": {name: {} for name in self.server.runtimes}, "DefaultRuntime": "runc"}
        return {"Version": "fake", "ApiVersion": "1.43", "MinAPIVersion": "1.24"}

    def create(self, body: Told, query: dict[str, str]) -> None:
        """Make a container."""
        host = body["HostConfig"]
        sizes = {}
        for target, options in (host.get("Tmpfs") or {}).items():
            sizes[target] = next(int(word[5:]) for word in options.split(",") if word.startswith("size="))
        sizes["/dev/shm"] = host["ShmSize"]
        number = os.urandom(32).hex()
        user = int(body["User"].split(":")[0])
        room = Room(body["Entrypoint"], user, sizes, {"config": body, "name": query.get("name", "")})
        self.server.rooms[number] = room
        self.answer({"Id": number, "Warnings": []}, 201)

    def list(self, query: dict[str, str]) -> None:
        """List containers by label or number."""
        wanted = json.loads(query.get("filters", "{}"))
        found = []
        for number, room in self.server.rooms.items():
            config: Told = room.details["config"]
            labels = [f"{name}={value}" for name, value in config["Labels"].items()]
            if set(wanted.get("label", [])) <= set(labels) and number in wanted.get("id", [number]):
                found.append({"Id": number, "Labels": config["Labels"], "State": self.state(room)["Status"]})
        self.answer(found)

    def state(self, room: Room) -> Told:
        """The state of a container, or what is said in its stead."""
        if self.server.says_gone or (room.process is not None and not room.running):
            return {"Status": "exited", "Running": False, "Pid": 0, "OOMKilled": False}
        if room.process is None:
            return {"Status": "created", "Running": False, "Pid": 0}
        return {"Status": "paused" if room.paused else "running", "Running": True, "Pid": room.pid}

    def on(self, words: list[str], query: dict[str, str]) -> None:
        """What is asked of one container."""
        room = self.server.rooms.get(words[1])
        if room is None:
            return self.answer({"message": f"No such container: {words[1]}"}, 404)
        verb = words[2] if len(words) > 2 else "remove"
        if verb == "json":
            told = self.inspection(words[1], room)
            self.server.change(told)
            return self.answer(told)
        if verb == "attach":
            return self.attach(room)
        if verb == "start":
            room.start()
        elif verb == "kill":
            if not room.running:
                return self.answer({"message": "container is not running"}, 409)
            if not self.server.says_gone:
                room.kill()
        elif verb == "top":
            if not room.running or self.server.says_gone:
                return self.answer({"message": f"container {words[1]} is not running"}, 409)
            return self.answer({"Processes": [["1"]]})
        elif verb in {"pause", "unpause"}:
            room.paused = verb == "pause"
            import signal

            os.kill(room.pid, signal.SIGSTOP if room.paused else signal.SIGCONT)
        elif verb == "remove":
            room.close()
            del self.server.rooms[words[1]]
        return self.answer(None, 204)

    def inspection(self, number: str, room: Room) -> Told:
        """An inspection, with the defaults that docker fills in."""
        config: Told = json.loads(json.dumps(room.details["config"]))
        host = config.pop("HostConfig")
        host["Runtime"] = host.get("Runtime") or "runc"
        host |= {"MaskedPaths": ["/proc/kcore"], "ReadonlyPaths": ["/proc/sys"], "Privileged": False}
        return {
            "Id": number, "Image": "sha256:" + "cd" * 32, "State": self.state(room), "RestartCount": 0,
            "HostConfig": host, "Config": config, "Mounts": [], "AppArmorProfile": "docker-default",
        }  # fmt: skip  # one answer

    def attach(self, room: Room) -> None:
        """Hand the connection over to the container, as soon as that has started."""
        self.wfile.write(b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
        self.close_connection = True
        link: socket.socket = self.connection
        while room.process is None:
            if select.select([link], [], [], 0.005)[0]:
                break
        sources = {fd: kind for fd, kind in ((room.stdout, 1), (room.stderr, 2)) if fd >= 0}
        with contextlib.suppress(OSError, ValueError):
            while sources:
                ready = select.select([*sources, link], [], [], 1)[0]
                for fd in [fd for fd in ready if fd in sources]:
                    data = os.read(fd, 65536)
                    if data:
                        link.sendall(struct.pack(">BxxxI", sources[fd], len(data)) + data)
                    else:
                        del sources[fd]
                if link in ready:
                    data = link.recv(65536)
                    if not data:
                        break
                    _write(room.stdin, data)
        room.shut_stdin()


def _write(fd: int, data: bytes) -> None:
    """Write all of it."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


__all__ = ["DIGEST", "IMAGE", "DockerServer"]
