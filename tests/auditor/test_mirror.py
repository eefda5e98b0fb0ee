"""The auditor's own copy: nothing is kept that the log did not sign, and nothing that was kept is lost unseen."""

from __future__ import annotations

import shutil
import sqlite3
from dataclasses import replace

import pytest

from keyturn.core.errors import Conflict, MalformedInput, TamperDetected, Unavailable
from keyturn.ledger import tree
from keyturn.ledger.auditing import mirror as mirrors
from keyturn.ledger.auditing.fetch import Bounds
from keyturn.ledger.auditing.walk import Pin
from keyturn.ledger.checkpoint import Checkpoint, sign
from keyturn.ledger.store import Store
from tests.auditor.scene import NOW, Shelf, head_of, mirror_of, note_of, recorded
from tests.fakes.world import LogKey


def held(home):
    with Store.open(home / "mirror.db") as store:
        return tuple(store.leaves(0, store.head().size))


def test_the_recorded_lineage_is_mirrored_and_lawful_at_every_size_that_it_published(tmp_path):
    leaves, heads, pin = recorded()
    assert len(heads) > 5
    shelf = Shelf()
    mirror = mirror_of(tmp_path, pin, shelf)
    for size, note in heads.items():
        shelf.show(leaves[:size])
        assert mirror.advance(note).entries == size
        assert mirror.marks.standing() == ()
    done = mirror.marks.mirrored()
    assert (done.head.size, done.head.root, done.decisions, done.at) == (128, head_of(leaves).root, 6, NOW)
    assert held(tmp_path) == leaves


def test_a_story_of_release_audit_and_halt_is_lawful_whole_and_step_by_step(tmp_path, honest, pin):
    whole = mirror_of(tmp_path / "a", pin, Shelf(honest)).advance(note_of(honest))
    shelf = Shelf()
    mirror = mirror_of(tmp_path / "b", pin, shelf)
    for size in (1, 2, 50, 51, 52, len(honest)):
        shelf.show(honest[:size])
        steps = mirror.advance(note_of(honest[:size]))
    assert (steps.entries, steps.decisions) == (whole.entries, whole.decisions)
    assert whole.decisions > 4
    assert mirror.marks.all() == ()


def test_a_mirror_that_is_opened_again_goes_on_from_what_it_held(tmp_path, honest, pin):
    mirror_of(tmp_path, pin, Shelf(honest[:60])).advance(note_of(honest[:60]))
    shelf = Shelf(honest)
    again = mirror_of(tmp_path, pin, shelf)
    assert shelf.asked == []
    assert again.advance(note_of(honest)).new == len(honest) - 60
    assert again.advance(note_of(honest[:10])).new == 0


def test_two_processes_of_one_auditor_share_what_either_fetched(tmp_path, honest, pin):
    one, other = (mirror_of(tmp_path, pin, Shelf(honest)) for _ in range(2))
    assert one.advance(note_of(honest)).new == len(honest)
    found = other.advance(note_of(honest))
    assert (found.entries, found.new) == (len(honest), 0)


def test_who_lost_the_race_reads_again_and_goes_on(tmp_path, honest, pin, monkeypatch):
    one, other = (mirror_of(tmp_path, pin, Shelf(honest)) for _ in range(2))
    append = Store.append

    def raced(self, leaves, **more):
        monkeypatch.setattr(Store, "append", append)
        one.advance(note_of(honest[:60]))
        return append(self, leaves, **more)

    one._tiles.show(honest[:60])
    monkeypatch.setattr(Store, "append", raced)
    assert other.advance(note_of(honest)).entries == len(honest)
    assert held(tmp_path) == honest

    def always(self, leaves, **more):
        raise Conflict("moved")

    monkeypatch.setattr(Store, "append", always)
    with pytest.raises(Unavailable, match="keeps mirroring"):
        mirror_of(tmp_path / "c", pin, Shelf(honest)).advance(note_of(honest))


@pytest.mark.parametrize("start", [0, 60])
@pytest.mark.parametrize("what", ["another root", "another entry", "one entry less"])
def test_files_that_do_not_lead_to_the_signed_root_leave_the_mirror_as_it_was(tmp_path, honest, pin, start, what):
    shelf = Shelf(honest[:start])
    mirror = mirror_of(tmp_path, pin, shelf)
    if start:
        mirror.advance(note_of(honest[:start]))
    before = held(tmp_path)
    shown = {"another entry": (*honest[:70], honest[69], *honest[71:]), "one entry less": honest[:-1]}
    shelf.show(shown.get(what, honest))
    if what == "one entry less":
        del shelf.files[f"tile/entries/000.p/{len(honest) - 1}" if len(honest) < 256 else "tile/entries/000"]
    head = head_of(honest)
    with pytest.raises((TamperDetected, Unavailable)) as caught:
        mirror.advance(sign(replace(head, root=bytes(32)) if what == "another root" else head, LogKey()))
    assert isinstance(caught.value, Unavailable) is (what == "one entry less")
    assert held(tmp_path) == before
    assert mirror.marks.all() == ()
    shelf.show(honest)
    assert mirror.advance(note_of(honest)).entries == len(honest)


def test_files_that_are_not_there_yet_are_no_finding_and_pass(tmp_path, honest, pin):
    shelf = Shelf()
    mirror = mirror_of(tmp_path, pin, shelf)
    with pytest.raises(Unavailable):
        mirror.advance(note_of(honest))
    assert (mirror.marks.all(), mirror.marks.mirrored(), held(tmp_path)) == ((), None, ())
    shelf.show(honest)
    assert mirror.advance(note_of(honest)).new == len(honest)


def test_the_bounds_hold_for_every_advance(tmp_path, honest, pin):
    mirror = mirror_of(tmp_path, pin, Shelf(honest))
    mirror.bounds = Bounds(entries_max=60)
    with pytest.raises(Unavailable, match="at most 60"):
        mirror.advance(note_of(honest))


def test_a_mirror_that_was_cut_is_refused_until_it_is_fetched_anew(tmp_path, honest, pin):
    mirror = mirror_of(tmp_path, pin, Shelf(honest[:60]))
    mirror.advance(note_of(honest[:60]))
    mirror.close()
    shutil.copy(tmp_path / "mirror.db", tmp_path / "older.db")
    later = mirror_of(tmp_path, pin, Shelf(honest))
    later.advance(note_of(honest))
    later.close()
    for each in tmp_path.glob("mirror.db*"):
        each.unlink()
    shutil.copy(tmp_path / "older.db", tmp_path / "mirror.db")
    with pytest.raises(TamperDetected) as caught:
        mirror_of(tmp_path, pin, Shelf(honest))
    assert caught.value.message == f"the mirror holds 60 entries; {len(honest)} were mirrored"
    (tmp_path / "mirror.db").unlink()
    assert mirror_of(tmp_path, pin, Shelf(honest)).advance(note_of(honest)).new == len(honest)


def test_a_mirror_that_is_fetched_anew_must_be_the_log_that_was_mirrored(tmp_path, honest, pin):
    mirror = mirror_of(tmp_path, pin, Shelf(honest[:60]))
    mirror.advance(note_of(honest[:60]))
    mirror.close()
    for each in tmp_path.glob("mirror.db*"):
        each.unlink()
    rewritten = (*honest[:3], *honest[4:])  # lawful as far as it goes: a status less
    again = mirror_of(tmp_path, pin, Shelf(rewritten))
    again.advance(note_of(rewritten))
    assert [(mark.entry, mark.rule) for mark in again.marks.standing() if mark.rule.startswith("log_")] == [
        (60, "log_must_not_be_rewritten")
    ]


def test_an_edited_mirror_accuses_nobody_but_itself(tmp_path, honest, pin):
    mirror = mirror_of(tmp_path, pin, Shelf(honest))
    mirror.advance(note_of(honest))
    mirror.close()
    with sqlite3.connect(tmp_path / "mirror.db") as db:
        db.execute("UPDATE entry SET leaf = x'00' WHERE i = 7")
    db.close()
    with pytest.raises(TamperDetected, match="are not those that were mirrored"):
        mirror_of(tmp_path, pin, Shelf(honest))
    from keyturn.ledger.auditing.marks import Marks

    assert Marks(tmp_path / "findings.db").all() == ()


def test_a_file_that_shrinks_under_a_running_auditor_is_seen(tmp_path, honest, pin):
    mirror = mirror_of(tmp_path, pin, Shelf(honest))
    mirror.advance(note_of(honest))
    for each in tmp_path.glob("mirror.db*"):
        each.unlink()
    mirror._store.close()
    mirror._store = Store.open(tmp_path / "mirror.db", create=True)
    with pytest.raises(TamperDetected, match="does not hold"):
        mirror.advance(note_of(honest))


def test_a_second_signed_history_is_a_finding_that_stays(tmp_path, honest, pin):
    mirror = mirror_of(tmp_path, pin, Shelf(honest))
    mirror.advance(note_of(honest))
    with pytest.raises(TamperDetected):
        mirror.advance(sign(Checkpoint("toy.example/log", 60, bytes(32)), LogKey()))
    assert [(mark.entry, mark.rule) for mark in mirror.marks.standing()] == [(60, "log_must_have_one_history")]
    assert mirror.advance(note_of(honest)).new == 0
    assert len(mirror.marks.standing()) == 1


def test_the_head_that_was_seen_when_the_log_was_pinned_must_stand(tmp_path, honest, pin):
    root = tree.Frontier().extend(tree.leaf_hashes(honest[:60])).root().hex()
    good = mirror_of(tmp_path / "a", Pin(pin.genesis, 60, root), Shelf(honest))
    good.advance(note_of(honest))
    assert good.marks.all() == ()
    early = mirror_of(tmp_path / "b", Pin(pin.genesis, 60, root), Shelf(honest[:51]))
    with pytest.raises(Unavailable, match="60 entries were seen"):
        early.advance(note_of(honest[:51]))
    other = mirror_of(tmp_path / "c", Pin(pin.genesis, 60, "0" * 64), Shelf(honest))
    other.advance(note_of(honest))
    assert [(mark.entry, mark.rule) for mark in other.marks.standing()] == [(60, "log_must_not_be_rewritten")]


def test_a_signed_note_is_kept_with_what_it_covers(tmp_path, honest, pin):
    mirror = mirror_of(tmp_path, pin, Shelf(honest))
    signed = sign(head_of(honest), LogKey())
    mirror.advance(signed)
    with Store.open(tmp_path / "mirror.db") as store:
        assert store.checkpoint() == signed


def test_a_crash_after_the_mark_and_before_the_entries_loses_neither(tmp_path, honest, pin, monkeypatch):
    illegal = (*honest[:60], honest[50])
    mirror = mirror_of(tmp_path, pin, Shelf(illegal))

    def dies(self, *more):
        raise KeyboardInterrupt

    monkeypatch.setattr(mirrors.Mirror, "_keep", dies)
    with pytest.raises(KeyboardInterrupt):
        mirror.advance(note_of(illegal))
    monkeypatch.undo()
    again = mirror_of(tmp_path, pin, Shelf(illegal))
    assert {mark.entry for mark in again.marks.standing()} == {60}
    again.advance(note_of(illegal))
    assert held(tmp_path) == illegal


def test_a_mark_that_was_lost_is_found_again_at_the_next_start(tmp_path, honest, pin):
    illegal = (*honest[:60], honest[50])
    mirror_of(tmp_path, pin, Shelf(illegal)).advance(note_of(illegal))
    with sqlite3.connect(tmp_path / "findings.db") as db:
        db.execute("DELETE FROM mark")
    db.close()
    assert {mark.entry for mark in mirror_of(tmp_path, pin, Shelf(illegal)).marks.standing()} == {60}


def test_a_pardon_says_why_for_ever_and_covers_one_entry(tmp_path, honest, pin):
    illegal = (*honest[:60], honest[50])
    mirror = mirror_of(tmp_path, pin, Shelf(illegal))
    mirror.advance(note_of(illegal))
    with pytest.raises(MalformedInput):
        mirror.marks.pardon(59, reason="no", at=NOW)
    assert mirror.marks.pardon(60, reason="a test", at=NOW) > 0
    again = mirror_of(tmp_path, pin, Shelf(illegal))
    assert again.marks.standing() == ()
    assert {mark.reason for mark in again.marks.all()} == {"a test"}
    with pytest.raises(MalformedInput):
        again.marks.pardon(60, reason="twice", at=NOW)


def test_many_illegal_entries_are_counted_beyond_a_hundred(tmp_path, honest, pin):
    leaves = (*honest[:60], *[b"nobody signed %d" % n for n in range(150)])
    mirror = mirror_of(tmp_path, pin, Shelf(leaves))
    mirror.advance(note_of(leaves))
    marks = mirror.marks.standing()
    assert len(marks) == mirrors.MARKS_MAX + 1
    assert marks[-1].message == "51 more illegal things were found in the entries that came with it"
