"""A witness that forgets is worse than none: what it remembers, through restarts, writers and kills."""

from __future__ import annotations

import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time

import pytest

from keyturn.core.errors import Conflict, InvariantBroken, TamperDetected, Unavailable
from keyturn.ledger import checkpoint, note
from keyturn.ledger.witnessing.memory import Memory, Seen
from tests.ledger.signers import Key
from tests.witness.cast import NOW, GrownLog, witness_of

LOG = GrownLog.of(size=5)


def test_a_restart_keeps_everything(place, witness):
    witness.add_checkpoint(LOG.asks(0))
    witness.memory.close()
    again = Memory.open(place)
    (log,) = again.logs()
    assert (again.name, log.origin, log.keys) == ("witness.example/w1", "log.example", (LOG.key.verifier(),))
    assert (log.seen.head, log.seen.at, log.forks) == (LOG.head, NOW, ())
    again.close()


def test_it_does_not_start_without_its_memory(place):
    with pytest.raises(Unavailable, match="a witness that forgot could cosign two histories"):
        Memory.open(place)
    assert not place.exists()


def test_it_is_not_made_twice(place, witness):
    with pytest.raises(Conflict, match="already"):
        Memory.create(place, "another")


@pytest.mark.parametrize("harm", ["cut", "text", "table", "id", "head"])
def test_another_or_a_damaged_file_is_refused(place, witness, harm):
    witness.add_checkpoint(LOG.asks(0))
    witness.memory.close()
    if harm == "cut":
        place.write_bytes(place.read_bytes()[:5000])
    elif harm == "text":
        place.write_text("this is no memory\n" * 100)
    else:
        statement = {
            "table": "CREATE TABLE more (x)",
            "id": "PRAGMA application_id = 1",
            "head": "UPDATE head SET root = x'00'",
        }[harm]
        with sqlite3.connect(place) as db:
            db.execute(statement)
        db.close()

    def use():
        opened = Memory.open(place)
        try:
            opened.seen("log.example")
        finally:
            opened.close()

    with pytest.raises(TamperDetected):
        use()


def test_it_is_a_private_file(place, witness):
    assert place.stat().st_mode & 0o777 == 0o600


def test_a_head_is_kept_only_where_it_was_compared(witness):
    with pytest.raises(InvariantBroken):
        witness.memory.remember(Seen(LOG.head, NOW, LOG.note))


def test_what_fails_in_the_middle_leaves_nothing(witness):
    def fail():
        with witness.memory.changing():
            witness.memory.remember(Seen(LOG.head, NOW, LOG.note))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert witness.memory.seen("log.example") is None


def test_a_signer_that_fails_leaves_nothing(place):
    class Broken:
        name, public = "witness.example/w1", LOG.key.public

        def sign(self, message):
            raise OSError("the token was pulled out")

    from dataclasses import replace

    from keyturn.ledger.note import COSIGNATURE
    from keyturn.ledger.witnessing.witness import Cosigner

    witness = replace(witness_of(place, LOG), cosigners=(Cosigner(Broken(), COSIGNATURE),))
    with pytest.raises(OSError, match="pulled out"):
        witness.add_checkpoint(LOG.asks(0))
    assert witness.memory.seen("log.example") is None
    witness.memory.close()


def test_a_disk_that_refuses_signs_nothing(place, witness):
    other = sqlite3.connect(place, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    witness.memory._db.execute("PRAGMA busy_timeout = 10")
    with pytest.raises(Unavailable, match="another writer holds the witness's memory"):
        witness.add_checkpoint(LOG.asks(0))
    other.execute("ROLLBACK")
    other.close()
    assert witness.add_checkpoint(LOG.asks(0)).status == 200


def test_a_full_disk_signs_nothing_and_forgets_nothing(witness):
    witness.add_checkpoint(LOG.asks(0))
    longer = LOG.grow(2)
    signed = longer.note
    for n in range(90):  # a note too long for what is left of the disk
        key = Key("log.example", f"key {n}")
        witness.memory.trust("log.example", key.verifier())
        signed = note.merge(signed, checkpoint.sign(longer.head, key).decode().splitlines()[-1:])
    pages = witness.memory._db.execute("PRAGMA page_count").fetchone()[0]
    witness.memory._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(Unavailable, match="the disk is full"):
        witness.add_checkpoint(longer.asks(5, signed=signed))
    assert witness.memory.seen("log.example").head == LOG.head
    witness.memory._db.execute("PRAGMA max_page_count = 100000")
    assert witness.add_checkpoint(longer.asks(5, signed=signed)).status == 200


def test_an_answer_that_was_lost_is_given_again(place, witness):
    """The witness remembered and its answer never came: whoever asks again is told the size, and then cosigned."""
    witness.add_checkpoint(LOG.asks(0))
    witness.memory.close()
    again = witness_of(place)
    assert again.add_checkpoint(LOG.asks(0)).body == b"5\n"
    assert again.add_checkpoint(LOG.asks(5)).status == 200
    again.memory.close()


def test_what_is_remembered_is_synced_with_its_folder_and_lies_in_one_file(place, witness):
    pragma = [witness.memory._db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("synchronous", "journal_mode")]
    assert pragma == [3, "delete"]
    witness.add_checkpoint(LOG.asks(0))
    assert [each.name for each in place.parent.iterdir()] == [place.name]


@pytest.mark.parametrize("shared", [True, False])
def test_of_many_histories_at_once_exactly_one_is_cosigned(place, witness, shared):
    """Threads on one memory, and memories of their own as other processes have them."""
    histories = [GrownLog.of(size=5, history=f"history {n}") for n in range(8)]
    mine = [witness if shared else witness_of(place) for _ in histories]
    statuses, begin = {}, threading.Barrier(len(histories))

    def ask(n):
        begin.wait()
        statuses[n] = mine[n].add_checkpoint(histories[n].asks(0)).status

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(len(histories))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses.values()) == [200, *[409] * 7]
    won = next(n for n, status in statuses.items() if status == 200)
    assert witness.memory.seen("log.example").head == histories[won].head
    for each in mine:
        each.memory.close()


WRITER = """
import sys
from pathlib import Path
from tests.witness.cast import GrownLog, witness_of

witness = witness_of(Path(sys.argv[1]), GrownLog.of())
seen = witness.memory.seen("log.example")
size = seen.head.size if seen else 0
log = GrownLog.of(size=size)
while True:
    log = log.grow(1)
    assert witness.add_checkpoint(log.asks(size)).status == 200
    size += 1
    print(size, flush=True)
"""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kills", [4, pytest.param(60, marks=pytest.mark.slow)])
def test_kills_at_any_moment_forget_nothing_that_was_answered(place, repo, kills):
    dice, least = random.Random(kills), 0
    witness_of(place, GrownLog.of()).memory.close()
    for _ in range(kills):
        child = subprocess.Popen(
            [sys.executable, "-c", WRITER, place],
            stdout=subprocess.PIPE,
            text=True,
            cwd=repo,
            env={"PYTHONPATH": "src:."},
        )
        first = child.stdout.readline()
        time.sleep(dice.uniform(0.0, 0.05))
        child.send_signal(signal.SIGKILL)
        rest = child.stdout.read().split()
        child.wait()
        child.stdout.close()
        assert first.strip(), "the writer did not begin"
        answered = int(rest[-2] if len(rest) > 1 else first)  # the last line may be cut short
        memory = Memory.open(place)
        size = memory.seen("log.example").head.size
        memory.close()
        assert size >= max(answered, least)
        least = size
