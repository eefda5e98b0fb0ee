"""The real commands, each in a process of its own: published, audited, cosigned; then something illegal: refused."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import keyturn
from keyturn import app
from keyturn.app.wiring import KeySigner
from keyturn.ledger import checkpoint, note, tiles_folder
from keyturn.ledger.checkpoint import Checkpoint
from keyturn.ledger.history import History
from keyturn.ledger.places.folder import Folder
from keyturn.ledger.store import Store
from keyturn.ledger.witnessing import request
from keyturn.ledger.witnessing.request import Request
from keyturn.wire import leaf
from tests.journeys.test_founding import founded

pytestmark = pytest.mark.timeout(300)  # each command is a process, and the machine may be busy
SRC = Path(keyturn.__file__).parent.parent
COMMAND = [sys.executable, "-m", "keyturn"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(SRC), "PYTHONUNBUFFERED": "1"}


def say(*words, code=0, cwd=None):
    """What a command prints; it must end as expected."""
    command = [*COMMAND, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=ENVIRONMENT, cwd=cwd, timeout=150)
    assert done.returncode == code, (words, done.returncode, done.stdout, done.stderr)
    return done.stdout + done.stderr


@contextmanager
def served(folder, *more):
    """`keyturn auditor serve` in a process of its own; the address at which it listens."""
    command = [*COMMAND, "auditor", "serve", str(folder), "--listen", "127.0.0.1:0", *more]
    child = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=ENVIRONMENT, cwd=folder.parent
    )
    try:
        for _ in range(20):
            line = child.stdout.readline()
            if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                break
        else:
            raise AssertionError("it does not listen")
        yield found[0]
    finally:
        child.send_signal(signal.SIGTERM)
        try:
            child.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            child.kill()
            child.communicate()
    assert child.returncode == 0


def post(url, old, hashes, signed):
    """Ask for a cosignature: status and body."""
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=30)
    try:
        connection.request("POST", request.PATH, request.encode(Request(old, tuple(hashes), signed)))
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


class Operator:
    """Whoever runs the project: honest by its commands, and able to write anything with its keys."""

    def __init__(self, root, home, pub):
        self.root, self.home, self.pub = root, home, pub
        self.key = note.parse_vkey(json.loads((home / "trust.json").read_text())["founded"]["log_key"])

    def publish(self):
        say("log", "tiles", self.pub, "--project", self.root)
        return (self.pub / "checkpoint").read_bytes()

    def forge(self):
        """A status that says that a halt stands, where none does."""
        service = KeySigner.open(self.home / "service.key" / "service.json", "service")
        log_key = KeySigner.open(self.home / "log.key" / "log.json", self.key.name)
        with Store.open(self.home / "log.db") as store:
            history = History()
            events = [history.read(each) for each in store.leaves(0, store.head().size)]
            status = replace(events[-1], counter=events[-1].counter + 1, halted=True)
            data = leaf.encode(status, public=service.public, sign=service.sign)
            head = store.append([data], expected=store.head())
            signed = checkpoint.sign(Checkpoint(self.key.name, head.size, head.root), log_key)
            store.save_checkpoint(head.size, head.root, signed)
            tiles_folder.publish(store, self.key, Folder(self.pub))
        return signed

    def proof(self, old, new):
        with Store.open(self.home / "log.db") as store:
            return store.prove_consistency(old, new)


@pytest.fixture
def operator(tmp_path):
    root, keys = tmp_path / "project", tmp_path / "keys"
    app.new_key("ada", kind="simulated", keys=keys, passphrase_file=None)
    return Operator(root, founded(root, keys).home, tmp_path / "pub")


def size_of(signed):
    return checkpoint.parse_body(signed).size


def test_an_honest_head_is_cosigned_and_an_illegal_one_never_again_until_a_person_pardons(operator, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "trust.json").write_bytes((operator.home / "trust.json").read_bytes())
    auditor = elsewhere / "a1"
    first = operator.publish()
    made = say("auditor", "init", auditor, "--name", "auditor.example/a1", "--trust", elsewhere / "trust.json",
               "--tiles", operator.pub, cwd=elsewhere)  # fmt: skip  # as people type it
    assert "AUDITOR  auditor.example/a1 of connect4" in made
    assert "WAITS" in say("auditor", "show", auditor, cwd=elsewhere)
    assert "nothing was cosigned" in say("auditor", "check", auditor, cwd=elsewhere)
    vkey = json.loads(say("auditor", "show", auditor, "--json", cwd=elsewhere))["vkeys"][0]
    witness = note.parse_vkey(vkey)
    assert vkey in made

    with served(auditor) as url:
        status, line = post(url, 0, (), first)
        assert status == 200, line
        seen = checkpoint.open_checkpoint(first + line.encode(), operator.key, [witness])
        assert [each.verifier for each in seen.witnessed] == [witness]
        illegal = operator.forge()
        proof = operator.proof(size_of(first), size_of(illegal))
        status, said = post(url, size_of(first), proof, illegal)
        assert (status, said.split(":")[0]) == (422, "illegal")
        assert f"entry {size_of(illegal) - 1}: status_published_must_be_lawful: it says halted: True" in said
        operator.publish()

    with served(auditor) as url:  # a restart, and an honest entry after it
        later = operator.publish()
        again = post(url, size_of(first), operator.proof(size_of(first), size_of(later)), later)
        assert again == (422, said)

    shown = say("auditor", "show", auditor, code=3, cwd=elsewhere)
    assert "REFUSES  auditor.example/a1" in shown
    assert "✖ entry 3: it says halted: True; a halt stands: False" in shown
    assert "REFUSES" in say("auditor", "check", auditor, code=3, cwd=elsewhere)
    assert "is an auditor's" in say("witness", "serve", auditor, "--listen", "127.0.0.1:0", code=2, cwd=elsewhere)

    say("auditor", "pardon", auditor, "2", "--reason", "no", code=2, cwd=elsewhere)
    pardoned = say("auditor", "pardon", auditor, "3", "--reason", "a drill, agreed with ada", cwd=elsewhere)
    assert "from now on this auditor cosigns this log again, this entry included" in pardoned
    with served(auditor) as url:
        status, line = post(url, size_of(first), operator.proof(size_of(first), size_of(later)), later)
        assert status == 200, line
    assert "a drill, agreed with ada" in say("auditor", "show", auditor, cwd=elsewhere)


def test_an_entry_after_which_nothing_can_be_decided_is_beyond_pardon(operator, tmp_path):
    operator.publish()
    auditor = tmp_path / "a1"
    say("auditor", "init", auditor, "--name", "auditor.example/a1", "--trust", operator.home / "trust.json",
        "--tiles", operator.pub)  # fmt: skip  # as people type it
    with Store.open(operator.home / "log.db") as store:
        log_key = KeySigner.open(operator.home / "log.key" / "log.json", operator.key.name)
        head = store.append([b"trust me"], expected=store.head())
        signed = checkpoint.sign(Checkpoint(operator.key.name, head.size, head.root), log_key)
        store.save_checkpoint(head.size, head.root, signed)
        tiles_folder.publish(store, operator.key, Folder(operator.pub))
    found = json.loads(say("auditor", "check", auditor, "--json", code=3).splitlines()[-1])
    assert [mark["entry"] for mark in found["marks"]] == [3, 3]
    assert "nothing can be cosigned" in say("auditor", "pardon", auditor, "3", "--reason", "please", code=3)


def test_what_is_not_published_or_not_signed_has_its_own_exit_code(operator, tmp_path):
    auditor = tmp_path / "a1"
    named = ("auditor", "init", auditor, "--name", "auditor.example/a1", "--tiles", operator.pub)
    say(*named, "--trust", tmp_path / "none.json", code=2)
    say(*named, "--trust", operator.home / "trust.json")
    say(*named, "--trust", operator.home / "trust.json", code=5)
    assert "there is no" in say("auditor", "check", auditor, code=4)
    signed = operator.publish()
    other = signed.replace(b"\n3\n", b"\n2\n")
    (operator.pub / "checkpoint").write_bytes(other)
    say("auditor", "check", auditor, code=3)
    (operator.pub / "checkpoint").write_bytes(signed)
    say("auditor", "check", auditor)
    assert "there is no auditor" in say("auditor", "show", tmp_path / "b1", code=2)
