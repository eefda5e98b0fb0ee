"""The attack: the writer is killed at the worst moment. What it acknowledged is there, and nothing is half there."""

from __future__ import annotations

import multiprocessing
import random
import signal
import time

import pytest

from keyturn.ledger.check import check_store
from tests.attacks.test_attack_edited_entries import VKEY
from tests.servers.logs import open_log

FORK = multiprocessing.get_context("fork")
"""A writer that starts at once: what is to be killed is the append, not the interpreter's start."""


def fill(where, told):
    """Append small batches for ever, and say after each how many entries are acknowledged."""
    with open_log(where, create=True) as store:
        n = store.head().size
        while True:
            batch = [b"entry %d" % (n + at) for at in range(1 + n % 7)]
            n = store.append(batch, expected=None, keys=["k" + leaf.decode() for leaf in batch]).size
            told.send_bytes(b"%d" % n)


def killed(where, seconds):
    """Let a writer write for a while, kill it, and return the last number that it acknowledged."""
    hears, tells = FORK.Pipe(duplex=False)
    child = FORK.Process(target=fill, args=(where, tells), daemon=True)
    child.start()
    tells.close()
    assert hears.poll(20), "the writer never wrote"
    time.sleep(seconds)
    child.kill()
    child.join(20)
    assert child.exitcode == -signal.SIGKILL
    last = 0
    try:
        while hears.poll(0):
            last = int(hears.recv_bytes())
    except EOFError:  # its end of the pipe went with it
        return last
    return last


@pytest.mark.timeout(900)
@pytest.mark.parametrize("kills", [20, pytest.param(100, marks=pytest.mark.slow)])
def test_kills_at_any_moment_lose_no_acknowledged_entry(address, kills):
    dice, least = random.Random(kills), 0
    for _ in range(kills):
        least = max(least, killed(address, dice.uniform(0.0, 0.15)))
        with open_log(address) as store:
            size = store.head().size
            assert size >= least
            assert list(store.leaves(0, size)) == [b"entry %d" % n for n in range(size)]
            assert store.index_of(f"kentry {size - 1}") == size - 1
            assert check_store(store, VKEY) == ()
    assert least > 100
