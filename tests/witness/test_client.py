"""Asking witnesses: what verified is taken, all else is a plain reason, and the time is kept."""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import http.server
import socket
import ssl
import threading

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from keyturn.app.witnessing.door import Door
from keyturn.core.errors import MalformedInput, Unavailable
from keyturn.ledger import checkpoint, note
from keyturn.ledger.witnessing import client, request
from keyturn.ledger.witnessing.client import Asked
from tests.ledger.signers import Key
from tests.witness.cast import NOW, GrownLog, PostQuantum, served, witness_of

LOG = GrownLog.of(size=5)
ED = Key("witness.example/w1")


def gather(asked, log=LOG, *, signed=None, seconds=10.0, prove=None):
    return client.gather(asked, signed or log.note, prove=prove or log.prove, timeout_seconds=seconds)


def reasons(gathered):
    return [each.reason for each in gathered.missing]


def ask(witness, url, size=0):
    return Asked(tuple(each.verifier for each in witness.cosigners), url, size)


@contextlib.contextmanager
def answering(status, body, kind="text/plain", headers=(), hold=None):
    """A server that answers every POST in one way, once the event `hold` is set; `asked` are the bodies it was sent."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            asked.append(self.rfile.read(int(self.headers["Content-Length"])))
            if hold is not None:
                hold.wait(40)
            said = body(asked[-1]) if callable(body) else body
            with contextlib.suppress(OSError):
                self.send_response(status)
                for name, value in (("Content-Type", kind), *headers):
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(said)

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_all_are_asked_and_the_note_carries_what_they_signed(tmp_path):
    first = witness_of(tmp_path / "1.db", LOG)
    second = witness_of(tmp_path / "2.db", LOG, name="other.example/w2", ml_dsa=True)
    with served(first) as (one, _), served(second) as (two, _):
        gathered = gather([ask(first, one), ask(second, f"{two}/")])
    keys = [each.verifier for witness in (first, second) for each in witness.cosigners]
    opened = checkpoint.open_checkpoint(gathered.note, LOG.key.verifier(), keys)
    assert [each.verifier for each in opened.witnessed] == keys
    assert gathered.signed == opened.witnessed
    assert gathered.missing == ()
    first.memory.close()
    second.memory.close()


@pytest.mark.parametrize("thought", [0, 2, 4, 7])
def test_a_witness_that_is_elsewhere_is_asked_once_more(place, witness, thought):
    witness.add_checkpoint(LOG.cut(3).asks(0))
    longer = LOG.grow(1)
    with served(witness) as (url, told):
        gathered = gather([ask(witness, url, thought)], longer)
    assert (len(gathered.signed), reasons(gathered), len(told)) == (1, [], 2)
    assert witness.memory.seen("log.example").head == longer.head


def test_the_proof_starts_where_the_witness_was_left(witness):
    witness.add_checkpoint(LOG.cut(3).asks(0))
    with served(witness) as (url, told):
        assert len(gather([ask(witness, url, 3)]).signed) == 1
    assert len(told) == 1


def test_a_fresh_moment_takes_the_place_of_the_older(place, witness):
    with served(witness) as (url, _):
        first = gather([ask(witness, url)])
    later = witness_of(place, now=lambda: NOW + 60_000)
    with served(later) as (url, _):
        again = gather([ask(later, url, 5)], signed=first.note)
    assert (first.signed[0].at, again.signed[0].at) == (NOW, NOW + 60_000)
    assert note.open_note(again.note, [ED.witness]).signed == again.signed
    assert len(again.note) == len(first.note)
    later.memory.close()


def test_one_that_cannot_be_reached_does_not_keep_the_others_back(witness):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{closed.getsockname()[1]}"
        with served(witness) as (url, _):
            gathered = gather([Asked((ED.witness,), nobody), ask(witness, url)])
    assert len(gathered.signed) == 1
    assert gathered.missing[0].asked.url == nobody
    assert gathered.missing[0].reason.startswith("cannot be reached: ")


@pytest.mark.parametrize(
    "url", ["ftp://a.example", "file:///etc/passwd", "http://", "https://u:p@h", "http://h?q", "http://h:port", "", "h"]
)
def test_an_address_that_is_none_is_said_to_be(url):
    (reason,) = reasons(gather([Asked((ED.witness,), url)]))
    assert reason.startswith("cannot be reached: ")


def test_a_refusal_is_handed_on_in_one_plain_line():
    said = b"\x1b[31mnot\n you\x00 \xe2\x80\xae!\r\n\xff" + b"x" * 5000
    with answering(403, said) as (url, _):
        (reason,) = reasons(gather([Asked((ED.witness,), url)]))
    assert reason.startswith("refused with 403: [31mnot you ! \N{REPLACEMENT CHARACTER}xxx")
    assert reason.isprintable()
    assert len(reason) < 300


def test_another_root_for_this_size_is_a_refusal_and_not_asked_twice():
    with answering(409, b"another root was cosigned for the size 5\n") as (url, asked):
        assert reasons(gather([Asked((ED.witness,), url)])) == [
            "refused with 409: another root was cosigned for the size 5"
        ]
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("said", "thought", "reason", "times"),
    [
        (b"6\n", 0, "has cosigned 6 entries already; this checkpoint has 5", 1),
        (b"0\n", 0, "refused with 409 to go on from 0, where it says that it is", 1),
        (b"3\n", 0, "moved on while it was asked; ask again", 2),
        (b"three\n", 0, "refused with 409 and did not say at which size it is", 1),
        (b"9" * 50 + b"\n", 0, "refused with 409 and did not say at which size it is", 1),
    ],
)
def test_a_witness_that_only_says_where_it_is_is_asked_twice_at_most(said, thought, reason, times):
    with answering(409, said, request.SIZE_TYPE) as (url, asked):
        assert reasons(gather([Asked((ED.witness,), url, thought)])) == [reason]
    assert len(asked) == times


def line_of(signer, signed, at=NOW, kind=note.COSIGNATURE):
    return note.cosign(signed, signer, at=at, kind=kind)[len(signed) :]


FOREIGN = line_of(Key("somebody.example"), LOG.note)
OTHERS = line_of(ED, LOG.cut(4).note)
LOGS_OWN = LOG.note.rpartition(b"\n\n")[2]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "answered with what is no cosignature"),
        (b"<html>welcome</html>\n", "answered with what is no cosignature"),
        (b"\xff\xfe\n", "answered with what is no cosignature"),
        (line_of(ED, LOG.note)[:-1], "answered with what is no cosignature"),
        (FOREIGN, "answered without a line by its own keys"),
        (LOGS_OWN, "answered without a line by its own keys"),
        (OTHERS, "answered with a bad signature"),
        (line_of(ED, LOG.note) + LOG.note, "answered with what is no cosignature"),
        (line_of(ED, LOG.note, at=0), "signed as `witness.example/w1` without saying when"),
        (FOREIGN * 101, "answered with what is no cosignature"),
        (FOREIGN + b"x" * 70_000, "answered with more than 64000 bytes"),
    ],
)
def test_what_is_no_cosignature_of_this_witness_over_this_note_is_not_taken(answer, reason):
    with answering(200, answer) as (url, _):
        gathered = gather([Asked((ED.witness,), url)])
    assert gathered.note == LOG.note
    assert gathered.signed == ()
    assert gathered.missing[0].reason.startswith(reason)


def test_lines_of_others_are_dropped_and_the_own_one_is_taken():
    with answering(200, FOREIGN + line_of(ED, LOG.note) + LOGS_OWN + line_of(ED, LOG.note, at=NOW + 9000)) as (url, _):
        gathered = gather([Asked((ED.witness,), url)])
    assert gathered.note == LOG.note + line_of(ED, LOG.note)


def test_one_bad_line_among_good_ones_and_none_is_taken():
    post_quantum = PostQuantum(ED.name)
    bad = bytearray(base64.b64decode(line_of(post_quantum, LOG.note, kind=note.ML_DSA).split(b" ")[2]))
    bad[-1] ^= 1
    forged = f"— {ED.name} {base64.b64encode(bad).decode()}\n".encode()
    with answering(200, line_of(ED, LOG.note) + forged) as (url, _):
        gathered = gather([Asked((ED.witness, post_quantum.verifier), url)])
    assert (gathered.signed, gathered.note) == ((), LOG.note)


def test_one_witness_cannot_answer_with_the_line_of_another():
    with answering(200, line_of(ED, LOG.note)) as (url, _):
        gathered = gather([Asked((Key("other.example/w2").witness,), url)])
    assert gathered.signed == ()


def test_a_redirection_is_not_followed(witness):
    with (
        served(witness) as (real, told),
        answering(307, b"", headers=[("Location", f"{real}/add-checkpoint")]) as (url, _),
    ):
        (reason,) = reasons(gather([ask(witness, url)]))
    assert reason.startswith("refused with 307")
    assert told == []


def test_a_proxy_of_the_environment_is_not_used(witness, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with served(witness) as (url, _):
        assert len(gather([ask(witness, url)]).signed) == 1


def test_one_that_answers_too_late_is_left_behind(witness):
    over = threading.Event()  # so the slow one answers only after whoever asked it has gone on
    with served(witness) as (good, _), answering(200, line_of(ED, LOG.note), hold=over) as (slow, _):
        gathered = gather([Asked((ED.witness,), slow), ask(witness, good)], seconds=2)
        over.set()
    assert [each.asked.url for each in gathered.missing] == [slow]
    assert reasons(gathered) == ["did not answer within 2 s"]
    assert len(gathered.signed) == 1


@pytest.mark.parametrize("drip", [b"H", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n"])
def test_one_that_drips_is_left_behind(drip):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        stop = threading.Event()

        def trickle():
            with contextlib.suppress(OSError):
                line, _ = listening.accept()
                with line:
                    line.sendall(drip)
                    while not stop.wait(0.05):
                        line.sendall(b"x")

        thread = threading.Thread(target=trickle)
        thread.start()
        gathered = gather([Asked((ED.witness,), f"http://127.0.0.1:{listening.getsockname()[1]}")], seconds=0.4)
        stop.set()  # only now: it would have dripped for ever
        thread.join()
    assert len(gathered.missing) == 1


@pytest.fixture
def secured(witness, tmp_path):
    """A door of the witness behind TLS, with a certificate that only `SSL_CERT_FILE` could make known."""
    key = ec.generate_private_key(ec.SECP256R1())
    named = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    begin = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)
    made = (
        x509.CertificateBuilder().subject_name(named).issuer_name(named).public_key(key.public_key())
        .serial_number(1).not_valid_before(begin).not_valid_after(begin + dt.timedelta(days=3))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    pem, encoding = tmp_path / "cert.pem", serialization.Encoding.PEM
    private = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    pem.write_bytes(private + made.public_bytes(encoding))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    told = []
    door = Door(("127.0.0.1", 0), witness, told.append)
    port = door.server_address[1]
    door.socket = context.wrap_socket(door.socket, server_side=True)
    thread = threading.Thread(target=door.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"https://localhost:{port}", pem
    door.shutdown()
    thread.join()
    door.settle()


def test_a_certificate_that_nobody_vouches_for_is_not_believed(witness, secured, monkeypatch):
    url, pem = secured
    gathered = gather([ask(witness, url)])
    assert gathered.signed == ()
    assert "certificate verify failed" in gathered.missing[0].reason
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    assert len(gather([ask(witness, url)]).signed) == 1
    (reason,) = reasons(gather([ask(witness, url.replace("localhost", "127.0.0.1"))]))
    assert "certificate verify failed" in reason


def test_a_key_that_cannot_cosign_is_no_witness():
    with pytest.raises(MalformedInput, match="which cannot cosign"):
        gather([Asked((LOG.key.verifier(),), "http://127.0.0.1:9")])


def test_what_our_own_log_cannot_do_is_our_fault(witness):
    def broken(old):
        raise Unavailable("the disk failed")

    with served(witness) as (url, _), pytest.raises(Unavailable, match="the disk failed"):
        gather([ask(witness, url, 3)], prove=broken)


def test_nobody_asked_is_nobody_missing():
    assert gather([]) == client.Gathered(LOG.note, (), ())
