"""The HTTP door of a witness (C2SP tlog-witness v1.0.0): bounded in connections, in bytes, and in seconds.

Never decides: what it hands on and hands back is the witness's. Speaks plain HTTP; who faces the internet puts a
proxy with TLS in front.
"""

from __future__ import annotations

import io
import re
import signal
import socket
import socketserver
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import FrameType
from typing import Any

from keyturn.core.errors import KeyturnError, MalformedInput, Unavailable
from keyturn.ledger.witnessing import request
from keyturn.ledger.witnessing.witness import TEXT, Answer, Witness

Tell = Callable[[str], None]

_LENGTH = re.compile(r"[0-9]{1,9}")
_MONITOR = re.compile(r"/([0-9a-f]{64})/checkpoint")
_BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 5\r\nConnection: close\r\n\r\nbusy\n"
DRAIN_BYTES_MAX = 4_000_000


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one client can take: so many connections of everybody together, and so many seconds for each request."""

    connections: int = 64
    request_seconds: float = 10.0


@dataclass(slots=True)
class Tally:
    """How many requests were answered, and how many with a cosignature."""

    requests: int = 0
    cosigned: int = 0


class Door(socketserver.ThreadingMixIn, HTTPServer):
    """Listens, and hands each connection to a thread of its own while there is room."""

    daemon_threads = False
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], witness: Witness, tell: Tell, bounds: Bounds | None = None) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.witness, self.tell, self.bounds = witness, tell, bounds or Bounds()
        self.tally = Tally()
        self._free = threading.BoundedSemaphore(self.bounds.connections)
        self._open: set[socket.socket] = set()
        self._guard = threading.Lock()
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        """Bind, without asking any name server who we are."""
        socketserver.TCPServer.server_bind(self)

    @property
    def url(self) -> str:
        """Where it listens."""
        host, port = self.server_address[0], self.server_address[1]
        return f"http://[{host!s}]:{port}" if ":" in str(host) else f"http://{host!s}:{port}"

    def process_request(self, request: Any, client_address: Any) -> None:
        """Give the connection a thread, or say that there is no room."""
        if not self._free.acquire(blocking=False):
            self.tell(f"{client_address[0]}: busy; {self.bounds.connections} connections are open")
            request.settimeout(1)
            try:
                request.sendall(_BUSY)
            finally:
                self.shutdown_request(request)
            return
        with self._guard:
            self._open.add(request)
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve the connection to its end, and make room again."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._guard:
                self._open.discard(request)
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Tell the operator, and nobody else; a client that went away is no error."""
        import sys
        import traceback

        fault = sys.exc_info()[1]
        if not isinstance(fault, OSError):
            self.tell(f"{client_address[0]}: a defect: {''.join(traceback.format_exception(fault))}")

    def counted(self, answer: Answer) -> None:
        """One more answer."""
        with self._guard:
            self.tally.requests += 1
            self.tally.cosigned += answer.status == 200 and answer.kind == TEXT

    def settle(self) -> None:
        """Take nothing new, let what is being answered be answered, and hang up on whoever only waits."""
        self.socket.close()
        with self._guard:
            for each in self._open:
                try:
                    each.shutdown(socket.SHUT_RD)
                except OSError:
                    continue  # it has gone by itself
        self.server_close()


class _Bounded(io.RawIOBase):
    """A socket read against one moment, however slowly the bytes drip."""

    def __init__(self, line: socket.socket) -> None:
        self.line, self.until = line, 0.0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self.until - time.monotonic()
        if left <= 0:
            raise TimeoutError("the time for a request is over")
        self.line.settimeout(left)
        return self.line.recv_into(buffer)


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "keyturn-witness", ""
    disable_nagle_algorithm = True  # head and body leave in two writes, and the second must not wait for the first
    server: Door

    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        self.bounded = _Bounded(self.connection)
        self.rfile = io.BufferedReader(self.bounded)

    def handle_one_request(self) -> None:
        self.bounded.until = time.monotonic() + self.server.bounds.request_seconds
        super().handle_one_request()

    def do_POST(self) -> None:
        body = self._body() if self.path == request.PATH else _said(404, f"only `{request.PATH}` takes anything")
        if isinstance(body, Answer):
            self.close_connection = True  # what was not read must not be taken for the next request
            self._send(body)
            self._drain()
            return
        answer = self._asked(lambda: self.server.witness.add_checkpoint(body))
        self._send(answer)

    def do_GET(self) -> None:
        if "Content-Length" in self.headers or "Transfer-Encoding" in self.headers:
            self.close_connection = True  # nobody reads that body, so nothing after it can be a request
        match = _MONITOR.fullmatch(self.path)
        if match is None:
            self._send(_said(404, "ask for `/SHA-256 of a log's origin, in hexadecimal/checkpoint`"))
        else:
            self._send(self._asked(lambda: self.server.witness.latest(match[1])))

    def _body(self) -> bytes | Answer:
        """The whole body, or why it is not read."""
        lengths = self.headers.get_all("Content-Length") or []
        if "Transfer-Encoding" in self.headers or len(lengths) != 1:
            return _said(411, "a body with one `Content-Length` is expected")
        if not _LENGTH.fullmatch(lengths[0]):
            return _said(400, "the `Content-Length` is not a number that could be one")
        if int(lengths[0]) > request.REQUEST_BYTES_MAX:
            return _said(413, f"a request has at most {request.REQUEST_BYTES_MAX} bytes")
        body = self.rfile.read(int(lengths[0]))
        return body if len(body) == int(lengths[0]) else _said(400, "the body ended too early")

    def _asked(self, ask: Callable[[], Answer]) -> Answer:
        """The witness's answer; a fault is told to the operator in full, and to the client in one word."""
        try:
            answer = ask()
        except KeyturnError as fault:
            self.server.tell(f"{type(fault).__name__}: {fault.message}; {fault.help}")
            passing = isinstance(fault, Unavailable)
            answer = _said(503 if passing else 500, "nothing was signed; the operator of this witness must look")
        if self.command == "POST":
            self.server.counted(answer)
        return answer

    def _send(self, answer: Answer) -> None:
        said = "" if answer.status == 200 else answer.body[:200].decode("utf-8", "replace").strip()
        self.server.tell(f"{self.client_address[0]} {self.command} {self.path[:100]}: {answer.status} {said}".rstrip())
        self.connection.settimeout(self.server.bounds.request_seconds)
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.kind)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Cache-Control", "no-store")
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(answer.body)

    def _drain(self) -> None:
        """Read on for a moment: to close with bytes unread would take the answer away from the client."""
        self.connection.shutdown(socket.SHUT_WR)
        self.bounded.until = min(self.bounded.until, time.monotonic() + 1)
        read = 0
        while read < DRAIN_BYTES_MAX and (part := self.rfile.read1(65_536)):
            read += len(part)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Say in plain text what kind of wrong the standard library found, and nothing of what was sent."""
        self.close_connection = True
        self.command = getattr(self, "command", None) or "-"
        self.path = getattr(self, "path", "") or ""
        self._send(_said(int(code), HTTPStatus(code).phrase.lower()))

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: every answer is told by `_send`."""


class _Stopped(BaseException):
    """The operator, or the machine, wants it to end; no `except Exception` on the way may take that for an error."""


def serve(door: Door) -> Tally:
    """Answer until SIGTERM or Ctrl-C; returns once every answer that was begun has been given."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise _Stopped

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        door.serve_forever()
    except _Stopped:
        door.tell("ends: no further request is taken")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        door.settle()
    return door.tally


def parse_listen(text: str) -> tuple[str, int]:
    """Read `HOST:PORT` or `[HOST]:PORT`; raises MalformedInput. Port 0 takes any that is free."""
    match = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^\s:\[\]]+):([0-9]{1,5})", text)
    if not match or int(match[2]) > 65_535:
        raise MalformedInput(f"`{text[:100]}` is no address to listen at", help="such as `127.0.0.1:7380`")
    return match[1].strip("[]"), int(match[2])


def _said(status: int, reason: str) -> Answer:
    return Answer(status, f"{reason}\n".encode())
