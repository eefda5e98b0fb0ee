"""An auditor's folder: made once, of one log, never served without its judge, never without what it found."""

from __future__ import annotations

from dataclasses import replace

import pytest

from keyturn.app.auditor import folder as auditors
from keyturn.app.witnessing import folder as witnesses
from keyturn.core.errors import Conflict, MalformedInput, TamperDetected, Unavailable
from keyturn.ledger import checkpoint
from keyturn.ledger.checkpoint import Checkpoint
from keyturn.ledger.witnessing.memory import Fork
from keyturn.verify import trust as trusts
from tests.auditor.scene import NOW, Thief, head_of, note_of
from tests.fakes.world import Key, LogKey
from tests.ledger.exports import quiet


@pytest.fixture
def trust(story, tmp_path):
    """What people handed over at the founding, before anything was seen."""
    made = replace(trusts.read(story.home / "trust.json"), seen=trusts.Seen())
    trusts.write(made, tmp_path / "trust.json")
    return tmp_path / "trust.json"


@pytest.fixture
def a1(trust, honest, tmp_path):
    Thief(list(honest)).publish(tmp_path / "log.db", tmp_path / "pub")
    auditors.create(tmp_path / "a1", "auditor.example/a1", trust=trust, tiles=str(tmp_path / "pub"))
    return tmp_path / "a1"


def judged(place, note):
    """What the served auditor would say of this head."""
    with auditors.opened(place, quiet) as (mirror, pinned, _), witnesses.opened(place, judge=lambda _: None) as witness:
        return auditors._judged(mirror, witness.memory, pinned, note)


def test_an_auditor_knows_its_logs_key_and_nothing_else_at_first(a1, story, tmp_path):
    shown = auditors.show(a1)
    assert (shown.name, shown.origin, shown.genesis) == (
        "auditor.example/a1",
        "toy.example/log",
        trusts.read(story.home / "trust.json").genesis,
    )
    assert (shown.mirrored, shown.cosigned, shown.marks, shown.tiles) == (0, 0, (), str(tmp_path / "pub"))
    assert witnesses.show(a1).logs[0].keys[0].public == Key("log").public


def test_checking_mirrors_and_cosigns_nothing(a1, honest):
    done = auditors.check(a1, quiet)
    assert (done.size, done.new, done.shown.mirrored, done.shown.cosigned) == (len(honest), len(honest), len(honest), 0)
    assert auditors.check(a1, quiet).new == 0
    assert judged(a1, note_of(honest)) is None


def test_an_older_head_that_is_shown_later_is_told(a1, honest, tmp_path):
    auditors.check(a1, quiet)
    signed = checkpoint.sign(head_of(honest[:51]), LogKey())
    (tmp_path / "pub" / "checkpoint").write_bytes(signed)
    done = auditors.check(a1, quiet)
    assert (done.size, done.shown.mirrored, done.shown.standing) == (51, len(honest), ())


def test_a_head_that_another_key_signed_is_not_looked_at(a1, honest, tmp_path):
    class Mallory:
        name, public, sign = "toy.example/log", Key("mallory").public, Key("mallory").sign

    (tmp_path / "pub" / "checkpoint").write_bytes(checkpoint.sign(head_of(honest), Mallory()))
    with pytest.raises(Exception, match="no known key signed") as caught:
        auditors.check(a1, quiet)
    assert caught.value.exit_code == 3
    assert auditors.show(a1).mirrored == 0


def test_another_log_that_its_operator_made_it_trust_is_not_judged_by_this_mirror(a1, honest):
    said = judged(a1, note_of(honest).replace(b"toy.example/log", b"other.example/log"))
    assert said == "not this log: this auditor audits `toy.example/log` only"


def test_the_proof_of_a_second_history_that_came_by_the_door_is_a_finding(a1, honest):
    ours = checkpoint.sign(head_of(honest), LogKey())
    theirs = checkpoint.sign(Checkpoint("toy.example/log", 51, bytes(32)), LogKey())
    with witnesses.opened(a1, judge=lambda _: None) as witness:
        witness.memory.keep_fork(Checkpoint("toy.example/log", 51, bytes(32)), Fork(ours, theirs, NOW))
    said = judged(a1, note_of(honest))
    assert said is not None
    assert said.startswith("illegal: entry 51: log_must_have_one_history: two roots are signed for the first 51")
    assert [mark.entry for mark in auditors.show(a1).standing] == [51]


def test_an_auditors_keys_are_never_served_without_its_judge(a1):
    with pytest.raises(MalformedInput, match="is an auditor's"), witnesses.opened(a1):
        pass


def test_an_auditor_that_lost_its_findings_does_not_start(a1):
    (a1 / "findings.db").unlink()
    for act in (lambda: auditors.show(a1), lambda: auditors.check(a1, quiet), lambda: judged(a1, None)):
        with pytest.raises(Unavailable, match="findings"):
            act()
    assert not (a1 / "findings.db").exists()


def test_findings_that_are_no_findings_are_seen(a1):
    (a1 / "findings.db").write_bytes(b"nothing was ever found" * 100)
    with pytest.raises(TamperDetected, match="findings"):
        auditors.show(a1)


def test_a_witness_that_knows_no_log_yet_becomes_an_auditor_under_its_own_name(trust, tmp_path):
    witnesses.create(tmp_path / "w", "w.example", ml_dsa=False)
    before = witnesses.show(tmp_path / "w").vkeys
    with pytest.raises(MalformedInput, match=r"is called `w\.example`"):
        auditors.create(tmp_path / "w", "a.example", trust=trust, tiles="pub")
    assert auditors.create(tmp_path / "w", None, trust=trust, tiles="pub").vkeys == before
    with pytest.raises(Conflict, match="an auditor already"):
        auditors.create(tmp_path / "w", None, trust=trust, tiles="pub")


def test_a_witness_that_cosigned_unread_never_becomes_an_auditor(trust, tmp_path):
    witnesses.create(tmp_path / "w", "w.example", ml_dsa=False)
    witnesses.trust(tmp_path / "w", trusts.read(trust).founded.log_key)
    with pytest.raises(Conflict, match="a witness of other logs"):
        auditors.create(tmp_path / "w", None, trust=trust, tiles="pub")
    with pytest.raises(MalformedInput, match="needs a name"):
        auditors.create(tmp_path / "new", None, trust=trust, tiles="pub")
    with pytest.raises(MalformedInput, match="no URL prefix"):
        auditors.create(tmp_path / "new", "a.example", trust=trust, tiles="ftp://log.example")
    assert not (tmp_path / "new").exists()
