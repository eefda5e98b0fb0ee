"""Erasing is loosening: it needs the quorum of `amend`, is recorded before it is done, survives a crash anywhere."""

from __future__ import annotations

import pytest

from keyturn.core import events as ev
from keyturn.core.errors import MalformedInput, Unavailable, UntrustedInput
from keyturn.core.terms import Digest
from keyturn.flow import halt
from keyturn.flow.blobs import erase
from keyturn.flow.log import Log
from keyturn.ledger.store import Store
from keyturn.wire.blobs.blob import named_by, referred
from tests.fakes.runner import FakeRunner
from tests.fakes.world import Crash, Tape, TapedBlobs, World
from tests.flow.conftest import Found
from tests.world.story import lawful

WORDS = "ada's mother was taken to hospital"
BOTH = (("ada", "safety"), ("ben", "safety"))


def halted(world: World, words: str = WORDS) -> Digest:
    """Somebody halts and says why; the blob of that."""
    keep = blobs(world).keep
    receipt = halt.act(FakeRunner(world.latch), world.latch, by="person:ada", reason=words, keep=keep)
    with world.log() as log:
        halt.record(log, by="person:ada", reason=str(receipt["why"]), receipt=receipt)
    standing = world.state.halt
    assert standing is not None
    digest = referred(standing.reason)
    assert digest is not None
    return digest


def blobs(world: World, tape: Tape | None = None) -> TapedBlobs:
    from keyturn.app.wiring import FileBlobs

    return TapedBlobs(FileBlobs(world.blobs), tape or Tape())


def asked(world: World, blob: Digest) -> Digest:
    with world.log() as log:
        return erase.ask(log, blob, why=blobs(world).keep(b"asked for by ada"))


def cleared(world: World, dossier: Digest, tape: Tape | None = None) -> bool:
    with world.log(tape) as log:
        return erase.erase_cleared(log, blobs(world, tape), dossier)


def lies(world: World) -> bool:
    """Whether the words lie anywhere in the project's folder."""
    return any(WORDS.encode() in path.read_bytes() for path in world.home.rglob("*") if path.is_file())


def test_attack_without_the_quorum_nothing_is_erased_and_nothing_recorded(found: Found) -> None:
    world = found()
    digest = halted(world)
    dossier = asked(world, digest)
    assert not cleared(world, dossier)
    world.sign(dossier, *BOTH[0])
    assert not cleared(world, dossier), "one of two"
    world.sign(dossier, *BOTH[0])
    assert not cleared(world, dossier), "one person signs twice"
    assert "BlobErased" not in world.kinds()
    assert world.words(f"withheld:{digest}") == WORDS
    world.sign(dossier, *BOTH[1])
    assert cleared(world, dossier)
    assert not lies(world)
    assert world.state.erased == {digest}
    assert world.words(f"withheld:{digest}") == f"withheld ({digest[:15]}…)"
    assert not cleared(world, dossier), "a dossier clears once"
    assert lawful(world) == []


def test_one_refusal_ends_it_and_somebody_may_ask_anew(found: Found) -> None:
    world = found()
    digest = halted(world)
    dossier = asked(world, digest)
    world.sign(dossier, *BOTH[0], refuse=True)
    world.sign(dossier, *BOTH[1])
    assert not cleared(world, dossier)
    assert lies(world)
    assert asked(world, digest) != dossier


def test_asking_twice_is_one_dossier_and_what_is_erased_is_not_asked_for(found: Found) -> None:
    world = found()
    digest = halted(world)
    dossier = asked(world, digest)
    assert asked(world, digest) == dossier
    for who in BOTH:
        world.sign(dossier, *who)
    assert cleared(world, dossier)
    with pytest.raises(MalformedInput, match="was erased before"):
        asked(world, digest)


def test_attack_a_governor_that_records_an_erasure_by_itself_is_seen_by_a_replay(found: Found) -> None:
    world = found()
    digest = halted(world)
    dossier = asked(world, digest)
    with world.log() as log:
        log.append(lambda stamp: ev.BlobErased(**stamp, blob=digest, dossier=dossier, reason="x"))
    assert any("the gate `amend` did not clear" in message for message in lawful(world))


def test_a_signature_for_one_blob_erases_no_other(found: Found) -> None:
    world = found()
    one = halted(world)
    dossier = asked(world, one)
    for who in BOTH:
        world.sign(dossier, *who)
    other = Digest(blobs(world).keep(b"another").removeprefix("withheld:"))
    with world.log() as log:
        log.append(lambda stamp: ev.BlobErased(**stamp, blob=other, dossier=dossier, reason="x"))
    assert any(each.endswith("people cleared the erasure of another blob") for each in lawful(world))


@pytest.mark.parametrize("place", ["before append", "after append", "before erase", "after erase", "before checkpoint"])
def test_a_crash_anywhere_erases_all_of_it_or_nothing_and_the_next_start_makes_it_good(
    found: Found, place: str
) -> None:
    world = found()
    digest = halted(world)
    dossier = asked(world, digest)
    for who in BOTH:
        world.sign(dossier, *who)
    done: list[str] = []

    def crash(_: int, what: str) -> None:
        if what == place and not done:
            done.append(what)
            raise Crash

    with pytest.raises(Crash):
        cleared(world, dossier, Tape(crash))
    world = world.crashed()
    recorded = place != "before append"
    assert (digest in world.state.erased) is recorded, "recorded before it is done"
    assert lies(world) is (place in {"before append", "after append", "before erase"})
    assert (world.words(f"withheld:{digest}") == WORDS) is not recorded, "shown to nobody from the record on"
    with world.log() as log:
        if not recorded:
            assert erase.erase_cleared(log, blobs(world), dossier)
        erase.make_good(log, blobs(world))
    assert not lies(world)
    assert lawful(world) == []
    assert world.kinds().count("BlobErased") == 1


def test_what_a_person_types_is_durable_before_the_entry_that_refers_to_it(found: Found) -> None:
    """A decision whose words cannot be kept is not logged, and one that would not count keeps no words."""
    from keyturn.core.policy import Person
    from keyturn.flow import approval
    from tests.fakes.world import Key

    world = found()
    founding = world.hold().dossier

    def sign(log: Log, keep: list[int], role: str = "safety") -> None:
        current = log.state.current
        assert current is not None
        who = current.policy.person("ada")
        assert isinstance(who, Person)
        terms = approval.terms(log, founding.digest, person=who, role=role, decision="approve", reason="read it")

        def kept() -> None:
            keep.append(log.state.size)
            if len(keep) > 1:
                raise Unavailable("the disk is full")

        approval.give(log, terms, public=Key("ada").public, sign=Key("ada").sign, keep=kept)

    with world.log() as log:
        size, kept = log.state.size, [0]
        with pytest.raises(Unavailable):
            sign(log, kept)
        assert (log.state.size, kept) == (size, [0, size])
        kept = []
        with pytest.raises(UntrustedInput, match="would not count"):
            sign(log, kept, role="engineering")
        assert kept == []
        sign(log, kept)
        assert kept == [size]


def test_a_halt_whose_reason_cannot_be_kept_halts_all_the_same(found: Found) -> None:
    world = found()

    def full(_: bytes) -> str:
        raise Unavailable("the disk is full", help="")

    receipt = halt.act(FakeRunner(world.latch), world.latch, by="person:ada", reason=WORDS, keep=full)
    assert receipt["state"] == "STOPPED"
    assert receipt["why"] == "what was typed could not be kept: the disk is full"
    assert not lies(world), "not even in the latch"


def test_what_a_subject_printed_is_kept_behind_a_reference_and_never_in_an_entry(found: Found) -> None:
    world = found()
    world.approve(world.hold().dossier)
    world.run()
    world.warrant(candidates=1)
    world.approve(world.hold().dossier)
    world.run()
    ended = next(event for event in world.events() if isinstance(event, ev.ImprovementEnded))
    (digest,) = named_by(ended)
    assert world.state.attempts[1].diagnostics == f"withheld:{digest}"
    found_blob = world.blobs.get(digest)
    assert found_blob is not None
    assert found_blob.data
    with Store.open(world.home / "log.db") as store:
        assert not any(found_blob.data in data for data in store.leaves(0, store.head().size))
