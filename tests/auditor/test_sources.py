"""Where static files come from: a folder or one server, bounded, and never sent on to another."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import threading
import time
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from keyturn.app.auditor import sources
from keyturn.app.auditor.sources import Folder, Web, tiles_at
from keyturn.core.errors import MalformedInput, Unavailable
from keyturn.ledger.auditing import fetch
from keyturn.ledger.auditing.fetch import Absent
from tests.auditor.scene import Shelf

LEAVES = tuple(b"entry %d" % n for n in range(300))


class Server(ThreadingHTTPServer):
    """Static files, and paths that misbehave in every way that a server can."""

    files: dict[str, bytes]
    daemon_threads = True

    def __init__(self, files):
        super().__init__(("127.0.0.1", 0), _Answers)
        self.files, self.asked = files, []
        self.done = threading.Event()
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Answers(BaseHTTPRequestHandler):
    def do_GET(self):
        name = self.path.removeprefix("/log/")
        self.server.asked.append(self.path)
        if self.path.startswith("/sent-on/"):
            self._head(302, Location=f"{self.server.url}/log/{name}")
        elif self.path.startswith("/status/"):
            self._head(int(self.path.split("/")[2]))
        elif self.path.startswith("/short/"):
            self._head(200, **{"Content-Length": "100"})
            self.wfile.write(b"x" * 50)
        elif self.path.startswith("/endless/"):
            self._head(200)
            while not self.server.done.is_set():
                self.wfile.write(b"x" * 65_536)
        elif self.path.startswith("/dripping/"):
            self._head(200, **{"Content-Length": "1000"})
            while not self.server.done.is_set():
                self.wfile.write(b"x")
                time.sleep(0.05)
        elif self.path.startswith("/dripping-head/"):
            while not self.server.done.is_set():
                self.wfile.write(b"X: y\r\n" if self.server.asked.count(self.path) > 1 else b"HTTP/1.1 ")
                time.sleep(0.05)
        elif name in self.server.files:
            self._head(200)
            self.wfile.write(self.server.files[name])
        else:
            self._head(404)

    def _head(self, status, **headers):
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()

    def log_message(self, *args):
        """Nothing."""


@pytest.fixture
def server():
    made = Server(Shelf(LEAVES).files)
    yield made
    made.done.set()
    made.shutdown()
    made.server_close()


def test_a_log_is_fetched_from_a_server_under_a_prefix(server):
    for prefix in (f"{server.url}/log", f"{server.url}/log/"):
        assert tuple(fetch.entries(tiles_at(prefix), 10, 300)) == LEAVES[10:]
    assert server.asked[:2] == ["/log/tile/entries/000", "/log/tile/entries/001.p/44"]


def test_a_full_file_takes_the_place_of_a_partial_one_on_a_server_too(server):
    assert tuple(fetch.entries(tiles_at(f"{server.url}/log"), 0, 100)) == LEAVES[:100]
    assert server.asked == ["/log/tile/entries/000.p/100", "/log/tile/entries/000"]


def test_nobody_is_sent_on_to_another_address(server):
    with pytest.raises(Unavailable, match="sends on to another address") as caught:
        tiles_at(f"{server.url}/sent-on").read("checkpoint", 100)
    assert not isinstance(caught.value, Absent)
    assert server.asked == ["/sent-on/checkpoint"]


@pytest.mark.parametrize(("status", "absent"), [(404, True), (410, True), (403, True), (500, False), (206, False)])
def test_a_file_that_is_not_there_is_told_apart_from_a_server_that_fails(server, status, absent):
    with pytest.raises(Unavailable) as caught:
        tiles_at(f"{server.url}/status/{status}").read("checkpoint", 100)
    assert isinstance(caught.value, Absent) is absent
    assert str(status) in caught.value.message


def test_no_more_is_read_than_a_file_may_have(server):
    with pytest.raises(Unavailable, match="longer than 1000 bytes"):
        tiles_at(f"{server.url}/endless").read("checkpoint", 1000)


def test_an_answer_that_ends_too_early_is_no_file(server):
    with pytest.raises(Unavailable, match="cannot be fetched"):
        tiles_at(f"{server.url}/short").read("checkpoint", 1000)


@pytest.mark.parametrize("how", ["dripping", "dripping-head"])
def test_however_slowly_it_drips_an_answer_has_its_time(server, how, monkeypatch):
    monkeypatch.setattr(sources, "ANSWER_SECONDS", 0.4)
    with pytest.raises(Unavailable, match="no whole answer within"):
        tiles_at(f"{server.url}/{how}").read("checkpoint", 10_000)


def test_a_handshake_that_drips_has_no_more_time_than_an_answer(monkeypatch):
    monkeypatch.setattr(sources, "ANSWER_SECONDS", 0.4)
    done = threading.Event()

    def drip(door):
        line, _ = door.accept()
        with line, contextlib.suppress(OSError):
            line.sendall(b"\x16\x03\x03\x40\x00")  # a TLS record of 16 KiB begins
            while not done.wait(0.05):
                line.sendall(b"\x02")

    with socket.create_server(("127.0.0.1", 0)) as door:
        thread = threading.Thread(target=drip, args=(door,), daemon=True)
        thread.start()
        with pytest.raises(Unavailable, match="no whole answer within"):
            tiles_at(f"https://127.0.0.1:{door.getsockname()[1]}/log").read("checkpoint", 100)
        done.set()
        thread.join()


def test_a_log_is_fetched_by_tls_from_a_server_with_a_good_certificate_only(tmp_path, monkeypatch):
    shelf = Server(Shelf(LEAVES).files)
    chain = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    shelf.socket = context.wrap_socket(shelf.socket, server_side=True)
    shelf.handle_error = lambda *_: None
    place = f"https://localhost:{shelf.server_address[1]}/log"
    try:
        with pytest.raises(Unavailable, match="CERTIFICATE_VERIFY_FAILED"):
            tiles_at(place).read("tile/entries/000", 65_536)
        monkeypatch.setenv("SSL_CERT_FILE", str(chain))
        assert tuple(fetch.entries(tiles_at(place), 0, 300)) == LEAVES
        with pytest.raises(Unavailable, match="CERTIFICATE_VERIFY_FAILED"):
            tiles_at(place.replace("localhost", "127.0.0.1")).read("tile/entries/000", 65_536)
    finally:
        shelf.done.set()
        shelf.shutdown()
        shelf.server_close()


def certificate(folder):
    """A key and a certificate that it signed itself, for `localhost`, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "localhost.pem").write_bytes(private + made.public_bytes(pem))
    return folder / "localhost.pem"


def test_a_server_that_is_not_there_is_unavailable():
    with pytest.raises(Unavailable, match="cannot be fetched"):
        tiles_at("http://127.0.0.1:1/log").read("checkpoint", 100)


@pytest.mark.parametrize(
    "place",
    ["ftp://log.example/", "file:///etc", "http://", "https://ada:secret@log.example/", "https://log.example/?a=b",
     "https://log.example/#x", "http://log.example:x/"],
)  # fmt: skip  # one case a word
def test_what_is_no_prefix_is_refused_before_anything_is_asked(place):
    with pytest.raises(MalformedInput, match="no URL prefix of static files"):
        tiles_at(place)


def test_a_prefix_and_a_folder_are_told_apart(tmp_path):
    assert tiles_at("https://log.example:8443/a/b/") == Web("https", "log.example", 8443, "/a/b")
    assert tiles_at(str(tmp_path)) == Folder(tmp_path)


def test_a_folder_gives_plain_files_only_and_waits_for_none(tmp_path):
    (tmp_path / "checkpoint").write_bytes(b"12345")
    folder = Folder(tmp_path)
    assert folder.read("checkpoint", 5) == b"12345"
    with pytest.raises(Unavailable, match="longer than 4 bytes"):
        folder.read("checkpoint", 4)
    with pytest.raises(Absent):
        folder.read("tile/entries/000", 4)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "checkpoint")
    for name in ("pipe", "link", "."):
        with pytest.raises(Unavailable) as caught:
            folder.read(name, 100)
        assert not isinstance(caught.value, Absent)
