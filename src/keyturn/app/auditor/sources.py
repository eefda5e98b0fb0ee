"""Where an auditor fetches a log's static files: a folder, or a web server under one prefix.

It hands out bytes, bounded in length and time, and vouches for none of them. It never follows a redirect or a link.
"""

from __future__ import annotations

import http.client
import os
import socket
import ssl
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from keyturn import __version__
from keyturn.core.errors import MalformedInput, Unavailable
from keyturn.ledger.auditing.fetch import Absent, Tiles

ANSWER_SECONDS = 30.0
"""How long a server may take for one file, from the first attempt to connect to the last byte that it sends."""

_GONE = {403, 404, 410}
"""What servers say of a file that is not there; a bucket that hides its list says 403."""

_LATER = "see that the operator published the log there (`keyturn log tiles DIR`), then ask again"


def tiles_at(place: str) -> Tiles:
    """The static files at a URL prefix (`https://log.example/connect4/`) or in a folder; raises `MalformedInput`."""
    if "://" not in place:
        return Folder(Path(place))
    url = urlsplit(place)
    try:
        port = url.port
    except ValueError:
        port = -1
    plain = url.scheme in {"http", "https"} and url.hostname and not (url.query or url.fragment or url.username)
    if not plain or port == -1:
        message = f"`{place[:200]}` is no URL prefix of static files"
        raise MalformedInput(message, help="`https://HOST/PATH/`, without user, query or fragment; or a folder")
    return Web(url.scheme, url.hostname or "", port, url.path.rstrip("/"))


@dataclass(frozen=True, slots=True)
class Folder:
    """Static files in a folder of this machine, as `keyturn log tiles` writes them."""

    folder: Path

    def read(self, name: str, bytes_max: int) -> bytes:
        """See the port."""
        place = self.folder / name
        try:
            handle = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(handle, "rb") as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise Unavailable(f"`{place}` is no plain file", help=_LATER)
                data = file.read(bytes_max + 1)
        except FileNotFoundError:
            raise Absent(f"there is no `{place}`", help=_LATER) from None
        except OSError as fault:
            message = f"`{place}` cannot be read: {(fault.strerror or str(fault)).lower()}"
            raise Unavailable(message, help=_LATER) from fault
        return _bounded(data, str(place), bytes_max)


@dataclass(frozen=True, slots=True)
class Web:
    """Static files of one web server; one connection a file, and nothing is asked of any other server."""

    scheme: str
    host: str
    port: int | None
    path: str

    def read(self, name: str, bytes_max: int) -> bytes:
        """See the port."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=ANSWER_SECONDS)
        url = f"{self.scheme}://{self.host}{'' if self.port is None else f':{self.port}'}{self.path}/{name}"
        begun = time.monotonic()
        try:
            connection.sock = self._line(begun + ANSWER_SECONDS)
            with _cut_off(connection.sock, begun + ANSWER_SECONDS):
                if isinstance(connection.sock, ssl.SSLSocket):
                    connection.sock.do_handshake()  # under the cut-off too: a server may send it byte by byte
                connection.request("GET", f"{self.path}/{name}", headers={"User-Agent": f"keyturn/{__version__}"})
                with connection.getresponse() as answer:
                    _require_found(answer, url)
                    data = answer.read(bytes_max + 1)
                    left = answer.length
            if len(data) <= bytes_max and (left or time.monotonic() - begun >= ANSWER_SECONDS):
                raise http.client.IncompleteRead(data, left)
        except (OSError, http.client.HTTPException) as fault:
            late = time.monotonic() - begun >= ANSWER_SECONDS
            why = f"no whole answer within {ANSWER_SECONDS:.0f} seconds" if late else str(fault) or type(fault).__name__
            raise Unavailable(f"`{url}` cannot be fetched: {why}", help=_LATER) from fault
        finally:
            connection.close()
        return _bounded(data, url, bytes_max)

    def _line(self, until: float) -> socket.socket:
        """A connection to the first address that takes one, before any handshake; raises OSError."""
        fault: OSError = TimeoutError("no address took a connection in time")
        port = self.port or (443 if self.scheme == "https" else 80)
        for family, kind, protocol, _, address in socket.getaddrinfo(self.host, port, type=socket.SOCK_STREAM):
            left = until - time.monotonic()
            if left <= 0:
                break
            line = socket.socket(family, kind, protocol)
            try:
                line.settimeout(left)
                line.connect(address)
                if self.scheme != "https":
                    return line
                context = ssl.create_default_context()
                return context.wrap_socket(line, server_hostname=self.host, do_handshake_on_connect=False)
            except OSError as found:
                line.close()
                fault = found
        raise fault


def _require_found(answer: http.client.HTTPResponse, url: str) -> None:
    if answer.status in _GONE:
        raise Absent(f"there is no `{url}` (the server says {answer.status})", help=_LATER)
    if 300 <= answer.status < 400:
        message = f"`{url}` sends on to another address, which is not followed"
        raise Unavailable(message, help="name the address that it sends to, if you trust it: `keyturn auditor init`")
    if answer.status != 200:
        raise Unavailable(f"`{url}` cannot be fetched: the server says {answer.status}", help=_LATER)


@contextmanager
def _cut_off(line: socket.socket, until: float) -> Iterator[None]:
    """End the connection when its time is over: a time-out of a socket bounds each silence, not the whole answer."""

    def cut() -> None:
        try:
            socket.socket.shutdown(line, socket.SHUT_RDWR)  # the connection below, whatever TLS is doing
        except OSError:
            pass  # it is closed already

    timer = threading.Timer(max(0.0, until - time.monotonic()), cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _bounded(data: bytes, where: str, bytes_max: int) -> bytes:
    if len(data) > bytes_max:
        raise Unavailable(f"`{where}` is longer than {bytes_max} bytes", help="it is no file of a log")
    return data
