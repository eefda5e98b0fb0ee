"""The HTTP door: what it takes, what it refuses before reading, and how it ends."""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import time
from hashlib import sha256
from urllib.parse import urlsplit

import pytest

from keyturn.app.witnessing import door as doors
from keyturn.app.witnessing.door import Bounds
from keyturn.core.errors import MalformedInput, TamperDetected, Unavailable
from keyturn.ledger.witnessing import request
from tests.witness.cast import GrownLog, served, witness_of

LOG = GrownLog.of(size=5)
HASH = sha256(b"log.example").hexdigest()


def line(url):
    parts = urlsplit(url)
    return http.client.HTTPConnection(parts.hostname, parts.port, timeout=10)


def said(connection, method, path, body=None, headers=None):
    connection.request(method, path, body, headers or {})
    response = connection.getresponse()
    return response.status, response.read(), response


def once(url, *asked):
    """One request over a connection of its own."""
    connection = line(url)
    try:
        return said(connection, *asked)
    finally:
        connection.close()


def raw(url, sent):
    """Everything that comes back for these very bytes."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), timeout=10) as opened:
        opened.sendall(sent)
        opened.shutdown(socket.SHUT_WR)
        back = b""
        while part := opened.recv(65_536):
            back += part
    return back


def test_one_connection_carries_many_requests(witness):
    with served(witness) as (url, told):
        connection = line(url)
        status, body, response = said(connection, "POST", "/add-checkpoint", LOG.asks(0))
        assert (status, body.decode()[:5], response.headers["Content-Type"]) == (200, "— wit", doors.TEXT)
        before = connection.sock
        assert said(connection, "POST", "/add-checkpoint", LOG.asks(0))[:2] == (409, b"5\n")
        status, body, response = said(connection, "GET", f"/{HASH}/checkpoint")
        assert (status, response.headers["Cache-Control"]) == (200, "no-store")
        assert body.startswith(b"log.example\n5\n")
        assert connection.sock is before
        connection.close()
    assert [re.sub(r"^\S+ ", "", each)[:60] for each in told][:2] == [
        "POST /add-checkpoint: 200",
        "POST /add-checkpoint: 409 5",
    ]


def test_a_conflict_says_its_type(witness):
    with served(witness) as (url, _):
        _, _, response = once(url, "POST", "/add-checkpoint", LOG.asks(3))
    assert response.headers["Content-Type"] == request.SIZE_TYPE


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404), ("GET", "/add-checkpoint", 404), ("GET", f"/{HASH[:-1]}/checkpoint", 404),
        ("GET", f"/{HASH.upper()}/checkpoint", 404), ("GET", f"/{HASH}/checkpoint", 404),
        ("GET", "/../witness.db", 404),
        ("POST", "/", 404), ("POST", "/add-checkpoint/", 404), ("POST", "/sign-subtree", 404), ("PUT", "/", 501),
        ("DELETE", "/add-checkpoint", 501), ("HEAD", "/", 501),
    ],
)  # fmt: skip
def test_what_is_not_offered(witness, method, path, status):
    with served(witness) as (url, _):
        connection = line(url)
        found, body, response = said(connection, method, path, b"")
        connection.close()
    assert (found, response.headers["Content-Type"]) == (status, doors.TEXT)
    assert b"<" not in body


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"Transfer-Encoding: chunked", 411),
        (b"Transfer-Encoding: chunked\r\nContent-Length: 3", 411),
        (b"X: y", 411),
        (b"Content-Length: 3\r\nContent-Length: 3", 411),
        (b"Content-Length: -1", 400),
        (b"Content-Length: 1e3", 400),
        (b"Content-Length: \xd9\xa1", 400),
        (b"Content-Length: 9999999999999999", 400),
        (b"Content-Length: 66857", 413),
        (b"Content-Length: 999999999", 413),
        (b"Content-Length: 9", 400),
    ],
)
def test_a_body_whose_end_is_not_known_or_too_far_is_not_read(witness, head, status):
    with served(witness) as (url, told):
        back = raw(url, b"POST /add-checkpoint HTTP/1.1\r\nHost: w\r\n" + head + b"\r\n\r\nabc")
    assert back.startswith(b"HTTP/1.1 %d " % status)
    assert back.count(b"HTTP/1.1") == 1  # what was not read is not taken for another request
    assert all("defect" not in each for each in told)


def test_a_body_that_nobody_reads_is_not_the_next_request(witness):
    with served(witness) as (url, _):
        hidden = b"GET /hidden HTTP/1.1\r\n\r\n"
        back = raw(url, b"GET / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(hidden) + hidden)
    assert back.count(b"HTTP/1.1") == 1


def test_it_listens_at_an_address_of_version_6(witness):
    if not socket.has_ipv6:
        pytest.skip("this machine has no such addresses")
    door = doors.Door(("::1", 0), witness, print)
    assert re.fullmatch(r"http://\[::1\]:[0-9]+", door.url)
    door.settle()


@pytest.mark.parametrize(
    "sent", [b"\0" * 300, b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\x00", b"\n" * 50]
)
def test_what_is_no_request_gets_a_short_answer_or_none(witness, sent):
    with served(witness) as (url, told):
        back = raw(url, sent)
        assert once(url, "POST", "/add-checkpoint", LOG.asks(0))[0] == 200
    assert len(back) < 500
    assert b"Traceback" not in back
    assert all("defect" not in each for each in told)


@pytest.mark.parametrize(("fault", "status"), [(Unavailable, 503), (TamperDetected, 500)])
def test_a_fault_of_the_witness_is_told_to_its_operator_and_not_to_the_client(place, fault, status):
    def judge(head):
        raise fault("the file `/srv/secret/witness.db` is in the way", help="look at it")

    witness = witness_of(place, LOG, judge=judge)
    with served(witness) as (url, told):
        found, body, _ = once(url, "POST", "/add-checkpoint", LOG.asks(0))
    assert (found, body) == (status, b"nothing was signed; the operator of this witness must look\n")
    assert any("/srv/secret" in each for each in told)
    witness.memory.close()


def test_a_defect_is_told_to_the_operator_and_the_line_is_cut(place):
    def judge(head):
        raise ZeroDivisionError("a defect in a judge")

    witness = witness_of(place, LOG, judge=judge)
    with served(witness) as (url, told):
        back = raw(url, b"POST /add-checkpoint HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(LOG.asks(0)) + LOG.asks(0))
        for _ in range(100):
            if any("ZeroDivisionError" in each for each in told):
                break
            time.sleep(0.02)
    assert back == b""
    assert any("a defect in a judge" in each for each in told)
    assert witness.memory.seen("log.example") is None
    witness.memory.close()


def test_no_more_connections_than_there_is_room_for(witness):
    with served(witness, Bounds(connections=2, request_seconds=60)) as (url, _):
        parts = urlsplit(url)
        waiting = [socket.create_connection((parts.hostname, parts.port), timeout=10) for _ in range(2)]
        for each in waiting:
            each.sendall(b"POST /add-")
        with socket.create_connection((parts.hostname, parts.port), timeout=10) as third:
            assert third.recv(100).startswith(b"HTTP/1.1 503 ")
        for each in waiting:
            each.close()
        for _ in range(100):  # room again, once the two have gone
            with contextlib.suppress(OSError):  # it is turned away while it still sends
                if once(url, "POST", "/add-checkpoint", LOG.asks(0))[0] in {200, 409}:
                    break
            time.sleep(0.05)
        else:
            pytest.fail("there was no room again")


@pytest.mark.parametrize("text", ["127.0.0.1:7380", "localhost:0", "[::1]:443"])
def test_where_to_listen_is_read(text):
    host, port = doors.parse_listen(text)
    assert text.replace("[", "").replace("]", "") == f"{host}:{port}"


@pytest.mark.parametrize("text", ["", "7380", ":7380", "h:", "h:99999", "h:-1", "::1:7380", "http://h:1", "h:1\n"])
def test_where_nobody_can_listen_is_refused(text):
    with pytest.raises(MalformedInput):
        doors.parse_listen(text)
