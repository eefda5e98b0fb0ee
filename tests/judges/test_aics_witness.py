"""A witness and a log's client that others wrote: each works with ours."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from keyturn.ledger import checkpoint, note
from keyturn.ledger.witnessing import client
from keyturn.ledger.witnessing.client import Asked
from tests.witness.cast import GrownLog, served, witness_of
from tests.witness.conftest import place

pytestmark = pytest.mark.judges

__all__ = ["place"]
LOG = GrownLog.of(size=5)
SECONDS = 20


@pytest.fixture(scope="module")
def aics(judges):
    import aics_witness

    return aics_witness


def test_their_client_takes_our_cosignatures_as_the_log_grows(aics, place):
    witness = witness_of(place, LOG, now=lambda: time.time_ns() // 1_000_000, ml_dsa=True)
    with served(witness) as (url, _), aics.WitnessClient(url, witness.cosigners[0].verifier.vkey) as theirs:
        for log in (LOG, LOG.grow(4), LOG.grow(4), LOG.grow(20)):
            line = theirs.submit(log.note, lambda old, new, log=log: list(log.prove(old)))
            merged = note.merge(log.note, line.rstrip("\n").split("\n"))
            opened = checkpoint.open_checkpoint(merged, LOG.key.verifier(), [witness.cosigners[0].verifier])
            assert len(opened.witnessed) == 1
        with pytest.raises(aics.WitnessAhead):
            theirs.submit(LOG.note, lambda old, new: [])
    witness.memory.close()


@pytest.fixture
def their_witness(judges, tmp_path):
    """The address and the key of a witness that is another program, and knows our log."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "aics_witness"]
    alone = {**os.environ, "PYTHONPATH": str(judges)}
    config = ["-c", str(tmp_path / "witness.json")]
    named = ["--name", "aics.example/w1", "--listen", f"127.0.0.1:{port}"]
    made = subprocess.run([*words, "init", *config, *named], check=True, capture_output=True, text=True, env=alone)
    vkey = next(word for word in made.stdout.split() if word.startswith("aics.example/w1+"))
    known = ["--origin", LOG.key.name, "--vkey", LOG.key.verifier().vkey]
    subprocess.run([*words, "add-log", *config, *known], check=True, capture_output=True, env=alone)
    child = subprocess.Popen(
        [*words, "serve", *config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=alone
    )
    try:
        for _ in range(200):
            with socket.socket() as tried:
                if tried.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield Asked((note.parse_vkey(vkey),), f"http://127.0.0.1:{port}")
    finally:
        child.send_signal(signal.SIGTERM)
        child.wait(SECONDS)


def test_our_client_gets_their_cosignatures_and_their_refusals(their_witness):
    def ask(log, size):
        asked = Asked(their_witness.verifiers, their_witness.url, size)
        return client.gather([asked], log.note, prove=log.prove, timeout_seconds=SECONDS)

    for log, thought in ((LOG, 0), (LOG.grow(4), 0), (LOG.grow(4), 9), (LOG.grow(20), 3)):
        assert len(ask(log, thought).signed) == 1
    fork = GrownLog.of(size=25, history="another")
    assert "different root" in ask(fork, 25).missing[0].reason
    assert ask(fork.grow(2), 25).missing[0].reason.startswith("refused with 422")
    assert ask(LOG, 0).missing[0].reason == "has cosigned 25 entries already; this checkpoint has 5"
