"""Whoever may write into a shared log makes no governor deaf: what cannot be heard any more is a halt, not silence."""

from __future__ import annotations

import threading
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import pytest

from keyturn.app.operating import listening
from keyturn.core import events as ev
from keyturn.core.errors import TamperDetected, Unavailable
from keyturn.flow import halt as halts
from keyturn.ledger.stores.port import Head
from tests.attacks import rotated
from tests.verify.scene import stated

UNSIGNED = b'{"payload":"e30=","payloadType":"application/vnd.keyturn.event+json","signatures":[]}'
FOREIGN = b"not an entry of anybody's"


class Latch:
    """A latch in memory, set once."""

    def __init__(self):
        self.why = None

    def reason(self):
        return self.why

    def set(self, why):
        self.why = self.why or why


class Halter:
    """Counts what it is asked for; the first `faults` times it cannot."""

    def __init__(self, *faults):
        self.faults, self.asked = list(faults), 0

    def halt_all(self, reason):
        self.asked += 1
        if self.faults:
            raise self.faults.pop(0)
        return {"state": "STOPPED", "processes_before": 0}


class Shared:
    """A store in memory to which a test appends, and which can be away or cut."""

    def __init__(self, leaves):
        self.rows, self.away, self.looked = list(leaves), None, threading.Event()

    def head(self):
        self.looked.set()
        if self.away is not None:
            raise self.away
        return Head(len(self.rows), b"")

    def leaves(self, start, stop):
        return iter(self.rows[start:stop])


class Team:
    """A governor that listens, and the log that it shares."""

    def __init__(self, folder, *faults):
        self.made = rotated.begin(folder)
        log = self.made.log
        self.shared = Shared(log.store.leaves(0, log.head.size))
        self.halter, self.latch, self.told, self.recorded = Halter(*faults), Latch(), [], []
        self.governor = SimpleNamespace(
            log=SimpleNamespace(history=log.history),
            state=log.state,
            latch=self.latch,
            halter=self.halter,
            tell=self.told.append,
        )

    def store(self):
        return nullcontext(self.shared)

    def opened(self):
        return nullcontext(None)

    def halt(self):
        """Somebody asks for a halt on another machine."""
        policy = self.made.log.state.current.digest
        stamp = {"id": "h", "at": self.made.log.now(), "actor": "governor", "policy": policy}
        self.shared.rows.append(stated(ev.HaltRequested(**stamp, halt="h-0000000e", by="eve", reason="stop")))

    @contextmanager
    def listens(self):
        with listening.listening(self, self.governor):
            yield

    def stops(self):
        """Wait until the latch is set; what it says."""
        pause = threading.Event()
        for _ in range(400):
            if self.latch.why and not any(t.name == "keyturn-listen" for t in threading.enumerate()):
                break
            pause.wait(0.01)
        return self.latch.why or ""

    def latched(self):
        pause = threading.Event()
        for _ in range(400):
            if self.recorded:
                break
            pause.wait(0.01)
        return self.latch.why or ""


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    monkeypatch.setattr(listening, "LISTEN_SECONDS", 0.01)


@pytest.fixture
def team(tmp_path, monkeypatch):
    made = Team(tmp_path)
    monkeypatch.setattr(halts, "record", lambda log, **said: made.recorded.append(said))
    return made


@pytest.mark.parametrize("bad", [UNSIGNED, FOREIGN])
def test_an_entry_that_nobody_signed_does_not_make_a_governor_deaf_it_stops(team, bad):
    with team.listens():
        team.shared.rows.append(bad)
        why = team.stops()
    assert " governor: halts of other machines can no longer be heard: " in why
    assert team.halter.asked >= 1
    assert team.told[0].startswith("halts: halts of other machines can no longer be heard")


def test_a_log_that_lost_entries_stops_a_governor(team):
    with team.listens():
        del team.shared.rows[-1]
        assert "the log has lost entries" in team.stops()


def test_what_the_store_itself_calls_damaged_stops_a_governor(team):
    with team.listens():
        team.shared.away = TamperDetected("the log is damaged", help="")
        assert team.stops().endswith("the log is damaged")


def test_an_error_that_nobody_foresaw_stops_a_governor_too(team, monkeypatch):
    died = []
    monkeypatch.setattr(threading, "excepthook", lambda fault: died.append(fault.exc_type))
    with team.listens():
        team.shared.away = ValueError("a fault of the library")
        assert "an error of the program itself" in team.stops()
    assert died == [ValueError]


def test_a_database_that_is_away_for_a_while_stops_nobody_and_the_halt_is_heard_after_it(team):
    with team.listens():
        team.shared.away = Unavailable("away", help="")
        for _ in range(3):
            team.shared.looked.clear()
            assert team.shared.looked.wait(5)
        assert team.latch.why is None
        team.halt()
        team.shared.away = None
        assert team.latched() == "h-0000000e eve: stop"


def test_a_halt_that_could_not_be_carried_out_is_tried_again(tmp_path, monkeypatch):
    team = Team(tmp_path, Unavailable("the pool does not answer", help=""))
    monkeypatch.setattr(halts, "record", lambda log, **said: team.recorded.append(said))
    with team.listens():
        team.halt()
        assert team.latched() == "h-0000000e eve: stop"
    assert len(team.recorded) == 1


def test_stopping_for_want_of_a_log_is_tried_until_it_is_done(tmp_path):
    team = Team(tmp_path, OSError("no cgroup"), Unavailable("busy", help=""))
    with team.listens():
        team.shared.rows.append(FOREIGN)
        assert "can no longer be heard" in team.stops()
    assert [said for said in team.told if said.startswith("the halt could not be carried out")] != []
