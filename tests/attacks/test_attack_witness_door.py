"""The attack: whoever reaches a witness's port sends what no log would send, to stop it, fill it, or make it talk."""

from __future__ import annotations

import base64
import contextlib
import http.client
import random
import socket
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from keyturn.app.witnessing.door import Bounds
from keyturn.ledger import note
from tests.ledger.signers import Key
from tests.witness.cast import GrownLog, served, witness_of

LOG = GrownLog.of(size=5)
HASH = base64.b64encode(b"h" * 32) + b"\n"


@pytest.fixture
def witness(tmp_path):
    made = witness_of(tmp_path / "witness.db", LOG)
    yield made
    made.memory.close()


def post(url, body, headers=None):
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=20)
    try:
        connection.request("POST", "/add-checkpoint", body, headers or {})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def assert_serves(url, witness):
    assert post(url, LOG.asks(0))[0] in {200, 409}
    assert witness.memory.seen("log.example").head == LOG.head


def test_bodies_beyond_any_request_are_not_read(witness):
    with served(witness) as (url, told):
        for size in (66_857, 1 << 20, 3 << 20):
            assert post(url, b"x" * size)[0] == 413
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it hangs up on whoever goes on sending
            assert post(url, b"old 1\n" + HASH * 1_000_000 + b"\n" + LOG.note)[0] == 413
        assert_serves(url, witness)
    assert all("defect" not in each for each in told)


def test_as_many_hashes_as_fit_are_counted_and_refused(witness):
    with served(witness) as (url, _):
        assert post(url, b"old 1\n" + HASH * 1400 + b"\n" + LOG.note)[0] == 400
        assert post(url, b"old 1\n" + b"\n" * 60_000)[0] in {400, 409}
        assert_serves(url, witness)


def test_chunks_without_an_end_are_not_read(witness):
    with served(witness) as (url, _):
        endless = (b"x" * 1000 for _ in range(100))
        assert post(url, endless)[0] == 411
        assert_serves(url, witness)


def test_random_bytes_and_bent_requests_get_a_sentence(witness):
    dice = random.Random(7)
    whole = LOG.asks(0)
    with served(witness) as (url, told):
        for n in range(200):
            if n % 2:
                body = dice.randbytes(dice.randrange(300))
            else:
                bent = bytearray(whole)
                for _ in range(dice.randrange(1, 4)):
                    bent[dice.randrange(len(bent))] = dice.randrange(256)
                body = bytes(bent)
            status, said = post(url, body)
            assert status in {400, 403, 404, 409, 422} or body == whole
            assert len(said) < 2000
            assert b"Traceback" not in said
        assert_serves(url, witness)
    assert all("defect" not in each for each in told)


@pytest.mark.parametrize(
    "begun",
    [b"", b"POST /add-checkpoint HTTP/1.1\r\nX: ", b"POST /add-checkpoint HTTP/1.1\r\nContent-Length: 66000\r\n\r\n"],
)
def test_a_client_that_drips_is_cut_off_after_its_time(witness, begun):
    with served(witness, Bounds(connections=4, request_seconds=0.5)) as (url, _):
        parts = urlsplit(url)
        stop = threading.Event()

        def drip(line):
            with contextlib.suppress(OSError):
                line.sendall(begun)
                while not stop.wait(0.05):
                    line.sendall(b"x")

        lines = [socket.create_connection((parts.hostname, parts.port), timeout=10) for _ in range(4)]
        threads = [threading.Thread(target=drip, args=(each,)) for each in lines]
        for each in threads:
            each.start()
        until = time.monotonic() + 40
        while time.monotonic() < until:
            with contextlib.suppress(OSError, http.client.HTTPException):
                if post(url, LOG.asks(0))[0] in {200, 409}:
                    break
            time.sleep(0.05)
        else:
            pytest.fail("those who drip kept everybody else out")
        stop.set()
        for each in threads:
            each.join()
        for each in lines:
            each.close()


def test_it_ends_while_clients_hold_on(witness):
    with served(witness, Bounds(request_seconds=300)) as (url, _):
        parts = urlsplit(url)
        lines = [socket.create_connection((parts.hostname, parts.port), timeout=10) for _ in range(8)]
        for each in lines:
            each.sendall(b"POST /add-checkpoint HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc")
    for each in lines:  # it has ended, although none of them let go
        each.close()


def test_what_a_log_says_cannot_act_on_the_operators_terminal(witness, capsys):
    from keyturn.cli import context

    loud = note.sign(LOG.head.body(), Key("\u202e\u2066loud"))
    with served(witness) as (url, told):
        assert post(url, LOG.asks(0, signed=loud))[0] == 403
        parts = urlsplit(url)
        with socket.create_connection((parts.hostname, parts.port), timeout=10) as line:
            line.sendall(b"POST /\x1b[2J HTTP/1.1\r\nContent-Length: 0\r\n\r\n")
            line.recv(100)
    tell = context.teller(type("Args", (), {"json": False}))
    for each in told:
        tell(each)
    out = capsys.readouterr().out
    assert "loud" in out
    assert out.replace("\n", "").isprintable()


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


def test_open_files_do_not_leak(witness):
    with served(witness) as (url, _):
        post(url, LOG.asks(0))
        before = open_files()
        for _ in range(50):
            post(url, b"x")
        for _ in range(200):
            if open_files() <= before + 3:
                break
            time.sleep(0.05)
        assert open_files() <= before + 3
